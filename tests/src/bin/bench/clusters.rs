//! `--tokens N`: so many new tokens of a real API server, each from a connection of its own and all at once, as after a
//! cold start of a cluster; then the same tokens again. Once with reviews, once with keys: how long until all have a
//! certificate, and what the API server is asked. The last line is JSON.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use signet_test_servers::kubernetes::{Cluster, ISSUER, Kubernetes, MadePod};
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::metrics::Metrics;
use signet_tests::harness::{Ca, Dev};
use signet_tests::tools::say;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::load::quantile_ms;
use crate::proc;

/// Tokens that are requested at the same time.
const AT_ONCE: usize = 16;
/// Pods that the tokens are of.
const PODS: usize = 100;
/// Connections of the second part, each with one request at a time.
const AGAIN: usize = 32;

fn made<T>(result: Result<T, signet_test_servers::ServerError>) -> Outcome<T> {
    result.map_err(Failure::while_doing("prepare a cluster"))
}

/// Measures both modes beside one API server.
pub(crate) async fn measure(count: usize) -> Outcome {
    proc::allow_files()?;
    say("starting a Kubernetes API server");
    let kubernetes = made(Kubernetes::start(&signet_test_servers::kubernetes::ApiServer::default()))?;
    let cluster = made(kubernetes.cluster().await)?;
    let namespace = made(cluster.namespace().await)?;
    made(cluster.account(&namespace, "web").await)?;
    made(cluster.node("node").await)?;
    let mut pods = Vec::new();
    for number in 0..PODS {
        pods.push(made(cluster.pod(&namespace, &format!("web-{number}"), "web", "node").await)?);
    }
    let mut lines = Vec::new();
    for (mode, tokens) in [
        ("token-review", json!({"kind": "token-review", "issuer": ISSUER})),
        ("jwks", json!({"kind": "jwks", "issuer": ISSUER, "from": "api-server"})),
    ] {
        lines.push(mode_of(&kubernetes, &cluster, &pods, mode, tokens, count).await?);
    }
    say(&Value::Array(lines).to_string());
    Ok(())
}

async fn mode_of(
    kubernetes: &Kubernetes,
    cluster: &Cluster,
    pods: &[MadePod],
    mode: &str,
    tokens: Value,
    count: usize,
) -> Outcome<Value> {
    let dev = Dev::plain()?;
    for limit in ["limits.per_identity", "limits.per_peer"] {
        dev.set_ca(&format!("{limit}.per_second"), 1_000_000)?;
        dev.set_ca(&format!("{limit}.burst"), 1_000_000)?;
    }
    // All callers are on this machine: they are one source, which a cluster's are not.
    for limit in ["connections", "calls", "handshakes.per_second", "handshakes.burst"] {
        dev.set_ca(&format!("limits.unauthenticated.{limit}"), 4 * count)?;
    }
    let admin = kubernetes.admin_file().display().to_string();
    dev.set_ca(
        "clusters",
        json!([{"id": "Kubernetes", "trust_domain": "cluster.local", "api_server": admin, "tokens": tokens}]),
    )?;
    say(&format!("{mode}: requesting {count} tokens"));
    let all = requested(cluster, pods, count).await?;
    let mut ca = dev.start_ca().await?;
    ca.ready_is(true, Duration::from_secs(60)).await?;
    let csr = csr::like_ztunnel(None)?.csr;

    let before = calls(&ca).await?;
    let cold = storm(&dev, &csr, &all).await?;
    let asked = calls(&ca).await? - before;
    let rate = count as f64 / cold.last.as_secs_f64();
    let per_certificate = asked / count as f64;
    let (half, most) = (quantile_ms(&cold.times, 0.5), quantile_ms(&cold.times, 0.99));
    say(&format!(
        "{mode}: {count} new connections with new tokens: all had a certificate after {:.2} s ({rate:.0}/s; p50 {half:.0} ms, p99 {most:.0} ms), {} answers \"retry\", {asked:.0} reviews ({per_certificate:.2} per certificate)",
        cold.last.as_secs_f64(),
        cold.retries,
    ));
    let before = calls(&ca).await?;
    let again = repeated(&dev, &csr, &all).await?;
    let asked_again = calls(&ca).await? - before;
    let cached = count as f64 / again.as_secs_f64();
    say(&format!("{mode}: the same tokens again on {AGAIN} connections: {cached:.0}/s, {asked_again:.0} reviews"));
    Ok(json!({
        "mode": mode, "tokens": count, "all_after_s": cold.last.as_secs_f64(), "cold_per_second": rate,
        "p50_ms": half, "p99_ms": most, "retries": cold.retries, "reviews": asked, "again_per_second": cached,
        "reviews_again": asked_again,
    }))
}

