//! The service over a real Unix socket, with tonic's client in Envoy's place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::google::rpc;
use prost::Message;
use signet_core::clock::ManualClock;
use time::OffsetDateTime;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::transport::{Channel, Endpoint, Server};

use super::*;
use crate::ledger::{Aggregate, Observer};
use crate::session::{Acknowledgement, Answer};
use crate::snapshot::Name;
use crate::snapshot::tests::{bundle, certificate, root};
use std::sync::Mutex;

type Client = SecretDiscoveryServiceClient<Channel>;

#[derive(Default)]
struct Counts {
    open: AtomicUsize,
    pushed: AtomicUsize,
    acked: AtomicUsize,
    nacked: AtomicUsize,
    unserved: AtomicUsize,
}

impl Observer for Counts {
    fn opened(&self) {
        self.open.fetch_add(1, Ordering::SeqCst);
    }
    fn closed(&self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
    fn pushed(&self) {
        self.pushed.fetch_add(1, Ordering::SeqCst);
    }
    fn acknowledged(&self) {
        self.acked.fetch_add(1, Ordering::SeqCst);
    }
    fn refused(&self) {
        self.nacked.fetch_add(1, Ordering::SeqCst);
    }
    fn unserved(&self) {
        self.unserved.fetch_add(1, Ordering::SeqCst);
    }
}

/// Remembers what it is told.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

/// Of one stream.
struct Ear(Arc<Told>);

impl AcknowledgementListener for Ear {
    fn heard(&self, Acknowledgement { name, version, answer }: &Acknowledgement) {
        self.0.0.lock().unwrap().push(match answer {
            Answer::Ack => format!("{name} applied {version}"),
            Answer::Nack(text) => format!("{name} refused {version} {text}"),
        });
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().push("closed".to_owned());
    }
}

/// A service that knows its callers and listens to their streams, as a CA does.
struct Listening {
    sds: SdsService,
    told: Arc<Told>,
}

#[tonic::async_trait]
impl SecretDiscoveryService for Listening {
    type StreamSecretsStream = Responses;
    type DeltaSecretsStream = DeltaResponses;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<tonic::Response<Responses>, Status> {
        let peer = peer(&request);
        self.sds.stream(request.into_inner(), &peer, Some(Arc::new(Ear(Arc::clone(&self.told)))))
    }

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<tonic::Response<DeltaResponses>, Status> {
        self.sds.delta_secrets(request).await
    }

    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<tonic::Response<DiscoveryResponse>, Status> {
        self.sds.fetch(request.get_ref()).map(tonic::Response::new)
    }
}

struct World {
    told: Arc<Told>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    ledger: Ledger,
    counts: Arc<Counts>,
    stop: CancellationToken,
    directory: tempfile::TempDir,
    server: JoinSet<()>,
}

impl World {
    fn start(max: usize) -> Self {
        let counts = Arc::new(Counts::default());
        let clock = Arc::new(ManualClock::at(OffsetDateTime::UNIX_EPOCH));
        let ledger = Ledger::new(max, clock, Arc::clone(&counts) as Arc<dyn Observer>);
        let snapshots = watch::Sender::new(Arc::new(Snapshot::empty().expecting(&served())));
        let stop = CancellationToken::new();
        let told = Arc::new(Told::default());
        let sds = SdsService::new(snapshots.subscribe(), ledger.clone(), stop.clone());
        let service = SdsServer::new(Listening { sds, told: Arc::clone(&told) });
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        let mut server = JoinSet::new();
        let stopped = stop.clone().cancelled_owned();
        server.spawn(async move {
            let router = Server::builder().add_service(service);
            router.serve_with_incoming_shutdown(UnixListenerStream::new(listener), stopped).await.unwrap();
        });
        Self { told, snapshots, ledger, counts, stop, directory, server }
    }

    async fn client(&self) -> Client {
        let uri = format!("unix://{}", self.directory.path().join("s").display());
        // The protocol's default, as Envoy has it; hyper's own default would swallow megabytes unread.
        let endpoint = Endpoint::from_shared(uri).unwrap().initial_stream_window_size(65_535);
        Client::new(endpoint.connect().await.unwrap())
    }

    fn publish(&self, secrets: &[(&str, &str)]) {
        let secrets = secrets.iter().map(|(name, content)| (*name, certificate(content, "private")));
        self.snapshots.send_replace(Arc::new(Snapshot::new(secrets).expecting(&served())));
    }
}

/// The names that are served as soon as there is something.
fn served() -> Arc<[Name]> {
    ["a", "b", "default", "ROOTCA"].map(Name::from).into()
}

struct Conversation {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

fn ask(names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: SECRET_TYPE_URL.to_owned(),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DiscoveryRequest::default()
    }
}

impl Conversation {
    async fn open(client: &mut Client, first: DiscoveryRequest) -> Result<Self, Status> {
        let (requests, inbound) = mpsc::channel(16);
        requests.send(first).await.unwrap();
        let responses = client.stream_secrets(ReceiverStream::new(inbound)).await?.into_inner();
        Ok(Self { requests, responses })
    }

