//! What is revoked under a root of OpenBao's is refused by a real Envoy: its list, and ours of our issuing CA, travel with the roots.

use std::time::Duration;

use serde_json::{Value, json};
use signet_tests::client::admin::active_issuers;
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::{csr, keys};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::Operator;
use signet_tests::harness::{Bao, Ca, Dev};
use signet_tests::stage::Stage;
use signet_tests::traffic;

use super::super::rotation::revocation::{lists_in, openssl_accepts};
use super::super::rotation::{active, now_at, settled};
use super::backed;

/// A list of OpenBao's that was made just now is used after half a minute.
const LATER: Duration = Duration::from_secs(120);

/// Revokes a leaf as soon as there is a list for each authority.
async fn revoke_leaf(operator: &Operator<'_>, serial: &str) -> Outcome {
    let revoke = ["certificate", "revoke", "--serial", serial, "--reason", "key_compromise"];
    eventually("a revoked leaf", LATER, async || operator.run(&revoke).ok()?.ok().map(drop)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaf_under_a_root_of_openbao_is_refused_by_envoy_once_it_is_revoked_here() -> Outcome {
    let (bao, dev) = backed("1h", 3600).await?;
    let mut stage = Stage::set(dev, 1, |_| {}).await?;
    let admin = stage.ca.admin()?;
    settled(&admin, 2).await?;
    traffic::once(stage.entrance()).await.map_err(Failure::unexpected)?;
    let before = stage.server.secrets().await?;
    ensure(before.lists.is_empty(), || "there are lists although nothing is revoked".to_owned())?;
    let good = before.chain;
    let bad = stage.client.secrets().await?.chain;
    let serial = stage.client_agent.identity().await?.serial;
    // Its holder would renew at once; a stolen key does not.
    stage.client_agent.process.kill();
    revoke_leaf(&stage.ca.operator(), &serial).await?;
    let refused = async || traffic::once(stage.entrance()).await.is_err().then_some(());
    eventually("the revoked caller to be refused", LATER, refused).await?;
    let judged = stage.server.secrets().await?;
    assert_eq!(lists_in(&judged.lists), 2, "of the root in OpenBao, and of our issuing CA");
    let theirs = bao.get("pki/issuer/a/crl").await?;
    let theirs = theirs.pointer("/data/crl").and_then(Value::as_str).unwrap_or_default().to_owned();
    ensure(judged.lists.contains(theirs.trim()), || format!("{} lacks {theirs}", judged.lists))?;
    ensure(!openssl_accepts(&bad, &judged.roots, &judged.lists)?, || "OpenSSL takes the revoked leaf".into())?;
    ensure(openssl_accepts(&good, &judged.roots, &judged.lists)?, || "OpenSSL refuses the other leaf".into())?;
    // The rightful holder has another certificate.
    stage.client_agent = stage.dev.start_agent("client").await?;
    let admitted = async || traffic::once(stage.entrance()).await.ok().map(drop);
    eventually("the caller to be admitted with another certificate", LATER, admitted).await?;
    // Another root comes while lists are in use: its lists travel before it signs.
    let new = keys::ids(&bao.root("root/rotate/internal", "b").await?)?.concat();
    bao.make_default("b").await?;
    active(&admin, &new).await?;
    let lists = async || Some(lists_in(&stage.server.secrets().await.ok()?.lists)).filter(|lists| *lists == 4);
    eventually("a list of each of four authorities", LATER, lists).await?;
    traffic::once(stage.entrance()).await.map_err(Failure::unexpected)?;
    ensure(now_at(&admin).await?.revoked_certificates == 1, || "the entry is gone".to_owned())?;
    stage.ca.operator().clear_certificate(&serial)?;
    let cleared = async || stage.server.secrets().await.ok()?.lists.is_empty().then_some(());
    eventually("the lists to be gone", LATER, cleared).await
}

/// The certificate of the issuing CA that signs now, PEM.
async fn issuing(dev: &Dev) -> Outcome<String> {
    let reply =
        Client::connect(dev).await?.issued(&Ask::new(&csr::like_ztunnel(None)?.csr, &dev.token("client")?)).await?;
    reply.get(1).cloned().ok_or_else(|| Failure::unexpected(format!("no issuing CA in {reply:?}")))
}

/// What OpenBao says of a certificate: when it was revoked, or 0.
async fn revoked_at(bao: &Bao, certificate: &str) -> Outcome<i64> {
    let serial = keys::serial(&keys::facts(certificate)?);
    let serial = serial.trim_start_matches('0');
    let serial = format!("{}{serial}", if serial.len().is_multiple_of(2) { "" } else { "0" });
    let pairs: Vec<&str> = (0..serial.len()).step_by(2).filter_map(|at| serial.get(at..at + 2)).collect();
    let about = bao.get(&format!("pki/cert/{}", pairs.join("-"))).await?;
    Ok(about.pointer("/data/revocation_time").and_then(Value::as_i64).unwrap_or_default())
}

/// Replaces the issuing CA that signs; gives the id of the former one, and its certificate in the lines after that.
async fn replace_issuing(ca: &Ca, dev: &Dev) -> Outcome<String> {
    let former = issuing(dev).await?;
    let id = active_issuers(&now_at(&ca.admin()?).await?).next().map(|one| one.id.clone()).unwrap_or_default();
    ca.operator().done(&["authority", "rotate", "--issuing"])?;
    eventually("another issuing CA", LATER, async || (issuing(dev).await.ok()? != former).then_some(())).await?;
    Ok(format!("{id}\n{former}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuing_ca_that_is_revoked_while_openbao_is_sealed_is_revoked_there_afterwards_and_refused_by_envoy()
-> Outcome {
    let (bao, dev) = backed("1h", 3600).await?;
    let stage = Stage::set(dev, 1, |_| {}).await?;
    settled(&stage.ca.admin()?, 2).await?;
    let bad = stage.client.secrets().await?.chain;
    let former = replace_issuing(&stage.ca, &stage.dev).await?;
    let (id, former) = former.split_once('\n').unwrap_or_default();
    bao.seal().await?;
    let by_force = ["authority", "revoke", id, "--force", "--reason", "its key was copied"];
    stage.ca.operator().done(&by_force)?;
    let status = async |words: &[&str]| {
        let status = stage.ca.ask(&["status"]).ok()?.to_string();
        words.iter().all(|word| status.contains(word)).then_some(())
    };
    let told = ["not yet where they were certified", "tried again until it is done", "sealed"];
    eventually("what is not done, and why", LATER, async || status(&told).await).await?;
    let moved = async || (stage.client.secrets().await.ok()?.chain != bad).then_some(());
    eventually("the holders to renew although OpenBao is sealed", LATER, moved).await?;
    bao.unseal().await?;
    let there = async || revoked_at(&bao, former).await.ok().filter(|at| *at > 0);
    eventually("its revocation in OpenBao", LATER, there).await?;
    // On the list of OpenBao's, which is made anew for it, and with that in every proxy.
    let refused = async || {
        let judged = stage.server.secrets().await.ok().filter(|judged| !judged.lists.is_empty())?;
        (!openssl_accepts(&bad, &judged.roots, &judged.lists).ok()?).then_some(judged)
    };
    let judged = eventually("lists in Envoy by which OpenSSL refuses a leaf of it", LATER, refused).await?;
    let theirs = bao.get("pki/issuer/a/crl").await?;
    let theirs = theirs.pointer("/data/crl").and_then(Value::as_str).unwrap_or_default().trim().to_owned();
    ensure(judged.lists.contains(&theirs), || format!("{} lacks {theirs}", judged.lists))?;
    let good = stage.client.secrets().await?.chain;
    ensure(openssl_accepts(&good, &judged.roots, &judged.lists)?, || "OpenSSL refuses a leaf of the next".to_owned())?;
    traffic::once(stage.entrance()).await.map_err(Failure::unexpected)?;
    let events = stage.ca.audit(&[])?;
    let said = |words: &str, outcome: &str| {
        let is = |event: &&Value| {
            event["outcome"] == outcome && event["detail"].as_str().is_some_and(|it| it.contains(words))
        };
        events.iter().filter(is).count()
    };
    let counts =
        (said("about to be revoked by whoever", "intended"), said("is revoked by whoever has certified", "done"));
    assert_eq!(counts, (1, 1), "{events:#?}");
    let quiet = async || {
        status(&[])
            .await
            .filter(|()| !stage.ca.ask(&["status"]).is_ok_and(|it| it.to_string().contains("not yet where")))
    };
    eventually("nothing left to be told", LATER, quiet).await
}

#[tokio::test]
async fn a_policy_without_the_lines_for_revocation_is_named_and_nothing_else_suffers_from_it() -> Outcome {
    let (bao, dev) = backed("1h", 3600).await?;
    let ca = dev.start_ca().await?;
    let policy = bao.get("sys/policies/acl/signet-intermediate").await?;
    let policy = policy.pointer("/data/policy").and_then(Value::as_str).unwrap_or_default().to_owned();
    let old = "path \"pki/root/sign-intermediate\" { capabilities = [\"update\"] }";
    bao.put("sys/policies/acl/signet-intermediate", json!({ "policy": old })).await?;
    let former = replace_issuing(&ca, &dev).await?;
    let (id, former) = former.split_once('\n').unwrap_or_default();
    let lines = [
        "path \"pki/revoke\" { capabilities = [\"update\"] }",
        "path \"pki/crl/rotate\" { capabilities = [\"read\"] }",
    ];
    let checked = signet_tests::tools::output(&mut dev.ca_command(&["check", "--connect"])?)?;
    let text = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
    ensure(lines.iter().all(|line| text.contains(line)), || text.clone().into_owned())?;
    ca.operator().done(&["authority", "revoke", id, "--force", "--reason", "its key was copied"])?;
    let named = async || ca.ask(&["status"]).ok()?.to_string().replace('\\', "").contains(lines[0]).then_some(());
    eventually("the line in the status", LATER, named).await?;
    assert_eq!(revoked_at(&bao, former).await?, 0);
    bao.put("sys/policies/acl/signet-intermediate", json!({ "policy": policy })).await?;
    let there = async || revoked_at(&bao, former).await.ok().filter(|at| *at > 0);
    eventually("its revocation in OpenBao", LATER, there).await.map(drop)
}
