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

#[derive(Default)]
struct Waiting {
    newest: HashMap<Acknowledger, Acknowledgement>,
}

/// Takes acknowledgements; clones share one queue. Its length is bounded by the number of holders with an open stream.
#[derive(Clone, Default)]
pub struct Acknowledgements {
    waiting: Arc<Mutex<Waiting>>,
    arrived: Arc<Notify>,
}

impl Acknowledgements {
    /// Notes one; an older word of the same holder that has not been written yet is replaced.
    pub fn note(&self, acknowledgement: Acknowledgement) {
        self.lock().newest.insert(acknowledgement.from.clone(), acknowledgement);
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

    fn take(&self) -> Vec<Acknowledgement> {
        let mut waiting = self.lock();
        if waiting.newest.len() <= BATCH {
            return std::mem::take(&mut waiting.newest).into_values().collect();
        }
        let some: Vec<Acknowledger> = waiting.newest.keys().take(BATCH).cloned().collect();
        some.iter().filter_map(|from| waiting.newest.remove(from)).collect()
    }

    /// What has arrived meanwhile is newer.
    fn put_back(&self, batch: Vec<Acknowledgement>) {
        let mut waiting = self.lock();
        for acknowledgement in batch {
            waiting.newest.entry(acknowledgement.from.clone()).or_insert(acknowledgement);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use async_trait::async_trait;
    use signet_core::holder::{Coverage, Holder, HolderKey, HolderQuery};
    use signet_core::rotation::AuthorityId;
    use signet_core::seams::store::StoreError;
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use time::OffsetDateTime;

    /// Fails so many times, then keeps what it is given.
    #[derive(Default)]
    struct Store {
        failures: AtomicUsize,
        kept: Mutex<Vec<Acknowledgement>>,
    }

    #[async_trait]
    impl HolderStore for Store {
        async fn acknowledge(&self, batch: &[Acknowledgement]) -> Result<(), StoreError> {
            if self.failures.load(Ordering::SeqCst) > 0 {
                self.failures.fetch_sub(1, Ordering::SeqCst);
                return Err(StoreError::Unavailable("full".into()));
            }
            self.kept.lock().unwrap().extend_from_slice(batch);
            Ok(())
        }
        async fn coverage(&self, _: OffsetDateTime) -> Result<Coverage, StoreError> {
            Ok(Coverage::default())
        }
        async fn holders(&self, _: &HolderQuery) -> Result<Vec<Holder>, StoreError> {
            Ok(vec![])
        }
        async fn last_ends(&self) -> Result<BTreeMap<AuthorityId, OffsetDateTime>, StoreError> {
            Ok(BTreeMap::new())
        }
        async fn forget_ended(&self, _: OffsetDateTime, _: u32) -> Result<u64, StoreError> {
            Ok(0)
        }
    }

    fn word(name: &str, sequence: u64) -> Acknowledgement {
        let key = HolderKey { spiffe_id: name.to_owned(), instance: String::new() };
        let at = OffsetDateTime::UNIX_EPOCH;
        Acknowledgement { from: Acknowledger::Holder(key), sequence, refused: None, at }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_lost_while_storage_fails_and_the_newest_word_counts() {
        let (queue, store, bell) = (Acknowledgements::default(), Arc::new(Store::default()), Arc::new(Notify::new()));
        store.failures.store(2, Ordering::SeqCst);
        queue.note(word("a", 1));
        queue.note(word("b", 1));
        queue.note(word("a", 2));
        let writer = queue.clone().write(Arc::clone(&store) as _, Arc::clone(&bell), CancellationToken::new());
        tokio::select! { _ = writer => {}, () = bell.notified() => {} }
        let mut kept: Vec<u64> = store.kept.lock().unwrap().iter().map(|one| one.sequence).collect();
        kept.sort_unstable();
        assert_eq!(kept, [1, 2]);
        // What was put back after a failure gives way to what has arrived meanwhile.
        queue.note(word("a", 4));
        queue.put_back(vec![word("a", 3)]);
        assert_eq!(queue.take().first().map(|one| one.sequence), Some(4));
    }
}
