//! Storage from a backup under a CA that had gone on: what is missing is counted and said, agents go on, and one act makes
//! them follow.

use std::collections::BTreeSet;
use std::time::Duration;

use signet_tests::client::admin::{active_root, root_ids};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Agent, Ca};
use signet_tests::stage::{CLIENT_ID, SERVER_ID};

use super::{SOON, active, holder, installation, now_at, prepared, settled};
use crate::facts;

const TWO: [&str; 2] = ["client=default/client", "server=default/server"];

fn recorded(ca: &Ca) -> Outcome<BTreeSet<String>> {
    let events = ca.audit(&["--outcome", "issued"])?;
    Ok(events.iter().filter_map(|event| event["what"]["serial"].as_str().map(str::to_owned)).collect())
}

/// What readiness says of the storage: whether it is in order, and why not.
fn history(ca: &Ca) -> Outcome<(String, String)> {
    let status = ca.ask(&["status"])?;
    let checks = status["checks"].as_array().cloned().unwrap_or_default();
    let check = checks.into_iter().find(|check| check["name"] == "storage history");
    let check = check.ok_or_else(|| Failure::unexpected(format!("no such check: {status}")))?;
    let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
    Ok((text("state"), text("detail")))
}

/// Waits until an agent has this bundle and its stream is up.
async fn follows(agent: &Agent, sequence: u64) -> Outcome {
    let has = async || {
        let identity = agent.identity().await.ok()?;
        (identity.bundle_sequence == sequence).then_some(())
    };
    eventually("the agent to have the bundle", SOON, has).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_with_the_bundle_that_agents_hold_changes_nothing_for_them() -> Outcome {
    let dev = installation("20s", &TWO)?;
    let ca = dev.start_ca().await?;
    let agent = dev.start_agent("client").await?;
    settled(&ca.admin()?, 1).await?;
    let sequence = now_at(&ca.admin()?).await?.bundle_sequence;
    follows(&agent, sequence).await?;
    dev.back_up()?;
    let lost = facts::issue(&dev, 3).await?;
    let ca = dev.restore(ca).await?;
    let renewals = agent.identity().await?.renewals;
    let renewed = async || (agent.identity().await.ok()?.renewals > renewals + 1).then_some(());
    eventually("two renewals", SOON, renewed).await?;
    follows(&agent, sequence).await?;
    assert_eq!(history(&ca)?.0, "ready");
    assert_eq!(agent.readiness().await?.0, 200);
    ensure(recorded(&ca)?.is_disjoint(&lost), || "the backup knows what came after it".to_owned())?;
    let nothing = ca.operator().done(&["authority", "resume", "--reason", "too careful"])?;
    assert_eq!(nothing["bundle_sequence"], sequence, "{nothing}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_backup_has_forgotten_is_said_and_agents_follow_after_one_act() -> Outcome {
    let dev = installation("1h", &TWO)?;
    let ca = dev.start_ca().await?;
    let client = dev.start_agent("client").await?;
    let admin = ca.admin()?;
    let old = settled(&admin, 1).await?;
    let before = now_at(&admin).await?.bundle_sequence;
    follows(&client, before).await?;
    let mut ever = facts::issue(&dev, 5).await?;
    dev.back_up()?;
    // It goes on: certificates, a rotation, and a holder that the backup has never heard of.
    let mut lost = facts::issue(&dev, 20).await?;
    ca.operator().rotate()?;
    let new = prepared(&admin).await?;
    active(&admin, &new).await?;
    let server = dev.start_agent("server").await?;
    let after = now_at(&admin).await?.bundle_sequence;
    for agent in [&client, &server] {
        follows(agent, after).await?;
    }
    let unknown = server.identity().await?.serial;
    lost.extend(facts::issue(&dev, 5).await?);
    let complete = recorded(&ca)?;
    ensure(complete.is_superset(&lost) && complete.is_superset(&ever), || "not on record".to_owned())?;
    ever.extend(complete);

    let ca = dev.restore(ca).await?;
    let admin = ca.admin()?;
    // What is missing is said, with both numbers, as soon as the first agent is back; nothing fails.
    let told = async || history(&ca).ok().filter(|(state, _)| state == "degraded");
    let (_, text) = eventually("the backup to be noticed", SOON, told).await?;
    for part in [format!("trust bundle {after} "), format!("only {before}"), "authority resume".into()] {
        ensure(text.contains(&part), || text.clone())?;
    }
    ca.metrics().await?;
    ensure(ca.metrics().await?.sum("signet_ca_storage_restored", &[]) > 0.5, || "no metric".to_owned())?;
    let kept = recorded(&ca)?;
    assert_eq!(kept.intersection(&lost).count(), 0, "what came after the backup is not in it");
    assert_eq!((active_root(&now_at(&admin).await?), root_ids(&now_at(&admin).await?).len()), (old.clone(), 1));
    // Both agents keep what they have, say so, and go on.
    for agent in [&client, &server] {
        let degraded = async || {
            let (status, body) = agent.readiness().await.ok()?;
            (status == 200 && body.to_string().contains("is older than the one held")).then_some(())
        };
        eventually("an agent that says so", SOON, degraded).await?;
        assert_eq!(agent.identity().await?.bundle_sequence, after);
    }
    ever.extend(facts::issue(&dev, 5).await?);

    // The act, which may be sent again.
    let done = ca.operator().done(&["authority", "resume", "--reason", "restored this morning"])?;
    let resumed = done["bundle_sequence"].as_u64().unwrap_or_default();
    ensure(resumed > after && resumed > 1_700_000_000, || done.to_string())?;
    for agent in [&client, &server] {
        follows(agent, resumed).await?;
    }
    let ready = async || (history(&ca).ok()?.0 == "ready").then_some(());
    eventually("the end of it", SOON, ready).await?;
    assert_eq!(ca.ask(&["authority", "resume"])?["bundle_sequence"], resumed, "a second time changes nothing");
    let warned = ca.process.log().matches("the storage is older than what was given out from it").count();
    assert_eq!(warned, 1, "{}", ca.process.log());
    let act = ca.newest(&["--outcome", "done"])?;
    ensure(
        ca.audit(&["--outcome", "done"])?.iter().any(|one| one["detail"].to_string().contains("restored this morning")),
        || act.to_string(),
    )?;
    // The root that was lost is trusted by nobody: who had a certificate of it has another one, and is a holder again.
    let renewed = async || (server.identity().await.ok()?.serial != unknown).then_some(());
    eventually("a certificate of a root that is there", Duration::from_secs(60), renewed).await?;
    for identity in [CLIENT_ID, SERVER_ID] {
        let knows = async || (holder(&admin, identity).await.ok()?.bundle_sequence == resumed).then_some(());
        eventually("a holder that has received it", SOON, knows).await?;
    }
    // No serial twice, over both lives of the storage.
    let fresh = facts::issue(&dev, 20).await?;
    ensure(fresh.is_disjoint(&ever) && fresh.len() == 20, || "a serial was given twice".to_owned())?;
    // And rotations go on as ever.
    ca.operator().prepare()?;
    prepared(&admin).await?;
    for agent in [&client, &server] {
        follows(agent, resumed + 1).await?;
    }
    Ok(())
}
