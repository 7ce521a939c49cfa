//! A backend that signs leaves itself is left in one step, with `authority.former`: no request fails, whatever restarts meanwhile.

use std::time::Duration;

use serde_json::{Value, json};
use signet_tests::client::admin::{active_root, root_ids};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Bao, Ca, Dev, probe};
use signet_tests::stage::Stage;
use signet_tests::traffic::Traffic;

use super::super::rotation::{active, calm, now_at, settled, until};
use super::checked::connect;
use super::leaf::{restart, signed_there};
use super::{SOON, issued};

/// What readiness says of one thing: its state, and why.
async fn of(dev: &Dev, name: &str) -> Option<(u16, String)> {
    let (code, body) = probe::fetch(dev.ops, "/readyz?output=json").await.ok()?;
    let readiness: Value = serde_json::from_str(&body).ok()?;
    let one = readiness["checks"].as_array()?.iter().find(|one| one["name"] == name)?.to_string();
    Some((code, one))
}

/// Waits until that has these words.
async fn said(dev: &Dev, name: &str, words: &str) -> Outcome<u16> {
    let what = format!("{words:?} of {name:?}");
    let told = async || of(dev, name).await.filter(|(_, text)| text.contains(words)).map(|(code, _)| code);
    match eventually(&what, SOON, told).await {
        Ok(code) => Ok(code),
        Err(_) => Err(Failure::unexpected(format!("{what}: {:?}", of(dev, name).await))),
    }
}

/// Waits until the metrics have what the former backend is left for, and calls to it while its circuit breaker is closed.
async fn measured(ca: &Ca, left_for: &str) -> Outcome {
    let label = format!("left_for=\"{left_for}\"");
    let found = async || {
        let metrics = ca.metrics().await.ok()?;
        let answered = metrics.sum("signet_ca_former_vault_calls_total", &["outcome=\"answered\""]);
        let closed = metrics.sum("signet_ca_former_vault_circuit", &["state=\"closed\""]);
        let left = metrics.sum("signet_ca_former_backend", &[&label]);
        (answered > 0.0 && closed > 0.0 && left > 0.0).then_some(())
    };
    eventually(&label, SOON, found).await
}

