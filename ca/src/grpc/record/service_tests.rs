//! The auditors' service before a record in memory: who is answered, what is on record of that, and how streams go on and end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt as _;
use signet_core::audit::{Attributed, AuditEvent, EventKind, Outcome};
use signet_core::clock::{Clock as _, ManualClock, SharedClock};
use signet_core::identity::SpiffeId;
use signet_plugins::store::memory::MemoryStore;
use signet_proto::admin::v1alpha1::record_client::RecordClient;
use signet_runtime::metrics::Metrics;
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::transport::server::TcpConnectInfo;
use tonic::{Code, Extensions};
use tower::Service;

use super::*;
use crate::audit_log::audit_log;
use crate::client_identity::test_mesh::{Shown, TestRoot, nothing, publish, trust_domain};
use crate::client_identity::{ClientIdentity, ClientVerifier};
use crate::metrics::CaMetrics;
use crate::refusals::refusals;
use crate::signing_state::StateWriter;
use crate::transport::admin_socket::PeerUser;
use crate::transport::connection::ConnectionInfo;

const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);
const AUDITOR: &str = "spiffe://cluster.local/ns/signet/sa/auditor";

struct Stage {
    store: Arc<MemoryStore>,
    service: GuardedRecord,
    clock: Arc<ManualClock>,
    stop: CancellationToken,
    root: TestRoot,
    state: StateWriter,
    metrics: Metrics,
    _tasks: JoinSet<()>,
}

type Client = RecordClient<Known>;

/// The service as an edge hands it requests: with what is known of the connection.
struct Known {
    service: GuardedRecord,
    connection: Extensions,
}

impl Service<http::Request<Body>> for Known {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = <GuardedRecord as Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        request.extensions_mut().extend(self.connection.clone());
        self.service.call(request)
    }
}

impl Stage {
    async fn with(events: u64) -> Self {
        let (root, clock) = (TestRoot::new("a"), Arc::new(ManualClock::at(NOW)));
        let (state, reader) = nothing();
        publish(&state, 2, &[&root], &[]);
        let shared: SharedClock = Arc::clone(&clock) as _;
        let (metrics, store) = (Metrics::new(), Arc::new(MemoryStore::default()));
        let ca_metrics = Arc::new(CaMetrics::new(&metrics, Arc::clone(&shared)).unwrap());
        let (audit, writer) = audit_log(Arc::clone(&store) as _, ca_metrics.audit.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { writer.run(CancellationToken::new()).await.unwrap() });
        let access = Access {
            own_uid: 1000,
            admins: vec![],
            auditors: vec![SpiffeId::parse(AUDITOR).unwrap()],
            clients: Arc::new(ClientVerifier::new(trust_domain(), reader)),
            clock: Arc::clone(&shared),
            refusals: refusals(Arc::clone(&shared)).0,
            metrics: ca_metrics,
        };
        let stop = CancellationToken::new();
        let store_of = Arc::clone(&store);
        let from = Kept { events: Arc::clone(&store) as _, tree: Arc::clone(&store) as _, journal: store_of as _ };
        let service = RecordService::new(from, "cluster.local/record".into(), audit, shared, stop.clone());
        let service = service.counted_in(OpenStreams::counted(&metrics).unwrap());
        let limits = CallLimits { streams: &["StreamEvents"], ..CallLimits::default() };
        let service = service.guarded(limits, Arc::new(access));
        let stage = Self { store, service, clock, stop, root, state, metrics, _tasks: tasks };
        stage.append(events).await;
        stage
    }

    async fn append(&self, events: u64) {
        let event = |number: u64| AuditEvent {
            at_micros: AuditEvent::micros(NOW),
            request_id: String::new(),
            kind: EventKind::Configuration,
            outcome: if number.is_multiple_of(2) { Outcome::Done } else { Outcome::Refused },
            reason: Some(format!("r{}", number % 3)),
            detail: None,
            who: Attributed::default(),
            what: None,
            repeated: None,
        };
        let appended = self.store.append((0..events).map(event).collect()).await.unwrap();
        assert_eq!(appended.len() as u64, events);
    }

    fn over_tls(&self, id: &str) -> Client {
        let shown: Shown = self.root.leaf(id, self.clock.now(), |_| {});
        let identity = Some(Arc::new(ClientIdentity::of_verified(&shown.chain).unwrap()));
        let peer = "192.0.2.1:5".parse().unwrap();
        let tcp = TcpConnectInfo { local_addr: Some(peer), remote_addr: Some(peer) };
        let mut connection = Extensions::default();
        connection.insert(ConnectionInfo { tcp, identity, place: None, replies: None });
        self.client(connection)
    }

