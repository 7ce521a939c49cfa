//! The tasks of what comes and goes while the process runs, such as a cluster: they end with it.

use std::convert::Infallible;
#[cfg(feature = "kubernetes")]
use std::sync::atomic::{AtomicBool, Ordering};

use signet_runtime::supervisor::{Importance, Spawner};
use tokio_util::sync::CancellationToken;

/// Tasks that are started once, and end when this is dropped.
#[derive(Default)]
pub(super) struct Tasks {
    ended: CancellationToken,
    #[cfg(feature = "kubernetes")]
    started: AtomicBool,
}

impl Tasks {
    /// Cancelled when this is dropped.
    pub(super) fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// Whether they are to be started: the first time that this is asked.
    #[cfg(feature = "kubernetes")]
    pub(super) fn begin(&self) -> bool {
        !self.started.swap(true, Ordering::SeqCst)
    }

    /// Starts one. What it owns goes with it.
    pub(super) fn spawn(&self, spawner: &Spawner, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        spawner.spawn(name, Importance::Passing, |stop| async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = ended.cancelled() => {}
                () = task => {}
            }
            Ok::<_, Infallible>(())
        });
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}
