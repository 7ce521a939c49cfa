//! What retention removes: words that are old enough, and neither proofs of what is left nor anything that is needed.

use std::time::Duration;

use serde_json::Value;
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Ca, Dev, probe};
use signet_tests::tools;
use tonic::Code;

use super::{clock, facts};

const WITHIN: Duration = Duration::from_secs(60);

/// A CA whose clock is ahead by so much, once it has forgotten everything of that time.
async fn later(dev: &Dev, by: &str) -> Outcome<Ca> {
    let mut ca = Ca::start_command(dev, clock::at(dev.ca_command(&["serve"])?, by)?)?;
    ca.ready_is(true, WITHIN).await?;
    let done = async || {
        let (_, body) = probe::fetch(dev.ops, "/readyz?output=json").await.ok()?;
        let body: Value = serde_json::from_str(&body).ok()?;
        let checks = body["checks"].as_array()?;
        let check = checks.iter().find(|check| check["name"] == "retention")?;
        (check["detail"] == "nothing is kept that is to be forgotten").then_some(())
    };
    eventually("a look at what is old", WITHIN, done).await?;
    Ok(ca)
}

/// The outcomes of all events that have words, oldest first, of one kind.
fn outcomes(dev: &Dev, kind: &str) -> Outcome<Vec<(u64, String)>> {
    let printed = tools::run(&mut dev.ca_command(&["audit", "list", "--limit", "1000", "-o", "json"])?)?;
    let page: Value = serde_json::from_str(&printed).map_err(|error| Failure::unexpected(error.to_string()))?;
    let events = page["events"].as_array().cloned().unwrap_or_default();
    let of_kind = events.iter().rev().filter(|event| event["kind"] == kind);
    let read = |event: &Value| Some((event["sequence"].as_u64()?, event["outcome"].as_str()?.to_owned()));
    Ok(of_kind.filter_map(read).collect())
}

#[tokio::test]
async fn words_that_are_old_enough_go_and_proofs_of_the_others_hold() -> Outcome {
    let dev = Dev::plain()?;
    dev.set_ca("svid.default_ttl", "1h")?;
    dev.set_ca("svid.max_ttl", "24h")?;
    dev.set_ca("audit.retention.certificates", "30d")?;
    dev.set_ca("audit.retention.refusals", "3d")?;
    let mut ca = dev.start_ca().await?;
    facts::issue(&dev, 6).await?;
    let reply = Client::connect(&dev).await?.certificate(&dev, "client").await?;
    let serial = facts::serial(&reply[0])?;
    let bad = Ask::new(&csr::like_ztunnel(None)?.csr, "not a token");
    Client::connect(&dev).await?.refused(&bad, Code::Unauthenticated).await?;
    ensure(ca.process.stop().await?.success(), || ca.process.log())?;
    let before = outcomes(&dev, "certificate")?;
    ensure(before.iter().any(|(_, outcome)| outcome == "refused"), || format!("{before:?}"))?;
    let operations = outcomes(&dev, "authority")?;

    // Refusals first; whoever was given a certificate is known for longer.
    let mut ca = later(&dev, "+4d").await?;
    assert!(ca.metrics().await?.sum("signet_ca_record_forgotten_total", &["class=\"refusals\""]) >= 1.0);
    ensure(ca.process.stop().await?.success(), || ca.process.log())?;
    let issued: Vec<_> = before.iter().filter(|(_, outcome)| outcome == "issued").cloned().collect();
    assert_eq!(outcomes(&dev, "certificate")?, issued);
    tools::run(&mut dev.ca_command(&["audit", "prove", "--serial", &serial])?)?;

    let mut ca = later(&dev, "+31d").await?;
    ensure(ca.process.stop().await?.success(), || ca.process.log())?;
    assert_eq!(outcomes(&dev, "certificate")?, []);
    let left = outcomes(&dev, "authority")?;
    ensure(left.starts_with(&operations) && !operations.is_empty(), || format!("kept for ever: {left:?}"))?;
    let verified = tools::run(&mut dev.ca_command(&["audit", "verify", "-o", "json"])?)?;
    let verified: Value = serde_json::from_str(&verified).unwrap();
    assert_eq!(verified["verified"], true, "{verified}");
    ensure(verified["forgotten"].as_u64() >= Some(before.len() as u64), || verified.to_string())?;
    tools::run(&mut dev.ca_command(&["audit", "prove", "--sequence", &operations[0].0.to_string()])?)?;
    let gone = tools::output(&mut dev.ca_command(&["audit", "prove", "--sequence", &issued[0].0.to_string()])?)?;
    let said = String::from_utf8_lossy(&gone.stderr).into_owned();
    ensure(!gone.status.success() && said.contains("retention has removed its bytes"), || said.clone())
}
