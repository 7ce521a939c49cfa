//! Issuing CAs that a real OpenBao certifies: they sign as ours do, follow its roots, and go on without it.

mod checked;
mod former;
#[cfg(feature = "kubernetes")]
mod kubernetes_login;
mod leaf;
mod leaf_revoked;
mod namespaces;
mod revoked;
mod rotated;
mod sealed;
mod tls;

use std::time::Duration;

use serde_json::Value;
use signet_tests::client::admin::active_issuers;
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::{csr, keys};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::{Pace, keys as config};
use signet_tests::harness::{Bao, Ca, Dev, DevOptions, probe};
use signet_tests::judge;
use signet_tests::stage::CLIENT_ID;

use super::rotation::{now_at, until};

/// Anything but the end of a certificate.
const SOON: Duration = Duration::from_secs(60);

const TWO: [&str; 2] = ["client=default/client", "server=default/server"];

/// An installation that rotates fast and has no authority yet.
fn installation(svid_ttl: &str) -> Outcome<Dev> {
    let dev = Dev::init(&DevOptions {
        svid_ttl: Some(svid_ttl.to_owned()),
        workloads: TWO.iter().map(|&text| text.to_owned()).collect(),
        ..DevOptions::default()
    })?;
    dev.set_pace(&Pace::default())?;
    dev.start_over()?;
    Ok(dev)
}

/// An installation with a server beside it, whose AppRole tokens last for this many seconds.
async fn backed(svid_ttl: &str, token_ttl: u64) -> Outcome<(Bao, Dev)> {
    let dev = installation(svid_ttl)?;
    let bao = Bao::with_pki(dev.directory(), token_ttl).await?;
    bao.backs(&dev).await?;
    Ok((bao, dev))
}

/// Gets a certificate as the ordinary client does, judged by OpenSSL with its whole chain and the root that came with it;
/// gives the key id of its issuing CA.
async fn issued(dev: &Dev) -> Outcome<String> {
    let made = csr::like_ztunnel(None)?;
    let reply = Client::connect(dev).await?.issued(&Ask::new(&made.csr, &dev.token("client")?)).await?;
    judge::workload(&reply, &made.csr, CLIENT_ID)?;
    let key_id = keys::facts(&reply[0])?.authority_key_id;
    key_id.map(|id| keys::hex(&id)).ok_or_else(|| Failure::unexpected("a leaf without the key id of its issuer"))
}

/// Waits until the condition about Vault in the readiness holds this word; the CA stays ready all the time.
async fn told(ca: &mut Ca, dev: &Dev, word: &str) -> Outcome<String> {
    let ops = dev.ops;
    let what = format!("{word:?} in what is said of Vault");
    ca.process
        .until(&what, SOON, async || {
            let (status, body) = probe::fetch(ops, "/readyz?output=json").await.ok()?;
            assert_eq!(status, 200, "a CA that can issue is ready: {body}");
            (about(&body)?.contains(word)).then_some(body)
        })
        .await
}

/// What is said of Vault: `ready` or `degraded`, and why.
fn about(readiness: &str) -> Option<String> {
    let readiness: Value = serde_json::from_str(readiness).ok()?;
    let all = readiness.get("checks")?.as_array()?.clone();
    all.into_iter().find(|one| one["name"] == "Vault").map(|one| one.to_string())
}

