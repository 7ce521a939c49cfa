//! SIGTERM and SIGINT: the first asks the process to stop, the second makes it stop at once.

use std::{future::Future, io};

use thiserror::Error;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// The signal handlers could not be installed.
#[derive(Debug, Error)]
#[error("cannot install the handlers for SIGTERM and SIGINT")]
pub struct SignalError(#[from] io::Error);

/// Installed signal handlers. They stay installed after a drop, but nothing listens then.
#[derive(Debug)]
pub struct Signals {
    stop: CancellationToken,
    force: CancellationToken,
    _listener: JoinSet<()>,
}

impl Signals {
    /// Installs the handlers. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`SignalError`] when the system refuses.
    pub fn install() -> Result<Self, SignalError> {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (stop, force) = (CancellationToken::new(), CancellationToken::new());
        let (on_first, on_second) = (stop.clone(), force.clone());
        let mut listener = JoinSet::new();
        listener.spawn(async move {
            let name = next(&mut term, &mut int).await;
            tracing::info!(signal = name, "stopping; a second signal stops at once");
            on_first.cancel();
            let name = next(&mut term, &mut int).await;
            tracing::warn!(signal = name, "stopping at once");
            on_second.cancel();
        });
        Ok(Self { stop, force, _listener: listener })
    }

    /// Done at the first signal.
    pub fn stop(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stop.clone().cancelled_owned()
    }

    /// Done at the second signal.
    pub fn force(&self) -> impl Future<Output = ()> + Send + 'static {
        self.force.clone().cancelled_owned()
    }
}

async fn next(term: &mut Signal, int: &mut Signal) -> &'static str {
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn the_first_signal_stops_and_the_second_forces() {
        let signals = Signals::install().unwrap();
        kill_process(getpid(), Signal::TERM).unwrap();
        signals.stop().await;
        assert!(!signals.force.is_cancelled());
        kill_process(getpid(), Signal::INT).unwrap();
        signals.force().await;
    }
}
