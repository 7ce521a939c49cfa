//! A whole CA in memory for tests: real authority, real policy, a store that can be made to fail, a clock to be moved.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use ring::rand::SystemRandom;
use signet_core::audit::{AuditEvent, AuditQuery, Outcome, Page, StoredEvent};
use signet_core::caller::{AuthMethod, Caller, Peer};
use signet_core::clock::{Clock, ManualClock, SharedClock};
use signet_core::holder::{Acknowledgement, Coverage, Holder, HolderQuery};
use signet_core::identity::{TrustDomain, WorkloadId};
use signet_core::key_type::KeyType;
use signet_core::policy::{CsrNames, LeafPolicy};
use signet_core::release::Recorded;
use signet_core::rotation::{Authorities, AuthorityId, IssuingCa, Retirement, Rules, Schedule};
use signet_core::seams::authenticator::{AuthenticationError, Denial, TokenAuthenticator};
use signet_core::seams::authority::{CertificateAuthority, SignError, UpstreamAuthority};
use signet_core::seams::custody::{CustodyError, KeyCustody, KeyId, SigningKey};
use signet_core::seams::store::{
    AppendError, AuditStore, AuthorityJournal, Change, Changed, HolderStore, JournalVersion, StoreError,
};
use signet_core::secret::Secret;
use signet_plugins::authority::{NativeAuthority, SelfSignedRoot, sign_list};
use signet_plugins::custody::MemoryCustody;
use signet_plugins::store::memory::MemoryStore;
use signet_runtime::metrics::Metrics;
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::audit_log::audit_log;
use crate::clusters::Clusters;
use crate::config::Limits;
use crate::issuance::{Application, Issuance};
use crate::metrics::CaMetrics;
use crate::operations::{Operations, Operator};
use crate::refusals::refusals;
use crate::rotator::{Maker, Rotator, Steps};
use crate::state::StateReader;

pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);
pub(crate) const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";

