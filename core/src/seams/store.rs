//! Durable storage: the audit log, the journal of authorities, and sealed keys.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::audit::{AuditEvent, AuditQuery, Page, StoredEvent};
use crate::authority::{AuthorityId, KeyId};
use crate::holder::{Acknowledgement, Coverage, Gone, Holder, HolderQuery, Lag, Mark};
use crate::publication::{Publications, Report};
use crate::record_before_release::{Kept, Recorded};
use crate::rotation::{Authorities, Condition};

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
    /// The storage is asked by way of a CA that does not answer, or not so.
    #[error("{0}")]
    Elsewhere(String),
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
    /// The journal lets this certificate out no more: its issuing CA may not sign, or the trust bundle that goes with it
    /// is too old (see [`Fence`](crate::rotation::Fence)). Signed again from the journal as it is now, it may.
    #[error("the authorities have changed since this certificate was signed")]
    Fenced,
    /// The claim that this certificate was made under is another process's by now, or has its certificate.
    #[error("another process has taken over this request, or has answered it")]
    ClaimLost,
}

/// An event to append, with the certificate that is kept in the same transaction if there is one.
pub type NewRecord = (AuditEvent, Option<Kept>);

/// The append-only record of decisions.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Appends a batch in order with consecutive sequence numbers and returns only after it would survive a crash of
    /// the machine. The result has one element per event, in order; a taken serial fails its own event alone, and so does
    /// a certificate that the [`Fence`](crate::rotation::Fence) of the journal, as it is in the transaction of the batch,
    /// does not admit.
    ///
    /// # Errors
    /// [`StoreError`] when nothing of the batch was kept.
    async fn append(&self, events: Vec<AuditEvent>) -> Result<Vec<Result<Recorded, AppendError>>, StoreError>;

    /// The same of events some of which keep a certificate with a claim, in the same transaction. A claim that is not that
    /// claimant's any more, or has a certificate, fails its own event alone: see
    /// [`PodCertificateStore`](super::pod_certificates::PodCertificateStore).
    ///
    /// # Errors
    /// As [`append`](Self::append).
    async fn append_keeping(&self, records: Vec<NewRecord>) -> Result<Vec<Result<Recorded, AppendError>>, StoreError>;

    /// Does a bounded piece of what appends leave for later, if anything is due; `false` when nothing was. Whoever appends calls
    /// this when its callers have their answers. Nothing depends on it but speed.
    ///
    /// # Errors
    /// [`StoreError`]; what was appended stays so.
    async fn settle(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

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

/// One change of the journal, with everything that belongs to it.
#[derive(Debug, Clone)]
pub struct Change<'a> {
    /// The version that it was decided on.
    pub expected: JournalVersion,
    /// The document after it.
    pub next: &'a Authorities,
    /// What must be true of holders and certificates when it is made.
    pub conditions: &'a [Condition],
    /// The moment at which holders are counted as live.
    pub now: OffsetDateTime,
    /// What is put on record with it; nothing that releases a certificate.
    pub events: Vec<AuditEvent>,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It was made: the journal has this version now, and the events are on record.
    Made(JournalVersion),
    /// Somebody else was faster. Nothing was changed.
    Overtaken,
    /// A condition does not hold any more. Nothing was changed.
    Unmet,
}

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

    /// Returns when another process may have changed the journal; it may also return for nothing, and never need return
    /// where that is not told: whoever waits looks now and then all the same. Dropped and called again, it misses nothing
    /// that a listener can be told.
    async fn heard(&self) {
        std::future::pending().await
    }

    /// Makes a change in one durable transaction: compares the version, counts what the conditions are about, replaces
    /// the entry, and records the events. All of it happens or none, also when nobody waits for the end of it.
    ///
    /// # Errors
    /// [`StoreError`]; when a deadline has passed, the change may have been made all the same, with its events.
    async fn change(&self, change: Change<'_>) -> Result<Changed, StoreError>;

    /// Replaces the entry of version `expected` on no condition and off the record: what tools and tests do. Gives the
    /// new version, or `None` when somebody else was faster.
    ///
    /// # Errors
    /// As [`change`](Self::change).
    async fn replace(
        &self,
        expected: JournalVersion,
        authorities: &Authorities,
    ) -> Result<Option<JournalVersion>, StoreError> {
        let now = OffsetDateTime::UNIX_EPOCH;
        let change = Change { expected, next: authorities, conditions: &[], now, events: Vec::new() };
        Ok(match self.change(change).await? {
            Changed::Made(version) => Some(version),
            Changed::Overtaken | Changed::Unmet => None,
        })
    }
}

/// Who holds certificates and which trust bundle each holder has received.
///
/// The rows come from the audit log: [`AuditStore::append`] of an event of kind `Certificate` and outcome `Issued`
/// that has a [`holder`](crate::audit::AuditEvent::holder) enters the holder, at the latest before anybody asks. The newest
/// certificate counts for `serial`, `authority` and the names; `not_after` is the latest one ever seen. A record is no
/// delivery, so a new holder has received nothing and a known one no more than before: `sequence`, which never falls, is
/// raised by marks and acknowledgements. A process that dies between the two leaves a holder that is behind, which is safe.
///
/// Marks raise it only for a holder that has never acknowledged by itself: once it does, a reply to another client in the
/// same pod says nothing about its proxies.
#[async_trait]
pub trait HolderStore: Send + Sync {
    /// Notes acknowledgements durably, in order. Those of unknown holders are ignored; those by any certificate that was
    /// issued to a holder are its own, since the reply with a newer one may be lost. One that was refused leaves `sequence`
    /// as it is.
    ///
    /// # Errors
    /// [`StoreError`] when nothing was kept.
    async fn acknowledge(&self, acknowledgements: &[Acknowledgement]) -> Result<(), StoreError>;

