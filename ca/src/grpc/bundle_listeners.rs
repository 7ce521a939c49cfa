//! The holders behind the open bundle streams: how many each holder and each identity may have, and which bundle by its
//! number a holder acknowledges.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use signet_core::clock::SharedClock;
use signet_core::holder::{self, Acknowledger};
use signet_sds::ledger::{AcknowledgementListener, Observer};
use signet_sds::session::{Acknowledgement, Answer};
use signet_sds::snapshot::DEFAULT_BUNDLE_NAME;
use tonic::Status;

use crate::acknowledgement_queue::Acknowledgements;
use crate::bundle_feed::Sequences;
use crate::metrics::CaMetrics;

/// Makes the listeners of bundle streams; clones share what is counted.
#[derive(Clone)]
pub struct Listeners {
    acknowledgements: Acknowledgements,
    sequences: Sequences,
    clock: SharedClock,
    pub(super) metrics: Arc<CaMetrics>,
    open: Arc<Mutex<StreamCounts>>,
    per_identity: usize,
}

/// Streams of one holder at a time: an agent has two while it changes over.
const PER_HOLDER: usize = 8;

/// How many streams are open of each holder and of each identity over all of its holders. An identity is a service
/// account, which thousands of pods may share; but what tells them apart is often what they say themselves.
#[derive(Default)]
struct StreamCounts {
    holders: HashMap<Acknowledger, usize>,
    identities: HashMap<String, usize>,
}

impl StreamCounts {
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

    fn remove(&mut self, from: &Acknowledger) {
        fn less<K: Hash + Eq + std::borrow::Borrow<Q>, Q: Hash + Eq + ?Sized>(counts: &mut HashMap<K, usize>, key: &Q) {
            if let Some(count) = counts.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(key);
                }
            }
        }
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
        self.open.lock().unwrap_or_else(PoisonError::into_inner).count(&from, self.per_identity)?;
        self.metrics.rotation.streams.inc();
        Ok(Arc::new(Listener { from, all: self.clone() }))
    }
}

/// Of all streams together only this is counted here; the rest is counted by holder.
impl Observer for Listeners {
    fn unserved(&self) {
        self.metrics.rotation.unserved.inc();
    }
}

/// The listener of one open stream.
pub(super) struct Listener {
    from: Acknowledger,
    all: Listeners,
}

impl AcknowledgementListener for Listener {
    fn heard(&self, Acknowledgement { name, version, answer }: &Acknowledgement) {
        if **name != *DEFAULT_BUNDLE_NAME {
            return;
        }
        let refused = match answer {
            Answer::Ack => None,
            Answer::Nack(text) => {
                self.all.metrics.rotation.refused.inc();
                tracing::warn!(holder = %self.from, text, "a holder refused the trust bundle");
                Some(text.clone())
            }
        };
        let Some(sequence) = self.all.sequences.of(*version) else { return };
        let (from, at) = (self.from.clone(), self.all.clock.now());
        self.all.acknowledgements.note(holder::Acknowledgement { from, sequence, refused, at });
    }
}

/// With the stream, or with the attempt to open it.
impl Drop for Listener {
    fn drop(&mut self) {
        self.all.metrics.rotation.streams.dec();
        self.all.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.from);
    }
}

#[cfg(test)]
#[path = "bundle_listeners_tests.rs"]
mod tests;
