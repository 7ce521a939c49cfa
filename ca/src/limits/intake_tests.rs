//! Requests that arrive, that do not, and that are too many.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::net::Ipv4Addr;
use std::sync::Mutex;

use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::server::TcpConnectInfo;
use tonic_types::StatusExt;
use tower::service_fn;

use super::*;
use crate::client_address::Source;
use crate::transport::connections::{Connections, Room};

fn status(response: &http::Response<Body>) -> Option<Status> {
    Status::from_header_map(response.headers())
}

fn code(response: &http::Response<Body>) -> Option<Code> {
    status(response).map(|status| status.code())
}

/// A service that tells how long the message was.
fn measuring() -> impl Service<
    http::Request<Body>,
    Response = http::Response<Body>,
    Error = Infallible,
    Future = impl Future<Output = Result<http::Response<Body>, Infallible>> + Send,
> + Clone
+ Send {
    service_fn(|request: http::Request<Body>| async {
        let message = request.into_body().collect().await.unwrap().to_bytes();
        Ok::<_, Infallible>(http::Response::builder().header("length", message.len()).body(Body::empty()).unwrap())
    })
}

/// A request whose message is sent bit by bit.
fn trickling(place: Option<&Arc<Place>>) -> (mpsc::Sender<Bytes>, http::Request<Body>) {
    let (sender, parts) = mpsc::channel::<Bytes>(100);
    let frames = tokio_stream::StreamExt::map(ReceiverStream::new(parts), |part| Ok::<_, Status>(Frame::data(part)));
    let mut request = http::Request::post("/s/Call").body(Body::new(StreamBody::new(frames))).unwrap();
    let tcp = TcpConnectInfo { local_addr: None, remote_addr: None };
    request.extensions_mut().insert(ConnectionInfo { tcp, identity: None, place: place.cloned(), replies: None });
    (sender, request)
}

fn whole(message: &'static [u8]) -> http::Request<Body> {
    http::Request::post("/s/Call").body(Body::new(Full::new(Bytes::from_static(message)))).unwrap()
}