/// The configuration says that this installation has had its leaves signed there, and has another backend now.
async fn left(bao: &Bao, dev: &Dev, backend: &str) -> Outcome {
    dev.set_ca("authority.former", json!({ "backend": "vault", "vault": bao.leaves(dev).await? }))?;
    dev.unset_ca("authority.vault")?;
    dev.set_ca("authority.backend", backend)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_of_openbao_become_ones_of_this_ca_in_one_step_and_no_request_fails() -> Outcome {
    let (bao, dev) = signed_there("20s").await?;
    let mut stage = Stage::set(dev, 2, |_| {}).await?;
    let theirs = settled(&stage.ca.admin()?, 2).await?;
    let traffic = Traffic::start(stage.entrance(), 2, Duration::from_millis(20));
    left(&bao, &stage.dev, "native").await?;
    // Long enough to look at what goes on until then.
    stage.dev.set_ca("authority.rotation.propagation", "20s")?;
    let (code, text) = connect(&stage.dev, &["--connect"])?;
    ensure(code == Some(0), || text.clone())?;
    restart(&mut stage).await?;
    until(&stage.ca.admin()?, "two roots", SOON, |now| (root_ids(now).len() == 2).then_some(())).await?;
    assert_eq!(said(&stage.dev, "former backend", "signs leaves until").await?, 200);
    issued(&stage.dev).await?;
    // A crash on the way.
    stage.ca.process.kill();
    stage.ca = stage.dev.start_ca().await?;
    assert_eq!(active_root(&now_at(&stage.ca.admin()?).await?), theirs);
    issued(&stage.dev).await?;
    measured(&stage.ca, "signs").await?;
    let another = |now: &_| (active_root(now) != theirs).then(|| active_root(now));
    let own = until(&stage.ca.admin()?, "a root of its own", 2 * SOON, another).await?;
    assert_eq!(said(&stage.dev, "former backend", "signs no leaves any more").await?, 200);
    // And while the former root is drained.
    restart(&mut stage).await?;
    issued(&stage.dev).await?;
    assert_eq!(settled(&stage.ca.admin()?, 2).await?, own);
    assert_eq!(said(&stage.dev, "former backend", "`authority.former` may be removed").await?, 200);
    // It harms nothing when it stays, also with the backend gone.
    bao.seal().await?;
    restart(&mut stage).await?;
    assert_eq!(said(&stage.dev, "former backend", "`authority.former` may be removed").await?, 200);
    issued(&stage.dev).await?;
    stage.dev.unset_ca("authority.former")?;
    restart(&mut stage).await?;
    issued(&stage.dev).await?;
    calm(&traffic.stop().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_of_one_mount_become_ones_of_another_in_one_step_and_no_request_fails() -> Outcome {
    let (bao, dev) = signed_there("20s").await?;
    let mut stage = Stage::set(dev, 2, |_| {}).await?;
    let theirs = settled(&stage.ca.admin()?, 2).await?;
    let traffic = Traffic::start(stage.entrance(), 2, Duration::from_millis(20));
    bao.has_another_mount("other").await?;
    left(&bao, &stage.dev, "vault").await?;
    let mut section = bao.leaves(&stage.dev).await?;
    section["mount"] = json!("other");
    stage.dev.set_ca("authority.vault", section)?;
    restart(&mut stage).await?;
    let another = |now: &_| (active_root(now) != theirs).then(|| active_root(now));
    let next = until(&stage.ca.admin()?, "the root of the other mount", 2 * SOON, another).await?;
    issued(&stage.dev).await?;
    // And certified there, which needs no former: nothing of it is left.
    assert_eq!(settled(&stage.ca.admin()?, 2).await?, next);
    assert_eq!(said(&stage.dev, "former backend", "may be removed").await?, 200);
    calm(&traffic.stop().await)
}

/// What a former backend has signed is revoked there, and its list travels beside ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaf_of_the_former_is_revoked_there_after_the_switch() -> Outcome {
    let (bao, dev) = signed_there("1h").await?;
    let mut stage = Stage::set(dev, 1, |_| {}).await?;
    let theirs = settled(&stage.ca.admin()?, 2).await?;
    let before = stage.client.secrets().await?.chain;
    let serial = stage.client_agent.identity().await?.serial;
    stage.client_agent.process.kill();
    left(&bao, &stage.dev, "native").await?;
    restart(&mut stage).await?;
    let other = |now: &_| root_ids(now).into_iter().find(|id| *id != theirs);
    let own = until(&stage.ca.admin()?, "the other root", SOON, other).await?;
    stage.ca.operator().done(&["authority", "activate", &own, "--force", "--reason", "test"])?;
    active(&stage.ca.admin()?, &own).await?;
    stage.ca.operator().done(&["certificate", "revoke", "--serial", &serial, "--reason", "key_compromise"])?;
    let told = async || {
        let crl = bao.get("pki/issuer/a/crl").await.ok()?;
        let crl = crl.pointer("/data/crl").and_then(Value::as_str)?.trim().to_owned();
        let judged = stage.server.secrets().await.ok()?;
        let is_refused =
            !super::super::rotation::revocation::openssl_accepts(&before, &judged.roots, &judged.lists).ok()?;
        (is_refused && judged.lists.contains(&crl)).then_some(())
    };
    eventually("the list of the former in Envoy, with the leaf", 2 * SOON, told).await
}

#[tokio::test]
async fn without_the_former_nothing_changes_and_each_command_says_what_to_do() -> Outcome {
    let (bao, dev) = signed_there("1h").await?;
    let mut ca = dev.start_ca().await?;
    issued(&dev).await?;
    let before = now_at(&ca.admin()?).await?;
    ca.process.stop().await?;
    let section = bao.leaves(&dev).await?;
    dev.unset_ca("authority.vault")?;
    dev.set_ca("authority.backend", "native")?;
    let (code, text) = connect(&dev, &[])?;
    ensure(code == Some(2) && text.contains("authority.former"), || format!("{code:?} {text}"))?;
    let ca = Ca::start(&dev)?;
    assert_eq!(said(&dev, "signer", "`authority.former`").await?, 503);
    let status = ca.ask(&["status"])?.to_string();
    ensure(status.contains("authority.former"), || status.clone())?;
    let now = now_at(&ca.admin()?).await?;
    assert_eq!((now.bundle_sequence, root_ids(&now)), (before.bundle_sequence, root_ids(&before)));
    drop(ca);
    // With it, the same goes on.
    dev.set_ca("authority.former", json!({ "backend": "vault", "vault": section }))?;
    let _ca = dev.start_ca().await?;
    issued(&dev).await?;
    Ok(())
}
