//! One child process with its log in a file: shown when a test fails, never left behind.

use std::fs::File;
use std::io::PipeReader;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::failure::{Failure, Outcome};
use crate::tools;

/// How often a condition without an event of its own is looked at.
const GLANCE: Duration = Duration::from_millis(10);
/// How long a process may take to end after SIGTERM before it is killed.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much of a log is shown when a test fails.
const SHOWN: usize = 6_000;

/// A running child process.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    show_on_panic: bool,
}

impl Process {
    /// Starts `program`. Both output streams go to `directory/name.log`; it sits in a process group of its own, so that
    /// Ctrl-C reaches it only through us.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub fn start(name: &str, program: &Path, args: &[&str], directory: &Path) -> Outcome<Self> {
        let mut command = Command::new(program);
        command.args(args);
        Self::start_command(name, command, directory)
    }

    /// Starts a prepared command in the same way.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub fn start_command(name: &str, command: Command, directory: &Path) -> Outcome<Self> {
        Self::start_with(name, command, directory, |log| log.try_clone().map(Stdio::from))
    }

    fn start_with(
        name: &str,
        mut command: Command,
        directory: &Path,
        errors: impl FnOnce(&File) -> std::io::Result<Stdio>,
    ) -> Outcome<Self> {
        use std::os::unix::process::CommandExt as _;
        let log = directory.join(format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(Failure::io(format!("open {}", log.display())))?;
        let errors = errors(&file).map_err(Failure::io("share a log file"))?;
        command.stdin(Stdio::null()).stdout(file).stderr(errors).process_group(0);
        let child = command.spawn().map_err(Failure::io(format!("start {command:?}")))?;
        Ok(Self { name: name.to_owned(), child, log, show_on_panic: true })
    }

    /// Starts a prepared command with standard error in a pipe, which takes 64 KiB and is not read unless the test does.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub fn start_unread(name: &str, command: Command, directory: &Path) -> Outcome<(Self, PipeReader)> {
        let (reader, writer) = std::io::pipe().map_err(Failure::io("make a pipe"))?;
        let process = Self::start_with(name, command, directory, |_log| Ok(writer.into()))?;
        Ok((process, reader))
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has printed.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Where what it prints goes.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub fn ended(&mut self) -> Outcome<Option<ExitStatus>> {
        self.child.try_wait().map_err(Failure::io(format!("look at {}", self.name)))
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGKILL and collects the process.
    pub fn kill(&mut self) {
        // It may have ended already, which is what is wanted.
        let _gone = self.child.kill();
        let _collected = self.child.wait();
    }

    /// Whether every thread of it has been stopped: one that waits for the disk goes on for a while after the signal.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.id())) else { return false };
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // The state follows the name, which is in parentheses and may hold anything (proc(5)).
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    /// Sends a signal, if it still runs.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended already; nothing depends on the answer.
            let _gone = kill_process(pid, signal);
        }
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// [`Failure::Deadline`] with the log when it is still running after `within`.
    pub async fn wait(&mut self, within: Duration) -> Outcome<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if start.elapsed() > within {
                let context = format!("; its log is\n{}", tail(&self.log()));
                return Err(Failure::Deadline { what: format!("the end of {}", self.name), within, context });
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// SIGTERM, and the end.
    ///
    /// # Errors
    /// See [`Self::wait`].
    pub async fn stop(&mut self) -> Outcome<ExitStatus> {
        self.terminate();
        self.wait(PATIENCE).await
    }

    /// Waits until `probe` gives a value.
    ///
    /// # Errors
    /// [`Failure::Ended`] as soon as the process ends, [`Failure::Deadline`] after `within`; both with the log.
    pub async fn until<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut probe: impl AsyncFnMut() -> Option<T>,
    ) -> Outcome<T> {
        let start = Instant::now();
        loop {
            if let Some(value) = probe().await {
                return Ok(value);
            }
            if let Some(status) = self.ended()? {
                let (name, status, log) = (self.name.clone(), status.to_string(), tail(&self.log()));
                self.show_on_panic = false;
                return Err(Failure::Ended { name, status, log });
            }
            if start.elapsed() > within {
                let what = format!("{}: {what}", self.name);
                let context = format!("; its log is\n{}", tail(&self.log()));
                self.show_on_panic = false;
                return Err(Failure::Deadline { what, within, context });
            }
            tokio::time::sleep(GLANCE).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() && self.show_on_panic {
            tools::complain(&format!("--- log of {} ---\n{}", self.name, tail(&self.log())));
        }
        self.kill();
    }
}

/// The end of a log.
fn tail(log: &str) -> String {
    let mut start = log.len().saturating_sub(SHOWN);
    while !log.is_char_boundary(start) {
        start += 1;
    }
    log.get(start..).unwrap_or_default().to_owned()
}

/// Waits until `probe` gives a value.
///
/// # Errors
/// [`Failure::Deadline`].
pub async fn eventually<T>(what: &str, within: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> Outcome<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return Ok(value);
        }
        if start.elapsed() > within {
            return Err(Failure::Deadline { what: what.to_owned(), within, context: String::new() });
        }
        tokio::time::sleep(GLANCE).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;

    fn sleeper(directory: &Path) -> Process {
        Process::start("sleeper", Path::new("sh"), &["-c", "echo hello; exec sleep 60"], directory).unwrap()
    }

    #[tokio::test]
    async fn a_process_is_stopped_by_drop() {
        let directory = tempfile::tempdir().unwrap();
        let process = sleeper(directory.path());
        let path = PathBuf::from(format!("/proc/{}", process.id()));
        assert!(path.exists());
        drop(process);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn waiting_notices_the_end_of_the_process_and_shows_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let mut process =
            Process::start("brief", Path::new("sh"), &["-c", "echo because; exit 3"], directory.path()).unwrap();
        let result = process.until("never", Duration::from_secs(10), async || None::<()>).await;
        let Err(Failure::Ended { log, .. }) = result else { panic!("the end was not noticed") };
        assert_eq!(log, "because\n");
    }

    #[tokio::test]
    async fn the_log_is_captured_and_sigterm_ends_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = sleeper(directory.path());
        eventually("the log", Duration::from_secs(10), async || (process.log() == "hello\n").then_some(()))
            .await
            .unwrap();
        assert!(!process.stop().await.unwrap().success());
    }
}
