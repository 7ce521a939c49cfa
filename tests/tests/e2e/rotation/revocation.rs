//! Revocation of single certificates and of issuing CAs: real Envoys refuse them on new connections, others go on.

use std::process::Command;
use std::time::Duration;

use signet_tests::client::admin::active_issuers;
use signet_tests::client::bundle_stream::BundleStream;
use signet_tests::client::keys;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::envoy::{Bootstrap, Side};
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::keys as config;
use signet_tests::harness::{Agent, Envoy};
use signet_tests::stage::{CLIENT_ID, SERVER_ID, Stage};
use signet_tests::tools;
use signet_tests::traffic::{self, Traffic};

use super::{SOON, calm, installation, now_at, settled, streaming_holder, until};

const OTHER_ID: &str = "spiffe://cluster.local/ns/default/sa/other";
const THREE: [&str; 3] = ["client=default/client", "server=default/server", "other=default/other"];

/// A stage with a second caller, which nobody revokes.
async fn stage() -> Outcome<(Envoy, Agent, Stage)> {
    let stage = Stage::set_for(installation("1h", &THREE)?, 1, &[OTHER_ID], |_| {}).await?;
    let agent = stage.dev.start_agent("other").await?;
    let bootstrap = Bootstrap::new(Side::Client, agent.socket(), stage.server.listen, SERVER_ID)?.reconnect_every(1)?;
    let other = Envoy::started("envoy-other", stage.dev.directory(), &bootstrap).await?;
    Ok((other, agent, stage))
}

pub(crate) fn lists_in(text: &str) -> usize {
    text.matches("BEGIN X509 CRL").count()
}

