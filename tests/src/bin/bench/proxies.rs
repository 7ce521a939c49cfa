//! `--proxies N`: so many proxies, each with its own connection to the Unix socket of one agent and an SDS stream on it.
//! How much memory of the agent one costs, how long a new bundle takes to reach all of them once the agent has it, and
//! until the CA knows that all have applied it.

use std::time::{Duration, Instant};

use serde_json::json;
use signet_tests::client::sds::{Stream, acknowledge, subscribe};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Agent, Ca, Dev, yaml};
use signet_tests::tools::say;
use tokio::task::JoinSet;

use crate::proc;

/// What a proxy asks for: its certificate and the roots.
const NAMES: [&str; 2] = ["default", "ROOTCA"];

/// The workload whose agent is measured.
const WORKLOAD: &str = "client";

/// Opens the streams, has a root prepared, and tells what was seen. The last line is JSON.
pub(crate) async fn measure(dev: &Dev, ca: &Ca, count: usize) -> Outcome {
    let set = |config: &mut _| yaml::set(config, "sds.max_streams", count);
    dev.edit(&format!("agent-{WORKLOAD}.yaml"), set)?;
    let agent = dev.start_agent(WORKLOAD).await?;
    let before = proc::resident_mib(agent.process.id())?;
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(open(&agent).await?);
    }
    let after = proc::resident_mib(agent.process.id())?;
    let admin = ca.admin()?;
    // The streams of all proxies make one holder: the agent speaks for them.
    let covered = async || {
        let coverage = admin.rotation().await.ok()?.coverage?;
        (coverage.covered == 1).then_some(())
    };
    eventually("the acknowledgement of the first bundle", Duration::from_secs(60), covered).await?;
    let cpu_before = proc::cpu_time(agent.process.id())?;
    let mut waiting = JoinSet::new();
    for mut stream in streams {
        waiting.spawn(async move {
            let update = stream.next().await.map_err(Failure::while_doing("read an SDS stream"))?;
            let reached = Instant::now();
            stream.send(acknowledge(&update, &NAMES)).await?;
            Ok::<_, Failure>((reached, stream))
        });
    }
    ca.operator().prepare()?;
    let (mut kept, mut reached) = (Vec::new(), Vec::new());
    while let Some(done) = waiting.join_next().await {
        let (at, stream) = done.map_err(Failure::while_doing("run a stream"))??;
        reached.push(at);
        kept.push(stream);
    }
    eventually("the acknowledgement", Duration::from_secs(60), covered).await?;
    let on_record = Instant::now();
    let cpu = proc::cpu_time(agent.process.id())?.saturating_sub(cpu_before).as_secs_f64() * 1000.0;
    ensure(kept.len() == count, || format!("{} of {count} streams were reached", kept.len()))?;
    // The first stream tells when the agent had the bundle: it paces itself before it connects to the CA again.
    reached.sort_unstable();
    let since = |at: Instant| reached.first().map_or(Duration::ZERO, |first| at - *first).as_secs_f64() * 1000.0;
    let (last, on_record) = (reached.last().map_or(0.0, |last| since(*last)), since(on_record));
    let kib = (after - before) * 1024.0 / count as f64;
    say(&format!("{count} proxies cost {kib:.1} KiB each in the agent, connection included"));
    say(&format!("a new bundle had reached all of them {last:.0} ms after the first"));
    say(&format!("the CA knew after {on_record:.0} ms; {cpu:.0} ms of the agent's processor time"));
    let line = json!({
        "proxies": count, "kib_each": kib, "reached_all_ms": last, "on_record_ms": on_record, "cpu_ms": cpu,
    });
    say(&line.to_string());
    Ok(())
}

/// A proxy that has applied what it was sent first.
async fn open(agent: &Agent) -> Outcome<Stream> {
    let opened = Stream::over(agent.channel().await?, subscribe("bench", &NAMES), &[]).await;
    let mut stream = opened.map_err(Failure::while_doing("open an SDS stream"))?;
    let first = stream.next().await.map_err(Failure::while_doing("read an SDS stream"))?;
    stream.send(acknowledge(&first, &NAMES)).await?;
    Ok(stream)
}
