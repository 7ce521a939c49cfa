//! A compromised root: another one takes over at once, everybody moves in a bounded window, the bad one goes.

use std::time::Duration;

use rustix::process::Signal;
use signet_proto::admin::v1alpha1::AuthorityState;
use signet_tests::client::admin::{active_root, root_ids, roots_in};
use signet_tests::client::bundle_stream::BundleStream;
use signet_tests::client::certify::Client;
use signet_tests::client::keys;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::beside::{Beside, Echo};
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::{ROTATION, keys as config};
use signet_tests::stage::{CLIENT_ID, Stage};
use signet_tests::traffic::Traffic;

use super::{SOON, calm, installation, now_at, settled, streaming_holder, until};

const TWO: [&str; 2] = ["client=default/client", "server=default/server"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_taint_everybody_moves_within_the_window_and_no_request_fails() -> Outcome {
    // Certificates that live so long that nobody would renew by itself.
    let dev = installation("1h", &TWO)?;
    dev.set_ca(config::RENEWAL_WINDOW, "6s")?;
    let stage = Stage::set(dev, 2, |_| {}).await?;
    let (admin, operator) = (stage.ca.admin()?, stage.ca.operator());
    let tainted = settled(&admin, 2).await?;
    let before = (stage.client_agent.identity().await?, stage.server_agent.identity().await?);
    let traffic = Traffic::start(stage.entrance(), 2, Duration::from_millis(20));
    operator.taint(&tainted, "the key was found on a laptop")?;
    let new = until(&admin, "a replacement", SOON, |rotation| {
        Some(active_root(rotation)).filter(|id| !id.is_empty() && *id != tainted)
    })
    .await?;
    let state = now_at(&admin).await?;
    assert_eq!(
        roots_in(&state, AuthorityState::Tainted).iter().map(|one| one.id.as_str()).collect::<Vec<_>>(),
        [tainted.as_str()]
    );
    let moved = async || {
        let now = (stage.client_agent.identity().await.ok()?.serial, stage.server_agent.identity().await.ok()?.serial);
        (now.0 != before.0.serial && now.1 != before.1.serial).then_some(())
    };
    // By themselves they would renew after half an hour.
    eventually("both agents to renew", SOON, moved).await?;
    until(&admin, "no holder under the tainted root", SOON, |rotation| {
        rotation.authorities.iter().all(|one| one.id != tainted || one.holders == 0).then_some(())
    })
    .await?;
    operator.revoke(&tainted, "the key was found on a laptop").await?;
    until(&admin, "the tainted root to be gone", SOON, |rotation| (root_ids(rotation) == [new.as_str()]).then_some(()))
        .await?;
    let bundle = stage.dev.text("root-cert.pem")?;
    for envoy in [&stage.client, &stage.server] {
        let alone = async || (keys::ids(&envoy.secrets().await.ok()?.roots).ok()? == [new.as_str()]).then_some(());
        eventually("the bundle in Envoy", SOON, alone).await?;
        envoy.secrets().await?.chains_to(&[("the replacement", &bundle)])?;
    }
    // Exactly one renewal each: orders are not repeated.
    for (agent, before) in [(&stage.client_agent, &before.0), (&stage.server_agent, &before.1)] {
        let identity = agent.identity().await?;
        ensure(identity.renewals == before.renewals + 1, || {
            format!("{} has renewed more than once\n{}", identity.spiffe_id, agent.process.log())
        })?;
    }
    calm(&traffic.stop().await)
}

#[tokio::test]
async fn the_order_to_renew_names_the_authority_and_the_window() -> Outcome {
    let dev = installation("1h", &TWO)?;
    dev.set_ca(config::RENEWAL_WINDOW, "90s")?;
    let ca = dev.start_ca().await?;
    let admin = ca.admin()?;
    let (chain, key) = streaming_holder(&dev, "server").await?;
    let issuing = keys::facts(&chain)?.authority_key_id.map(|id| keys::hex(&id)).unwrap_or_default();
    let opened = BundleStream::with_certificate(&dev, &chain, &key).await;
    let mut stream = opened.map_err(Failure::while_doing("open a bundle stream"))?;
    let first = stream.next().await?;
    ensure(first.renew.is_empty(), || format!("an order without a reason: {:?}", first.renew))?;
    stream.acknowledge(&first).await?;
    let root = settled(&admin, 1).await?;
    let before = signet_tests::client::token::now();
    ca.operator().taint(&root, "test")?;
    let order = loop {
        let update = stream.next().await?;
        stream.acknowledge(&update).await?;
        if let Some(order) = update.renew.first() {
            break order.clone();
        }
    };
    let authorities = order["authorities"].as_array().cloned().unwrap_or_default();
    ensure(authorities.iter().any(|id| *id == issuing.as_str()), || format!("{issuing} is not in {order}"))?;
    assert_eq!(order["window"], 90);
    let since = order["since"].as_i64().unwrap_or_default();
    ensure((before - 1..=before + 60).contains(&since), || format!("the window opens at {since}, it is {before}"))
}

#[tokio::test]
async fn wrong_taints_and_revocations_are_refused() -> Outcome {
    let dev = installation("1h", &TWO)?;
    let ca = dev.start_ca().await?;
    let (admin, operator) = (ca.admin()?, ca.operator());
    Client::connect(&dev).await?.certificate(&dev, "client").await?;
    let root = settled(&admin, 1).await?;
    operator.refused(&["authority", "revoke", &root, "--reason", "not tainted"])?;
    operator.taint(&root, "test")?;
    // The one holder learns by replies only: as long as it has not asked again, nothing can sign in its place.
    let again = operator.taint(&root, "again")?;
    ensure(again["done"].as_str().is_some_and(|text| text.contains("already")), || again.to_string())?;
    operator.refused(&["authority", "revoke", &root, "--reason", "it still signs"])?;
    // A reply brings the replacement once that is made and published, which the taint does not wait for.
    let client = Client::connect(&dev).await?;
    let told = async || {
        let reply = client.certificate(&dev, "client").await.ok()?;
        (keys::ids(reply.last()?).ok()?.len() == 2).then_some(())
    };
    eventually("a reply with the replacement", SOON, told).await?;
    until(&admin, "a replacement", ROTATION, |rotation| (active_root(rotation) != root).then_some(())).await?;
    // Its certificate chains to the tainted root still.
    let told = operator.refused(&["authority", "revoke", &root, "--reason", "test"])?;
    ensure(told.contains("client"), || format!("who would be cut off is not named: {told}"))?;
    assert!(root_ids(&now_at(&admin).await?).contains(&root));
    let forced = operator.run(&["authority", "revoke", &root, "--force"])?;
    ensure(forced.is_err(), || "forced without a reason".to_owned())?;
    let done = operator.done(&["authority", "revoke", &root, "--force", "--reason", "cut it off"])?;
    ensure(done["done"].as_str().is_some_and(|text| text.contains("1 holder is refused")), || done.to_string())?;
    let gone = |rotation: &signet_proto::admin::v1alpha1::Rotation| (!root_ids(rotation).contains(&root)).then_some(());
    until(&admin, "the tainted root to be gone", SOON, gone).await?;
    // Who is cut off can be asked for, though the journal knows nothing of that root any more.
    let cut_off = operator.done(&["holders", "list", "--cut-off"])?;
    let holders = cut_off["holders"].as_array().cloned().unwrap_or_default();
    ensure(holders.len() == 1 && holders[0]["spiffe_id"] == CLIENT_ID, || cut_off.to_string())?;
    let issuing = holders[0]["authority"].as_str().unwrap_or_default();
    let of_issuing = operator.done(&["holders", "list", "--authority", issuing])?;
    assert_eq!(of_issuing["holders"], cut_off["holders"]);
    let told = operator.refused(&["holders", "list", "--authority", &root])?;
    ensure(told.contains("--cut-off"), || told.clone())?;
    Client::connect(&dev).await?.certificate(&dev, "client").await?;
    let healed = operator.done(&["holders", "list"])?;
    ensure(healed["holders"].as_array().is_some_and(|all| all.iter().any(|one| one["authority"] != issuing)), || {
        healed.to_string()
    })
}

/// An operator watches, is interrupted, and watches again.
#[tokio::test]
async fn a_taint_that_is_watched_may_be_left_and_watched_again() -> Outcome {
    let dev = installation("1h", &["client=default/client"])?;
    let ca = dev.start_ca().await?;
    let _agent = dev.start_agent("client").await?;
    let admin = ca.admin()?;
    let root = settled(&admin, 1).await?;
    let watch = |id: &str| Beside::start(ca.command(&["authority", "taint", id, "--wait"], &[])?, Echo::Kept);
    let mut first = watch(&root)?;
    let shown = async || first.printed().iter().any(|line| line.contains("emergency")).then_some(());
    eventually("a line of progress", SOON, shown).await?;
    first.signal(Signal::INT);
    let status = first.wait(SOON).await?;
    let hint = format!("authority taint {} --wait", &root[..8]);
    ensure(!status.success() && first.complained().join(" ").contains(&hint), || format!("{:?}", first.complained()))?;
    let mut again = watch(&root)?;
    let status = again.wait(ROTATION).await?;
    ensure(status.success(), || format!("{status}: {:?} {:?}", again.printed(), again.complained()))?;
    let state = now_at(&admin).await?;
    let tainted = roots_in(&state, AuthorityState::Tainted);
    ensure(tainted.len() == 1 && tainted[0].holders == 0, || format!("it was not watched to the end: {tainted:?}"))?;
    // The same for an issuing CA, which has to be replaced first.
    let issuing = super::holder(&admin, CLIENT_ID).await?.authority;
    ca.operator().done(&["authority", "rotate", "--issuing"])?;
    for _ in 0..2 {
        let mut watched = watch(&issuing)?;
        let status = watched.wait(ROTATION).await?;
        ensure(status.success(), || format!("{status}: {:?} {:?}", watched.printed(), watched.complained()))?;
        assert_ne!(super::holder(&admin, CLIENT_ID).await?.authority, issuing);
    }
    Ok(())
}

#[tokio::test]
async fn a_taint_while_another_root_is_prepared_uses_that_one() -> Outcome {
    let dev = installation("1h", &TWO)?;
    let ca = dev.start_ca().await?;
    let _agent = dev.start_agent("client").await?;
    let (admin, operator) = (ca.admin()?, ca.operator());
    let root = settled(&admin, 1).await?;
    operator.prepare()?;
    let next = super::prepared(&admin).await?;
    operator.taint(&root, "test")?;
    super::active(&admin, &next).await?;
    let roots = root_ids(&now_at(&admin).await?);
    ensure(roots.len() == 2, || format!("{roots:?}"))
}

/// Whoever is cut off by force is told to renew at once, though nothing in the bundle says why any more; and an issuing CA
/// goes in the same way, without a change of the root.
#[tokio::test]
async fn holders_of_what_was_revoked_by_force_renew_at_once_and_those_of_a_tainted_issuing_ca_are_told() -> Outcome {
    let dev = installation("1h", &["client=default/client"])?;
    // So long that only urgency explains a renewal.
    dev.set_ca(config::RENEWAL_WINDOW, "1h")?;
    let ca = dev.start_ca().await?;
    let agent = dev.start_agent("client").await?;
    let (admin, operator) = (ca.admin()?, ca.operator());
    let first = settled(&admin, 1).await?;
    operator.taint(&first, "test")?;
    until(&admin, "a replacement", SOON, |rotation| (active_root(rotation) != first).then_some(())).await?;
    let before = agent.identity().await?;
    operator.done(&["authority", "revoke", &first, "--force", "--reason", "cannot wait"])?;
    let renewed = async || agent.identity().await.ok().filter(|now| now.authority != before.authority);
    let now = eventually("a certificate under the replacement", SOON, renewed).await?;
    // The issuing CA of the replacement signs, so nothing is said against it before it is replaced.
    let refused = operator.refused(&["authority", "taint", &now.authority])?;
    ensure(refused.contains("rotate --issuing"), || refused.clone())?;
    operator.done(&["authority", "rotate", "--issuing"])?;
    operator.done(&["authority", "taint", &now.authority])?;
    let orders = BundleStream::with_token(&dev, &dev.token("client")?).await;
    let mut orders = orders.map_err(Failure::while_doing("open"))?;
    let update = orders.next().await?;
    let ordered = update.renew.iter().any(|order| order.to_string().contains(&now.authority));
    ensure(ordered, || format!("no order to leave {}: {:?}", now.authority, update.renew))?;
    let again = operator.done(&["authority", "taint", &now.authority])?;
    ensure(again["done"].as_str().is_some_and(|text| text.contains("already")), || again.to_string())?;
    let refused = operator.refused(&["authority", "revoke", &now.authority])?;
    ensure(refused.contains("1 holders still use"), || refused.clone())
}
