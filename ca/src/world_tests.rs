//! A whole CA in memory for tests: real authority, real policy, a store that can be made to fail, a clock to be moved.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod flaky_store_tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use ring::rand::SystemRandom;
use signet_core::audit::{AuditEvent, AuditQuery, Outcome, StoredEvent};
use signet_core::authority::IssuingCa;
use signet_core::caller::{AuthMethod, BoundObject, Caller, Credential, Peer};
use signet_core::clock::{Clock, ManualClock, SharedClock};
use signet_core::identity::{TrustDomain, WorkloadId};
use signet_core::key_type::KeyType;
use signet_core::policy::{CsrNames, LeafPolicy};
use signet_core::rotation::{Retirement, Rules, Schedule};
use signet_core::seams::authenticator::{AuthenticationError, Denial, TokenAuthenticator};
use signet_core::seams::certificate_authority::{CertificateAuthority, SignError};
use signet_core::seams::custody::{KeyCustody, SigningKey};
use signet_core::seams::live_pods::LivePods;
use signet_core::seams::store::AuditStore;
use signet_core::seams::upstream_authority::UpstreamAuthority;
use signet_core::secret::Secret;
use signet_plugins::authority::{NativeAuthority, SelfSignedRoot, sign_list};
use signet_runtime::metrics::Metrics;
use signet_runtime::supervisor::Supervisor;
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::audit_log::audit_log;
use crate::certificate_caller::CertificateCallers;
use crate::client_identity::ClientVerifier;
use crate::clusters::{CertificateRules, Clusters, KubeletRefresh, Served};
use crate::config::{Limits, Serving};
use crate::issuance::{Application, Elsewhere, Issuance, Issued};
use crate::issue_error::IssueError;
use crate::limits::request_rates::RequestRates;
use crate::metrics::CaMetrics;
use crate::operations::{Operations, Operator};
use crate::refusals::refusals;
use crate::reply_delivery::{HandoverWriter, handovers};
use crate::rotator::{Executor, Judge, OpenIssuer, Provisioner, Rotator};
use crate::signing_state::StateReader;

pub(crate) use flaky_store_tests::FlakyStore;

pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);
/// How many signatures a backend is asked for at the same time.
pub(crate) const AT_ONCE: usize = 2;
pub(crate) const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";

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
        leaf_ttl: 20 * DAY,
    }
}

/// Pods that are gone, by their UIDs.
#[derive(Default)]
pub(crate) struct GonePods(pub(crate) std::sync::Mutex<Vec<String>>);

impl LivePods for GonePods {
    fn is_gone(&self, pod_uid: &str) -> bool {
        self.0.lock().unwrap().iter().any(|gone| gone == pod_uid)
    }
}

/// Knows the token `web` of a trust domain, and the same bound to a pod after a colon: `web:<UID>`.
struct OneToken(TrustDomain);

