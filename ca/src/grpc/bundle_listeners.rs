//! The open bundle streams: how many each holder and each identity may have, and what is done with what they say.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use signet_core::clock::SharedClock;
use signet_core::holder::{Acknowledgement, Acknowledger};
use signet_sds::snapshot::{DEFAULT_BUNDLE_NAME, Snapshot, Version, Versioned};
use signet_sds::streams::StreamListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::acknowledgements::Acknowledgements;
use crate::bundle_feed::Sequences;
use crate::metrics::CaMetrics;

/// The open streams, and what is done with what they say.
#[derive(Clone)]
pub struct Listeners {
    acknowledgements: Acknowledgements,
    sequences: Sequences,
    clock: SharedClock,
    pub(super) metrics: Arc<CaMetrics>,
    open: Arc<Mutex<Open>>,
    per_identity: usize,
}

/// Streams of one holder at a time: an agent has two while it changes over.
const PER_HOLDER: usize = 8;

/// The open streams, and how many of each holder and of each identity over all of its holders. An identity is a service
/// account, which thousands of pods may share; but what tells them apart is often what they say themselves.
#[derive(Default)]
struct Open {
    last: u64,
    streams: HashMap<u64, Weak<Listener>>,
    holders: HashMap<Acknowledger, usize>,
    identities: HashMap<String, usize>,
}

impl Open {
    /// Counts one more, or says which limit is reached.
    fn count(&mut self, from: &Acknowledger, per_identity: usize) -> Result<(), Status> {
        let of_holder = self.holders.get(from).copied().unwrap_or_default();
        if of_holder >= PER_HOLDER {
            let text = format!("this holder has {PER_HOLDER} bundle streams open already");
            return Err(Status::resource_exhausted(text));
        }
        let of_identity = self.identities.get(from.spiffe_id()).copied().unwrap_or_default();
        if of_identity >= per_identity {
            let text = format!(
                "this identity has {per_identity} bundle streams open already (limits.bundle_streams_per_identity)"
            );
            return Err(Status::resource_exhausted(text));
        }
        self.holders.insert(from.clone(), of_holder + 1);
        self.identities.insert(from.spiffe_id().to_owned(), of_identity + 1);
        Ok(())
    }

    fn remove(&mut self, number: u64, from: &Acknowledger) {
        fn less<K: Hash + Eq + std::borrow::Borrow<Q>, Q: Hash + Eq + ?Sized>(counts: &mut HashMap<K, usize>, key: &Q) {
            if let Some(count) = counts.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(key);
                }
            }
        }
        self.streams.remove(&number);
        less(&mut self.holders, from);
        less(&mut self.identities, from.spiffe_id());
    }
}

impl Listeners {
    /// No streams yet; each identity may have so many.
    #[must_use]
    pub fn new(
        acknowledgements: Acknowledgements,
        sequences: Sequences,
        clock: SharedClock,
        metrics: Arc<CaMetrics>,
        per_identity: usize,
    ) -> Self {
        Self { acknowledgements, sequences, clock, metrics, open: Arc::default(), per_identity }
    }

    /// The listener of a new stream; a holder or an identity that has many already gets no more.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`.
    pub(super) fn enter(&self, from: Acknowledger) -> Result<Arc<Listener>, Status> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.count(&from, self.per_identity)?;
        open.last += 1;
        let number = open.last;
        let listener = Arc::new(Listener { number, from, all: self.clone(), applied: Mutex::default() });
        open.streams.insert(number, Arc::downgrade(&listener));
        drop(open);
        self.metrics.rotation.streams.inc();
        Ok(listener)
    }

    /// A bundle may get a new sequence without another content, after a rollback: nothing is sent then, and whoever
    /// has that content has the new sequence too. Runs until `stop`.
    ///
    /// # Errors
    /// None.
    pub async fn follow(
        self,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        stop: CancellationToken,
    ) -> Result<(), std::convert::Infallible> {
        while let Some(Ok(())) = stop.run_until_cancelled(snapshots.changed()).await {
            let version = snapshots.borrow_and_update().secret(DEFAULT_BUNDLE_NAME).map(Versioned::version);
            // Nobody is told under the lock: the last to let go of a stream takes it again.
            let open: Vec<_> =
                self.open.lock().unwrap_or_else(PoisonError::into_inner).streams.values().cloned().collect();
            for listener in open.iter().filter_map(Weak::upgrade) {
                if let Some(version) = version.filter(|version| listener.has(*version)) {
                    listener.note(version, None);
                }
            }
        }
        stop.cancelled().await;
        Ok(())
    }
}

/// One open stream.
pub(super) struct Listener {
    number: u64,
    from: Acknowledger,
    all: Listeners,
    applied: Mutex<Option<Version>>,
}

impl Listener {
    fn has(&self, version: Version) -> bool {
        *self.applied.lock().unwrap_or_else(PoisonError::into_inner) == Some(version)
    }

    fn note(&self, version: Version, refused: Option<String>) {
        let Some(sequence) = self.all.sequences.of(version) else { return };
        let at = self.all.clock.now();
        self.all.acknowledgements.note(Acknowledgement { from: self.from.clone(), sequence, refused, at });
    }
}

impl StreamListener for Listener {
    fn applied(&self, name: &str, version: Version) {
        if name == DEFAULT_BUNDLE_NAME {
            *self.applied.lock().unwrap_or_else(PoisonError::into_inner) = Some(version);
            self.note(version, None);
        }
    }

    fn refused(&self, name: &str, version: Version, text: &str) {
        if name == DEFAULT_BUNDLE_NAME {
            self.all.metrics.rotation.refused.inc();
            tracing::warn!(holder = ?self.from, text, "a holder refused the trust bundle");
            let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
            *applied = applied.filter(|applied| *applied != version);
            drop(applied);
            self.note(version, Some(text.to_owned()));
        }
    }
}

/// With the stream, or with the attempt to open it.
impl Drop for Listener {
    fn drop(&mut self) {
        self.all.metrics.rotation.streams.dec();
        self.all.open.lock().unwrap_or_else(PoisonError::into_inner).remove(self.number, &self.from);
    }
}

#[cfg(test)]
#[path = "bundle_listeners_tests.rs"]
mod tests;
