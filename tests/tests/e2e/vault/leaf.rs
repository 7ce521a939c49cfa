//! Leaves that a real OpenBao signs, each with a call of its own: as decided, on record before and after, and without it none.

use std::time::Duration;

use serde_json::{Value, json};
use signet_tests::client::admin::active_root;
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::{csr, keys};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Bao, Ca, Dev, probe};
use signet_tests::judge;
use signet_tests::stage::{CLIENT_ID, Stage};
use signet_tests::traffic::Traffic;
use tonic::Code;

use super::super::rotation::{active, calm, now_at, settled, until};
use super::{SOON, about, backed, installation, issued};

/// An installation whose leaves a server beside it signs.
pub(super) async fn signed_there(svid_ttl: &str) -> Outcome<(Bao, Dev)> {
    let (bao, dev) = backed(svid_ttl, 3600).await?;
    bao.signs_leaves(&dev).await?;
    Ok((bao, dev))
}

/// The id of the root of the issuer of this name.
async fn root_of(bao: &Bao, issuer: &str) -> Outcome<String> {
    let found = bao.get(&format!("pki/issuer/{issuer}/json")).await?;
    Ok(keys::ids(found.pointer("/data/certificate").and_then(Value::as_str).unwrap_or_default())?.concat())
}

/// Starts the CA again with its configuration as it is now.
pub(super) async fn restart(stage: &mut Stage) -> Outcome {
    stage.ca.process.stop().await?;
    stage.ca = stage.dev.start_ca().await?;
    Ok(())
}

/// The record as outcome and number of digits of the serial, of the certificates of workloads, newest first.
fn certificates(ca: &Ca) -> Outcome<Vec<(String, usize)>> {
    let events = ca.audit(&[])?.into_iter().filter(|event| event["kind"] == "certificate");
    let told = |event: &Value| {
        let serial = event.pointer("/what/serial").and_then(Value::as_str).unwrap_or_default();
        (event["outcome"].as_str().unwrap_or_default().to_owned(), serial.len())
    };
    Ok(events.map(|event| told(&event)).collect())
}

#[tokio::test]
async fn each_leaf_is_signed_there_as_decided_and_on_record_before_and_after() -> Outcome {
    let (bao, dev) = signed_there("1h").await?;
    let ca = dev.start_ca().await?;
    let made = csr::like_ztunnel(None)?;
    let reply = Client::connect(&dev).await?.issued(&Ask::new(&made.csr, &dev.token("client")?)).await?;
    judge::workload(&reply, &made.csr, CLIENT_ID)?;
    // An istio-agent brings an RSA key.
    let made = csr::like_istio_agent(CLIENT_ID)?;
    let with_rsa = Client::connect(&dev).await?.issued(&Ask::new(&made.csr, &dev.token("client")?)).await?;
    judge::workload(&with_rsa, &made.csr, CLIENT_ID)?;
    let theirs = bao.get("pki/issuer/a/json").await?;
    let root = theirs.pointer("/data/certificate").and_then(Value::as_str).unwrap_or_default().to_owned();
    assert_eq!(keys::ids(&dev.text("root-cert.pem")?)?, keys::ids(&root)?, "the root is the one of the server");
    assert_eq!(reply.len(), 2, "a leaf that the root itself has signed, and the root");
    // The latest first: what came of it, and what was asked for.
    let told = certificates(&ca)?;
    assert_eq!(told.first().map(|(outcome, _)| outcome.as_str()), Some("issued"), "{told:?}");
    ensure(told.first().is_some_and(|(_, digits)| *digits > 32), || format!("no serial of theirs: {told:?}"))?;
    assert_eq!(told.get(1), Some(&("intended".to_owned(), 0)), "{told:?}");
    // The documented role keeps nothing; one that does has them in its storage.
    let kept =
        async || Ok::<_, Failure>(bao.get("pki/certs?list=true").await?["data"]["keys"].as_array().map_or(0, Vec::len));
    let before = kept().await?;
    let role = json!({ "allowed_uri_sans": ["spiffe://cluster.local/ns/*/sa/*"], "key_type": "any", "require_cn": false,
                       "use_csr_sans": false, "no_store": false, "max_ttl": "24h",
                       "key_usage": ["DigitalSignature"] });
    issued(&dev).await?;
    assert_eq!(kept().await?, before);
    bao.put("pki/roles/signet-mesh", role).await?;
    issued(&dev).await?;
    assert_eq!(kept().await?, before + 1);
    // What the role does not allow is refused there, and what it lacks is said.
    bao.put("pki/roles/signet-mesh", json!({ "allowed_uri_sans": ["spiffe://elsewhere/*"], "require_cn": false }))
        .await?;
    ensure(issued(&dev).await.is_err(), || "it was issued".to_owned())?;
    let failed = ca.audit(&["--outcome", "failed"])?;
    let detail = failed.first().and_then(|event| event["detail"].as_str()).unwrap_or_default().to_owned();
    ensure(detail.contains("look at the role \"signet-mesh\""), || detail.clone())
}

