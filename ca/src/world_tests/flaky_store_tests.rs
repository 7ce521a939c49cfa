//! Storage that can be made to fail, for tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;
use signet_core::audit::{AuditEvent, AuditQuery, Page, StoredEvent, UnreadEvent, Unreadable};
use signet_core::authority::{AuthorityId, KeyId};
use signet_core::certificate::Serial;
use signet_core::holder::{Acknowledgement, Coverage, Gone, Holder, HolderQuery, Lag, Mark};
use signet_core::key_type::KeyType;
use signet_core::publication::{Publications, Report};
use signet_core::record_before_release::{ClaimName, Recorded};
use signet_core::rotation::Authorities;
use signet_core::seams::custody::{CustodyError, KeyCustody, SigningKey};
use signet_core::seams::pod_certificates::{Claim, PodCertificateStore};
use signet_core::seams::signed_leaves::SignedLeafStore;
use signet_core::seams::store::{
    AppendError, AuditStore, AuthorityJournal, Change, Changed, HolderStore, JournalVersion, NewRecord,
    PublicationStore, StoreError,
};
use signet_core::secret::Secret;
use signet_plugins::custody::MemoryCustody;
use signet_plugins::store::memory::MemoryStore;
use time::OffsetDateTime;

/// Storage that can be switched off, or that dies at a chosen write: everything durable goes through it.
#[derive(Default)]
pub(crate) struct FlakyStore {
    pub(crate) inner: MemoryStore,
    pub(crate) down: AtomicBool,
    pub(crate) stuck: AtomicBool,
    /// Neither record nor journal can be read.
    pub(crate) unreadable: AtomicBool,
    /// Nobody who reads the record gets an answer.
    pub(crate) silent: AtomicBool,
    /// What is on record cannot be read.
    pub(crate) garbled: AtomicBool,
    /// Each append waits for `commit` to be rung.
    pub(crate) slow: AtomicBool,
    pub(crate) commit: tokio::sync::Notify,
    /// Keys cannot be opened.
    pub(crate) keys_away: AtomicBool,
    /// This one key cannot be opened.
    pub(crate) key_away: std::sync::Mutex<Option<KeyId>>,
    /// This one leaf of a backend is gone.
    pub(crate) lost_leaf: std::sync::Mutex<Option<Serial>>,
    keys: MemoryCustody,
    /// Writes so far.
    writes: AtomicI64,
    /// Writes until the process dies; negative: it lives for ever.
    life: AtomicI64,
    /// Whether the last write is still kept, though nobody hears of it.
    last_is_kept: AtomicBool,
}

impl FlakyStore {
    /// Lets the process die at its write number `writes`, counted from now.
    pub(crate) fn die_after(&self, writes: i64, last_is_kept: bool) {
        self.life.store(writes + 1, Ordering::SeqCst);
        self.last_is_kept.store(last_is_kept, Ordering::SeqCst);
    }

    /// Durable writes since the last time this was asked.
    pub(crate) fn writes(&self) -> i64 {
        self.writes.swap(0, Ordering::SeqCst)
    }

    fn readable(&self) -> Result<(), StoreError> {
        let away = || StoreError::Unavailable("no answer".to_owned());
        if self.unreadable.load(Ordering::SeqCst) { Err(away()) } else { Ok(()) }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.life.load(Ordering::SeqCst) != 1
    }

    pub(crate) fn live(&self) {
        self.life.store(0, Ordering::SeqCst);
    }

    /// `Ok(true)`: write and tell; `Ok(false)`: write, but the writer dies before it hears of it.
    fn write(&self) -> Result<bool, StoreError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        match self.life.load(Ordering::SeqCst) {
            0 => Ok(true),
            1 => Err(StoreError::Unavailable("dead".to_owned())),
            2 => {
                self.life.store(1, Ordering::SeqCst);
                match self.last_is_kept.load(Ordering::SeqCst) {
                    true => Ok(false),
                    false => Err(StoreError::Unavailable("dead".to_owned())),
                }
            }
            left => {
                self.life.store(left - 1, Ordering::SeqCst);
                Ok(true)
            }
        }
    }
}

fn dead<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("died before it heard".to_owned()))
}

#[async_trait]
impl AuditStore for FlakyStore {
    async fn append(&self, events: Vec<AuditEvent>) -> Result<Vec<Result<Recorded, AppendError>>, StoreError> {
        if self.stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.slow.load(Ordering::SeqCst) {
            self.commit.notified().await;
        }
        if self.down.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("disk full".to_owned()));
        }
        let heard = self.write()?;
        let appended = self.inner.append(events).await?;
        if heard { Ok(appended) } else { dead() }
    }
    async fn append_keeping(&self, records: Vec<NewRecord>) -> Result<Vec<Result<Recorded, AppendError>>, StoreError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("disk full".to_owned()));
        }
        let heard = self.write()?;
        let appended = self.inner.append_keeping(records).await?;
        if heard { Ok(appended) } else { dead() }
    }
    async fn query(&self, query: &AuditQuery) -> Result<Page<StoredEvent>, StoreError> {
        if self.silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.readable()?;
        let mut page = self.inner.query(query).await?;
        if self.garbled.load(Ordering::SeqCst) {
            let unread = |StoredEvent { sequence, event, .. }: StoredEvent| {
                let AuditEvent { at_micros, kind, outcome, .. } = event;
                UnreadEvent { sequence, at_micros, kind, outcome, problem: Unreadable::Newer }
            };
            page.unread = page.items.drain(..).map(unread).collect();
        }
        Ok(page)
    }
    async fn probe(&self) -> Result<(), StoreError> {
        self.inner.probe().await
    }
}

