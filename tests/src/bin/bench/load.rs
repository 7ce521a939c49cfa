//! The load: connections that each send one request after the other, and how long each took.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use rustls::version::TLS13;
use signet_tests::client::{raw, tls};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::judge;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::requests::{Prepared, Requests};

/// What was measured.
pub(crate) struct Measured {
    /// How long it took altogether.
    pub(crate) elapsed: Duration,
    /// The time of each request that got a certificate, sorted.
    pub(crate) times: Vec<Duration>,
    /// The time of each that was turned away, sorted.
    pub(crate) turned_away: Vec<Duration>,
}

/// The time within which this share of the requests was answered, in milliseconds.
pub(crate) fn quantile_ms(times: &[Duration], share: f64) -> f64 {
    let index = (times.len() as f64 * share) as usize;
    let time = times.get(index.min(times.len().saturating_sub(1)));
    time.map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

impl Measured {
    /// The time within which this share of the requests was answered, in milliseconds.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        quantile_ms(&self.times, share)
    }

    /// Certificates per second.
    pub(crate) fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// One connection and the part of the identities that use it.
struct Lane {
    connection: h2::client::SendRequest<Bytes>,
    requests: Vec<(HeaderValue, Bytes)>,
    next: usize,
    uri: Uri,
}

/// All connections, open.
pub(crate) struct Load<'r> {
    lanes: Vec<Arc<Mutex<Lane>>>,
    first: &'r Prepared,
    _connections: JoinSet<()>,
}

impl<'r> Load<'r> {
    /// Opens the connections, to each address in turn, and deals the identities out to them.
    pub(crate) async fn open(
        dev: &Dev,
        addresses: &[SocketAddr],
        requests: &'r Requests,
        connections: usize,
    ) -> Outcome<Self> {
        let config = tls::config(&dev.text("root-cert.pem")?, &[&TLS13], &["h2"])?;
        let uri = uri()?;
        let (mut lanes, mut tasks) = (Vec::new(), JoinSet::new());
        for (lane, address) in addresses.iter().cycle().take(connections).enumerate() {
            let stream = tls::connect(*address, Arc::clone(&config)).await?;
            let (connection, driver) =
                h2::client::handshake(stream).await.map_err(Failure::while_doing("speak HTTP/2"))?;
            tasks.spawn(async move {
                // Its end shows in the calls that it carried.
                let _ended = driver.await;
            });
            let own = requests.each.iter().skip(lane).step_by(connections);
            let requests = own.map(|one| (one.authorization.clone(), one.body.clone())).collect();
            lanes.push(Arc::new(Mutex::new(Lane { connection, requests, next: 0, uri: uri.clone() })));
        }
        let first = requests.each.first().ok_or_else(|| Failure::unexpected("no identities"))?;
        Ok(Self { lanes, first, _connections: tasks })
    }

    /// Sends requests on every connection for so long. Any answer but a certificate, or that there is no place for the
    /// request, is an error.
    pub(crate) async fn run(&self, duration: Duration) -> Outcome<Measured> {
        let start = Instant::now();
        let mut running = JoinSet::new();
        for lane in &self.lanes {
            let lane = Arc::clone(lane);
            running.spawn(async move {
                let mut lane = lane.lock().await;
                let (mut times, mut turned_away) = (Vec::with_capacity(16_384), Vec::new());
                while start.elapsed() < duration {
                    let sent = Instant::now();
                    let answered = lane.call().await?;
                    if answered.is_some() { &mut times } else { &mut turned_away }.push(sent.elapsed());
                }
                Ok::<_, Failure>((times, turned_away))
            });
        }
        let (mut times, mut turned_away) = (Vec::new(), Vec::new());
        while let Some(lane) = running.join_next().await {
            let (mut issued, mut refused) = lane.map_err(Failure::while_doing("run a connection"))??;
            times.append(&mut issued);
            turned_away.append(&mut refused);
        }
        let elapsed = start.elapsed();
        times.sort_unstable();
        turned_away.sort_unstable();
        Ok(Measured { elapsed, times, turned_away })
    }

    /// One more certificate, judged by OpenSSL: what was measured was the real thing.
    pub(crate) async fn judge_one(&self) -> Outcome {
        let lane = self.lanes.first().ok_or_else(|| Failure::unexpected("no connections"))?;
        let mut lane = lane.lock().await;
        lane.next = 0;
        let body = lane.call().await?.ok_or_else(|| Failure::unexpected("turned away without any load"))?;
        let (headers, status) = (HeaderMap::new(), http::StatusCode::OK);
        let answer = raw::Answer { status, headers: headers.clone(), body, trailers: headers };
        judge::workload(&answer.certificates()?, &self.first.csr, &self.first.identity)
    }
}

impl Lane {
    /// One whole call; the body of the answer, or nothing when there was no place for it.
    async fn call(&mut self) -> Outcome<Option<Bytes>> {
        let request = self.requests.get(self.next % self.requests.len().max(1)).cloned();
        let request = request.ok_or_else(|| Failure::unexpected("fewer identities than connections"))?;
        self.next += 1;
        Ok(match exchange(&mut self.connection, self.uri.clone(), request).await? {
            Answered::Issued(body) => Some(body),
            Answered::TurnedAway(_) => None,
        })
    }
}

/// Where certificates are asked for.
pub(crate) fn uri() -> Outcome<Uri> {
    Uri::try_from(format!("https://{}{}", tls::SERVER_NAME, raw::PATH)).map_err(Failure::while_doing("write a URI"))
}

/// What came of a call.
pub(crate) enum Answered {
    /// The body with the certificate.
    Issued(Bytes),
    /// There was no place for it; what the CA says of that.
    TurnedAway(HeaderMap),
}

/// One whole call over a connection. Any other answer is an error.
pub(crate) async fn exchange(
    connection: &mut h2::client::SendRequest<Bytes>,
    uri: Uri,
    (authorization, message): (HeaderValue, Bytes),
) -> Outcome<Answered> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("te", HeaderValue::from_static("trailers"));
    headers.insert("clusterid", HeaderValue::from_static("Kubernetes"));
    headers.insert("authorization", authorization);
    let (answer, mut body) = connection.send_request(request, false).map_err(Failure::while_doing("send a request"))?;
    body.send_data(message, true).map_err(Failure::while_doing("send a message"))?;
    let (head, mut stream) = answer.await.map_err(Failure::while_doing("read an answer"))?.into_parts();
    let mut whole = Bytes::new();
    while let Some(part) = stream.data().await {
        let part = part.map_err(Failure::while_doing("read a message"))?;
        stream.flow_control().release_capacity(part.len()).map_err(Failure::while_doing("read on"))?;
        whole = if whole.is_empty() { part } else { [whole, part].concat().into() };
    }
    let trailers = stream.trailers().await.map_err(Failure::while_doing("read trailers"))?;
    let status = trailers.as_ref().unwrap_or(&head.headers).get("grpc-status").cloned();
    // RESOURCE_EXHAUSTED
    if status.as_ref().is_some_and(|status| status == "8") {
        return Ok(Answered::TurnedAway(trailers.unwrap_or(head.headers)));
    }
    ensure(status.as_ref().is_some_and(|status| status == "0"), || {
        let trailers = trailers.unwrap_or(head.headers);
        format!("the CA refused: {status:?} {:?}", trailers.get("grpc-message"))
    })?;
    Ok(Answered::Issued(whole))
}