#[async_trait]
impl TokenAuthenticator for OneToken {
    async fn authenticate(&self, token: &Secret, _now: OffsetDateTime) -> Result<Caller, AuthenticationError> {
        let (name, pod) = token
            .expose_str()
            .map_or(("", None), |token| token.split_once(':').map_or((token, None), |(name, pod)| (name, Some(pod))));
        match name {
            "web" => Ok(Caller {
                identity: WorkloadId::new(self.0.clone(), "default", "web").unwrap(),
                service_account_uid: "uid".into(),
                pod: pod.map(|uid| BoundObject { name: "web-1".into(), uid: uid.into() }),
                node: None,
                cluster: "Kubernetes".into(),
                method: AuthMethod::Jwks,
                credential: Credential::default(),
                made_at: None,
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
    /// So long is each revocation list in place of the one that is signed, in bytes; 0: as it is signed.
    pub(crate) list_bytes: Arc<AtomicUsize>,
    pub(crate) rotator: Rotator,
    pub(crate) operations: Operations,
    pub(crate) state: StateReader,
    pub(crate) metrics: Arc<CaMetrics>,
    /// Pods that its cluster has told are gone.
    pub(crate) gone_pods: Arc<GonePods>,
    /// What became of replies, to be written when a test wants it.
    pub(crate) marks: tokio::sync::Mutex<HandoverWriter>,
    _writer: JoinSet<()>,
    _supervisor: Supervisor,
}

fn opener(upstream: &Arc<dyn UpstreamAuthority>) -> Arc<OpenIssuer> {
    let upstream = Arc::clone(upstream);
    Arc::new(move |key: Option<Arc<dyn SigningKey>>, issuing: &IssuingCa| match key {
        Some(key) => {
            let native = NativeAuthority::new(key, issuing).map_err(|error| SignError::Failed(error.to_string()))?;
            Ok(Arc::new(native) as Arc<dyn CertificateAuthority>)
        }
        None => Arc::clone(&upstream).signer(issuing),
    })
}

impl World {
    /// What is to be revoked elsewhere, as the journal has it, is asked for once.
    pub(crate) async fn ask_elsewhere(&self) {
        let (executor, leaves) = (Arc::clone(&self.operations.executor), Arc::clone(&self.store) as _);
        let elsewhere = crate::rotator::Elsewhere { executor, state: self.state.clone(), leaves };
        let journal = signet_core::seams::store::AuthorityJournal::load(&*self.store).await.unwrap().unwrap().1;
        elsewhere.ask(&journal.revocations.awaited().cloned().collect::<Vec<_>>()).await;
    }

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
        let (audit, writer) = audit_log(Arc::clone(&store) as _, metrics.audit.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { writer.run(CancellationToken::new()).await.unwrap() });
        let (refusals, refused) = refusals(Arc::clone(&shared));
        let record = audit.clone();
        tasks.spawn(async move { refused.run(record, CancellationToken::new()).await.unwrap() });
        let custody: Arc<dyn KeyCustody> = Arc::clone(&store) as _;
        let (output, state) = tokio::sync::watch::channel(None);
        let schedule = Schedule { root_ttl: 365 * DAY, issuing_ttl: 30 * DAY };
        let own = SelfSignedRoot::new(trust_domain.clone(), Arc::clone(&custody), KeyType::EcP256, schedule.root_ttl);
        let upstream = upstream.unwrap_or_else(|| Arc::new(own));
        let open_issuer = opener(&upstream);
        let lists_fail = Arc::new(AtomicBool::new(false));
        let list_bytes = Arc::new(AtomicUsize::new(0));
        let (fails, bytes) = (Arc::clone(&lists_fail), Arc::clone(&list_bytes));
        let provisioner = Provisioner {
            key_type: KeyType::EcP256,
            schedule,
            custody,
            upstream,
            sign_list: Arc::new(move |key, certificate, content| {
                match (fails.load(Ordering::SeqCst), bytes.load(Ordering::SeqCst)) {
                    (true, _) => Box::pin(async { Err(SignError::Failed("this key signs no lists".to_owned())) }),
                    (false, 0) => Box::pin(sign_list(key, certificate, content)),
                    (false, bytes) => Box::pin(async move { Ok(vec![0; bytes].into()) }),
                }
            }),
            judge: Judge::new(
                trust_domain.clone(),
                Serving { dns_names: vec!["localhost".to_owned()], ip_addresses: Vec::new(), ttl: DAY },
                Arc::clone(&open_issuer),
            ),
        };
        let (journal, holders) = (Arc::clone(&store) as _, Arc::clone(&store) as _);
        // Unless a test stops it, the monotonic clock goes with the one that tests move.
        let (jumps, moved) = (Arc::new(AtomicI64::new(0)), clock.clone());
        let jumped = Arc::clone(&jumps);
        let monotonic = move || {
            let seconds = (moved.now() - NOW).whole_seconds() - jumped.load(Ordering::SeqCst);
            Duration::from_secs(u64::try_from(seconds + 1_000_000_000).unwrap())
        };
        let executor = Executor::new(rules(), provisioner, journal, holders, audit.clone(), Arc::clone(&shared));
        let executor = Arc::new(executor.with_monotonic(monotonic));
        let gone_pods = Arc::new(GonePods::default());
        let clusters = Arc::new(Clusters::new(vec![Served {
            id: "Kubernetes".into(),
            aliases: vec!["alias".into()],
            authenticator: Arc::new(OneToken(trust_domain.clone())),
            authorizer: None,
            pods: Some(Arc::clone(&gone_pods) as _),
            ended: CancellationToken::new(),
            certificates: Some(CertificateRules { last_token_within: 7 * DAY, live: None }),
            kubelet_refresh: Some(KubeletRefresh {
                signer: "signet.internal/workload".to_owned(),
                wait: Duration::from_secs(120),
            }),
        }]));
        let rotator = Rotator {
            trust_domain: trust_domain.clone(),
            executor: Arc::clone(&executor),
            open_issuer,
            metrics: Arc::clone(&metrics),
            output,
            wake_up: Arc::default(),
            clusters: Arc::clone(&clusters),
            publications: Arc::clone(&store) as _,
            leaves: Arc::clone(&store) as _,
        };
        let (record, leaves) = (Arc::clone(&store) as _, Arc::clone(&store) as _);
        let operations = Operations { executor, store: record, leaves, wake_up: Arc::default() };
        let wake_up = Arc::clone(&rotator.wake_up);
        let (handed_over, marks) = handovers(Arc::clone(&store) as _, Arc::clone(&shared), wake_up);
        let limits = Limits::default();
        let policy = LeafPolicy {
            trust_domain: trust_domain.clone(),
            default_ttl: DAY,
            max_ttl: 20 * DAY,
            csr_names: CsrNames::Strict,
        };
        let supervisor = Supervisor::new();
        let issuance = Arc::new(Issuance {
            policy,
            clusters,
            by_certificate: CertificateCallers::new(
                Arc::clone(&store) as _,
                Arc::clone(&store) as _,
                Arc::new(ClientVerifier::new(trust_domain, state.clone())),
                state.clone(),
                Arc::clone(&rotator.wake_up),
            ),
            state: state.clone(),
            audit: audit.clone(),
            handovers: handed_over,
            refusals,
            rates: Arc::new(RequestRates::new(&limits)),
            clock: shared,
            metrics: Arc::clone(&metrics),
            random: SystemRandom::new(),
            wake_up: Arc::clone(&rotator.wake_up),
            timeout: limits.request_timeout,
            elsewhere: Elsewhere::new(supervisor.spawner(), AT_ONCE),
        });
        let marks = tokio::sync::Mutex::new(marks);
        Self {
            issuance,
            store,
            clock,
            jumps,
            lists_fail,
            list_bytes,
            rotator,
            operations,
            state,
            metrics,
            gone_pods,
            marks,
            _writer: tasks,
            _supervisor: supervisor,
        }
    }

    /// Issues, and the reply reaches the client.
    pub(crate) async fn receive(&self, application: &Application) -> Result<Issued, IssueError> {
        let mut issued = self.issuance.issue(application).await.map_err(|(error, _)| error)?;
        issued.ticket.take().unwrap().whole();
        self.marks.lock().await.write_waiting().await;
        Ok(issued)
    }

    /// Why an ordinary application is refused, and under which id that is on record.
    pub(crate) async fn refused(&self) -> (&'static str, Option<String>) {
        let (error, on_record) = self.issuance.issue(&application()).await.map(drop).unwrap_err();
        (error.label(), on_record)
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
        client: None,
        instance: None,
        acknowledges: false,
        csr: csr(&[]),
        ttl: None,
        impersonated: None,
        names_signer: false,
        problem: None,
        unreadable: None,
    }
}
