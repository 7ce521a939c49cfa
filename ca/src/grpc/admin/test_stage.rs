//! The operators' service with a fake CA behind it, and callers of every class before it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use signet_core::caller::AuthMethod;
use signet_core::certificate::Serial;
use signet_core::clock::{ManualClock, SharedClock};
use signet_core::holder::{Coverage, Holder, HolderKey, HolderQuery};
use signet_core::identity::SpiffeId;
use signet_core::revocation::RevocationReason;
use signet_core::rotation::{Authorities, Command, Phase, Unsettled};
use signet_core::seams::explanation::{Asker, Check, Explained};
use signet_core::seams::impersonation::PodsUnknown;
use signet_runtime::metrics::Metrics;
use signet_runtime::readiness::Readiness;
use time::OffsetDateTime;
use tonic::body::Body;
use tonic::transport::server::TcpConnectInfo;
use tonic::{Code, Extensions, Status};
use tonic_prost::prost::Message;
use tower::ServiceExt;

use super::operate::Operate;
use super::{Access, AdminService, GuardedAdmin};
use crate::client_identity::test_mesh::{Shown, TestRoot, authorities, nothing, publish, trust_domain};
use crate::client_identity::{ClientIdentity, ClientVerifier};
use crate::cluster_status::{ClusterStatus, ClusterView, ConfigurationStatus, KeysStatus, PodsStatus, ReviewStatus};
use crate::journal_catch_up::CatchUp;
use crate::limits::intake::CallLimits;
use crate::metrics::CaMetrics;
use crate::operations::{Done, Next, OperationError, Operator, RevokedCertificate, View};
use crate::refusals::{RefusalWriter, refusals};
use crate::signing_state::{StateReader, StateWriter};
use crate::transport::admin_socket::PeerUser;
use crate::transport::connection::ConnectionInfo;
use crate::world_tests::FlakyStore;

pub(super) const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);
pub(super) const ADMIN: &str = "spiffe://cluster.local/ns/signet/sa/admin";
pub(super) const AUDITOR: &str = "spiffe://cluster.local/ns/signet/sa/auditor";
pub(super) const OWN: u32 = 1000;

/// Notes what it is asked for and does as if.
#[derive(Default)]
pub(super) struct Fake {
    authorities: Authorities,
    pub(super) coverage: Mutex<Coverage>,
    asked: Mutex<Vec<String>>,
    pub(super) holders: Vec<Holder>,
}

impl Fake {
    pub(super) fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }
}

#[async_trait]
impl Operate for Fake {
    async fn view(&self) -> Result<View, OperationError> {
        self.note("view".into());
        Ok(View {
            authorities: self.authorities.clone(),
            coverage: self.coverage.lock().unwrap().clone(),
            last_ends: BTreeMap::new(),
            laggards: self.holders.clone(),
            held: Vec::new(),
            threshold_percent: 100,
            phase: Phase::of(&self.authorities),
            lacking: Vec::new(),
            unsettled: Unsettled::default(),
            next: Next::Retire,
            has_former: true,
            expected_at: Some(NOW),
            awaited_sequence: self.authorities.awaited_sequence(),
        })
    }
    async fn command(
        &self,
        operator: &Operator,
        command: Command,
        reason: &str,
    ) -> Result<(Done, View), OperationError> {
        self.note(format!("{} {command:?} {reason:?}", operator.name));
        Ok((Done::Prepared, self.view().await?))
    }
    async fn revoke_certificate(
        &self,
        operator: &Operator,
        serial: Serial,
        reason: RevocationReason,
        clear: bool,
    ) -> Result<RevokedCertificate, OperationError> {
        self.note(format!("{} revokes {serial} {reason:?} {clear}", operator.name));
        Ok(RevokedCertificate { serial, spiffe_id: "spiffe://x/y".into(), not_after: NOW, revoked: 1, awaited: false })
    }
    async fn holders(&self, query: &HolderQuery) -> Result<Vec<Holder>, OperationError> {
        self.note(format!("holders {:?} {:?} {:?}", query.behind, query.authorities, query.limit));
        let after = |holder: &&Holder| query.after.as_ref().is_none_or(|after| holder.key > *after);
        let limit = usize::try_from(query.limit).unwrap();
        Ok(self.holders.iter().filter(after).take(limit).cloned().collect())
    }
}