#[async_trait]
impl AuthorityJournal for FlakyStore {
    async fn load(&self) -> Result<Option<(JournalVersion, Authorities)>, StoreError> {
        self.inner.load().await
    }
    async fn version(&self) -> Result<JournalVersion, StoreError> {
        self.readable()?;
        self.inner.version().await
    }
    async fn change(&self, change: Change<'_>) -> Result<Changed, StoreError> {
        let heard = self.write()?;
        let changed = self.inner.change(change).await?;
        if heard { Ok(changed) } else { dead() }
    }
}

#[async_trait]
impl KeyCustody for FlakyStore {
    async fn create(&self, id: &KeyId, key_type: KeyType) -> Result<Arc<dyn SigningKey>, CustodyError> {
        let heard = self.write().map_err(|error| CustodyError::Store(error.to_string()))?;
        let key = self.keys.create(id, key_type).await?;
        if heard { Ok(key) } else { Err(CustodyError::Store("died before it heard".to_owned())) }
    }
    async fn import(&self, id: &KeyId, pkcs8: &Secret) -> Result<Arc<dyn SigningKey>, CustodyError> {
        self.keys.import(id, pkcs8).await
    }
    async fn open(&self, id: &KeyId) -> Result<Arc<dyn SigningKey>, CustodyError> {
        if self.keys_away.load(Ordering::SeqCst) || self.key_away.lock().unwrap().as_ref() == Some(id) {
            return Err(CustodyError::Store("away".to_owned()));
        }
        self.keys.open(id).await
    }
    async fn forget_unused(&self, _: OffsetDateTime, unused: Duration) -> Result<Vec<KeyId>, CustodyError> {
        Ok(KeyId::parse(&format!("unused-{}", unused.as_secs())).into_iter().collect())
    }
}

#[async_trait]
impl PublicationStore for FlakyStore {
    async fn report(&self, report: &Report) -> Result<(), StoreError> {
        self.inner.report(report).await
    }
    async fn publications(&self) -> Result<Publications, StoreError> {
        self.inner.publications().await
    }
    async fn take_turn(
        &self,
        publisher: &str,
        who: &str,
        now: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        self.inner.take_turn(publisher, who, now, until).await
    }
    async fn forget_silent(&self, ours: &[String], before: OffsetDateTime) -> Result<Vec<String>, StoreError> {
        self.inner.forget_silent(ours, before).await
    }
}

#[async_trait]
impl HolderStore for FlakyStore {
    async fn acknowledge(&self, acknowledgements: &[Acknowledgement]) -> Result<(), StoreError> {
        self.inner.acknowledge(acknowledgements).await
    }
    async fn mark(&self, marks: &[Mark], at: OffsetDateTime) -> Result<bool, StoreError> {
        self.inner.mark(marks, at).await
    }
    async fn gone(&self, gone: &[Gone], seen_before: OffsetDateTime, at: OffsetDateTime) -> Result<u64, StoreError> {
        self.inner.gone(gone, seen_before, at).await
    }
    async fn published_to(
        &self,
        cluster: &str,
        signer: &str,
        sequence: u64,
        at: OffsetDateTime,
    ) -> Result<u64, StoreError> {
        self.inner.published_to(cluster, signer, sequence, at).await
    }
    async fn coverage(&self, now: OffsetDateTime) -> Result<Coverage, StoreError> {
        self.inner.coverage(now).await
    }
    async fn lag(&self, now: OffsetDateTime, sequence: u64) -> Result<Lag, StoreError> {
        self.inner.lag(now, sequence).await
    }
    async fn holders(&self, query: &HolderQuery) -> Result<Vec<Holder>, StoreError> {
        self.inner.holders(query).await
    }
    async fn last_ends(&self) -> Result<BTreeMap<AuthorityId, OffsetDateTime>, StoreError> {
        self.inner.last_ends().await
    }
    async fn forget_ended(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        self.inner.forget_ended(before, limit).await
    }
}

#[async_trait]
impl SignedLeafStore for FlakyStore {
    async fn signed_leaf(&self, serial: Serial) -> Result<Option<CertificateDer<'static>>, StoreError> {
        self.readable()?;
        if *self.lost_leaf.lock().unwrap() == Some(serial) {
            return Ok(None);
        }
        self.inner.signed_leaf(serial).await
    }
    async fn forget_signed(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        self.inner.forget_signed(before, limit).await
    }
}

#[async_trait]
impl PodCertificateStore for FlakyStore {
    async fn claim(
        &self,
        name: &ClaimName,
        cluster: &str,
        now: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<Claim, StoreError> {
        self.inner.claim(name, cluster, now, until).await
    }
    async fn finish(&self, uid: &str, at: OffsetDateTime) -> Result<(), StoreError> {
        self.inner.finish(uid, at).await
    }
    async fn forget_claims(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        self.inner.forget_claims(before, limit).await
    }
}
