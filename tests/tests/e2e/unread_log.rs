//! Standard error is a pipe that nobody reads: everything goes on but the log, which says afterwards what it lost.

use std::io::{PipeReader, Read as _};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Agent, Ca, Dev, probe, yaml};
use tokio::task::JoinSet;

use super::facts;

const WITHIN: Duration = Duration::from_secs(60);
const DROPPED: &str = "log lines were dropped";

/// Reads a log from now on.
fn read(mut log: PipeReader) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&text);
    std::thread::spawn(move || {
        let mut bytes = [0; 65_536];
        while let Ok(length @ 1..) = log.read(&mut bytes) {
            kept.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
    });
    text
}

/// Several thousand calls that are refused, and more until lines are lost.
async fn flood(ca: &Ca, dev: &Dev) -> Outcome {
    let client = Client::connect(dev).await?;
    let ask = Ask::new(&csr::like_ztunnel(None)?.csr, "no.token.this");
    for _ in 0..200 {
        let mut calls = JoinSet::new();
        for _ in 0..100 {
            let (client, ask) = (client.clone(), ask.clone());
            calls.spawn(async move { client.call(&ask).await.is_err() });
        }
        ensure(calls.join_all().await.into_iter().all(|refused| refused), || "a bad token was taken".to_owned())?;
        if ca.metrics().await?.sum("signet_ca_log_lines_dropped_total", &[]) > 0.0 {
            return Ok(());
        }
    }
    Err(Failure::unexpected("no line was dropped"))
}

#[tokio::test]
async fn a_ca_whose_log_nobody_reads_goes_on_and_tells_afterwards() -> Outcome {
    let dev = Dev::plain()?;
    facts::without_limits(&dev)?;
    dev.set_ca("log.level", "debug")?;
    let (mut ca, log) = Ca::start_unread(&dev)?;
    ca.ready().await?;
    flood(&ca, &dev).await?;
    Client::connect(&dev).await?.certificate(&dev, "client").await?;
    for path in ["/readyz", "/livez", "/metrics"] {
        assert_eq!(probe::fetch(dev.ops, path).await?.0, 200, "{path}");
    }
    ca.ask(&["status"])?;
    let text = read(log);
    let told = async || text.lock().unwrap().contains(DROPPED).then_some(());
    eventually("the line about dropped lines", WITHIN, told).await?;
    let lost = ca.metrics().await?.sum("signet_ca_log_lines_dropped_total", &[]);
    let first: f64 = text
        .lock()
        .unwrap()
        .lines()
        .find(|line| line.contains(DROPPED))
        .and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok()?["lines"].as_f64())
        .unwrap_or_default();
    ensure((1.0..=lost).contains(&first), || format!("{first} told of {lost}"))?;
    let status = ca.process.stop().await?;
    ensure(status.success(), || status.to_string())?;
    let last = async || text.lock().unwrap().contains("a second signal stops at once").then_some(());
    eventually("the last lines", WITHIN, last).await
}

#[tokio::test]
async fn a_ca_and_an_agent_whose_logs_nobody_reads_stop_when_told_to() -> Outcome {
    let dev = Dev::plain()?;
    facts::without_limits(&dev)?;
    dev.set_ca("log.level", "debug")?;
    dev.edit("agent-client.yaml", |config| yaml::set(config, "log.level", "trace"))?;
    let (mut ca, _unread) = Ca::start_unread(&dev)?;
    ca.ready().await?;
    let (mut agent, _unread) = Agent::start_unread(&dev, "client")?;
    agent.ready().await?;
    flood(&ca, &dev).await?;
    let lost =
        async || (agent.metrics().await.ok()?.sum("signet_agent_log_lines_dropped_total", &[]) > 0.0).then_some(());
    let asked = async || {
        agent.inspect().await.ok()?;
        lost().await
    };
    eventually("lines to be lost by the agent", WITHIN, asked).await?;
    assert_eq!(agent.readiness().await?.0, 200);
    agent.identity().await?;
    for process in [&mut agent.process, &mut ca.process] {
        let start = Instant::now();
        let status = process.stop().await?;
        // Two seconds are waited for a reader.
        ensure(status.success() && start.elapsed() < Duration::from_secs(15), || {
            format!("{status} after {:?}", start.elapsed())
        })?;
    }
    ensure(!agent.socket().exists(), || "the agent left its socket behind".to_owned())
}

#[tokio::test]
async fn a_start_that_fails_ends_although_nobody_reads_and_otherwise_says_why_last() -> Outcome {
    let dev = Dev::plain()?;
    let taken = std::net::TcpListener::bind(dev.ops).map_err(Failure::io("take a port"))?;
    let (mut ca, log) = Ca::start_unread(&dev)?;
    let status = ca.process.wait(WITHIN).await?;
    assert_eq!(status.code(), Some(1));
    drop(ca);
    let text = read(log);
    let last = async || {
        let text = text.lock().unwrap();
        text.lines().last().is_some_and(|line| line.starts_with("signet-ca: ops: ")).then_some(())
    };
    eventually("the reason as the last line", WITHIN, last).await?;
    drop(taken);
    Ok(())
}