/// A cluster that is not well.
struct OneCluster;

impl ClusterView for OneCluster {
    fn clusters(&self) -> Vec<ClusterStatus> {
        vec![ClusterStatus {
            id: "Kubernetes".into(),
            aliases: vec!["alias".into()],
            trust_domain: "cluster.local".into(),
            method: AuthMethod::TokenReview,
            api_server: None,
            credentials_problem: None,
            keys: KeysStatus::default(),
            review: Some(ReviewStatus { at: Some(NOW), result: Some("api_forbidden"), problem: Some("no".into()) }),
            pods: Some(PodsStatus { pods: 3, unknown: Some(PodsUnknown::Stale), ..PodsStatus::default() }),
            signer: None,
        }]
    }

    fn configuration(&self) -> ConfigurationStatus {
        ConfigurationStatus {
            applied_at: Some(NOW),
            problem: Some("f:1: x".into()),
            awaits_restart: vec!["log.level".into()],
        }
    }

    /// An account is judged as it is called.
    fn explain(&self, cluster: Option<&str>, asker: &Asker, _: &str) -> Option<(String, Vec<Explained>)> {
        let last = match asker {
            Asker::Account { name, .. } if name == "yes" => Explained::yes(Check::OnNode, "it is"),
            Asker::Account { name, .. } if name == "unknown" => Explained::unknown(Check::OnNode, "who knows"),
            _ => Explained::no(Check::OnNode, "it is not", "something"),
        };
        let all = vec![Explained::yes(Check::Configured, "it is"), last];
        cluster.is_none_or(|name| name == "Kubernetes").then(|| ("Kubernetes".to_owned(), all))
    }
}

pub(super) struct Stage {
    pub(super) fake: Arc<Fake>,
    pub(super) service: GuardedAdmin,
    pub(super) roots: [TestRoot; 2],
    pub(super) state: StateWriter,
    pub(super) journal: Arc<FlakyStore>,
    /// What would tell of those who were denied, for a test to run it.
    pub(super) denied: Mutex<Option<RefusalWriter>>,
    pub(super) metrics: Metrics,
}

/// What the service compares with its journal.
pub(super) fn catch_up(state: StateReader, journal: &Arc<FlakyStore>) -> CatchUp {
    CatchUp { state, journal: Arc::clone(journal) as _ }
}

impl Stage {
    pub(super) fn new() -> Self {
        let roots = [TestRoot::new("a"), TestRoot::new("b")];
        let (state, reader) = nothing();
        publish(&state, 2, &[&roots[0], &roots[1]], &[]);
        let clock: SharedClock = Arc::new(ManualClock::at(NOW));
        let holder = Holder {
            key: HolderKey { spiffe_id: "spiffe://cluster.local/ns/a/sa/b".into(), instance: "i".into() },
            pod: None,
            node: None,
            cluster: None,
            serial: "00".into(),
            authority: roots[0].issuing_id(),
            former: Vec::new(),
            not_after: NOW,
            sequence: 1,
            acknowledges: true,
            seen_at: NOW,
            refused: Some((2, "no".into())),
            gone_at: None,
        };
        let mut second = holder.clone();
        second.key.instance = "j".into();
        let fake = Arc::new(Fake {
            authorities: authorities(2, &[&roots[0], &roots[1]], &[]),
            holders: vec![holder, second],
            ..Fake::default()
        });
        let (metrics, journal) = (Metrics::new(), Arc::new(FlakyStore::default()));
        let ca_metrics = Arc::new(CaMetrics::new(&metrics, Arc::clone(&clock)).unwrap());
        let (refusals, denied) = refusals(Arc::clone(&clock));
        let service = AdminService {
            trust_domain: "cluster.local".into(),
            storage: "sqlite:///s.db".into(),
            started_at: NOW,
            state: reader.clone(),
            serving: tokio::sync::watch::channel(None).1,
            readiness: Readiness::new(),
            metrics: Arc::clone(&ca_metrics),
            operations: Arc::clone(&fake) as _,
            clusters: Arc::new(OneCluster),
            catch_up: catch_up(reader.clone(), &journal),
            storage_age: crate::storage_age::test_age(),
            clock: Arc::clone(&clock),
        };
        let access = Access {
            own_uid: OWN,
            admins: vec![SpiffeId::parse(ADMIN).unwrap()],
            auditors: vec![SpiffeId::parse(AUDITOR).unwrap()],
            clients: Arc::new(ClientVerifier::new(trust_domain(), reader)),
            clock,
            refusals,
            metrics: ca_metrics,
        };
        Self {
            fake,
            service: service.guarded(CallLimits::default(), access),
            roots,
            state,
            journal,
            denied: Mutex::new(Some(denied)),
            metrics,
        }
    }