    /// Notes durably, at the time `at`, what became of replies whose records were kept; `false` when that changes nothing,
    /// in which case nothing of them was written. Those of unknown holders are ignored.
    ///
    /// One that was handed over in full raises `sequence` as said above, and of the holder's certificates only the newest
    /// counts from then on, if it is that one. One of which nothing was handed over removes the holder if it was its only
    /// certificate and the holder has received nothing: nobody has it, though it counts for [`last_ends`](Self::last_ends).
    ///
    /// # Errors
    /// [`StoreError`] when nothing was kept.
    async fn mark(&self, marks: &[Mark], at: OffsetDateTime) -> Result<bool, StoreError>;

    /// Notes durably, at the time `at`, that the pods of these holders are gone; gives of how many that was news. Those that
    /// have another newest certificate by now, or gave a sign of life at `seen_before` or later, are left as they are. From
    /// then on nobody waits for them: they count for the use of issuing CAs only, until they have a newer certificate or
    /// acknowledge anything.
    ///
    /// # Errors
    /// [`StoreError`] when nothing was kept.
    async fn gone(&self, gone: &[Gone], seen_before: OffsetDateTime, at: OffsetDateTime) -> Result<u64, StoreError>;

    /// Notes durably, at the time `at`, that the bundle of this sequence has reached whoever learns of bundles from where those
    /// of this signer are published in this cluster; gives of how many holders that was news.
    ///
    /// # Errors
    /// [`StoreError`] when nothing was kept.
    async fn published_to(
        &self,
        cluster: &str,
        signer: &str,
        sequence: u64,
        at: OffsetDateTime,
    ) -> Result<u64, StoreError>;

    /// The numbers of holders whose last certificate ends after `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn coverage(&self, now: OffsetDateTime) -> Result<Coverage, StoreError>;

    /// Of the same holders, who refuses bundles, and until when those have certificates that have not received the bundle
    /// `sequence`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn lag(&self, now: OffsetDateTime, sequence: u64) -> Result<Lag, StoreError>;

    /// Holders, ordered by key (SPIFFE ID, then instance, by bytes).
    ///
    /// # Errors
    /// [`StoreError`].
    async fn holders(&self, query: &HolderQuery) -> Result<Vec<Holder>, StoreError>;

    /// For each issuing CA that has ever signed a workload's certificate, when the last one of them ends: known
    /// exactly, from the records.
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

/// Where the trust bundle is published, which all replicas have to agree on.
#[async_trait]
pub trait PublicationStore: Send + Sync {
    /// Notes durably what a publisher has found; from then on it is one that is waited for. Of a bundle that was in place
    /// before, the earlier time stays. A report that is older than the last one changes nothing but that.
    ///
    /// # Errors
    /// [`StoreError`] when nothing was kept.
    async fn report(&self, report: &Report) -> Result<(), StoreError>;

    /// What is known of all publishers, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn publications(&self) -> Result<Publications, StoreError>;

    /// Whether the process `who` does the work of a publisher until `until`: nobody else has the turn at `now`, or it has it
    /// already. It saves work and nothing else: a process that was asleep may believe to have it still.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn take_turn(
        &self,
        publisher: &str,
        who: &str,
        now: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<bool, StoreError>;

    /// Forgets the publishers that were not heard of since `before`, but for `ours`; gives their names.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn forget_silent(&self, ours: &[String], before: OffsetDateTime) -> Result<Vec<String>, StoreError>;
}

/// Encrypted private keys. What is stored here is useless without the key-encryption key.
#[async_trait]
pub trait SealedKeys: Send + Sync {
    /// Keeps `sealed` under `id` durably; `false` when the name is taken and nothing was changed.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn insert(&self, id: &KeyId, sealed: &[u8]) -> Result<bool, StoreError>;

    /// Everything that is kept, in any order: a handful.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn all(&self) -> Result<Vec<(KeyId, Vec<u8>)>, StoreError>;

    /// Keeps `sealed` under `id` durably in the place of `before`; `false` when something else is kept there, or nothing,
    /// and nothing was changed.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn reseal(&self, id: &KeyId, before: &[u8], sealed: &[u8]) -> Result<bool, StoreError>;

    /// Removes keys that neither the journal nor what is kept of its history names, and that were not named either when
    /// this was called `unused_for` ago; those whose names begin with [`KeyId::IMPORTED`] stay. From then on no change of
    /// the journal that names one of them is made. Gives their names. A store that keeps everything is in order too.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn forget_unused(&self, _now: OffsetDateTime, _unused_for: Duration) -> Result<Vec<KeyId>, StoreError> {
        Ok(Vec::new())
    }

    /// What is kept under `id`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn fetch(&self, id: &KeyId) -> Result<Option<Vec<u8>>, StoreError>;
}