/// Storage that can be switched off, or that dies at a chosen write: everything durable goes through it.
#[derive(Default)]
pub(crate) struct FlakyStore {
    pub(crate) inner: MemoryStore,
    pub(crate) down: AtomicBool,
    pub(crate) stuck: AtomicBool,
    /// Each append waits for `commit` to be rung.
    pub(crate) slow: AtomicBool,
    pub(crate) commit: tokio::sync::Notify,
    /// Keys cannot be opened.
    pub(crate) keys_away: AtomicBool,
    /// This one key cannot be opened.
    pub(crate) key_away: std::sync::Mutex<Option<KeyId>>,
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
    async fn query(&self, query: &AuditQuery) -> Result<Page<StoredEvent>, StoreError> {
        self.inner.query(query).await
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
impl HolderStore for FlakyStore {
    async fn acknowledge(&self, acknowledgements: &[Acknowledgement]) -> Result<(), StoreError> {
        self.inner.acknowledge(acknowledgements).await
    }
    async fn coverage(&self, now: OffsetDateTime) -> Result<Coverage, StoreError> {
        self.inner.coverage(now).await
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

/// The rules of the tests: by command only.
pub(crate) fn rules() -> Rules {
    Rules {
        automatic: false,
        prepare_at: 70,
        activate_at: 80,
        coverage: 100,
        propagation: Duration::from_secs(10),
        list_ttl: DAY,
        retirement: Retirement::Automatic,
    }
}

/// Knows one token, `web`, of a trust domain.
struct OneToken(TrustDomain);

#[async_trait]
impl TokenAuthenticator for OneToken {
    async fn authenticate(&self, token: &Secret, _now: OffsetDateTime) -> Result<Caller, AuthenticationError> {
        match token.expose_str() {
            Some("web") => Ok(Caller {
                identity: WorkloadId::new(self.0.clone(), "default", "web").unwrap(),
                service_account_uid: "uid".into(),
                pod: None,
                node: None,
                cluster: "Kubernetes".into(),
                method: AuthMethod::Jwks,
                until: None,
            }),
            _ => Err(AuthenticationError::denied(Denial::SignatureInvalid, "no")),
        }
    }
}

/// A CA in memory.
pub(crate) struct World {
    pub(crate) issuance: Arc<Issuance>,
    pub(crate) store: Arc<FlakyStore>,
    pub(crate) clock: ManualClock,
    /// Seconds that the wall clock is ahead of the monotonic one.
    pub(crate) jumps: Arc<AtomicI64>,
    /// Whether no revocation list can be signed.
    pub(crate) lists_fail: Arc<AtomicBool>,
    pub(crate) rotator: Rotator,
    pub(crate) operations: Operations,
    pub(crate) state: StateReader,
    pub(crate) metrics: Arc<CaMetrics>,
    _writer: JoinSet<()>,
}

fn open_native(key: Arc<dyn SigningKey>, issuing: &IssuingCa) -> Result<Arc<dyn CertificateAuthority>, SignError> {
    Ok(Arc::new(NativeAuthority::new(key, issuing).map_err(|error| SignError::Failed(error.to_string()))?))
}

impl World {
    /// A CA that has just started for the first time.
    pub(crate) async fn new() -> Self {
        let world = Self::empty();
        world.make_authority().await;
        world.rotator.turn().await.unwrap();
        world
    }

    /// Makes the first authority, as an operator does.
    pub(crate) async fn make_authority(&self) {
        self.operations.init(&Operator::of_this_process(), &[]).await.unwrap();
    }

    /// One more process of this CA, or the same after a restart: nothing but storage and the time are shared.
    pub(crate) fn another(&self) -> Self {
        self.renamed("cluster.local")
    }

    /// The same CA after a restart with another trust domain in its configuration.
    pub(crate) fn renamed(&self, trust_domain: &str) -> Self {
        Self::on(Arc::clone(&self.store), self.clock.clone(), trust_domain, None)
    }

    /// One more process, with another backend.
    pub(crate) fn another_on(&self, upstream: Arc<dyn UpstreamAuthority>) -> Self {
        Self::on(Arc::clone(&self.store), self.clock.clone(), "cluster.local", Some(upstream))
    }

    /// Storage, and a process that has done nothing yet.
    pub(crate) fn empty() -> Self {
        Self::on(Arc::default(), ManualClock::at(NOW), "cluster.local", None)
    }

    fn on(
        store: Arc<FlakyStore>,
        clock: ManualClock,
        trust_domain: &str,
        upstream: Option<Arc<dyn UpstreamAuthority>>,
    ) -> Self {
        let shared: SharedClock = Arc::new(clock.clone());
        let trust_domain = TrustDomain::parse(trust_domain).unwrap();
        let metrics = Arc::new(CaMetrics::new(&Metrics::new(), Arc::clone(&shared)).unwrap());
        let (audit, writer) = audit_log(Arc::clone(&store) as _, Arc::clone(&metrics));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { writer.run(CancellationToken::new()).await.unwrap() });
        let (refusals, refused) = refusals(Arc::clone(&shared));
        let record = audit.clone();
        tasks.spawn(async move { refused.run(record, CancellationToken::new()).await.unwrap() });
        let custody: Arc<dyn KeyCustody> = Arc::clone(&store) as _;
        let (output, state) = tokio::sync::watch::channel(None);
        let schedule = Schedule { root_ttl: 365 * DAY, issuing_ttl: 30 * DAY };
        let own = SelfSignedRoot::new(trust_domain.clone(), Arc::clone(&custody), KeyType::EcP256, schedule.root_ttl);
        let lists_fail = Arc::new(AtomicBool::new(false));
        let fails = Arc::clone(&lists_fail);
        let maker = Maker {
            key_type: KeyType::EcP256,
            schedule,
            custody,
            upstream: upstream.unwrap_or_else(|| Arc::new(own)),
            sign_list: Arc::new(move |key, certificate, content| match fails.load(Ordering::SeqCst) {
                true => Err(SignError::Failed("this key signs no lists".to_owned())),
                false => sign_list(key, certificate, content),
            }),
        };
        let (journal, holders) = (Arc::clone(&store) as _, Arc::clone(&store) as _);
        // Unless a test stops it, the monotonic clock goes with the one that tests move.
        let (jumps, moved) = (Arc::new(AtomicI64::new(0)), clock.clone());
        let jumped = Arc::clone(&jumps);
        let monotonic = move || {
            let seconds = (moved.now() - NOW).whole_seconds() - jumped.load(Ordering::SeqCst);
            Duration::from_secs(u64::try_from(seconds + 1_000_000_000).unwrap())
        };
        let steps = Steps::new(rules(), maker, journal, holders, audit.clone(), Arc::clone(&shared));
        let steps = Arc::new(steps.with_monotonic(monotonic));
        let rotator = Rotator {
            trust_domain: trust_domain.clone(),
            steps: Arc::clone(&steps),
            open_issuer: Arc::new(open_native),
            metrics: Arc::clone(&metrics),
            output,
            bell: Arc::default(),
        };
        let operations = Operations { steps, store: Arc::clone(&store) as _, bell: Arc::default() };
        let (limits, one_token) = (Limits::default(), OneToken(trust_domain.clone()));
        let policy = LeafPolicy {
            trust_domain: trust_domain.clone(),
            default_ttl: DAY,
            max_ttl: 20 * DAY,
            csr_names: CsrNames::Strict,
        };
        let issuance = Arc::new(Issuance {
            policy,
            clusters: Arc::new(Clusters::new(vec![("Kubernetes".into(), vec!["alias".into()], Arc::new(one_token))])),
            state: state.clone(),
            audit: audit.clone(),
            refusals,
            admission: Arc::new(Admission::new(&limits)),
            clock: shared,
            metrics: Arc::clone(&metrics),
            random: SystemRandom::new(),
            bell: Arc::clone(&rotator.bell),
            timeout: limits.request_timeout,
        });
        Self { issuance, store, clock, jumps, lists_fail, rotator, operations, state, metrics, _writer: tasks }
    }

    /// The newest event that is of this outcome and for this reason, once it is on record.
    pub(crate) async fn recorded(&self, outcome: Outcome, reason: &str) -> AuditEvent {
        for _ in 0..1000 {
            let mut events = self.events().await.into_iter().map(|stored| stored.event);
            if let Some(event) = events.find(|it| it.outcome == outcome && it.reason.as_deref() == Some(reason)) {
                return event;
            }
            tokio::task::yield_now().await;
        }
        panic!("no event {outcome:?} for {reason}");
    }

    pub(crate) async fn events(&self) -> Vec<StoredEvent> {
        self.store.query(&AuditQuery::newest(1000).unwrap()).await.unwrap().items
    }
}

/// A CSR in PEM that asks for these URIs.
pub(crate) fn csr(uris: &[&str]) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

/// An application in order.
pub(crate) fn application() -> Application {
    Application {
        place: None,
        request_id: "r1".into(),
        peer: Peer(Some("127.0.0.1:5000".parse().unwrap())),
        cluster: None,
        token: Some(Secret::new(b"web".to_vec())),
        instance: None,
        acknowledges: false,
        csr: csr(&[]),
        ttl: None,
        impersonated: None,
        problem: None,
        unreadable: None,
    }
}
