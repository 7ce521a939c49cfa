//! Those to whom bundles are handed on: an acknowledgement upstream speaks for all of them.

use signet_sds::snapshot::Version;
use signet_sds::streams::{Settled, Streams};
use tokio::sync::watch;
use tokio::time::Instant;

/// Who gets the bundle from us.
pub enum Recipients {
    /// The proxies that ask for the secret of this name: connected, or away for a moment.
    Proxies {
        /// All streams.
        streams: Streams,
        /// The bundle's name.
        bundle_name: String,
        /// Tells when to ask again.
        changes: watch::Receiver<u64>,
    },
    /// Files, and the version of the bundle that was written last.
    Files(watch::Receiver<Option<Version>>),
}

impl Recipients {
    /// The proxies of `streams`.
    #[must_use]
    pub fn proxies(streams: Streams, bundle_name: String) -> Self {
        let changes = streams.changes();
        Self::Proxies { streams, bundle_name, changes }
    }

    /// Whether they all have taken over the bundle of this version, and when to ask again if nothing changes.
    pub(super) fn settled(&mut self, version: Version) -> (Settled, Option<Instant>) {
        match self {
            Self::Proxies { streams, bundle_name, changes } => {
                changes.mark_unchanged();
                streams.settled(bundle_name, version)
            }
            Self::Files(written) => match *written.borrow_and_update() {
                Some(newest) if newest == version => (Settled::Yes, None),
                _ => (Settled::Waiting(1), None),
            },
        }
    }

    /// Returns when they may have come to another answer.
    pub(super) async fn changed(&mut self) {
        let changed = match self {
            Self::Proxies { changes, .. } => changes.changed().await,
            Self::Files(written) => written.changed().await,
        };
        if changed.is_err() {
            // Nobody is left who could change anything, which means that the process ends.
            std::future::pending().await
        }
    }
}
