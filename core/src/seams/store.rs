//! Durable storage: the audit log, the journal of authorities, and sealed keys.

use std::collections::BTreeMap;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::custody::KeyId;
use crate::audit::{AuditEvent, AuditQuery, Page, StoredEvent};
use crate::holder::{Acknowledgement, Coverage, Holder, HolderQuery};
use crate::release::Recorded;
use crate::rotation::{Authorities, AuthorityId};

/// Storage did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The storage cannot be used now: full, read-only, locked, or away. Nothing was changed.
    #[error("storage is unavailable: {0}")]
    Unavailable(String),
    /// What was read is not what was once written.
    #[error("storage holds damaged data: {0}")]
    Damaged(String),
    /// The storage is not what this process has written to: what was recorded may be gone. It stays so until a restart.
    #[error("storage was changed under the running CA: {0}")]
    Lost(String),
    /// The storage was made by a newer or an unknown version.
    #[error("storage has another schema: {0}")]
    Schema(String),
}

/// Why one event of a batch was not appended although the batch was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// A certificate with this serial number is on record already (invariant 2: no serial twice).
    #[error("a certificate with this serial number is on record already")]
    SerialTaken,
}

/// The append-only record of decisions.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Appends a batch in order with consecutive sequence numbers and returns only after it would survive a crash of
    /// the machine. The result has one element per event, in order; a taken serial fails its own event alone.
    ///
    /// # Errors
    /// [`StoreError`] when nothing of the batch was kept.
    async fn append(&self, events: Vec<AuditEvent>) -> Result<Vec<Result<Recorded, AppendError>>, StoreError>;

    /// One page of events, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn query(&self, query: &AuditQuery) -> Result<Page<StoredEvent>, StoreError>;

    /// Proves that storage can be written now, by writing; for readiness.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn probe(&self) -> Result<(), StoreError>;
}

/// The version of a journal entry; 0 means that there is none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct JournalVersion(pub u64);

/// What the authorities are and have promised, changed by compare-and-set only.
#[async_trait]
pub trait AuthorityJournal: Send + Sync {
    /// The newest entry with its version.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn load(&self) -> Result<Option<(JournalVersion, Authorities)>, StoreError>;

    /// The version of the newest entry, 0 when there is none: a cheap way to find out whether it was replaced.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn version(&self) -> Result<JournalVersion, StoreError>;

    /// Replaces the entry of version `expected` durably and returns the new version, or `None` when somebody else was
    /// faster, in which case nothing was changed.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn replace(
        &self,
        expected: JournalVersion,
        authorities: &Authorities,
    ) -> Result<Option<JournalVersion>, StoreError>;
}

/// Who holds certificates and which trust bundle each holder has received.
///
/// The rows come from the audit log: [`AuditStore::append`] of an event of kind `Certificate` and outcome `Issued`
/// that has a [`holder`](crate::audit::AuditEvent::holder) enters the holder in the same transaction. The newest
/// certificate counts for `serial`, `authority` and the names; `not_after` is the latest one ever seen; `sequence`
/// never falls, and is raised by the event only when the holder has never acknowledged by itself: once it does, a reply
/// to another client in the same pod says nothing about its proxies.
#[async_trait]
pub trait HolderStore: Send + Sync {
    /// Notes acknowledgements durably, in order. Those of unknown holders are ignored. One that was refused leaves
    /// `sequence` as it is.
    ///
    /// # Errors
    /// [`StoreError`] when nothing was kept.
    async fn acknowledge(&self, acknowledgements: &[Acknowledgement]) -> Result<(), StoreError>;

    /// The numbers of holders whose last certificate ends after `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn coverage(&self, now: OffsetDateTime) -> Result<Coverage, StoreError>;

    /// Holders, ordered by key (SPIFFE ID, then instance, by bytes).
    ///
    /// # Errors
    /// [`StoreError`].
    async fn holders(&self, query: &HolderQuery) -> Result<Vec<Holder>, StoreError>;

    /// For each issuing CA that has ever signed a workload's certificate, when the last one of them ends: known
    /// exactly, kept in the transaction of the records.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn last_ends(&self) -> Result<BTreeMap<AuthorityId, OffsetDateTime>, StoreError>;

    /// Forgets at most `limit` holders whose last certificate ended before `before`; returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn forget_ended(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError>;
}

/// Encrypted private keys. What is stored here is useless without the key-encryption key.
#[async_trait]
pub trait SealedKeys: Send + Sync {
    /// Keeps `sealed` under `id` durably; `false` when the name is taken and nothing was changed.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn insert(&self, id: &KeyId, sealed: &[u8]) -> Result<bool, StoreError>;

    /// What is kept under `id`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn fetch(&self, id: &KeyId) -> Result<Option<Vec<u8>>, StoreError>;
}