    /// The status of a call, and the message that came back.
    pub(super) async fn call(&self, method: &str, message: &[u8], caller: &Caller) -> (Code, Vec<u8>) {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        self.raw(method, [&[0][..], &length, message].concat(), caller).await
    }

    /// The judge of certificates that the guard asks.
    pub(super) fn clients(&self) -> Arc<ClientVerifier> {
        Arc::new(ClientVerifier::new(trust_domain(), self.state.subscribe()))
    }

    /// The status of a call that is refused, with its words.
    pub(super) async fn told(&self, method: &str, caller: &Caller) -> (Code, String) {
        let mut request = http::Request::post(format!("/signet.admin.v1alpha1.Admin/{method}"))
            .header("content-type", "application/grpc")
            .body(Body::empty())
            .unwrap();
        request.extensions_mut().extend(caller.connection.clone());
        let response = self.service.clone().oneshot(request).await.unwrap();
        let status = Status::from_header_map(response.headers()).expect("a refusal");
        (status.code(), status.message().to_owned())
    }

    pub(super) async fn raw(&self, method: &str, body: Vec<u8>, caller: &Caller) -> (Code, Vec<u8>) {
        let body = String::from_utf8(body).expect("messages of tests are ASCII");
        let mut request = http::Request::post(format!("/signet.admin.v1alpha1.Admin/{method}"))
            .header("content-type", "application/grpc")
            .body(Body::new(body))
            .unwrap();
        if let Some(token) = caller.token {
            request.headers_mut().insert("authorization", token.parse().unwrap());
        }
        request.extensions_mut().extend(caller.connection.clone());
        let response = self.service.clone().oneshot(request).await.unwrap();
        if let Some(status) = Status::from_header_map(response.headers()) {
            return (status.code(), Vec::new());
        }
        let mut body = response.into_body();
        let mut bytes = Vec::new();
        let mut code = Code::Unknown;
        while let Some(frame) =
            std::future::poll_fn(|cx| tonic::codegen::Body::poll_frame(std::pin::Pin::new(&mut body), cx)).await
        {
            let frame = frame.unwrap();
            if let Some(trailers) = frame.trailers_ref() {
                code = Status::from_header_map(trailers).unwrap().code();
            } else if let Ok(data) = frame.into_data() {
                bytes.extend_from_slice(&data);
            }
        }
        (code, bytes.split_off(5.min(bytes.len())))
    }

    pub(super) async fn answer<T: Message + Default>(&self, method: &str, message: &impl Message) -> Result<T, Code> {
        let (code, bytes) = self.call(method, &message.encode_to_vec(), &Caller::user(Some(0))).await;
        if code == Code::Ok { Ok(T::decode(bytes.as_slice()).unwrap()) } else { Err(code) }
    }

    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.fake.asked.lock().unwrap())
    }
}

/// What the edges know about a caller, and what it says about itself.
#[derive(Default, Clone)]
pub(super) struct Caller {
    pub(super) connection: Extensions,
    pub(super) token: Option<&'static str>,
}

impl Caller {
    pub(super) fn user(uid: Option<u32>) -> Self {
        let mut caller = Self::default();
        caller.connection.insert(PeerUser(uid));
        caller
    }

    pub(super) fn tls(shown: Option<&Shown>) -> Self {
        let identity = shown.map(|shown| Arc::new(ClientIdentity::of_verified(&shown.chain).unwrap()));
        let peer = "192.0.2.1:5".parse().unwrap();
        let tcp = TcpConnectInfo { local_addr: Some(peer), remote_addr: Some(peer) };
        let mut caller = Self::default();
        caller.connection.insert(ConnectionInfo { tcp, identity, place: None, replies: None });
        caller
    }
}
