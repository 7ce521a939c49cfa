//! SIGTERM and SIGINT: the first asks the process to stop, the second makes it stop at once, whatever hangs. SIGHUP, for
//! programs that want it.
//!
//! The signals are waited for on a thread of its own, because the threads of the program may all be stuck. That thread
//! also sees to it that the program ends: a program that does not do so by itself is ended here.

use std::{future::Future, io, sync::mpsc, thread, time::Duration};

use thiserror::Error;
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::telemetry;

/// How long after the drain deadline the process may take to end by itself.
const AFTER_DRAIN: Duration = Duration::from_secs(5);

/// How long after the second signal the process may take to end by itself, which leaves no sockets behind.
const AT_ONCE: Duration = Duration::from_millis(500);

/// The signal handlers could not be installed.
#[derive(Debug, Error)]
#[error("cannot install the handlers for SIGTERM, SIGINT and SIGHUP")]
pub struct SignalError(#[from] io::Error);

/// Installed signal handlers. After a drop signals do nothing: what is left of the program must be short.
#[derive(Debug)]
pub struct Signals {
    told: Told,
}

/// What the thread tells the program, and the other way round.
#[derive(Debug, Clone, Default)]
struct Told {
    stop: CancellationToken,
    force: CancellationToken,
    /// The program needs nobody any more to end it.
    ends: CancellationToken,
}

impl Signals {
    /// Installs the handlers. `drain` is how long the program takes at most to stop after the first signal: if it is still
    /// there 5 s later, the process is ended with exit code 1, and so it is half a second after the second signal.
    ///
    /// # Errors
    /// [`SignalError`] when the system refuses.
    pub fn install(drain: Duration) -> Result<Self, SignalError> {
        Self::install_with(drain, || {
            telemetry::flush();
            std::process::exit(1)
        })
    }

    fn install_with(drain: Duration, end: impl FnOnce() + Send + 'static) -> Result<Self, SignalError> {
        let told = Told::default();
        let (installed, result) = mpsc::channel();
        let tell = told.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let listening = runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
                let within = runtime.enter();
                let signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
                drop(within);
                Ok((runtime, signals))
            });
            let (runtime, (term, int)) = match listening {
                Ok(listening) => listening,
                // Whoever installs waits for it.
                Err(error) => return drop(installed.send(Err(error))),
            };
            drop(installed.send(Ok(())));
            if runtime.block_on(listen(term, int, &tell, drain)) == Ending::Overdue {
                end();
            }
        })?;
        result.recv().map_err(io::Error::other)??;
        Ok(Self { told })
    }

    /// Done at the first signal.
    pub fn stop(&self) -> impl Future<Output = ()> + Send + 'static {
        self.told.stop.clone().cancelled_owned()
    }

    /// Done at the second signal.
    pub fn force(&self) -> impl Future<Output = ()> + Send + 'static {
        self.told.force.clone().cancelled_owned()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.told.ends.cancel();
    }
}

/// SIGHUP, by which a process is asked to read its files again. Once installed, it does not end the process any more.
#[derive(Debug)]
pub struct Hangups(Signal);

impl Hangups {
    /// Installs the handler. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`SignalError`] when the system refuses.
    pub fn install() -> Result<Self, SignalError> {
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// Done at the next one, and at once when one has come since the last call.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Ending {
    /// The program ends by itself.
    Orderly,
    /// It was told to, and does not.
    Overdue,
}

async fn listen(mut term: Signal, mut int: Signal, told: &Told, drain: Duration) -> Ending {
    let mut next = async || {
        tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
        }
    };
    let overdue = async {
        let name = next().await;
        tracing::info!(signal = name, "stopping; a second signal stops at once");
        told.stop.cancel();
        tokio::select! {
            name = next() => {
                tracing::warn!(signal = name, "stopping at once");
                told.force.cancel();
                sleep(AT_ONCE).await;
            }
            () = sleep(drain.saturating_add(AFTER_DRAIN)) => {}
        }
    };
    if told.ends.run_until_cancelled(overdue).await.is_none() {
        return Ending::Orderly;
    }
    let hanging: Vec<String> = crate::files::hanging().iter().map(|one| one.path.display().to_string()).collect();
    tracing::error!(files.hanging = hanging.join(", "), "the process does not end by itself and is ended");
    Ending::Overdue
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    const DRAIN: Duration = Duration::from_secs(600);

    // One test, because signals reach all that listen in a process.
    #[tokio::test]
    async fn the_first_signal_stops_the_second_forces_and_who_does_not_end_is_ended() {
        let (ended, end) = mpsc::channel();
        let send = move || ended.send(()).unwrap_or_default();
        let signals = Signals::install_with(DRAIN, send.clone()).unwrap();
        kill_process(getpid(), Signal::TERM).unwrap();
        signals.stop().await;
        assert!(!signals.told.force.is_cancelled());
        kill_process(getpid(), Signal::INT).unwrap();
        // This thread is the only one of this runtime, and it is stuck.
        end.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(signals.told.force.is_cancelled());

        // Who ends by itself is left alone: the thread is gone, and with it what it would send with.
        let signals = Signals::install_with(DRAIN, send).unwrap();
        kill_process(getpid(), Signal::TERM).unwrap();
        signals.stop().await;
        kill_process(getpid(), Signal::TERM).unwrap();
        signals.force().await;
        drop(signals);
        assert_eq!(end.recv_timeout(Duration::from_secs(20)), Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
