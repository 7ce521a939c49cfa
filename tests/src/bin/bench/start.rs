//! `--start EVENTS`: how soon a CA is ready whose record has so many events, how soon an agent beside it has its first secret, and what
//! both cost while nobody asks for anything. The last line is JSON, and so is `target/bench/start.json`.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use signet_tests::client::sds::{Stream, subscribe};
use signet_tests::failure::{Failure, Outcome};
use signet_tests::harness::{Agent, Ca, Dev, DevOptions};
use signet_tests::noise::middle;
use signet_tests::tools::say;

use crate::load::Load;
use crate::options::Options;
use crate::rounds::{hundredths, keep, tenths};
use crate::usage::Cas;
use crate::{proc, requests, unlimited};

/// How often each start is measured.
const STARTS: usize = 11;

/// For how long both are left alone.
const IDLE: Duration = Duration::from_secs(20);

const WORKLOAD: &str = "client";

/// The pause between two looks at something that is starting.
const LOOK: Duration = Duration::from_millis(1);

/// Measures.
pub(crate) async fn measure(options: &Options, events: usize) -> Outcome {
    proc::allow_files()?;
    let dev = Dev::init(&DevOptions::default())?;
    unlimited(&dev, options)?;
    let requests = requests::prepare(&dev, options.identities)?;
    let cas = Cas::start(&dev, 1).await?;
    let load = Load::open(&dev, &cas.addresses, &requests, options.connections).await?;
    say(&format!("until {events} certificates are on record"));
    let mut on_record = 0;
    while on_record < events {
        on_record += load.run(Duration::from_secs(1)).await?.times.len();
    }
    drop(load);
    cas.stop().await?;
    let (mut ready, mut first) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let (mut ca, took) = ca(&dev).await?;
        ready.push(took);
        let (mut agent, took) = agent(&dev).await?;
        first.push(took);
        agent.process.stop().await?;
        ca.process.stop().await?;
    }
    let (mut ca, _) = ca(&dev).await?;
    let (mut agent, _) = agent(&dev).await?;
    // What a start leaves to do is done.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let used = || Outcome::Ok([proc::cpu_time(ca.process.id())?, proc::cpu_time(agent.process.id())?]);
    let before = used()?;
    tokio::time::sleep(IDLE).await;
    let after = used()?;
    let share = |index: usize| {
        let (before, after) = (before.get(index).copied(), after.get(index).copied());
        after.zip(before).map_or(0.0, |(after, before)| (after - before).as_secs_f64() / IDLE.as_secs_f64() * 100.0)
    };
    let (idle_ca, idle_agent) = (share(0), share(1));
    let agent_mib = proc::resident_mib(agent.process.id())?;
    agent.process.stop().await?;
    ca.process.stop().await?;
    let version = versions(&dev)?;
    let (ready_ms, first_ms) = (middle(ready.iter().copied()), middle(first.iter().copied()));
    say(&format!("machine: {}", crate::floor::processor()));
    say(&format!("{version:.0} ms for the program to start and say its version"));
    say(&format!("{ready_ms:.0} ms until a CA with {on_record} certificates on record is ready"));
    say(&format!("{first_ms:.0} ms until an agent beside it has served its first secret; {agent_mib:.1} MiB then"));
    say(&format!("idle: {idle_ca:.2} % of a core for the CA, {idle_agent:.2} % for the agent"));
    keep(
        "start",
        json!({
            "events": on_record, "version_ms": tenths(version), "ca_ready_ms": tenths(ready_ms),
            "ca_ready_worst_ms": tenths(ready.into_iter().fold(0.0, f64::max)), "agent_first_secret_ms": tenths(first_ms),
            "agent_first_secret_worst_ms": tenths(first.into_iter().fold(0.0, f64::max)), "agent_mib": tenths(agent_mib),
            "ca_idle_percent": hundredths(idle_ca), "agent_idle_percent": hundredths(idle_agent),
        }),
    )
}

/// A CA, and the milliseconds until it said that it is ready.
async fn ca(dev: &Dev) -> Outcome<(Ca, f64)> {
    let start = Instant::now();
    let ca = dev.start_ca().await?;
    Ok((ca, start.elapsed().as_secs_f64() * 1000.0))
}

/// An agent, and the milliseconds until a proxy had its certificate.
async fn agent(dev: &Dev) -> Outcome<(Agent, f64)> {
    let start = Instant::now();
    let agent = Agent::start(dev, WORKLOAD)?;
    while !Path::new(agent.socket()).exists() {
        tokio::time::sleep(LOOK).await;
    }
    loop {
        if let Ok(mut stream) = Stream::open(&agent, subscribe("bench", &["default"])).await {
            stream.next().await.map_err(Failure::while_doing("read an SDS stream"))?;
            return Ok((agent, start.elapsed().as_secs_f64() * 1000.0));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Milliseconds of a start that does nothing: what loading the program costs.
fn versions(dev: &Dev) -> Outcome<f64> {
    let mut took = Vec::new();
    for _ in 0..STARTS {
        let mut command: Command = dev.ca_command(&["check"])?;
        command.arg("--help");
        let start = Instant::now();
        signet_tests::tools::run(&mut command)?;
        took.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(middle(took))
}