fn length(response: &http::Response<Body>) -> Option<&str> {
    response.headers().get("length").map(|value| value.to_str().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_request_takes_its_place_when_it_has_arrived_whole() {
    let limits = CallLimits { places: Arc::new(Semaphore::new(1)), ..CallLimits::default() };
    let mut service = Intake::new(measuring(), limits);
    // As many as like to wait take no place from those who do not.
    let mut senders = Vec::new();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (sender, request) = trickling(None);
        sender.send(Bytes::from_static(b"abc")).await.unwrap();
        senders.push(sender);
        waiting.spawn(service.call(request));
    }
    tokio::task::yield_now().await;
    assert_eq!(length(&service.call(whole(b"hello")).await.unwrap()), Some("5"));
    for sender in senders.drain(..) {
        sender.send(Bytes::from_static(b"de")).await.unwrap();
    }
    let mut answers = Vec::new();
    while let Some(answer) = waiting.join_next().await {
        answers.push(length(&answer.unwrap().unwrap()).map(str::to_owned));
    }
    assert!(answers.iter().all(|answer| answer.as_deref() == Some("5")), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_does_not_end_is_given_up_after_a_while_however_it_trickles() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let limits =
        CallLimits { turned_away: Arc::new(move |limit| noted.lock().unwrap().push(limit)), ..CallLimits::default() };
    let mut service = Intake::new(measuring(), limits);
    let (sender, request) = trickling(None);
    let begun = tokio::time::Instant::now();
    let trickle = async {
        while sender.send(Bytes::from_static(b"x")).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        std::future::pending::<()>().await;
    };
    let answer = tokio::select! { answer = service.call(request) => answer.unwrap(), () = trickle => unreachable!() };
    assert_eq!((code(&answer), begun.elapsed()), (Some(Code::Unavailable), MESSAGE_TIME));
    assert_eq!(*seen.lock().unwrap(), [Limit::MessageTime]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_counts_against_its_connection_and_is_forgotten_when_it_ends() {
    let connections =
        Connections::for_tests(Room { calls_per_connection: 2, memory_per_connection: 4096, ..Room::default() });
    let place = connections.enter(Source::V4(Ipv4Addr::LOCALHOST)).unwrap();
    let mut service = Intake::new(measuring(), CallLimits::default());
    let mut tasks = tokio::task::JoinSet::new();
    let mut senders = Vec::new();
    for _ in 0..2 {
        let (sender, request) = trickling(Some(&place));
        tasks.spawn(service.call(request));
        senders.push(sender);
    }
    tokio::task::yield_now().await;
    let (_third, request) = trickling(Some(&place));
    let answer = service.call(request).await.unwrap();
    assert_eq!(code(&answer), Some(Code::ResourceExhausted));
    // One of them sends more than a connection may hold.
    for _ in 0..5 {
        senders[0].send(Bytes::from_static(&[0; 1000])).await.unwrap();
    }
    let answer = tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(code(&answer), Some(Code::ResourceExhausted));
    drop(senders);
    assert_eq!(length(&tasks.join_next().await.unwrap().unwrap().unwrap()), Some("0"));
    let (sender, request) = trickling(Some(&place));
    drop(sender);
    assert_eq!(length(&service.call(request).await.unwrap()), Some("0"), "the connection has room again");
}

/// Connections count what they turn away; the service must not count it again.
#[tokio::test(start_paused = true)]
async fn headers_of_what_waits_count_too_and_who_is_over_is_counted_once() {
    let connections = Connections::for_tests(Room { memory_per_connection: 4096, ..Room::default() });
    let place = connections.enter(Source::V4(Ipv4Addr::LOCALHOST)).unwrap();
    let counted = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&counted);
    let turned_away = Arc::new(move |limit| noted.lock().unwrap().push(limit));
    let mut service = Intake::new(measuring(), CallLimits { turned_away, ..CallLimits::default() });
    let (_open, mut request) = trickling(Some(&place));
    request.headers_mut().insert("x", "v".repeat(4096).parse().unwrap());
    let answer = service.call(request).await.unwrap();
    assert_eq!((code(&answer), counted.lock().unwrap().len()), (Some(Code::ResourceExhausted), 0));
}

#[tokio::test(start_paused = true)]
async fn who_is_turned_away_is_told_when_to_come_again_and_not_all_at_the_same_time() {
    let limits =
        CallLimits { places: Arc::new(Semaphore::new(0)), full: Limit::ConcurrentRequests, ..CallLimits::default() };
    let mut service = Intake::new(measuring(), limits);
    let mut delays = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let answer = status(&service.call(whole(b"hello")).await.unwrap()).unwrap();
        assert_eq!(answer.code(), Code::ResourceExhausted);
        let delay = answer.get_details_retry_info().unwrap().retry_delay.unwrap();
        assert!((Duration::from_secs(1)..Duration::from_secs(3)).contains(&delay), "{delay:?}");
        delays.insert(delay);
    }
    assert_eq!(delays.len(), 10);
    // Before its message is waited for.
    let (_open, request) = trickling(None);
    assert_eq!(code(&service.call(request).await.unwrap()), Some(Code::ResourceExhausted));
}

#[tokio::test(start_paused = true)]
async fn too_large_a_message_is_refused_without_being_kept() {
    let mut service = Intake::new(measuring(), CallLimits { message: 10, ..CallLimits::default() });
    assert_eq!(length(&service.call(whole(b"123456789012345")).await.unwrap()), Some("15"), "five bytes are framing");
    let (sender, request) = trickling(None);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(service.call(request));
    for _ in 0..16 {
        sender.send(Bytes::from_static(b"x")).await.unwrap();
    }
    let answer = tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(code(&answer), Some(Code::OutOfRange));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_comes_frees_its_place() {
    let stuck = service_fn(|_: http::Request<Body>| std::future::pending::<Result<http::Response<Body>, Infallible>>());
    let limits =
        CallLimits { places: Arc::new(Semaphore::new(1)), answer: Duration::from_secs(11), ..CallLimits::default() };
    let mut service = Intake::new(stuck, limits);
    let mut tasks = tokio::task::JoinSet::new();
    let begun = tokio::time::Instant::now();
    tasks.spawn(service.call(whole(b"a")));
    tokio::task::yield_now().await;
    assert_eq!(code(&service.call(whole(b"a")).await.unwrap()), Some(Code::ResourceExhausted));
    let late = tokio::time::timeout(Duration::from_secs(60), tasks.join_next()).await.expect("it was given up");
    assert_eq!(code(&late.unwrap().unwrap().unwrap()), Some(Code::Unavailable));
    assert_eq!(begun.elapsed(), Duration::from_secs(11));
    assert_eq!(code(&service.call(whole(b"a")).await.unwrap()), Some(Code::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_in_use_from_when_a_request_on_it_has_arrived_or_a_call_stays_open() {
    let connections = Connections::for_tests(Room::default());
    let place = connections.enter(Source::V4(Ipv4Addr::LOCALHOST)).unwrap();
    let mut service = Intake::new(measuring(), CallLimits { streams: &["Open"], ..CallLimits::default() });
    for call in ["/s/Call", "/s/Open"] {
        tokio::time::advance(Duration::from_secs(1)).await;
        let accepted = place.asked_at();
        let (sender, mut request) = trickling(Some(&place));
        *request.uri_mut() = call.parse().unwrap();
        sender.send(Bytes::from_static(b"ab")).await.unwrap();
        let mut answering = tokio::task::JoinSet::new();
        answering.spawn(service.call(request));
        tokio::task::yield_now().await;
        let now = tokio::time::Instant::now();
        // Of a call that ends, not before it has arrived.
        assert_eq!(place.asked_at(), if call == "/s/Open" { now } else { accepted }, "{call}");
        drop(sender);
        assert_eq!(length(&answering.join_next().await.unwrap().unwrap().unwrap()), Some("2"));
        assert_eq!(place.asked_at(), now, "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_stay_open_are_passed_on_as_they_come() {
    let limits = CallLimits { streams: &["Call"], places: Arc::new(Semaphore::new(0)), ..CallLimits::default() };
    let early = service_fn(|_: http::Request<Body>| async {
        Ok::<_, Infallible>(http::Response::builder().header("length", "early").body(Body::empty()).unwrap())
    });
    let (_open, request) = trickling(None);
    assert_eq!(length(&Intake::new(early, limits).call(request).await.unwrap()), Some("early"));
}
