//! Leaves that a real OpenBao has signed itself are revoked there on an operator's word, and refused by a real Envoy.

use std::time::Duration;

use serde_json::{Value, json};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Bao, Ca};
use signet_tests::stage::Stage;
use signet_tests::traffic;

use super::super::rotation::revocation::{lists_in, openssl_accepts};
use super::super::rotation::settled;
use super::checked::connect;
use super::leaf::signed_there;

/// A list of OpenBao's that was made just now is used after half a minute.
const LATER: Duration = Duration::from_secs(120);

fn revoke(serial: &str) -> [&str; 6] {
    ["certificate", "revoke", "--serial", serial, "--reason", "key_compromise"]
}

/// The newest list of the root in OpenBao.
async fn list_there(bao: &Bao) -> Outcome<String> {
    let theirs = bao.get("pki/issuer/a/crl").await?;
    Ok(theirs.pointer("/data/crl").and_then(Value::as_str).unwrap_or_default().trim().to_owned())
}

/// Waits until what Envoy judges by refuses this chain; gives the roots and lists.
async fn refused_in_envoy(stage: &Stage, chain: &str) -> Outcome<(String, String)> {
    let refused = async || {
        let judged = stage.server.secrets().await.ok().filter(|judged| !judged.lists.is_empty())?;
        (!openssl_accepts(chain, &judged.roots, &judged.lists).ok()?).then_some((judged.roots, judged.lists))
    };
    eventually("lists in Envoy by which OpenSSL refuses the leaf", LATER, refused).await
}

/// Whether the status has all of these words.
fn says(ca: &Ca, words: &[&str]) -> Option<()> {
    let status = ca.ask(&["status"]).ok()?.to_string().replace('\\', "");
    words.iter().all(|word| status.contains(word)).then_some(())
}