#[tokio::test]
async fn without_openbao_nothing_is_issued_that_is_said_and_agents_keep_what_they_have() -> Outcome {
    let (bao, dev) = signed_there("1h").await?;
    let mut ca = dev.start_ca().await?;
    let agent = dev.start_agent("client").await?;
    let before = agent.identity().await?.serial;
    bao.seal().await?;
    let ops = dev.ops;
    let mut ready = async |code: u16, word: &'static str| {
        ca.process
            .until(word, SOON, async || {
                let (status, body) = probe::fetch(ops, "/readyz?output=json").await.ok()?;
                (status == code && about(&body)?.contains(word)).then_some(())
            })
            .await
    };
    ready(503, "nothing can be issued").await?;
    let made = csr::like_ztunnel(None)?;
    let ask = Ask::new(&made.csr, &dev.token("client")?);
    Client::connect(&dev).await?.refused(&ask, Code::Unavailable).await?;
    assert_eq!(agent.identity().await?.serial, before, "the agent serves what it has");
    bao.unseal().await?;
    ready(200, "signs leaves").await?;
    issued(&dev).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_is_rotated_in_openbao_is_followed_while_each_leaf_is_signed_there() -> Outcome {
    let (bao, dev) = signed_there("20s").await?;
    let stage = Stage::set(dev, 2, |_| {}).await?;
    let admin = stage.ca.admin()?;
    let old = settled(&admin, 2).await?;
    let traffic = Traffic::start(stage.entrance(), 2, Duration::from_millis(20));
    bao.root("root/rotate/internal", "b").await?;
    let new = root_of(&bao, "b").await?;
    bao.make_default("b").await?;
    active(&admin, &new).await?;
    assert_eq!(settled(&admin, 2).await?, new);
    ensure(new != old, || "the root has not changed".to_owned())?;
    calm(&traffic.stop().await)?;
    issued(&stage.dev).await?;
    Ok(())
}

/// Each change of the configuration is a rotation, or none at all where the root stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_of_its_own_moves_to_leaves_of_openbao_and_back_and_no_request_fails() -> Outcome {
    let dev = installation("20s")?;
    let mut stage = Stage::set(dev, 2, |_| {}).await?;
    let own = settled(&stage.ca.admin()?, 2).await?;
    let traffic = Traffic::start(stage.entrance(), 2, Duration::from_millis(20));
    let bao = Bao::with_pki(stage.dev.directory(), 3600).await?;
    bao.backs(&stage.dev).await?;
    bao.signs_leaves(&stage.dev).await?;
    restart(&mut stage).await?;
    let theirs = root_of(&bao, "a").await?;
    active(&stage.ca.admin()?, &theirs).await?;
    assert_eq!(settled(&stage.ca.admin()?, 2).await?, theirs);
    ensure(theirs != own, || "it is the same root".to_owned())?;
    issued(&stage.dev).await?;
    // Issuing CAs under the same root: nothing has to be waited for.
    let sequence = now_at(&stage.ca.admin()?).await?.bundle_sequence;
    stage.dev.set_ca("authority.vault", bao.intermediate(&stage.dev).await?)?;
    restart(&mut stage).await?;
    eventually("an issuing CA of ours", SOON, async || issued(&stage.dev).await.ok()).await?;
    assert_eq!(now_at(&stage.ca.admin()?).await?.bundle_sequence, sequence);
    // And from there to a CA of its own.
    stage.dev.set_ca("authority.backend", "native")?;
    stage.dev.unset_ca("authority.vault")?;
    restart(&mut stage).await?;
    // A backend that was in use before waits for an operator's word.
    stage.ca.operator().done(&["authority", "adopt"])?;
    let another = |rotation: &_| (active_root(rotation) != theirs).then_some(());
    until(&stage.ca.admin()?, "a root of its own", 5 * SOON, another).await?;
    issued(&stage.dev).await?;
    calm(&traffic.stop().await)
}
