//! What counts as acknowledged, and how long a stream lasts.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::bundle_feed::BundleFeed;
use crate::config::Limits;
use crate::grpc::client_identity::ClientIdentity;
use crate::grpc::test_mesh::{self, Shown, TestRoot, publish};
use crate::operations::Operator;
use crate::refusals::refusals;
use crate::state;
use crate::transport::connection::ConnectionInfo;
use crate::world_tests::{NOW, World, application};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryServiceServer;
use signet_core::clock::ManualClock;
use signet_core::rotation::Command;
use signet_core::seams::store::HolderStore;
use signet_runtime::metrics::Metrics;
use signet_sds::streams::{NoObserver, Streams};
use std::time::Duration;
use tokio::sync::Notify;
use tonic::transport::server::TcpConnectInfo;

/// A feed and its listeners on a world, with the writer of acknowledgements.
struct Way {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    listeners: Listeners,
    written: Arc<Notify>,
    _tasks: tokio::task::JoinSet<()>,
}

fn way(world: &World) -> Way {
    let mut tasks = tokio::task::JoinSet::new();
    let words = Acknowledgements::default();
    let feed = BundleFeed::new(world.state.clone(), Duration::from_secs(60));
    let (clock, metrics) = (Arc::new(world.clock.clone()), Arc::clone(&world.metrics));
    let listeners = Listeners::new(words.clone(), feed.sequences(), clock, metrics);
    let (snapshots, written) = (feed.snapshots(), Arc::new(Notify::new()));
    let (store, bell, followed) = (Arc::clone(&world.store) as _, Arc::clone(&written), feed.snapshots());
    let following = listeners.clone();
    tasks.spawn(async move { words.write(store, bell, CancellationToken::new()).await.unwrap() });
    tasks.spawn(async move { following.follow(followed, CancellationToken::new()).await.unwrap() });
    tasks.spawn(async move { feed.run(CancellationToken::new()).await.unwrap() });
    Way { snapshots, listeners, written, _tasks: tasks }
}

#[tokio::test]
async fn an_acknowledged_content_counts_for_every_later_sequence_that_has_the_same_content() {
    let world = World::new().await;
    let mut way = way(&world);
    let mut agent = application();
    (agent.acknowledges, agent.instance) = (true, Some("0123456789abcdef0123456789abcdef".into()));
    world.issuance.issue(&agent).await.unwrap();
    let key = world.events().await.into_iter().find_map(|stored| stored.event.holder()).unwrap();
    let version = |snapshot: &Snapshot| snapshot.secret(DEFAULT_BUNDLE_NAME).map(Versioned::version);
    let first = version(&way.snapshots.wait_for(|now| version(now).is_some()).await.unwrap().clone()).unwrap();
    let listener = way.listeners.enter(Acknowledger::Holder(key.clone())).unwrap();
    listener.applied(DEFAULT_BUNDLE_NAME, first);
    way.written.notified().await;
    assert_eq!(world.store.coverage(NOW).await.unwrap().covered(1), 1);
    // Published, never received by this holder, and taken back.
    let operator = Operator { name: "uid 0".into(), peer: None };
    for (command, same) in [(Command::Prepare, false), (Command::Rollback, true)] {
        world.operations.command(&operator, command, "").await.unwrap();
        world.rotator.turn().await.unwrap();
        drop(way.snapshots.wait_for(|now| (version(now) == Some(first)) == same).await.unwrap());
    }
    assert_eq!(state::current(&world.state).unwrap().bundle().sequence(), 3);
    way.written.notified().await;
    assert_eq!(world.store.coverage(NOW).await.unwrap().covered(3), 1);
    assert_eq!(way.listeners.metrics.rotation.streams.get(), 1);
    // One holder cannot take the places of all.
    let more: Vec<_> =
        (1..PER_HOLDER).map(|_| way.listeners.enter(Acknowledger::Holder(key.clone())).unwrap()).collect();
    assert!(way.listeners.enter(Acknowledger::Holder(key.clone())).is_err());
    drop((listener, more));
    assert_eq!(way.listeners.metrics.rotation.streams.get(), 0);
    assert!(way.listeners.enter(Acknowledger::Holder(key)).is_ok());
}