    fn on_socket(&self) -> Client {
        let mut connection = Extensions::default();
        connection.insert(PeerUser(Some(0)));
        self.client(connection)
    }

    fn client(&self, connection: Extensions) -> Client {
        RecordClient::new(Known { service: self.service.clone(), connection })
    }

    /// What is on record of who reads.
    async fn readings(&self) -> Vec<String> {
        let page = self.store.query(&AuditQuery::newest(1000).unwrap()).await.unwrap();
        let admin = page.items.into_iter().filter(|stored| stored.event.kind == EventKind::Admin);
        let mut found: Vec<_> = admin.map(|stored| stored.event.detail.unwrap()).collect();
        found.reverse();
        found
    }
}

fn list(limit: u32) -> wire::ListEventsRequest {
    wire::ListEventsRequest { filter: None, before: 0, limit }
}

fn stream(from: u64, follow: bool) -> wire::StreamEventsRequest {
    wire::StreamEventsRequest { filter: None, from, follow }
}

#[tokio::test]
async fn an_auditor_reads_and_strangers_do_not_and_every_call_is_in_the_tables() {
    let declared = include_str!("../../../../proto/signet/admin/v1alpha1/record.proto");
    let declared: Vec<&str> =
        declared.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next()).collect();
    assert_eq!(declared, CALLS);
    let stage = Stage::with(5).await;
    let mut auditor = stage.over_tls(AUDITOR);
    let page = auditor.list_events(list(2)).await.unwrap().into_inner();
    assert_eq!(
        page.events.iter().map(|event| event.sequence).collect::<Vec<_>>(),
        [5, 4],
        "its own record comes first"
    );
    let next = wire::ListEventsRequest { before: page.next, ..list(1000) };
    let page = auditor.list_events(next).await.unwrap().into_inner();
    assert_eq!((page.events.len(), page.next), (4, 0));
    let one = auditor.get_event(wire::GetEventRequest { sequence: 3 }).await.unwrap().into_inner();
    assert_eq!((one.sequence, one.reason.as_deref()), (3, Some("r0")));
    let none = auditor.get_event(wire::GetEventRequest { sequence: 99 }).await.unwrap_err();
    assert_eq!(none.code(), Code::NotFound);
    let unsigned = auditor.get_proof(wire::GetProofRequest { sequence: 0 }).await.unwrap_err();
    assert_eq!(unsigned.code(), Code::FailedPrecondition);
    let leaves = auditor.list_leaves(wire::ListLeavesRequest { from: 1, limit: 2 }).await.unwrap().into_inner().leaves;
    assert_eq!(leaves.iter().map(|leaf| leaf.sequence).collect::<Vec<_>>(), [1, 2]);
    let counted = wire::CountEventsRequest {
        filter: Some(wire::EventFilter {
            since: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            outcome: Some(Outcome::Refused.number()),
            ..wire::EventFilter::default()
        }),
        by_reason: true,
        ..wire::CountEventsRequest::default()
    };
    let counts = auditor.count_events(counted).await.unwrap().into_inner();
    let counts: Vec<_> = counts.counts.iter().map(|row| (row.reason.as_deref().unwrap(), row.count)).collect();
    assert_eq!(counts, [("r0", 1), ("r1", 1)]);
    let revoked = auditor.list_revoked(wire::ListRevokedRequest {}).await.unwrap().into_inner().certificates;
    assert_eq!(revoked, [], "there is no journal yet");
    let unbounded = auditor.count_events(wire::CountEventsRequest::default()).await.unwrap_err();
    assert_eq!(unbounded.code(), Code::InvalidArgument);

    let mut stranger = stage.over_tls("spiffe://cluster.local/ns/a/sa/b");
    let mut nobody = stage.client(Extensions::default());
    for client in [&mut stranger, &mut nobody] {
        assert_eq!(client.list_events(list(1)).await.unwrap_err().code(), Code::PermissionDenied);
        assert_eq!(client.stream_events(stream(0, true)).await.unwrap_err().code(), Code::PermissionDenied);
    }
    assert!(stage.metrics.render().unwrap().contains("signet_ca_admin_denied_total{reason=\"not_listed\"} 2"));
}