/// Reviews so far.
async fn calls(ca: &Ca) -> Outcome<f64> {
    let metrics: Metrics = ca.metrics().await?;
    Ok(["authenticated", "refused", "api_timed_out", "api_throttled", "api_failed"]
        .iter()
        .map(|result| metrics.sum("signet_ca_token_reviews_total", &[&format!("result=\"{result}\"")]))
        .sum())
}

async fn requested(cluster: &Cluster, pods: &[MadePod], count: usize) -> Outcome<Vec<String>> {
    let (mut all, mut asking) = (Vec::new(), JoinSet::new());
    for number in 0..count {
        if asking.len() == AT_ONCE {
            all.push(joined(asking.join_next().await)?);
        }
        let Some(pod) = pods.get(number % pods.len().max(1)).cloned() else { break };
        let cluster = cluster.clone();
        asking.spawn(async move { made(cluster.token_of_pod(&pod, "web", "istio-ca").await) });
    }
    while let Some(token) = asking.join_next().await {
        all.push(joined(Some(token))?);
    }
    Ok(all)
}

/// What became of a storm.
struct Storm {
    times: Vec<Duration>,
    last: Duration,
    retries: u64,
}

async fn storm(dev: &Dev, csr: &str, tokens: &[String]) -> Outcome<Storm> {
    let endpoint = Client::endpoint(dev)?;
    let (start, mut asking) = (Instant::now(), JoinSet::new());
    for (number, token) in tokens.iter().enumerate() {
        let (endpoint, ask) = (endpoint.clone(), Ask::new(csr, token));
        asking.spawn(async move {
            let mut retries = 0;
            loop {
                let outcome = match endpoint.connect().await {
                    Ok(channel) => Client::over(channel).call(&ask).await,
                    Err(_) => Err(Status::unavailable("no connection")),
                };
                match outcome {
                    Ok(_) => return Ok::<_, Failure>((start.elapsed(), retries)),
                    Err(status) => {
                        // A connection that had to give way is an unknown error to this client.
                        let may_retry =
                            matches!(status.code(), Code::Unavailable | Code::ResourceExhausted | Code::Unknown);
                        ensure(may_retry && retries < 60, || format!("{status:?}"))?;
                        retries += 1;
                        tokio::time::sleep(pause(retries, number)).await;
                    }
                }
            }
        });
    }
    let mut storm = Storm { times: Vec::new(), last: Duration::ZERO, retries: 0 };
    while let Some(done) = asking.join_next().await {
        let (after, retries) = joined(Some(done))?;
        storm.times.push(after);
        storm.retries += retries;
    }
    storm.times.sort();
    storm.last = storm.times.last().copied().unwrap_or_default();
    Ok(storm)
}

/// A quarter of a second, twice as long each time up to four seconds, and not the same for all.
fn pause(retries: u64, number: usize) -> Duration {
    let doubled = 250 << retries.min(4);
    Duration::from_millis(doubled + number as u64 % 250)
}

async fn repeated(dev: &Dev, csr: &str, tokens: &[String]) -> Outcome<Duration> {
    let mut asking = JoinSet::new();
    let mut shares: Vec<Vec<String>> = vec![Vec::new(); AGAIN];
    for (number, token) in tokens.iter().enumerate() {
        if let Some(share) = shares.get_mut(number % AGAIN) {
            share.push(token.clone());
        }
    }
    let mut clients = Vec::new();
    for _ in 0..AGAIN {
        clients.push(Client::connect(dev).await?);
    }
    let start = Instant::now();
    for (client, share) in clients.into_iter().zip(shares) {
        let csr = csr.to_owned();
        asking.spawn(async move {
            for token in share {
                client.issued(&Ask::new(&csr, &token)).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(done) = asking.join_next().await {
        joined(Some(done))?;
    }
    Ok(start.elapsed())
}

fn joined<T>(done: Option<Result<Outcome<T>, tokio::task::JoinError>>) -> Outcome<T> {
    done.ok_or_else(|| Failure::unexpected("nothing to wait for"))?
        .map_err(Failure::while_doing("wait for a client"))?
}