/// How many events have these words and this outcome.
fn on_record(ca: &Ca, words: &str, outcome: &str) -> Outcome<usize> {
    let events = ca.audit(&[])?;
    let is =
        |event: &&Value| event["outcome"] == outcome && event["detail"].as_str().is_some_and(|it| it.contains(words));
    Ok(events.iter().filter(is).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaf_that_openbao_has_signed_is_revoked_there_and_refused_by_envoy() -> Outcome {
    let (bao, dev) = signed_there("1h").await?;
    let mut stage = Stage::set(dev, 1, |_| {}).await?;
    settled(&stage.ca.admin()?, 2).await?;
    traffic::once(stage.entrance()).await.map_err(Failure::unexpected)?;
    let before = stage.server.secrets().await?;
    ensure(before.lists.is_empty(), || "there are lists although nothing is revoked".to_owned())?;
    let bad = stage.client.secrets().await?.chain;
    let serial = stage.client_agent.identity().await?.serial;
    // Its holder would renew at once; a stolen key does not.
    stage.client_agent.process.kill();
    stage.ca.operator().done(&revoke(&serial))?;
    let (roots, lists) = refused_in_envoy(&stage, &bad).await?;
    assert_eq!(lists_in(&lists), 1, "the root signs leaves itself, and there is no CA beside it");
    let theirs = list_there(&bao).await?;
    ensure(lists.contains(&theirs), || format!("{lists} lacks {theirs}"))?;
    ensure(openssl_accepts(&before.chain, &roots, &lists)?, || "OpenSSL refuses the other leaf".into())?;
    let refused = async || traffic::once(stage.entrance()).await.is_err().then_some(());
    eventually("the revoked caller to be refused", LATER, refused).await?;
    assert_eq!(on_record(&stage.ca, "about to be revoked by whoever", "intended")?, 1);
    assert_eq!(on_record(&stage.ca, "is revoked by whoever has certified", "done")?, 1);
    let kept = stage.ca.operator().refused(&["certificate", "revoke", "--serial", &serial, "--clear"])?;
    ensure(kept.contains("nothing takes that back"), || kept.clone())?;
    says(&stage.ca, &["\"unrevoked\":0"]).ok_or_else(|| Failure::unexpected("it is not over"))?;
    // The rightful holder has another certificate.
    stage.client_agent = stage.dev.start_agent("client").await?;
    let admitted = async || traffic::once(stage.entrance()).await.ok().map(drop);
    eventually("the caller to be admitted with another certificate", LATER, admitted).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaf_that_is_revoked_while_openbao_is_sealed_is_revoked_there_by_the_ca_that_is_started_afterwards()
-> Outcome {
    let (bao, dev) = signed_there("1h").await?;
    let mut stage = Stage::set(dev, 1, |_| {}).await?;
    settled(&stage.ca.admin()?, 2).await?;
    let bad = stage.client.secrets().await?.chain;
    let serial = stage.client_agent.identity().await?.serial;
    bao.seal().await?;
    let taken = stage.ca.ask(&revoke(&serial))?;
    ensure(taken["awaited"] == true && taken["revoked"] == true, || taken.to_string())?;
    let told = ["leaf of", "tried again until it is done", "\"unrevoked\":1", "\"tainted_issuing\":0", "degraded"];
    eventually("what is not done, and why", LATER, async || says(&stage.ca, &told)).await?;
    assert_eq!(stage.client_agent.identity().await?.serial, serial, "nobody could sign another one");
    stage.ca.process.kill();
    bao.unseal().await?;
    stage.ca = stage.dev.start_ca().await?;
    let renewed = async || (stage.client_agent.identity().await.ok()?.serial != serial).then_some(());
    eventually("its holder to have another certificate", LATER, renewed).await?;
    let (roots, lists) = refused_in_envoy(&stage, &bad).await?;
    let theirs = list_there(&bao).await?;
    ensure(lists.contains(&theirs), || format!("{lists} lacks {theirs}"))?;
    let good = stage.client.secrets().await?.chain;
    ensure(openssl_accepts(&good, &roots, &lists)?, || "OpenSSL refuses the next leaf".to_owned())?;
    traffic::once(stage.entrance()).await.map_err(Failure::unexpected)?;
    assert_eq!(on_record(&stage.ca, "is revoked by whoever has certified", "done")?, 1);
    eventually("nothing left to be told", LATER, async || says(&stage.ca, &["\"unrevoked\":0"])).await
}

#[tokio::test]
async fn the_lines_that_the_policy_lacks_for_the_revocation_of_leaves_are_named() -> Outcome {
    let (bao, dev) = signed_there("1h").await?;
    let ca = dev.start_ca().await?;
    let agent = dev.start_agent("client").await?;
    let policy = bao.get("sys/policies/acl/signet-leaf").await?;
    let policy = policy.pointer("/data/policy").and_then(Value::as_str).unwrap_or_default().to_owned();
    let signs = "path \"pki/issuer/+/sign/+\" { capabilities = [\"update\"] }";
    bao.put("sys/policies/acl/signet-intermediate", json!({ "policy": "# nothing" })).await?;
    bao.put("sys/policies/acl/signet-leaf", json!({ "policy": signs })).await?;
    let lines = [
        "path \"pki/revoke\" { capabilities = [\"update\"] }",
        "path \"pki/crl/rotate\" { capabilities = [\"read\"] }",
    ];
    let (code, text) = connect(&dev, &["--connect"])?;
    ensure(code == Some(1) && lines.iter().all(|line| text.contains(line)), || text.clone())?;
    let serial = agent.identity().await?.serial;
    ca.operator().done(&revoke(&serial))?;
    eventually("the line in the status", LATER, async || says(&ca, &lines[..1])).await?;
    bao.put("sys/policies/acl/signet-leaf", json!({ "policy": policy })).await?;
    let (code, text) = connect(&dev, &["--connect"])?;
    ensure(code == Some(0), || text.clone())?;
    eventually("its revocation", LATER, async || says(&ca, &["\"unrevoked\":0"])).await
}
