//! `--streams N`: so many agents with an open bundle stream each. How much memory of the CA one costs, how long a new
//! bundle takes to reach all of them, and until all of their acknowledgements are on record.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use signet_tests::client::ask::{Acknowledges, Ask};
use signet_tests::client::bundle_stream::BundleStream;
use signet_tests::client::certify::Client;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Ca, Dev};
use signet_tests::tools::say;
use tokio::task::JoinSet;
use tonic::transport::Endpoint;

use crate::proc;
use crate::requests::{Prepared, Requests};

/// Streams that are opened at the same time.
const AT_ONCE: usize = 64;

/// Opens the streams, has a root prepared, and tells what was seen. The last line is JSON.
pub(crate) async fn measure(dev: &Dev, ca: &Ca, requests: &Requests) -> Outcome<Value> {
    let count = requests.each.len();
    let before = proc::resident_mib(ca.process.id())?;
    let endpoint = Client::endpoint(dev)?;
    let (mut streams, mut opening) = (Vec::new(), JoinSet::new());
    for one in &requests.each {
        if opening.len() == AT_ONCE {
            streams.push(joined(opening.join_next().await)?);
        }
        let (endpoint, csr, token) = (endpoint.clone(), one.csr.clone(), token(one)?);
        opening.spawn(async move { open(&endpoint, &csr, &token).await });
    }
    while let Some(opened) = opening.join_next().await {
        streams.push(joined(Some(opened))?);
    }
    let admin = ca.admin()?;
    let covered = async || {
        let coverage = admin.rotation().await.ok()?.coverage?;
        (coverage.covered == count as u64).then_some(())
    };
    eventually("every acknowledgement of the first bundle", Duration::from_secs(60), covered).await?;
    let after = proc::resident_mib(ca.process.id())?;
    let cpu_before = proc::cpu_time(ca.process.id())?;
    let start = Instant::now();
    let mut waiting = JoinSet::new();
    for mut stream in streams {
        waiting.spawn(async move {
            let update = stream.next().await?;
            let reached = start.elapsed();
            stream.acknowledge(&update).await?;
            Ok::<_, Failure>((reached, stream))
        });
    }
    ca.operator().prepare()?;
    let (mut kept, mut reached) = (Vec::new(), Vec::new());
    while let Some(done) = waiting.join_next().await {
        let (after, stream) = done.map_err(Failure::while_doing("run a stream"))??;
        reached.push(after.as_secs_f64() * 1000.0);
        kept.push(stream);
    }
    eventually("every acknowledgement", Duration::from_secs(60), covered).await?;
    let on_record = start.elapsed().as_secs_f64() * 1000.0;
    let cpu = proc::cpu_time(ca.process.id())?.saturating_sub(cpu_before).as_secs_f64() * 1000.0;
    reached.sort_by(f64::total_cmp);
    let last = reached.last().copied().unwrap_or_default();
    ensure(kept.len() == count, || format!("{} of {count} streams were reached", kept.len()))?;
    let kib = (after - before) * 1024.0 / count as f64;
    say(&format!("{count} streams cost {kib:.1} KiB each in the CA, connection and holder included"));
    say(&format!("a new bundle had reached half of them after {:.0} ms and all after {last:.0} ms", middle(&reached)));
    say(&format!(
        "all acknowledgements were on record after {on_record:.0} ms; {cpu:.0} ms of the CA's processor time"
    ));
    let line = json!({
        "streams": count, "kib_each": kib, "reached_all_ms": last, "on_record_ms": on_record, "cpu_ms": cpu,
    });
    say(&line.to_string());
    Ok(line)
}

async fn open(endpoint: &Endpoint, csr: &str, token: &str) -> Outcome<BundleStream> {
    let channel = endpoint.connect().await.map_err(Failure::while_doing("connect"))?;
    let ask = Ask::like_istio_agent(csr, token).as_instance(&"0".repeat(32), Acknowledges::OnStream);
    Client::over(channel.clone()).call(&ask).await.map_err(Failure::while_doing("get a certificate"))?;
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str()), ("clusterid", "Kubernetes")];
    let stream = BundleStream::over(channel, &headers).await;
    let mut stream = stream.map_err(Failure::while_doing("open a stream"))?;
    let first = stream.next().await?;
    stream.acknowledge(&first).await?;
    Ok(stream)
}

fn token(one: &Prepared) -> Outcome<String> {
    let header = one.authorization.to_str().map_err(Failure::while_doing("read a header"))?;
    Ok(header.trim_start_matches("Bearer ").to_owned())
}

fn joined<T>(done: Option<Result<Outcome<T>, tokio::task::JoinError>>) -> Outcome<T> {
    done.ok_or_else(|| Failure::unexpected("no stream"))?.map_err(Failure::while_doing("open a stream"))?
}

fn middle(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
