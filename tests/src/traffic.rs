//! Continuous requests through the proxies, with every failure counted and the first ones kept.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;

/// How long one request may take. Longer than the proxies themselves wait for an answer (15 s), so that what counts as
/// failed is what they say, and not how busy this machine is.
const DEADLINE: Duration = Duration::from_secs(30);
/// How many failures are kept word by word.
const KEPT: usize = 5;

/// What has happened so far.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Requests that were answered with 200.
    pub succeeded: u64,
    /// All others.
    pub failed: u64,
    /// The first failures, with their time since the start.
    pub first_failures: Vec<String>,
    /// Which client certificates the service's proxy reported, by SHA-256, with the number of requests.
    pub client_certificates: BTreeMap<String, u64>,
    /// The client identities it reported.
    pub client_identities: BTreeMap<String, u64>,
}

impl Tally {
    /// This count and another one together.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.first_failures.extend(other.first_failures);
        for (mine, theirs) in [
            (&mut self.client_certificates, other.client_certificates),
            (&mut self.client_identities, other.client_identities),
        ] {
            for (name, number) in theirs {
                *mine.entry(name).or_default() += number;
            }
        }
        self
    }
}

/// Running requests; they end when this is dropped.
pub struct Traffic {
    tally: Arc<Mutex<Tally>>,
    tasks: JoinSet<()>,
}

/// A client that keeps connections open, as an application does.
fn client() -> Client<HttpConnector, Empty<Bytes>> {
    Client::builder(TokioExecutor::new()).build(HttpConnector::new())
}

/// One request: the answer's body, or what went wrong.
async fn one(client: &Client<HttpConnector, Empty<Bytes>>, address: SocketAddr) -> Result<String, String> {
    let request = hyper::Request::get(format!("http://{address}/")).body(Empty::new()).map_err(|e| e.to_string())?;
    let exchange = async {
        let response = client.request(request).await.map_err(|error| format!("no answer: {error}"))?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| format!("no body: {error}"))?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        if status.as_u16() == 200 { Ok(text) } else { Err(format!("{status}: {text}")) }
    };
    tokio::time::timeout(DEADLINE, exchange).await.unwrap_or_else(|_| Err(format!("no answer within {DEADLINE:?}")))
}

/// One request on a connection of its own.
///
/// # Errors
/// What went wrong: the status and body, or why there was no answer.
pub async fn once(address: SocketAddr) -> Result<String, String> {
    one(&client(), address).await
}

impl Traffic {
    /// Sends requests from `workers` clients, each with this pause between two requests.
    #[must_use]
    pub fn start(address: SocketAddr, workers: usize, pause: Duration) -> Self {
        let requests = (0..workers).map(|_| {
            let client = client();
            move || {
                let client = client.clone();
                async move { one(&client, address).await }
            }
        });
        Self::of(requests, pause)
    }

    /// Makes each of these requests again and again, with this pause in between. A request gives the answer's body, or what went
    /// wrong.
    pub(crate) fn of<R, F>(requests: impl IntoIterator<Item = R>, pause: Duration) -> Self
    where
        R: Fn() -> F + Send + 'static,
        F: Future<Output = Result<String, String>> + Send,
    {
        let (tally, mut tasks, start) = (Arc::new(Mutex::new(Tally::default())), JoinSet::new(), Instant::now());
        for request in requests {
            let tally = Arc::clone(&tally);
            tasks.spawn(async move {
                loop {
                    let result = request().await;
                    note(&mut tally.lock().unwrap_or_else(PoisonError::into_inner), start, result);
                    tokio::time::sleep(pause).await;
                }
            });
        }
        Self { tally, tasks }
    }

    /// What has happened so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the requests and gives the final count; requests under way are not counted.
    pub async fn stop(mut self) -> Tally {
        self.tasks.shutdown().await;
        self.tally()
    }
}

fn note(tally: &mut Tally, start: Instant, result: Result<String, String>) {
    match result {
        Ok(body) => {
            tally.succeeded += 1;
            let headers: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
            let xfcc = headers.get("x-forwarded-client-cert").and_then(serde_json::Value::as_str).unwrap_or_default();
            for part in xfcc.split(';') {
                match part.split_once('=') {
                    Some(("Hash", hash)) => *tally.client_certificates.entry(hash.to_owned()).or_default() += 1,
                    Some(("URI", uri)) => *tally.client_identities.entry(uri.to_owned()).or_default() += 1,
                    _ => {}
                }
            }
        }
        Err(error) => {
            tally.failed += 1;
            if tally.first_failures.len() < KEPT {
                tally.first_failures.push(format!("{:.1} s after the start: {error}", start.elapsed().as_secs_f32()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::harness::{ports, process::eventually};
    use crate::upstream::Upstream;

    #[tokio::test]
    async fn answers_and_failures_are_counted() {
        let upstream = Upstream::start().await.unwrap();
        let good = Traffic::start(upstream.address, 2, Duration::from_millis(1));
        let bad = Traffic::start(ports::free().unwrap(), 1, Duration::from_millis(1));
        let enough = async || (good.tally().succeeded >= 20 && bad.tally().failed >= 10).then_some(());
        eventually("requests", Duration::from_secs(20), enough).await.unwrap();
        let (good, bad) = (good.stop().await, bad.stop().await);
        assert_eq!((good.failed, bad.succeeded), (0, 0));
        assert_eq!(bad.first_failures.len(), KEPT);
    }
}