/// Whether OpenSSL takes the leaf of a chain with these roots and a list for every CA of the chain.
pub(crate) fn openssl_accepts(chain: &str, roots: &str, lists: &str) -> Outcome<bool> {
    let directory = tempfile::tempdir().map_err(Failure::io("make a temporary directory"))?;
    let at = |name: &str, text: &str| -> Outcome<std::path::PathBuf> {
        let path = directory.path().join(name);
        std::fs::write(&path, text).map_err(Failure::io("write a file for OpenSSL"))?;
        Ok(path)
    };
    let mut command = Command::new(tools::openssl()?);
    command.args(["verify", "-crl_check_all", "-no-CApath", "-no-CAstore", "-CAfile"]).arg(at("roots", roots)?);
    command.arg("-untrusted").arg(at("chain", chain)?).arg("-CRLfile").arg(at("lists", lists)?);
    Ok(tools::output(command.arg(at("leaf", chain)?))?.status.success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_certificate_is_refused_by_envoy_on_new_connections_and_others_go_on() -> Outcome {
    let (other, _agent, mut stage) = stage().await?;
    let (admin, operator) = (stage.ca.admin()?, stage.ca.operator());
    settled(&admin, 3).await?;
    let calm_path = Traffic::start(other.listen, 1, Duration::from_millis(20));
    traffic::once(stage.entrance()).await.map_err(Failure::unexpected)?;
    let serial = stage.client_agent.identity().await?.serial;
    // Its holder would renew at once; a stolen key does not.
    stage.client_agent.process.kill();
    let before = now_at(&admin).await?.bundle_sequence;
    let answer = operator.revoke_certificate(&serial, "key_compromise")?;
    assert_eq!(answer["spiffe_id"], CLIENT_ID);
    let refused = async || traffic::once(stage.entrance()).await.is_err().then_some(());
    eventually("the revoked caller to be refused", SOON, refused).await?;
    // It stays refused, and OpenSSL is of the same opinion about both callers.
    for _ in 0..5 {
        ensure(traffic::once(stage.entrance()).await.is_err(), || "the revoked caller is admitted again".to_owned())?;
    }
    let judged = stage.server.secrets().await?;
    let (bad, good) = (stage.client.secrets().await?, other.secrets().await?);
    ensure(!openssl_accepts(&bad.chain, &judged.roots, &judged.lists)?, || "OpenSSL takes the revoked leaf".into())?;
    ensure(openssl_accepts(&good.chain, &judged.roots, &judged.lists)?, || "OpenSSL refuses the other leaf".into())?;
    let state = now_at(&admin).await?;
    ensure(state.bundle_sequence > before && state.revoked_certificates == 1, || format!("{state:?}"))?;
    // One list for each authority, or Envoy would refuse everybody.
    assert_eq!(lists_in(&judged.lists), state.authorities.len());
    // Clearing it lets the caller in again, and takes the lists away.
    operator.clear_certificate(&serial)?;
    let admitted = async || traffic::once(stage.entrance()).await.ok().map(drop);
    eventually("the caller to be admitted again", SOON, admitted).await?;
    let cleared = async || stage.server.secrets().await.ok()?.lists.is_empty().then_some(());
    eventually("the lists to be gone", SOON, cleared).await?;
    calm(&calm_path.stop().await)?;
    let events = stage.ca.audit(&["--serial", &serial])?;
    let about = events.iter().filter(|event| event["kind"] == "admin").count();
    ensure(about == 2, || format!("revoking and clearing are {about} times on record: {events:#?}"))
}

/// The rightful holder has another certificate before anybody has to care; whoever has a copy of the key has not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_holder_of_a_revoked_certificate_renews_within_seconds_and_is_not_refused() -> Outcome {
    let dev = installation("1h", &THREE)?;
    // So long that only urgency explains a renewal.
    dev.set_ca(config::RENEWAL_WINDOW, "1h")?;
    let stage = Stage::set(dev, 1, |_| {}).await?;
    let (admin, operator) = (stage.ca.admin()?, stage.ca.operator());
    settled(&admin, 2).await?;
    let before = stage.client_agent.identity().await?;
    let copied = stage.client.secrets().await?.chain;
    operator.revoke_certificate(&before.serial, "key_compromise")?;
    let renewed = async || stage.client_agent.identity().await.ok().filter(|now| now.serial != before.serial);
    let now = eventually("another certificate", SOON, renewed).await?;
    assert_eq!((now.authority.as_str(), now.renewals), (before.authority.as_str(), before.renewals + 1));
    let new = async || Some(stage.client.secrets().await.ok()?.chain).filter(|chain| *chain != copied);
    let new = eventually("the new certificate in Envoy", SOON, new).await?;
    let listed = async || Some(stage.server.secrets().await.ok()?).filter(|secrets| !secrets.lists.is_empty());
    let judged = eventually("the lists in Envoy", SOON, listed).await?;
    ensure(openssl_accepts(&new, &judged.roots, &judged.lists)?, || "OpenSSL refuses the new leaf".to_owned())?;
    ensure(!openssl_accepts(&copied, &judged.roots, &judged.lists)?, || "OpenSSL takes the revoked leaf".to_owned())?;
    let admitted = async || traffic::once(stage.entrance()).await.ok().map(drop);
    eventually("the caller to be admitted", SOON, admitted).await?;
    for _ in 0..5 {
        traffic::once(stage.entrance()).await.map_err(Failure::unexpected)?;
    }
    // One order, which a cleared certificate gives no more; nobody renews for it, nor again.
    let others = stage.server_agent.identity().await?;
    let mut orders = BundleStream::with_token(&stage.dev, &stage.dev.token("other")?).await.map_err(opening)?;
    let update = orders.next().await?;
    orders.acknowledge(&update).await?;
    assert_eq!(update.renew.len(), 1, "{:?}", update.renew);
    assert_eq!(update.renew[0]["serials"], serde_json::json!([before.serial]));
    operator.revoke_certificate(&others.serial, "superseded")?;
    operator.clear_certificate(&before.serial)?;
    let renewed = async || stage.server_agent.identity().await.ok().filter(|now| now.serial != others.serial);
    eventually("another certificate of the other agent", SOON, renewed).await?;
    assert_eq!(stage.client_agent.identity().await?.serial, now.serial, "it renews for what was cleared");
    operator.clear_certificate(&others.serial)?;
    let mut left = BundleStream::with_token(&stage.dev, &stage.dev.token("other")?).await.map_err(opening)?;
    let left = left.next().await?.renew;
    ensure(left.is_empty(), || format!("an order for what was cleared: {left:?}"))
}

fn opening(status: tonic::Status) -> Failure {
    Failure::while_doing("open a bundle stream")(status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_issuing_ca_takes_its_leaves_with_it_after_everybody_has_left_it() -> Outcome {
    let (other, _agent, stage) = stage().await?;
    let (admin, operator) = (stage.ca.admin()?, stage.ca.operator());
    settled(&admin, 3).await?;
    let traffic = Traffic::start(stage.entrance(), 1, Duration::from_millis(20));
    let (chain, key) = streaming_holder(&stage.dev, "other").await?;
    let issuing = keys::facts(&chain)?.authority_key_id.map(|id| keys::hex(&id)).unwrap_or_default();
    operator.done(&["authority", "rotate", "--issuing"])?;
    let other_signs = |rotation: &signet_proto::admin::v1alpha1::Rotation| {
        active_issuers(rotation).all(|one| one.key_id != issuing).then_some(())
    };
    until(&admin, "another issuing CA", SOON, other_signs).await?;
    // Everybody has a certificate of it still, so that it takes force.
    let told = operator.refused(&["authority", "revoke", &issuing, "--reason", "test"])?;
    ensure(told.contains("force") || told.contains("holder"), || told.clone())?;
    for agent in [&stage.client_agent, &stage.server_agent] {
        ensure(agent.identity().await?.authority == issuing, || "an agent has renewed by itself".to_owned())?;
    }
    let forced = ["authority", "revoke", &issuing, "--force", "--reason", "its key was copied"];
    operator.done(&forced)?;
    let moved = async || {
        let (client, server) = (stage.client_agent.identity().await.ok()?, stage.server_agent.identity().await.ok()?);
        (client.authority != issuing && server.authority != issuing).then_some(())
    };
    eventually("both agents to renew", SOON, moved).await?;
    let listed = async || Some(stage.server.secrets().await.ok()?).filter(|secrets| !secrets.lists.is_empty());
    let judged = eventually("the lists in Envoy", SOON, listed).await?;
    ensure(!openssl_accepts(&chain, &judged.roots, &judged.lists)?, || "OpenSSL takes a leaf of it".to_owned())?;
    let refused = async || BundleStream::with_certificate(&stage.dev, &chain, &key).await.is_err().then_some(());
    eventually("the CA itself to refuse a certificate of it", SOON, refused).await?;
    for entrance in [stage.entrance(), other.listen] {
        let admitted = async || traffic::once(entrance).await.ok().map(drop);
        eventually("renewed callers to be admitted", SOON, admitted).await?;
    }
    // Requests may have failed while certificates of a revoked CA were in use; that is what force means.
    let end = traffic.stop().await;
    ensure(end.succeeded > 0, || "no request was answered".to_owned())
}

#[tokio::test]
async fn what_cannot_be_revoked_is_refused_with_the_reason() -> Outcome {
    let dev = installation("1h", &THREE)?;
    let ca = dev.start_ca().await?;
    let operator = ca.operator();
    let (chain, _key) = streaming_holder(&dev, "client").await?;
    let serial = keys::serial(&keys::facts(&chain)?);
    let unknown = "12".repeat(16);
    operator.refused(&["certificate", "revoke", "--serial", &unknown, "--reason", "superseded"])?;
    // Nothing is there to clear, so nothing happens.
    let before = now_at(&ca.admin()?).await?.bundle_sequence;
    operator.clear_certificate(&serial)?;
    assert_eq!(now_at(&ca.admin()?).await?.bundle_sequence, before);
    operator.revoke_certificate(&serial, "superseded")?;
    // A second time is no mistake, and no second entry.
    let again = operator.run(&["certificate", "revoke", "--serial", &serial, "--reason", "superseded"])?;
    let revoked = now_at(&ca.admin()?).await?.revoked_certificates;
    ensure(revoked == 1, || format!("{revoked} entries after {again:?}"))
}
