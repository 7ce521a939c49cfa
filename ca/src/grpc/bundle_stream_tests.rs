//! What counts as acknowledged, and how long a stream lasts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::*;
use crate::acknowledgement_queue::Acknowledgements;
use crate::bundle_feed::BundleFeed;
use crate::client_identity::ClientIdentity;
use crate::client_identity::test_mesh::{self, Shown, TestRoot, publish};
use crate::config::Limits;
use crate::metrics::CaMetrics;
use crate::operations::Operator;
use crate::refusals::refusals;
use crate::signing_state::{self, StateReader, StateWriter};
use crate::storage_age::{test_age, test_proofs};
use crate::transport::connection::ConnectionInfo;
use crate::world_tests::{NOW, World, application};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryServiceServer;
use signet_core::caller::{AuthMethod, Caller, Credential};
use signet_core::clock::ManualClock;
use signet_core::identity::WorkloadId;
use signet_core::rotation::Command;
use signet_core::seams::authenticator::TokenAuthenticator;
use signet_core::seams::store::HolderStore;
use signet_core::secret::Secret;
use signet_runtime::metrics::Metrics;
use signet_sds::ledger::Ledger;
use signet_sds::snapshot::{DEFAULT_BUNDLE_NAME, Snapshot, Versioned};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tonic::Code;
use tonic::transport::server::TcpConnectInfo;

/// A feed and its streams on a world, with the writer of acknowledgements.
struct Way {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    service: Option<BundleStream>,
    written: Arc<Notify>,
    _tasks: tokio::task::JoinSet<()>,
}

impl Way {
    async fn is_written(&self) {
        tokio::time::timeout(Duration::from_secs(60), self.written.notified())
            .await
            .expect("an acknowledgement is kept");
    }
}

fn way(world: &World) -> Way {
    let mut tasks = tokio::task::JoinSet::new();
    let queue = Acknowledgements::default();
    let feed = BundleFeed::new(world.state.clone(), Duration::from_secs(60), test_proofs());
    let (clock, metrics): (SharedClock, _) = (Arc::new(world.clock.clone()), Arc::clone(&world.metrics));
    let listeners = Listeners::new(queue.clone(), feed.sequences(), Arc::clone(&clock), metrics, 100);
    let (snapshots, written) = (feed.snapshots(), Arc::new(Notify::new()));
    let (store, wake_up) = (Arc::clone(&world.store) as _, Arc::clone(&written));
    let ledger = Ledger::new(10, Arc::clone(&clock), Arc::new(()));
    let service = service(None, &snapshots, &ledger, world.state.clone(), &listeners, clock);
    tasks.spawn(async move { queue.write(store, wake_up, CancellationToken::new()).await.unwrap() });
    tasks.spawn(async move { feed.run(ledger, CancellationToken::new()).await.unwrap() });
    Way { snapshots, service: Some(service), written, _tasks: tasks }
}

/// A service whose tokens hold until `until`.
fn service(
    until: Option<OffsetDateTime>,
    snapshots: &watch::Receiver<Arc<Snapshot>>,
    ledger: &Ledger,
    state: StateReader,
    listeners: &Listeners,
    clock: SharedClock,
) -> BundleStream {
    BundleStream {
        sds: SdsService::new(snapshots.clone(), ledger.clone(), CancellationToken::new()),
        clusters: Arc::new(Clusters::new(vec![crate::clusters::Served {
            id: "Kubernetes".into(),
            aliases: Vec::new(),
            authenticator: Arc::new(Until(until)),
            authorizer: None,
            pods: None,
            certificates: None,
            kubelet_refresh: None,
            ended: CancellationToken::new(),
        }])),
        clients: Arc::new(ClientVerifier::new(test_mesh::trust_domain(), state)),
        rates: Arc::new(rates()),
        refusals: refusals(Arc::clone(&clock)).0,
        clock,
        listeners: listeners.clone(),
        storage_age: test_age(),
    }
}