#[tokio::test]
async fn an_issuing_ca_of_openbao_signs_for_the_ordinary_client_and_is_renewed_by_itself() -> Outcome {
    let (bao, dev) = backed("5s", 3600).await?;
    dev.set_ca(config::ISSUING_TTL, "16s")?;
    let mut ca = dev.start_ca().await?;
    let first = issued(&dev).await?;
    let theirs = bao.get("pki/issuer/a/json").await?;
    let root = theirs.pointer("/data/certificate").and_then(Value::as_str).unwrap_or_default().to_owned();
    assert_eq!(keys::ids(&dev.text("root-cert.pem")?)?, keys::ids(&root)?, "the root is the one of the server");
    told(&mut ca, &dev, "certifies issuing CAs").await?;
    // At half of its life, without a change of the bundle.
    let before = now_at(&ca.admin()?).await?;
    let one = |rotation: &_| active_issuers(rotation).next().map(|one| one.id.clone());
    let old = one(&before);
    ensure(active_issuers(&before).all(|one| one.renews_at.is_some()), || format!("{before:?}"))?;
    let renewed = |rotation: &_| one(rotation).filter(|id| Some(id) != old.as_ref()).map(|_| ());
    until(&ca.admin()?, "another issuing CA", SOON, renewed).await?;
    let again = async || (issued(&dev).await.ok()? != first).then_some(());
    eventually("a certificate of the next issuing CA", SOON, again).await?;
    assert_eq!(now_at(&ca.admin()?).await?.bundle_sequence, before.bundle_sequence);
    // And at once when it is asked for.
    ca.operator().done(&["authority", "rotate", "--issuing"])?;
    issued(&dev).await?;
    let refused = ca.operator().refused(&["authority", "prepare"])?;
    ensure(refused.contains("rotate the root in Vault"), || refused.clone())?;
    let secret = dev.text("secret-id")?;
    ensure(!ca.process.log().contains(secret.trim()), || "a secret is in the log".to_owned())
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_one_that_was_revoked_is_replaced_with_the_secret_of_the_file() -> Outcome
{
    let (bao, dev) = backed("1h", 6).await?;
    let mut ca = dev.start_ca().await?;
    let end = async || Some(ca.metrics().await.ok()?.sum("signet_ca_vault_token_end_timestamp_seconds", &[]));
    let first = eventually("a token", SOON, async || end().await.filter(|end| *end > 0.0)).await?;
    eventually("its renewal", SOON, async || end().await.filter(|end| *end > first)).await?;
    let log_ins = |ca: &Ca| ca.process.log().matches("logged in to Vault").count();
    assert_eq!(log_ins(&ca), 1, "renewed, and not logged in anew: {}", ca.process.log());
    ensure(bao.revoke_tokens().await? > 0, || "there was no token".to_owned())?;
    ca.operator().done(&["authority", "rotate", "--issuing"])?;
    ensure(log_ins(&ca) == 2, || ca.process.log())?;
    let on_record = |ca: &Ca, reason: &str| ca.audit(&["--kind", "backend", "--reason", reason]);
    let logins = async || (on_record(&ca, "login").ok()?.len() == 2).then_some(());
    eventually("both logins on record", SOON, logins).await?;
    let text = on_record(&ca, "login")?[0]["detail"].as_str().unwrap_or_default().to_owned();
    let words = ["auth/approle as an AppRole: logged in, token accessor ", "lease 6s, renewable"];
    ensure(words.iter().all(|word| text.contains(word)) && text.contains(&bao.address.to_string()), || text.clone())?;

    // The secret is replaced: it is told while none is accepted, and goes on by itself once the file holds a good one.
    let old = dev.text("secret-id")?.trim().to_owned();
    bao.put("auth/approle/role/signet/secret-id/destroy", serde_json::json!({ "secret_id": old })).await?;
    bao.revoke_tokens().await?;
    told(&mut ca, &dev, "secret_id in").await?;
    issued(&dev).await?;
    // It is tried each second, and one event.
    let refused = async || (on_record(&ca, "login_refused").ok()?.len() == 1).then_some(());
    eventually("the refusal on record", SOON, refused).await?;
    bao.secret(&dev.path("secret-id")).await?;
    told(&mut ca, &dev, "its token holds until").await?;
    ca.operator().done(&["authority", "rotate", "--issuing"])?;
    issued(&dev).await?;
    let logins = async || (on_record(&ca, "login").ok()?.len() == 3).then_some(());
    eventually("the next login on record", SOON, logins).await?;
    // The first, and before the next login those that were counted since.
    let refused = on_record(&ca, "login_refused")?;
    ensure(refused.len() <= 2, || format!("{refused:?}"))?;
    let events = format!("{:?}", ca.audit(&["--kind", "backend"])?);
    ensure(!events.contains(&old) && !events.contains(dev.text("secret-id")?.trim()), || {
        "a secret is on record".to_owned()
    })?;
    ensure(!ca.process.log().contains(&old), || "a secret is in the log".to_owned())
}