fn admission() -> Admission {
    Admission::new(&Limits::default())
}

/// An open stream of a client that has shown a certificate, up to its first response.
async fn opened(
    service: BundleStream,
    shown: &Shown,
) -> (tokio::sync::mpsc::Sender<DiscoveryRequest>, Streaming<DiscoveryResponse>) {
    let (requests, queue) = tokio::sync::mpsc::channel(4);
    let first = DiscoveryRequest {
        resource_names: vec![DEFAULT_BUNDLE_NAME.to_owned()],
        type_url: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret".to_owned(),
        ..DiscoveryRequest::default()
    };
    requests.send(first).await.unwrap();
    let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(queue));
    let identity = Some(Arc::new(ClientIdentity::of_verified(&shown.chain).unwrap()));
    let tcp = TcpConnectInfo { local_addr: None, remote_addr: None };
    request.extensions_mut().insert(ConnectionInfo { tcp, identity, place: None });
    let mut client = SecretDiscoveryServiceClient::new(SecretDiscoveryServiceServer::new(service));
    let mut responses = client.stream_secrets(request).await.unwrap().into_inner();
    assert!(responses.message().await.unwrap().is_some());
    (requests, responses)
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_the_certificate_that_opened_it() {
    let root = TestRoot::new("a");
    let (state, reader) = test_mesh::nothing();
    publish(&state, 1, &[&root], &[]);
    let clock = ManualClock::at(NOW);
    let shared: SharedClock = Arc::new(clock.clone());
    let metrics = Arc::new(CaMetrics::new(&Metrics::new(), Arc::clone(&shared)).unwrap());
    let feed = BundleFeed::new(reader.clone(), Duration::from_secs(60));
    let words = Acknowledgements::default();
    let listeners = Listeners::new(words, feed.sequences(), Arc::clone(&shared), Arc::clone(&metrics));
    let service = || {
        let streams = Streams::new(10, Arc::clone(&shared), Arc::new(NoObserver));
        BundleStream {
            sds: SdsService::new(feed.snapshots(), streams, CancellationToken::new()),
            clusters: Arc::new(Clusters::new(Vec::new())),
            clients: Arc::new(ClientVerifier::new(test_mesh::trust_domain(), reader.clone())),
            admission: Arc::new(admission()),
            refusals: refusals(Arc::clone(&shared)).0,
            clock: Arc::clone(&shared),
            listeners: listeners.clone(),
        }
    };
    let services = [service(), service()];
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { feed.run(CancellationToken::new()).await.unwrap() });
    let [first, second] = services;
    let (lives, ends) = (root.leaf("spiffe://cluster.local/x", NOW, |_| {}), NOW + Duration::from_secs(3600));
    assert_eq!(lives.facts().not_after, ends);
    let revoked = root.leaf("spiffe://cluster.local/revoked", NOW, |_| {});
    let (_requests, mut responses) = opened(first, &lives).await;
    let (_others, mut others) = opened(second, &revoked).await;
    assert_eq!(metrics.rotation.streams.get(), 2);
    // What says that a certificate is revoked is not sent to its holder, who is let go instead.
    publish(&state, 2, &[&root, &TestRoot::new("b")], &[revoked.revoked(0, root.issuing_id())]);
    assert!(others.message().await.unwrap().is_none());
    assert!(responses.message().await.unwrap().is_some());
    let mut ended = Box::pin(responses.message());
    clock.set(ends - Duration::from_secs(1));
    let early = std::future::poll_fn(|cx| std::task::Poll::Ready(ended.as_mut().poll(cx).is_ready())).await;
    assert!(!early);
    clock.set(ends);
    let ended = tokio::time::timeout(Duration::from_secs(10), ended).await;
    assert!(ended.unwrap().unwrap().is_none());
}
