//! The port over real connections.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::error::Error;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::readiness::Condition;

struct Served {
    address: SocketAddr,
    ops: Ops,
    condition: Condition,
    stop: CancellationToken,
    server: JoinSet<()>,
}

async fn served() -> Served {
    served_within(LIMITS).await
}

async fn served_within(limits: Limits) -> Served {
    let listener = bind("ops", "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Metrics::for_process("test", "1", "r").unwrap();
    let page = |path: String| -> Answer {
        Box::pin(async move {
            match path.as_str() {
                "/more" => Ok(Some(Page { content_type: "a/b", cache_control: "no-cache", body: b"shown".to_vec() })),
                "/away" => Err("not now".to_owned()),
                _ => Ok(None),
            }
        })
    };
    let more = Some(MorePages { paths: "/more  more\n", page: Arc::new(page) });
    let ops = Ops { metrics, readiness: Readiness::new(), liveness: Liveness::new(), more };
    let condition = ops.readiness.condition("store");
    let stop = CancellationToken::new();
    let mut server = JoinSet::new();
    server.spawn(serve_within(limits, listener, ops.clone(), stop.clone()));
    Served { address, ops, condition, stop, server }
}

impl Served {
    /// Sends a request and gives status, head and body.
    async fn ask(&self, method: &str, target: &str, headers: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {target} HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), body.to_owned())
    }
}

#[tokio::test]
async fn what_a_program_adds_is_shown_beside_what_all_show() {
    let served = served().await;
    let (status, head, body) = served.ask("GET", "/more?x", "").await;
    assert_eq!((status, body.as_str()), (200, "shown"));
    assert!(head.contains("content-type: a/b") && head.contains("cache-control: no-cache"), "{head}");
    let (status, _, body) = served.ask("GET", "/away", "").await;
    assert_eq!((status, body.as_str()), (503, "not now\n"));
    for (method, path) in [("GET", "/none"), ("POST", "/more")] {
        let (status, _, body) = served.ask(method, path, "").await;
        assert!(status == 404 && body.contains("/readyz"), "{status} {body}");
    }
    assert!(served.ask("GET", "/none", "").await.2.contains("/more  more"));
}

#[tokio::test]
async fn metrics_are_served_in_the_text_format() {
    let served = served().await;
    served.ops.metrics.counter("signet_test_total", "tests").unwrap().inc();
    let (status, head, body) = served.ask("GET", "/metrics", "").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("\nsignet_test_total 1\n") && body.contains("process_open_fds"), "{body}");
}

#[tokio::test]
async fn readiness_is_a_table_for_people_and_json_for_programs() {
    let served = served().await;
    let (status, _, body) = served.ask("GET", "/readyz", "").await;
    assert_eq!((status, body.as_str()), (503, "not ready\n\nCHECK  STATE    DETAIL\nstore  failing  starting\n"));
    served.condition.degraded("nearly full");
    let (status, _, body) = served.ask("GET", "/readyz", "accept: text/html\r\n").await;
    assert_eq!((status, body.as_str()), (200, "ready\n\nCHECK  STATE     DETAIL\nstore  degraded  nearly full\n"));
    for (target, headers) in
        [("/readyz?output=json", ""), ("/readyz?x&output=json", ""), ("/readyz", "accept: application/json\r\n")]
    {
        let (status, head, body) = served.ask("GET", target, headers).await;
        assert_eq!(status, 200);
        assert!(head.contains("content-type: application/json"), "{head}");
        let wanted =
            json!({"ready": true, "checks": [{"name": "store", "state": "degraded", "detail": "nearly full"}]});
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), wanted);
    }
    served.condition.failing("disk full");
    assert_eq!(served.ask("GET", "/readyz?output=json", "").await.0, 503);
}

#[tokio::test]
async fn liveness_follows_the_heartbeats() {
    let served = served().await;
    assert_eq!(served.ask("GET", "/livez", "").await.0, 503, "nothing beats");
    let _event_loop = served.ops.liveness.event_loop();
    assert_eq!(served.ask("GET", "/livez", "").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_loop_is_named_with_its_age() {
    let (metrics, readiness, liveness) = (Metrics::new(), Readiness::new(), Liveness::new());
    let _stalled = liveness.heartbeat("rotator", Duration::from_secs(10));
    tokio::time::advance(Duration::from_secs(11)).await;
    let (status, body) = livez(State(Ops { metrics, readiness, liveness, more: None })).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body, "rotator: no heartbeat for 11s, 10s are tolerated\n");
}

#[tokio::test]
async fn anything_else_is_told_what_there_is() {
    let served = served().await;
    for target in ["/", "/metrics/x", "/admin"] {
        let (status, _, body) = served.ask("GET", target, "").await;
        assert_eq!(status, 404);
        assert!(body.contains("/metrics") && body.contains("/livez") && body.contains("/readyz"), "{body}");
    }
    assert_eq!(served.ask("POST", "/metrics", "content-length: 0\r\n").await.0, 405);
    assert_eq!(served.ask("HEAD", "/metrics", "").await.0, 200);
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_key() {
    let served = served().await;
    let error = bind("ops", served.address).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("ops: cannot listen on {}", served.address)), "{error}");
    assert_eq!(error.source().unwrap().downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn stopping_closes_the_port_but_answers_a_request_that_has_begun() {
    let mut served = served().await;
    let mut begun = TcpStream::connect(served.address).await.unwrap();
    begun.write_all(b"GET /readyz HTTP/1.1\r\n").await.unwrap();
    // A second, complete request proves that the first connection was accepted.
    served.ask("GET", "/readyz", "").await;
    served.stop.cancel();
    while TcpStream::connect(served.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    begun.write_all(b"host: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    begun.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    served.server.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn silent_connections_cannot_keep_others_out_for_long() {
    let head = Duration::from_millis(200);
    let served = served_within(Limits { head, connections: 3, ..LIMITS }).await;
    // Before the first of them can be accepted.
    let start = std::time::Instant::now();
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(served.address).await.unwrap());
    }
    assert_eq!(served.ask("GET", "/readyz", "").await.0, 503);
    assert!(start.elapsed() >= head, "the limit holds: {:?}", start.elapsed());
}

#[tokio::test]
async fn a_client_that_never_finishes_is_cut_off() {
    let head = Duration::from_secs(60);
    let served = served_within(Limits { connection: Duration::from_millis(100), head, ..LIMITS }).await;
    let mut slow = TcpStream::connect(served.address).await.unwrap();
    slow.write_all(b"GET /readyz HTTP/1.1\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _reset_or_end = timeout(head / 2, slow.read_to_end(&mut answer)).await.expect("cut off");
    assert_eq!(answer, b"");
}
