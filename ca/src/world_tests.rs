//! A whole CA in memory for tests: real authority, real policy, a store that can be made to fail, a clock to be moved.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use ring::rand::SystemRandom;
use signet_core::audit::{AuditEvent, AuditQuery, Page, StoredEvent};
use signet_core::caller::{AuthMethod, Caller, Peer};
use signet_core::certificate::CertificateChain;
use signet_core::clock::{ManualClock, SharedClock};
use signet_core::identity::{TrustDomain, WorkloadId};
use signet_core::key_type::KeyType;
use signet_core::policy::{CsrNames, LeafPolicy};
use signet_core::release::Recorded;
use signet_core::rotation::{IssuingCa, Schedule};
use signet_core::seams::authenticator::{AuthenticationError, Denial, TokenAuthenticator};
use signet_core::seams::authority::{CertificateAuthority, SignError};
use signet_core::seams::custody::SigningKey;
use signet_core::seams::store::{AppendError, AuditStore, StoreError};
use signet_core::secret::Secret;
use signet_plugins::authority::{NativeAuthority, SelfSignedRoot};
use signet_plugins::custody::MemoryCustody;
use signet_plugins::store::memory::MemoryStore;
use signet_runtime::metrics::Metrics;
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::audit_log::audit_log;
use crate::clusters::Clusters;
use crate::config::{Limits, Rate};
use crate::issuance::{Application, Issuance};
use crate::metrics::CaMetrics;
use crate::rotator::Rotator;
use crate::state::StateReader;

pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);
pub(crate) const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";

/// Storage that can be switched off.
#[derive(Default)]
pub(crate) struct FlakyStore {
    pub(crate) inner: MemoryStore,
    pub(crate) down: AtomicBool,
    pub(crate) stuck: AtomicBool,
}

#[async_trait]
impl AuditStore for FlakyStore {
    async fn append(&self, events: Vec<AuditEvent>) -> Result<Vec<Result<Recorded, AppendError>>, StoreError> {
        if self.stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.down.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("disk full".to_owned()));
        }
        self.inner.append(events).await
    }
    async fn query(&self, query: &AuditQuery) -> Result<Page<StoredEvent>, StoreError> {
        self.inner.query(query).await
    }
    async fn probe(&self) -> Result<(), StoreError> {
        self.inner.probe().await
    }
}

/// Knows one token, `web`.
struct OneToken;

#[async_trait]
impl TokenAuthenticator for OneToken {
    async fn authenticate(&self, token: &Secret, _now: OffsetDateTime) -> Result<Caller, AuthenticationError> {
        match token.expose_str() {
            Some("web") => Ok(Caller {
                identity: WorkloadId::parse(WEB).unwrap(),
                service_account_uid: "uid".into(),
                pod: None,
                node: None,
                cluster: "Kubernetes".into(),
                method: AuthMethod::Jwks,
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
    pub(crate) rotator: Rotator,
    pub(crate) state: StateReader,
    pub(crate) metrics: Arc<CaMetrics>,
    _writer: JoinSet<()>,
}

fn open_native(key: Arc<dyn SigningKey>, issuing: &IssuingCa) -> Result<Arc<dyn CertificateAuthority>, SignError> {
    let chain = CertificateChain::new(issuing.certificate.clone(), Vec::new());
    Ok(Arc::new(NativeAuthority::new(key, &chain).map_err(|error| SignError::Failed(error.to_string()))?))
}

impl World {
    pub(crate) async fn new() -> Self {
        let clock = ManualClock::at(NOW);
        let shared: SharedClock = Arc::new(clock.clone());
        let trust_domain = TrustDomain::parse("cluster.local").unwrap();
        let store = Arc::new(FlakyStore::default());
        let metrics = Arc::new(CaMetrics::new(&Metrics::new(), Arc::clone(&shared)).unwrap());
        let (audit, writer) = audit_log(Arc::clone(&store) as _, Arc::clone(&metrics));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { writer.run(CancellationToken::new()).await.unwrap() });
        let custody = Arc::new(MemoryCustody::new());
        let (output, state) = tokio::sync::watch::channel(None);
        let schedule = Schedule { root_ttl: 365 * DAY, issuing_ttl: 30 * DAY };
        let upstream =
            SelfSignedRoot::new(trust_domain.clone(), Arc::clone(&custody) as _, KeyType::EcP256, schedule.root_ttl);
        let rotator = Rotator {
            trust_domain: trust_domain.clone(),
            key_type: KeyType::EcP256,
            schedule,
            journal: Arc::new(MemoryStore::new()),
            custody,
            upstream: Arc::new(upstream),
            open_issuer: Arc::new(open_native),
            audit: audit.clone(),
            clock: Arc::clone(&shared),
            metrics: Arc::clone(&metrics),
            output,
        };
        rotator.turn().await.unwrap();
        let rate = Rate { per_second: 1000.try_into().unwrap(), burst: 1000.try_into().unwrap() };
        let limits = Limits {
            concurrent_requests: 10,
            connections: 10,
            request_timeout: Duration::from_secs(5),
            per_identity: rate,
            per_peer: rate,
        };
        let policy = LeafPolicy { trust_domain, default_ttl: DAY, max_ttl: 20 * DAY, csr_names: CsrNames::Strict };
        let issuance = Arc::new(Issuance {
            policy,
            clusters: Clusters::new(vec![("Kubernetes".into(), vec!["alias".into()], Arc::new(OneToken))]),
            state: state.clone(),
            audit: audit.clone(),
            admission: Arc::new(Admission::new(&limits)),
            clock: shared,
            metrics: Arc::clone(&metrics),
            random: SystemRandom::new(),
            timeout: limits.request_timeout,
        });
        Self { issuance, store, clock, rotator, state, metrics, _writer: tasks }
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
        request_id: "r1".into(),
        peer: Peer(Some("127.0.0.1:5000".parse().unwrap())),
        cluster: None,
        token: Some(Secret::new(b"web".to_vec())),
        csr: csr(&[]),
        ttl: None,
        impersonated: None,
        problem: None,
    }
}