#[tokio::test]
async fn an_acknowledged_content_counts_for_every_later_sequence_that_has_the_same_content() {
    let world = World::new().await;
    let mut way = way(&world);
    let mut agent = application();
    (agent.acknowledges, agent.instance) = (true, Some(INSTANCE.into()));
    world.issuance.issue(&agent).await.unwrap();
    let version = |snapshot: &Snapshot| snapshot.secret(DEFAULT_BUNDLE_NAME).map(Versioned::version);
    let first = version(&way.snapshots.wait_for(|now| version(now).is_some()).await.unwrap().clone()).unwrap();
    let (requests, mut responses, sent) = opened(way.service.take().unwrap(), Proof::Token).await;
    // A stream goes on only while it is read.
    let mut reading = tokio::task::JoinSet::new();
    reading.spawn(async move { while responses.message().await.unwrap().is_some() {} });
    let acknowledged = DiscoveryRequest { response_nonce: sent.nonce, version_info: sent.version_info, ..ask() };
    requests.send(acknowledged).await.unwrap();
    way.is_written().await;
    assert_eq!(world.store.coverage(NOW).await.unwrap().covered(1), 1);
    // Published, never received by this holder, and taken back.
    let operator = Operator { name: "uid 0".into(), peer: None };
    for (command, same) in [(Command::Prepare, false), (Command::Rollback, true)] {
        world.operations.command(&operator, command, "").await.unwrap();
        world.rotator.turn().await.unwrap();
        drop(way.snapshots.wait_for(|now| (version(now) == Some(first)) == same).await.unwrap());
    }
    assert_eq!(signing_state::current(&world.state).unwrap().bundle().sequence(), 3);
    way.is_written().await;
    assert_eq!(world.store.coverage(NOW).await.unwrap().covered(3), 1);
    assert_eq!(world.metrics.rotation.streams.get(), 1);
    drop(requests);
    reading.join_next().await.unwrap().unwrap();
    assert_eq!(world.metrics.rotation.streams.get(), 0);
}

/// What a client calls itself.
const INSTANCE: &str = "0123456789abcdef0123456789abcdef";

fn rates() -> RequestRates {
    RequestRates::new(&Limits::default())
}

/// How a client proves who it is.
enum Proof<'a> {
    Certificate(&'a Shown),
    Token,
}

type Requests = tokio::sync::mpsc::Sender<DiscoveryRequest>;

fn ask() -> DiscoveryRequest {
    DiscoveryRequest {
        resource_names: vec![DEFAULT_BUNDLE_NAME.to_owned()],
        type_url: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret".to_owned(),
        ..DiscoveryRequest::default()
    }
}

/// An open stream, with its first response.
async fn opened(
    service: BundleStream,
    proof: Proof<'_>,
) -> (Requests, Streaming<DiscoveryResponse>, DiscoveryResponse) {
    let (requests, queue) = tokio::sync::mpsc::channel(4);
    requests.send(ask()).await.unwrap();
    let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(queue));
    let identity = match proof {
        Proof::Certificate(shown) => Some(Arc::new(ClientIdentity::of_verified(&shown.chain).unwrap())),
        Proof::Token => {
            request.metadata_mut().insert("authorization", "Bearer any".parse().unwrap());
            request.metadata_mut().insert(headers::INSTANCE_HEADER, INSTANCE.parse().unwrap());
            None
        }
    };
    let tcp = TcpConnectInfo { local_addr: None, remote_addr: None };
    request.extensions_mut().insert(ConnectionInfo { tcp, identity, place: None, replies: None });
    let mut client = SecretDiscoveryServiceClient::new(SecretDiscoveryServiceServer::new(service));
    let mut responses = client.stream_secrets(request).await.unwrap().into_inner();
    let first = responses.message().await.unwrap().unwrap();
    (requests, responses, first)
}

/// Any token proves the same workload until a time.
struct Until(Option<OffsetDateTime>);

#[tonic::async_trait]
impl TokenAuthenticator for Until {
    async fn authenticate(&self, _: &Secret, _: OffsetDateTime) -> Result<Caller, AuthenticationError> {
        Ok(Caller {
            identity: WorkloadId::parse("spiffe://cluster.local/ns/default/sa/web").unwrap(),
            service_account_uid: "uid".into(),
            pod: None,
            node: None,
            cluster: "Kubernetes".into(),
            method: AuthMethod::Jwks,
            credential: Credential::default(),
            made_at: None,
            until: self.0,
        })
    }
}

/// A CA of one root, `a`, whose certificates and tokens open streams.
struct Edge {
    root: TestRoot,
    state: StateWriter,
    reader: StateReader,
    clock: ManualClock,
    metrics: Arc<CaMetrics>,
    listeners: Listeners,
    ledger: Ledger,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    _tasks: tokio::task::JoinSet<()>,
}

impl Edge {
    fn new() -> Self {
        let root = TestRoot::new("a");
        let (state, reader) = test_mesh::nothing();
        publish(&state, 1, &[&root], &[]);
        let clock = ManualClock::at(NOW);
        let shared: SharedClock = Arc::new(clock.clone());
        let metrics = Arc::new(CaMetrics::new(&Metrics::new(), Arc::clone(&shared)).unwrap());
        let feed = BundleFeed::new(reader.clone(), Duration::from_secs(60), test_proofs());
        let queue = Acknowledgements::default();
        let ledger = Ledger::new(10, Arc::clone(&shared), Arc::new(()));
        let listeners = Listeners::new(queue, feed.sequences(), shared, Arc::clone(&metrics), 100);
        let snapshots = feed.snapshots();
        let mut tasks = tokio::task::JoinSet::new();
        let fed = ledger.clone();
        tasks.spawn(async move { feed.run(fed, CancellationToken::new()).await.unwrap() });
        Self { root, state, reader, clock, metrics, listeners, ledger, snapshots, _tasks: tasks }
    }

