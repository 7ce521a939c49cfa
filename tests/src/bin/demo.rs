//! `make demo`: the main job with nothing mocked. Two Envoys speak mutual TLS with certificates that live a minute and
//! are renewed under continuous requests, none of which may fail.
#![allow(clippy::arithmetic_side_effects, reason = "times here are near, and a panic is a failed test")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use signet_tests::demo::narrator::{Narrator, short};
use signet_tests::demo::observer::Observer;
use signet_tests::demo::summary::Summary;
use signet_tests::demo::until_interrupted;
use signet_tests::failure::Outcome;
use signet_tests::harness::{Dev, DevOptions};
use signet_tests::stage::{CLIENT_ID, SERVER_ID, Stage};
use signet_tests::tools;
use signet_tests::traffic::{Tally, Traffic};

/// Every certificate is replaced at least so many times.
const RENEWALS: u64 = 2;
/// The end, whatever has happened by then.
const DEADLINE: Duration = Duration::from_secs(300);
const GLANCE: Duration = Duration::from_millis(250);
const REPORT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    until_interrupted("demo", demo()).await
}

async fn demo() -> Outcome {
    tools::envoy()?;
    let narrator = Narrator::default();
    narrator.chapter("Setting the stage: one CA, two workloads, each with an agent and an Envoy");
    let dev = Dev::init(&DevOptions { svid_ttl: Some("60s".into()), ..DevOptions::default() })?;
    let directory = dev.directory().display().to_string();
    narrator
        .tell(&format!("signet-ca dev init made a throw-away cluster key, tokens and configurations in {directory}"));
    let stage = Stage::set(dev, 3, |line| narrator.tell(line)).await?;

    narrator.chapter("Requests: application -> Envoy -> mutual TLS -> Envoy -> service, new connections all the time");
    narrator.tell("certificates live 60 s and are renewed at about half of that; watch them change under load");
    let traffic = Traffic::start(stage.entrance(), 2, Duration::from_millis(40));
    let (client, server) = watch(&stage, &traffic, &narrator).await?;
    let tally = traffic.stop().await;

    narrator.chapter("What the record says");
    let events = stage.ca.audit(&[])?;
    for event in events.iter().rev().filter(|event| event["kind"] == "certificate") {
        let text = |pointer: &str| event.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or("-").to_owned();
        let (id, serial, pod) = (text("/who/spiffe_id"), text("/what/serial"), text("/who/pod"));
        narrator.tell(&format!("{}: {} to {id} (pod {pod})", text("/outcome"), short(&serial)));
    }
    let summary = Summary {
        requests: tally.succeeded + tally.failed,
        failed: tally.failed,
        renewals: client.renewals() + server.renewals(),
        identities: vec![CLIENT_ID.to_owned(), SERVER_ID.to_owned()],
        audit_events: events.len(),
    };
    let path = summary.write()?;
    narrator.chapter("The outcome");
    tell_tally(&tally, &narrator);
    narrator.tell(&format!(
        "{} renewals; {} different client certificates were used in handshakes; {} events on record; see {}",
        summary.renewals,
        tally.client_certificates.len(),
        summary.audit_events,
        path.display()
    ));
    drop(stage);
    narrator.tell(&format!("every process is stopped and {directory} is removed"));
    summary.judge()
}

/// Watches until both certificates were renewed and used often enough.
async fn watch(stage: &Stage, traffic: &Traffic, narrator: &Narrator) -> Outcome<(Observer, Observer)> {
    let (mut client, mut server) = (Observer::new("client"), Observer::new("server"));
    let start = Instant::now();
    let mut reported = start;
    loop {
        client.look(&stage.client_agent, &stage.client, narrator).await?;
        server.look(&stage.server_agent, &stage.server, narrator).await?;
        let tally = traffic.tally();
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            tell_tally(&tally, narrator);
        }
        let renewed = client.renewals().min(server.renewals()) >= RENEWALS;
        let wanted = RENEWALS as usize + 1;
        let used = client.loaded().min(server.loaded()).min(tally.client_certificates.len()) >= wanted;
        if renewed && used && tally.succeeded > 500 {
            return Ok((client, server));
        }
        if start.elapsed() > DEADLINE {
            narrator.tell("out of time");
            return Ok((client, server));
        }
        tokio::time::sleep(GLANCE).await;
    }
}

fn tell_tally(tally: &Tally, narrator: &Narrator) {
    let peers: Vec<&str> = tally.client_identities.keys().map(String::as_str).collect();
    narrator.tell(&format!(
        "{} requests answered, {} failed; the service knows its caller as {}",
        tally.succeeded,
        tally.failed,
        peers.join(", ")
    ));
    for failure in &tally.first_failures {
        narrator.tell(&format!("failed: {failure}"));
    }
}
