//! A command that runs beside the test, with its lines as they come; it is killed when this is dropped.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::process::eventually;
use super::writes::Writes;
use crate::failure::{Failure, Outcome};
use crate::tools;

/// Whether lines are shown as they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// To people who watch.
    Shown,
    /// Only kept.
    Kept,
}

/// The running command.
pub struct Beside {
    line: String,
    child: Child,
    printed: Arc<Mutex<Vec<String>>>,
    complained: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Beside {
    /// Starts a command with both its output streams piped.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub fn start(mut command: Command, echo: Echo) -> Outcome<Self> {
        use std::os::unix::process::CommandExt as _;
        let line = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(Failure::io(format!("run {line}")))?;
        let (printed, complained) = (Arc::default(), Arc::default());
        let readers = [
            child.stdout.take().map(|stream| read(stream, Arc::clone(&printed), echo)),
            child.stderr.take().map(|stream| read(stream, Arc::clone(&complained), echo)),
        ];
        Ok(Self { line, child, printed, complained, readers: readers.into_iter().flatten().collect() })
    }

    /// The lines on standard output so far.
    #[must_use]
    pub fn printed(&self) -> Vec<String> {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lines on standard error so far.
    #[must_use]
    pub fn complained(&self) -> Vec<String> {
        self.complained.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a signal, if it still runs.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended already; nothing depends on the answer.
            let _gone = kill_process(pid, signal);
        }
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub fn ended(&mut self) -> Outcome<Option<ExitStatus>> {
        let ended = self.child.try_wait().map_err(Failure::io(format!("look at {}", self.line)))?;
        if ended.is_some() {
            for reader in self.readers.drain(..) {
                // What it could read is all there is.
                let _panicked = reader.join();
            }
        }
        Ok(ended)
    }

    /// Waits until the storage has been written so many times; `false` when the command ends before.
    ///
    /// # Errors
    /// [`Failure::Deadline`].
    pub async fn until_written(&mut self, writes: &Writes, times: usize, within: Duration) -> Outcome<bool> {
        let (start, mut last, mut seen) = (Instant::now(), writes.count(), 0);
        while seen < times {
            let now = writes.count();
            seen += usize::from(now != last);
            last = now;
            if self.ended()?.is_some() {
                return Ok(false);
            }
            if start.elapsed() > within {
                let what = format!("the storage to be written by {}", self.line);
                return Err(Failure::Deadline { what, within, context: String::new() });
            }
            tokio::task::yield_now().await;
        }
        Ok(true)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`Failure::Deadline`] with what it has printed.
    pub async fn wait(&mut self, within: Duration) -> Outcome<ExitStatus> {
        let what = format!("the end of {}", self.line);
        let ended = eventually(&what, within, async || self.ended().ok().flatten()).await;
        ended.map_err(|_late| Failure::Deadline {
            what,
            within,
            context: format!("; it has printed {:#?} {:#?}", self.printed(), self.complained()),
        })
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        let _gone = self.child.kill();
        let _collected = self.child.wait();
    }
}

fn read(stream: impl Read + Send + 'static, lines: Arc<Mutex<Vec<String>>>, echo: Echo) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if echo == Echo::Shown {
                tools::say(&format!("          | {line}"));
            }
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[tokio::test]
    async fn lines_are_kept_and_signals_arrive() {
        let mut command = Command::new("sh");
        command.args(["-c", "trap 'echo caught >&2; exit 3' TERM; echo ready; while :; do sleep 0.05; done"]);
        let mut beside = Beside::start(command, Echo::Kept).unwrap();
        let ready = async || (beside.printed() == ["ready"]).then_some(());
        eventually("a line", Duration::from_secs(20), ready).await.unwrap();
        // A shell that starts with SIGINT ignored, as in the background of another one, cannot trap that one.
        beside.signal(Signal::TERM);
        let status = beside.wait(Duration::from_secs(20)).await.unwrap();
        assert_eq!((status.code(), beside.complained()), (Some(3), vec!["caught".to_owned()]));
    }
}