    async fn answer(&self, names: &[&str], response: &DiscoveryResponse, error: Option<&str>) {
        let error = error.map(|text| rpc::Status { message: text.to_owned(), ..rpc::Status::default() });
        let version_info = if error.is_none() { response.version_info.clone() } else { String::new() };
        let nonce = response.nonce.clone();
        let request = DiscoveryRequest { response_nonce: nonce, version_info, error_detail: error, ..ask(names) };
        self.requests.send(request).await.unwrap();
    }

    async fn next(&mut self) -> DiscoveryResponse {
        within(self.responses.message()).await.unwrap().expect("a response")
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("in time")
}

/// Waits for what has no event: the counters of another task.
async fn until(condition: impl Fn() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

fn names(response: &DiscoveryResponse) -> Vec<String> {
    response.resources.iter().map(|any| Secret::decode(any.value.as_slice()).unwrap().name).collect()
}

#[path = "listening_tests.rs"]
mod listening;

#[path = "unserved_tests.rs"]
mod unserved;

#[path = "unreadable_tests.rs"]
mod unreadable;

#[tokio::test]
async fn a_request_before_there_is_material_is_answered_when_it_arrives_and_the_ledger_tells_the_story() {
    let world = World::start(10);
    let mut client = world.client().await;
    let node = Some(Node { id: "sidecar~1".into(), ..Node::default() });
    let mut talk = Conversation::open(&mut client, DiscoveryRequest { node, ..ask(&["default"]) }).await.unwrap();
    until(|| world.ledger.views().first().is_some_and(|view| !view.names.is_empty())).await;
    world.publish(&[("default", "1"), ("other", "1")]);
    let first = talk.next().await;
    assert_eq!((names(&first), first.type_url.as_str()), (vec!["default".to_owned()], SECRET_TYPE_URL));
    talk.answer(&["default"], &first, None).await;
    until(|| world.counts.acked.load(Ordering::SeqCst) == 1).await;
    world.publish(&[("default", "2"), ("other", "1")]);
    let second = talk.next().await;
    // It answers nothing: the first word about the node counts, and no version is applied but that of an answer.
    let (node, nonce) = (Some(Node { id: "another".into(), ..Node::default() }), second.nonce.clone());
    let says_nothing = DiscoveryRequest { node, response_nonce: nonce, version_info: "x".into(), ..ask(&["default"]) };
    talk.requests.send(says_nothing).await.unwrap();
    talk.answer(&["default"], &second, Some("bad\nkey")).await;
    until(|| world.counts.nacked.load(Ordering::SeqCst) == 1).await;
    let views = world.ledger.views();
    let view = views.first().unwrap();
    assert!(view.peer.contains(&format!("pid={}", std::process::id())), "{}", view.peer);
    assert_eq!((view.node_id.as_str(), view.acked_version.as_str()), ("sidecar~1", first.version_info.as_str()));
    assert_eq!((view.pushes, view.acks, view.nacks), (2, 1, 1));
    assert_eq!(world.counts.pushed.load(Ordering::SeqCst), 2);
    assert_eq!(view.last_nack, Some(("bad key".to_owned(), OffsetDateTime::UNIX_EPOCH)));
    drop((talk, client));
    until(|| world.counts.open.load(Ordering::SeqCst) == 0).await;
    assert_eq!(world.ledger.views(), []);
}

#[tokio::test]
async fn two_streams_are_served_in_parallel_and_a_leaf_does_not_push_the_roots_again() {
    let world = World::start(10);
    let roots = bundle(1, &[root("r")]);
    let publish = |leaf: &str| {
        let secrets = [("default", certificate(leaf, "private")), ("ROOTCA", roots.clone())];
        world.snapshots.send_replace(Arc::new(Snapshot::new(secrets)));
    };
    publish("1");
    let mut client = world.client().await;
    let mut leaf = Conversation::open(&mut client, ask(&["default"])).await.unwrap();
    let mut trust = Conversation::open(&mut client, ask(&["ROOTCA"])).await.unwrap();
    let (first, bundle) = (leaf.next().await, trust.next().await);
    assert_eq!((names(&first), names(&bundle)), (vec!["default".to_owned()], vec!["ROOTCA".to_owned()]));
    publish("2");
    assert_eq!(names(&leaf.next().await), ["default"]);
    let more = tokio::time::timeout(Duration::from_millis(50), trust.responses.message()).await;
    assert!(more.is_err(), "the roots did not change");
}

#[tokio::test]
async fn a_client_that_never_reads_delays_nobody_and_gets_only_the_newest_when_it_does() {
    let world = World::start(10);
    // A whole response is larger than the flow control window, so the transport cannot take them on in advance.
    let big = "x".repeat(200_000);
    world.publish(&[("default", &big)]);
    let mut lazy_client = world.client().await;
    let mut lazy = Conversation::open(&mut lazy_client, ask(&["default"])).await.unwrap();
    let mut client = world.client().await;
    let mut quick = Conversation::open(&mut client, ask(&["default"])).await.unwrap();
    quick.next().await;
    let pushes = |index: usize| world.ledger.views()[index].pushes;
    until(|| pushes(0) >= 1).await;
    for round in 0..200 {
        world.publish(&[("default", &format!("{round}{big}"))]);
        quick.next().await;
    }
    assert_eq!(pushes(1), 201);
    assert!(pushes(0) <= 3, "{} responses were made for a client that does not read", pushes(0));
    // It reads: what was under way, and then what is newest.
    let mut last = lazy.next().await;
    let newest = world.snapshots.borrow().secret("default").unwrap().version();
    let newest = Version::of_set([("default", newest)]).to_string();
    let mut read = 1;
    while last.version_info != newest {
        last = lazy.next().await;
        read += 1;
    }
    assert!(read <= 4, "{read} responses were queued");
}

#[tokio::test]
async fn a_wrong_type_and_absurd_names_end_the_stream_with_a_clear_error() {
    let world = World::start(10);
    world.publish(&[("default", "1")]);
    let mut client = world.client().await;
    let clusters = DiscoveryRequest { type_url: "type.googleapis.com/x.Cluster".into(), ..ask(&["default"]) };
    let many = ask(&vec!["n"; session::MAX_NAMES + 1]);
    for (request, text) in [(clusters, "serves type.googleapis.com/envoy"), (many, "129 names")] {
        let mut talk = Conversation::open(&mut client, request.clone()).await.unwrap();
        let status = within(talk.responses.message()).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().contains(text), "{}", status.message());
        assert_eq!(client.fetch_secrets(request).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused_until_one_ends() {
    let world = World::start(1);
    world.publish(&[("default", "1")]);
    let mut client = world.client().await;
    let mut one = Conversation::open(&mut client, ask(&["default"])).await.unwrap();
    one.next().await;
    let refused = Conversation::open(&mut client, ask(&["default"])).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    drop(one);
    until(|| world.ledger.views().is_empty()).await;
    Conversation::open(&mut client, ask(&["default"])).await.unwrap().next().await;
}

#[tokio::test]
async fn fetching_gives_what_is_known_and_passes_over_the_rest() {
    let world = World::start(1);
    let mut client = world.client().await;
    assert_eq!(client.fetch_secrets(ask(&["a"])).await.unwrap_err().code(), tonic::Code::Unavailable);
    world.publish(&[("a", "1"), ("b", "1")]);
    let table: [(&[&str], &[&str]); 4] =
        [(&["a", "no", "a"], &["a"]), (&[], &["a", "b"]), (&["b", "a"], &["a", "b"]), (&["*"], &["a", "b"])];
    for (wanted, given) in table {
        assert_eq!(names(client.fetch_secrets(ask(wanted)).await.unwrap().get_ref()), given);
    }
    let nothing = tokio_stream::empty::<DeltaDiscoveryRequest>();
    assert_eq!(client.delta_secrets(nothing).await.unwrap_err().code(), tonic::Code::Unimplemented);
}

#[tokio::test]
async fn stopping_ends_every_stream_so_that_the_server_can_drain() {
    let mut world = World::start(10);
    world.publish(&[("default", "1")]);
    let mut client = world.client().await;
    let mut talk = Conversation::open(&mut client, ask(&["default"])).await.unwrap();
    talk.next().await;
    world.stop.cancel();
    assert_eq!(within(talk.responses.message()).await.unwrap_err().code(), tonic::Code::Unavailable);
    within(world.server.join_next()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_lost_its_copy_twice_in_a_row_is_answered_twice() {
    let world = World::start(10);
    world.publish(&[("default", "1")]);
    let mut client = world.client().await;
    let mut talk = Conversation::open(&mut client, ask(&["default"])).await.unwrap();
    let mut last = talk.next().await;
    let mut nonces = vec![last.nonce.clone()];
    for _ in 0..2 {
        talk.answer(&["default"], &last, None).await;
        talk.answer(&["default"], &last, None).await;
        // The second of these answers is put off for a while, and sent without any further event.
        last = talk.next().await;
        assert_eq!(names(&last), ["default"]);
        nonces.push(last.nonce.clone());
    }
    nonces.dedup();
    assert_eq!(nonces.len(), 3);
}