#[tokio::test]
async fn that_somebody_reads_is_on_record_once_for_a_session_and_not_of_the_socket() {
    let stage = Stage::with(1).await;
    let mut auditor = stage.over_tls(AUDITOR);
    for _ in 0..50 {
        auditor.list_events(list(1)).await.unwrap();
        auditor.get_event(wire::GetEventRequest { sequence: 0 }).await.unwrap();
    }
    stage.on_socket().list_events(list(1)).await.unwrap();
    let listed = format!("{AUDITOR}: audit list: reads the record");
    assert_eq!(stage.readings().await, [listed.as_str()]);
    for _ in 0..3 {
        drop(auditor.stream_events(stream(0, false)).await.unwrap());
    }
    let exported = format!("{AUDITOR}: audit export: reads the record");
    assert_eq!(stage.readings().await, [listed.as_str(), &exported]);
    // A session goes on while it is used, but not for ever.
    for _ in 0..10 {
        stage.clock.advance(Duration::from_secs(14 * 60));
        stage.over_tls(AUDITOR).list_events(list(1)).await.unwrap();
    }
    assert_eq!(stage.readings().await.len(), 2);
    stage.clock.advance(Duration::from_secs(15 * 60));
    let mut auditor = stage.over_tls(AUDITOR);
    auditor.get_checkpoint(wire::GetCheckpointRequest {}).await.unwrap();
    assert_eq!(stage.readings().await.len(), 2, "hashes are for everybody");
    auditor.list_events(list(1)).await.unwrap();
    assert_eq!(stage.readings().await, [listed.as_str(), &exported, &listed]);
}

#[tokio::test(start_paused = true)]
async fn an_export_ends_where_the_record_ended_and_a_tail_goes_on_until_the_ca_stops() {
    let stage = Stage::with(600).await;
    let mut auditor = stage.on_socket();
    let mut export = auditor.stream_events(stream(10, false)).await.unwrap().into_inner();
    stage.append(5).await;
    let (mut found, mut next) = (Vec::new(), 0);
    while let Some(batch) = export.message().await.unwrap() {
        assert!(batch.events.len() <= 256);
        found.extend(batch.events.iter().map(|event| event.sequence));
        next = batch.next;
    }
    assert_eq!((found, next), ((10..600).collect::<Vec<_>>(), 600));

    let filter = Some(wire::EventFilter { outcome: Some(Outcome::Refused.number()), ..wire::EventFilter::default() });
    let mut tail =
        auditor.stream_events(wire::StreamEventsRequest { filter, ..stream(603, true) }).await.unwrap().into_inner();
    let batch = tail.message().await.unwrap().unwrap();
    assert_eq!((batch.events.iter().map(|event| event.sequence).collect::<Vec<_>>(), batch.next), (vec![603], 605));
    let (batch, ()) = tokio::join!(tail.message(), stage.append(2));
    let batch = batch.unwrap().unwrap();
    assert_eq!((batch.events.iter().map(|event| event.sequence).collect::<Vec<_>>(), batch.next), (vec![606], 607));
    let (end, ()) = tokio::join!(tail.next(), async { stage.stop.cancel() });
    assert_eq!(end.unwrap().unwrap_err().code(), Code::Unavailable);
    assert!(tail.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_certificate_and_a_caller_has_a_few() {
    let stage = Stage::with(3).await;
    let mut auditor = stage.over_tls(AUDITOR);
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(auditor.stream_events(stream(0, true)).await.unwrap().into_inner());
    }
    let full = auditor.stream_events(stream(0, true)).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    let counted = |open: u32| {
        let text = stage.metrics.render().unwrap();
        assert!(text.contains(&format!("signet_ca_record_streams_open {open}\n")), "{open}: {text}");
    };
    counted(4);
    // Of others there is room, and of this one again when a stream is left.
    drop(stage.on_socket().stream_events(stream(0, true)).await.unwrap());
    let mut tail = open.pop().unwrap();
    drop(open);
    counted(1);
    let mut again = auditor.stream_events(stream(0, true)).await.unwrap().into_inner();
    for stream in [&mut tail, &mut again] {
        assert!(stream.message().await.unwrap().unwrap().events.len() >= 3);
    }
    // The root goes: what chains to it holds no longer.
    publish(&stage.state, 3, &[&TestRoot::new("b")], &[]);
    for stream in [&mut tail, &mut again] {
        assert_eq!(stream.message().await.unwrap_err().code(), Code::PermissionDenied);
    }
    assert_eq!(auditor.list_events(list(1)).await.unwrap_err().code(), Code::PermissionDenied);
}