    /// A service for one stream; tokens hold until `until`.
    fn service(&self, until: Option<OffsetDateTime>) -> BundleStream {
        let clock = Arc::new(self.clock.clone());
        service(until, &self.snapshots, &self.ledger, self.reader.clone(), &self.listeners, clock)
    }
}

/// How a stream ends, which it must by now.
async fn ended(responses: &mut Streaming<DiscoveryResponse>) -> Status {
    tokio::time::timeout(Duration::from_secs(60), responses.message()).await.unwrap().unwrap_err()
}

/// Whether there is no response yet.
async fn is_silent(responses: &mut Streaming<DiscoveryResponse>) -> bool {
    let next = tokio::time::timeout(Duration::from_secs(1), responses.message());
    next.await.is_err()
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_what_opened_it_and_says_so() {
    let edge = Edge::new();
    let leaf = edge.root.leaf("spiffe://cluster.local/x", NOW, |_| {});
    let ends = NOW + Duration::from_secs(3600);
    assert_eq!(leaf.facts().not_after, ends);
    let by_certificate = opened(edge.service(None), Proof::Certificate(&leaf)).await;
    let by_token = opened(edge.service(Some(ends)), Proof::Token).await;
    let (_requests, mut endless, _) = opened(edge.service(None), Proof::Token).await;
    assert_eq!(edge.metrics.rotation.streams.get(), 3);
    for ((_requests, mut responses, _), told) in [(by_certificate, "certificate"), (by_token, "token")] {
        edge.clock.set(ends - Duration::from_secs(1));
        assert!(is_silent(&mut responses).await, "{told}");
        edge.clock.set(ends);
        let status = ended(&mut responses).await;
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().contains(told), "{status}");
    }
    assert_eq!(edge.metrics.rotation.streams.get(), 1, "their places are free");
    assert!(is_silent(&mut endless).await, "a proof without an end");
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_at_once_when_its_certificate_is_revoked_or_its_root_is_gone() {
    let (edge, other) = (Edge::new(), TestRoot::new("b"));
    let good = edge.root.leaf("spiffe://cluster.local/good", NOW, |_| {});
    let bad = edge.root.leaf("spiffe://cluster.local/revoked", NOW, |_| {});
    let (_good, mut stays, _) = opened(edge.service(None), Proof::Certificate(&good)).await;
    let (_bad, mut revoked, _) = opened(edge.service(None), Proof::Certificate(&bad)).await;
    let entry = bad.revoked(0, edge.root.issuing_id());
    // An entry in the journal that changes nothing of what is sent, so that no response is due.
    publish(&edge.state, 1, &[&edge.root], std::slice::from_ref(&entry));
    assert_eq!(ended(&mut revoked).await.code(), Code::Unauthenticated);
    assert!(is_silent(&mut stays).await);
    publish(&edge.state, 2, &[&edge.root, &other], std::slice::from_ref(&entry));
    assert!(stays.message().await.unwrap().is_some());
    // Instead of the bundle that it is not in any more.
    publish(&edge.state, 3, &[&other], &[entry]);
    assert_eq!(ended(&mut stays).await.code(), Code::Unauthenticated);
    assert_eq!(edge.metrics.rotation.streams.get(), 0);
}

#[tokio::test]
async fn a_stream_ends_when_the_cluster_of_its_token_is_served_no_longer_or_by_other_rules() {
    let edge = Edge::new();
    let leaf = edge.root.leaf("spiffe://cluster.local/x", NOW, |_| {});
    let (by_token, by_certificate) = (edge.service(None), edge.service(None));
    let clusters = [&by_token, &by_certificate].map(|service| Arc::clone(&service.clusters));
    let (_requests, mut token, _) = opened(by_token, Proof::Token).await;
    let (_others, mut certificate, _) = opened(by_certificate, Proof::Certificate(&leaf)).await;
    for clusters in clusters {
        clusters.select(None).unwrap().ended.cancel();
    }
    assert_eq!(ended(&mut token).await.message(), CLUSTER_CHANGED);
    publish(&edge.state, 2, &[&edge.root, &TestRoot::new("b")], &[]);
    assert!(certificate.message().await.unwrap().is_some(), "that one is nobody's token");
}

#[tokio::test]
async fn a_stream_for_a_cluster_named_twice_or_not_as_text_is_refused() {
    let edge = Edge::new();
    for values in [&[&b"Kubernetes"[..], b"Kubernetes"][..], &[b"a", b"b"], &[b"\xff"]] {
        let mut request = Request::new(DiscoveryRequest::default());
        request.metadata_mut().insert("authorization", "Bearer any".parse().unwrap());
        for value in values {
            request.metadata_mut().append("clusterid", (*value).try_into().unwrap());
        }
        let refused = edge.service(None).authenticate(&request).await.err().unwrap();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains("clusterid"), "{refused}");
    }
}
