//! What holders acknowledge, on the way to storage: the newest acknowledgement of each is kept and written together with
//! those of others, so that a bundle that reaches ten thousand agents at once costs a few commits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use signet_core::holder::{Acknowledgement, Acknowledger};
use signet_core::seams::store::HolderStore;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How soon a failed write is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Acknowledgements per write at most.
const BATCH: usize = 1000;

/// What is not written yet: the newest that each holder has applied, and what it has refused since.
#[derive(Default)]
struct Unwritten {
    applied: HashMap<Acknowledger, Acknowledgement>,
    refused: HashMap<Acknowledger, Acknowledgement>,
}

impl Unwritten {
    /// The sequence that the holder has applied, as far as it is not written yet.
    fn applied_by(&self, holder: &Acknowledger) -> u64 {
        self.applied.get(holder).map_or(0, |newest| newest.sequence)
    }

    fn add(&mut self, acknowledgement: Acknowledgement) {
        let from = acknowledgement.from.clone();
        if acknowledgement.refused.is_some() {
            self.refused.insert(from, acknowledgement);
            return;
        }
        self.refused.remove(&from);
        if acknowledgement.sequence >= self.applied_by(&from) {
            self.applied.insert(from, acknowledgement);
        }
    }

    /// After a failure. What has arrived meanwhile is newer.
    fn put_back(&mut self, batch: Vec<Acknowledgement>) {
        for acknowledgement in batch {
            let from = acknowledgement.from.clone();
            let applied = self.applied_by(&from);
            if acknowledgement.refused.is_none() && acknowledgement.sequence > applied {
                self.applied.insert(from, acknowledgement);
            } else if acknowledgement.refused.is_some() && acknowledgement.sequence >= applied {
                self.refused.entry(from).or_insert(acknowledgement);
            }
        }
    }

    /// A batch: what was applied first, since a refusal that is still there came after it.
    fn take(&mut self) -> Vec<Acknowledgement> {
        let from = if self.applied.is_empty() { &mut self.refused } else { &mut self.applied };
        if from.len() <= BATCH {
            return std::mem::take(from).into_values().collect();
        }
        let some: Vec<Acknowledger> = from.keys().take(BATCH).cloned().collect();
        some.iter().filter_map(|one| from.remove(one)).collect()
    }
}

/// Takes acknowledgements; clones share one queue. Its length is bounded by the number of holders with an open stream.
#[derive(Clone, Default)]
pub struct Acknowledgements {
    unwritten: Arc<Mutex<Unwritten>>,
    arrived: Arc<Notify>,
}

impl Acknowledgements {
    /// Notes one. Of those that have not been written yet the newest counts; a refusal does not make a holder lose what
    /// it has applied before.
    pub fn note(&self, acknowledgement: Acknowledgement) {
        self.lock().add(acknowledgement);
        self.arrived.notify_one();
    }

    /// Writes what arrives until `stop`, and wakes the rotator by `wake_up` after each write: a step may have become possible.
    ///
    /// # Errors
    /// None: a failing storage is retried, and nothing is forgotten meanwhile.
    pub async fn write(
        self,
        store: Arc<dyn HolderStore>,
        wake_up: Arc<Notify>,
        stop: CancellationToken,
    ) -> Result<(), std::convert::Infallible> {
        while stop.run_until_cancelled(self.arrived.notified()).await.is_some() {
            loop {
                let batch = self.lock().take();
                if batch.is_empty() {
                    break;
                }
                match store.acknowledge(&batch).await {
                    Ok(()) => wake_up.notify_one(),
                    Err(error) => {
                        tracing::warn!(%error, holders = batch.len(), "acknowledgements could not be kept; trying again");
                        self.lock().put_back(batch);
                        if stop.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Unwritten> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::holder_store_tests::Kept;
    use signet_core::holder::HolderKey;
    use std::sync::atomic::Ordering;
    use time::OffsetDateTime;

    fn applied(name: &str, sequence: u64) -> Acknowledgement {
        let key = HolderKey { spiffe_id: name.to_owned(), instance: String::new() };
        let at = OffsetDateTime::UNIX_EPOCH;
        Acknowledgement { from: Acknowledger::Holder(key), sequence, refused: None, at }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_lost_while_storage_fails_and_the_newest_acknowledgement_counts() {
        let (queue, store, wake_up) = (Acknowledgements::default(), Arc::new(Kept::default()), Arc::new(Notify::new()));
        store.failures.store(2, Ordering::SeqCst);
        queue.note(applied("a", 1));
        queue.note(applied("b", 1));
        queue.note(applied("a", 2));
        let writer = queue.clone().write(Arc::clone(&store) as _, Arc::clone(&wake_up), CancellationToken::new());
        tokio::select! { _ = writer => {}, () = wake_up.notified() => {} }
        let mut kept: Vec<u64> = store.acknowledged.lock().unwrap().iter().map(|one| one.sequence).collect();
        kept.sort_unstable();
        assert_eq!(kept, [1, 2]);
        // What was put back after a failure gives way to what has arrived meanwhile.
        queue.note(applied("a", 4));
        queue.lock().put_back(vec![applied("a", 3)]);
        assert_eq!(queue.lock().take().first().map(|one| one.sequence), Some(4));
        // A refusal follows what was applied, and goes when something newer is applied.
        queue.note(applied("a", 5));
        queue.note(Acknowledgement { refused: Some("no".into()), ..applied("a", 6) });
        let next = || queue.lock().take().first().map(|one| (one.sequence, one.refused.is_some()));
        assert_eq!((next(), next(), next()), (Some((5, false)), Some((6, true)), None));
        queue.note(Acknowledgement { refused: Some("no".into()), ..applied("a", 6) });
        queue.note(applied("a", 6));
        assert_eq!((next(), next()), (Some((6, false)), None));
    }
}
