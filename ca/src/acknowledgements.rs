//! What holders say about bundles, on the way to storage: the newest word of each is kept and written together with
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

/// The newest words of holders: what each has applied, and what it has refused since.
#[derive(Default)]
struct Waiting {
    applied: HashMap<Acknowledger, Acknowledgement>,
    refused: HashMap<Acknowledger, Acknowledgement>,
}

impl Waiting {
    fn add(&mut self, word: Acknowledgement) {
        if word.refused.is_some() {
            self.refused.insert(word.from.clone(), word);
            return;
        }
        self.refused.remove(&word.from);
        let known = self.applied.get(&word.from).map_or(0, |known| known.sequence);
        if word.sequence >= known {
            self.applied.insert(word.from.clone(), word);
        }
    }
}

/// Takes acknowledgements; clones share one queue. Its length is bounded by the number of holders with an open stream.
#[derive(Clone, Default)]
pub struct Acknowledgements {
    waiting: Arc<Mutex<Waiting>>,
    arrived: Arc<Notify>,
}

impl Acknowledgements {
    /// Notes one. Of words that have not been written yet the newest counts; a refusal does not make a holder lose what
    /// it has applied before.
    pub fn note(&self, acknowledgement: Acknowledgement) {
        self.lock().add(acknowledgement);
        self.arrived.notify_one();
    }

    /// Writes what arrives until `stop`, and rings `bell` after each write: a step may have become due.
    ///
    /// # Errors
    /// None: a failing storage is retried, and nothing is forgotten meanwhile.
    pub async fn write(
        self,
        store: Arc<dyn HolderStore>,
        bell: Arc<Notify>,
        stop: CancellationToken,
    ) -> Result<(), std::convert::Infallible> {
        while stop.run_until_cancelled(self.arrived.notified()).await.is_some() {
            loop {
                let batch = self.take();
                if batch.is_empty() {
                    break;
                }
                match store.acknowledge(&batch).await {
                    Ok(()) => bell.notify_one(),
                    Err(error) => {
                        tracing::warn!(%error, holders = batch.len(), "acknowledgements could not be kept; trying again");
                        self.put_back(batch);
                        if stop.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Some of what waits: what was applied first, since a refusal that is still there came after it.
    fn take(&self) -> Vec<Acknowledgement> {
        let mut waiting = self.lock();
        let applied = !waiting.applied.is_empty();
        let from = if applied { &mut waiting.applied } else { &mut waiting.refused };
        if from.len() <= BATCH {
            return std::mem::take(from).into_values().collect();
        }
        let some: Vec<Acknowledger> = from.keys().take(BATCH).cloned().collect();
        some.iter().filter_map(|one| from.remove(one)).collect()
    }

    /// What has arrived meanwhile is newer.
    fn put_back(&self, batch: Vec<Acknowledgement>) {
        let mut waiting = self.lock();
        for word in batch {
            let known = waiting.applied.get(&word.from).map_or(0, |known| known.sequence);
            if word.refused.is_none() && word.sequence > known {
                waiting.applied.insert(word.from.clone(), word);
            } else if word.refused.is_some() && word.sequence >= known {
                waiting.refused.entry(word.from.clone()).or_insert(word);
            }
        }
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

    fn word(name: &str, sequence: u64) -> Acknowledgement {
        let key = HolderKey { spiffe_id: name.to_owned(), instance: String::new() };
        let at = OffsetDateTime::UNIX_EPOCH;
        Acknowledgement { from: Acknowledger::Holder(key), sequence, refused: None, at }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_lost_while_storage_fails_and_the_newest_word_counts() {
        let (queue, store, bell) = (Acknowledgements::default(), Arc::new(Kept::default()), Arc::new(Notify::new()));
        store.failures.store(2, Ordering::SeqCst);
        queue.note(word("a", 1));
        queue.note(word("b", 1));
        queue.note(word("a", 2));
        let writer = queue.clone().write(Arc::clone(&store) as _, Arc::clone(&bell), CancellationToken::new());
        tokio::select! { _ = writer => {}, () = bell.notified() => {} }
        let mut kept: Vec<u64> = store.acknowledged.lock().unwrap().iter().map(|one| one.sequence).collect();
        kept.sort_unstable();
        assert_eq!(kept, [1, 2]);
        // What was put back after a failure gives way to what has arrived meanwhile.
        queue.note(word("a", 4));
        queue.put_back(vec![word("a", 3)]);
        assert_eq!(queue.take().first().map(|one| one.sequence), Some(4));
        // A refusal follows what was applied, and goes when something newer is applied.
        queue.note(word("a", 5));
        queue.note(Acknowledgement { refused: Some("no".into()), ..word("a", 6) });
        let next = || queue.take().first().map(|one| (one.sequence, one.refused.is_some()));
        assert_eq!((next(), next(), next()), (Some((5, false)), Some((6, true)), None));
        queue.note(Acknowledgement { refused: Some("no".into()), ..word("a", 6) });
        queue.note(word("a", 6));
        assert_eq!((next(), next()), (Some((6, false)), None));
    }
}
