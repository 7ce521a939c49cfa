//! What tests put in the place of storage that keeps what is said of holders.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use signet_core::authority::AuthorityId;
use signet_core::holder::{Acknowledgement, Coverage, Gone, Handover, Holder, HolderQuery, Lag, Mark};
use signet_core::seams::store::{HolderStore, StoreError};
use time::OffsetDateTime;

/// Fails so many times, then keeps what it is given.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) failures: AtomicUsize,
    pub(crate) acknowledged: Mutex<Vec<Acknowledgement>>,
    /// Batch by batch.
    pub(crate) marked: Mutex<Vec<Vec<Mark>>>,
}

impl Kept {
    fn work(&self) -> Result<(), StoreError> {
        let fewer = |left: usize| left.checked_sub(1);
        let failed = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok();
        if failed { Err(StoreError::Unavailable("full".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl HolderStore for Kept {
    async fn acknowledge(&self, batch: &[Acknowledgement]) -> Result<(), StoreError> {
        self.work()?;
        self.acknowledged.lock().unwrap().extend_from_slice(batch);
        Ok(())
    }
    async fn mark(&self, marks: &[Mark], _: OffsetDateTime) -> Result<bool, StoreError> {
        self.work()?;
        self.marked.lock().unwrap().push(marks.to_vec());
        Ok(marks.iter().any(|mark| mark.handover == Handover::Whole))
    }
    async fn gone(&self, _: &[Gone], _: OffsetDateTime, _: OffsetDateTime) -> Result<u64, StoreError> {
        Ok(0)
    }
    async fn published_to(&self, _: &str, _: &str, _: u64, _: OffsetDateTime) -> Result<u64, StoreError> {
        Ok(0)
    }
    async fn coverage(&self, _: OffsetDateTime) -> Result<Coverage, StoreError> {
        Ok(Coverage::default())
    }
    async fn lag(&self, _: OffsetDateTime, _: u64) -> Result<Lag, StoreError> {
        Ok(Lag::default())
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
