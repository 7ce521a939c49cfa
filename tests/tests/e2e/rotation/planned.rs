//! Planned rotation: everybody moves to the new root while requests go on; each step can be taken back.

use std::time::Duration;

use signet_proto::admin::v1alpha1::Rotation;
use signet_tests::client::admin::{active_issuers, active_root, root_ids};
use signet_tests::client::keys;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::{ROTATION, keys as config};
use signet_tests::stage::Stage;
use signet_tests::traffic::Traffic;

use super::{SOON, active, calm, installation, now_at, prepared, retired_once, settled, steps, until};

const TWO: [&str; 2] = ["client=default/client", "server=default/server"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_moves_everybody_to_a_new_key_and_no_request_fails() -> Outcome {
    let dev = installation("20s", &TWO)?;
    // Long enough to look at the prepared root.
    dev.set_ca(config::PROPAGATION, "5s")?;
    let stage = Stage::set(dev, 2, |_| {}).await?;
    let admin = stage.ca.admin()?;
    let old = settled(&admin, 2).await?;
    let before = now_at(&admin).await?;
    let traffic = Traffic::start(stage.entrance(), 2, Duration::from_millis(20));
    stage.ca.operator().rotate()?;
    let new = prepared(&admin).await?;
    let while_prepared = now_at(&admin).await?;
    assert_eq!(while_prepared.bundle_sequence, before.bundle_sequence + 1, "the bundle has changed once");
    assert_eq!(active_root(&while_prepared), old, "a prepared root signs nothing");
    let signs = |rotation: &Rotation| (active_root(rotation) == new).then(|| rotation.clone());
    let after = until(&admin, "the new root to sign", ROTATION, signs).await?;
    assert_eq!(after.bundle_sequence, before.bundle_sequence + 1, "activation does not change the bundle");
    ensure(root_ids(&after).contains(&old), || "the old root is gone while leaves need it".to_owned())?;
    assert_eq!(settled(&admin, 2).await?, new);
    let end = now_at(&admin).await?;
    assert_eq!(end.bundle_sequence, before.bundle_sequence + 2, "retirement has changed it once more");
    let follows = async || {
        let bundle = stage.dev.text("root-cert.pem").ok()?;
        (keys::ids(&bundle).ok()? == [new.as_str()]).then_some(bundle)
    };
    let bundle = eventually("the bundle file to follow", SOON, follows).await?;
    for envoy in [&stage.client, &stage.server] {
        let loaded = async || (keys::ids(&envoy.secrets().await.ok()?.roots).ok()? == [new.as_str()]).then_some(());
        eventually("the bundle in Envoy", SOON, loaded).await?;
        envoy.secrets().await?.chains_to(&[("the new root", &bundle)])?;
    }
    calm(&traffic.stop().await)?;
    // Each step is on record.
    retired_once(&stage.ca, &old).await?;
    let record = steps(&stage.ca)?;
    let about: Vec<&String> = record.iter().filter(|text| text.contains(&new[..8])).collect();
    ensure(about.len() >= 2, || format!("the steps of {new} are not on record: {record:#?}"))
}

#[tokio::test]
async fn every_step_before_retirement_can_be_taken_back() -> Outcome {
    let dev = installation("1h", &TWO)?;
    let ca = dev.start_ca().await?;
    let _agents = (dev.start_agent("client").await?, dev.start_agent("server").await?);
    let (admin, operator) = (ca.admin()?, ca.operator());
    let first = settled(&admin, 2).await?;
    let refused = operator.refused(&["authority", "rollback"])?;
    ensure(!refused.is_empty(), || "a rollback without a step is refused without a word".to_owned())?;
    // While it is prepared.
    operator.prepare()?;
    let second = prepared(&admin).await?;
    operator.rollback()?;
    assert_eq!(settled(&admin, 2).await?, first);
    let generations: Vec<u64> = now_at(&admin).await?.authorities.iter().map(|one| one.generation).collect();
    // After it was activated: the one before signs again, and both stay known.
    operator.prepare()?;
    let third = prepared(&admin).await?;
    ensure(third != second, || "a key that was rolled back is used again".to_owned())?;
    until(&admin, "coverage", SOON, |rotation| {
        rotation.coverage.as_ref().is_some_and(|coverage| coverage.covered == coverage.holders).then_some(())
    })
    .await?;
    // Refused until the propagation time is over, then done.
    let done = async || operator.run(&["authority", "activate", &third]).ok()?.ok();
    eventually("activation", SOON, done).await?;
    active(&admin, &third).await?;
    operator.rollback()?;
    active(&admin, &first).await?;
    let state = now_at(&admin).await?;
    ensure(root_ids(&state).contains(&third), || "leaves of the root that was taken back are cut off".to_owned())?;
    let newest = state.authorities.iter().find(|one| one.id == third).map(|one| one.generation);
    ensure(newest.is_some_and(|newest| generations.iter().all(|&other| other < newest)), || {
        format!("generations are used again: {newest:?} after {generations:?}")
    })
}

#[tokio::test]
async fn commands_at_the_wrong_moment_are_refused_and_change_nothing() -> Outcome {
    let dev = installation("1h", &TWO)?;
    // Long enough that activation is always too early here.
    dev.set_ca(config::PROPAGATION, "1h")?;
    let ca = dev.start_ca().await?;
    let _agent = dev.start_agent("client").await?;
    let (admin, operator) = (ca.admin()?, ca.operator());
    let first = settled(&admin, 1).await?;
    operator.prepare()?;
    let second = prepared(&admin).await?;
    let before = now_at(&admin).await?;
    let unknown = "0123456789abcdef0123456789abcdef01234567";
    for args in [
        &["authority", "activate", unknown][..],
        &["authority", "activate", &second],
        &["authority", "taint", unknown, "--reason", "test"],
        &["authority", "revoke", unknown, "--reason", "test"],
        &["authority", "revoke", &first, "--reason", "test"],
        &["authority", "revoke", &second, "--reason", "test"],
        &["certificate", "revoke", "--serial", &"0".repeat(32), "--reason", "superseded"],
    ] {
        let told = operator.refused(args)?;
        ensure(told.len() > 20, || format!("{args:?}: {told:?} does not say why"))?;
        let after = now_at(&admin).await?;
        ensure(
            (after.bundle_sequence, root_ids(&after), active_root(&after))
                == (before.bundle_sequence, root_ids(&before), active_root(&before)),
            || format!("{args:?} was refused and changed something: {after:?}"),
        )?;
    }
    // Doing again what is done does nothing: the root signs, and the next one is prepared.
    operator.done(&["authority", "activate", &first])?;
    operator.prepare()?;
    let again = now_at(&admin).await?;
    assert_eq!((again.bundle_sequence, root_ids(&again)), (before.bundle_sequence, root_ids(&before)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_schedule_a_root_is_replaced_in_time_without_anybody_asking() -> Outcome {
    let dev = installation("20s", &TWO)?;
    dev.set_ca(config::AUTOMATIC, true)?;
    dev.set_ca(config::ROOT_TTL, "2m")?;
    dev.set_ca(config::ISSUING_TTL, "1m")?;
    dev.set_ca(config::SERVING_TTL, "30s")?;
    dev.set_ca(config::PREPARE_AT, 10)?;
    dev.set_ca(config::ACTIVATE_AT, 20)?;
    let stage = Stage::set(dev, 2, |_| {}).await?;
    let admin = stage.ca.admin()?;
    let first =
        until(&admin, "a root", SOON, |rotation| Some(active_root(rotation)).filter(|id| !id.is_empty())).await?;
    let traffic = Traffic::start(stage.entrance(), 1, Duration::from_millis(20));
    until(&admin, "another root alone", ROTATION, |rotation| {
        (!root_ids(rotation).contains(&first) && active_root(rotation) != first).then_some(())
    })
    .await?;
    calm(&traffic.stop().await)
}

#[tokio::test]
async fn a_new_issuing_ca_changes_no_bundle() -> Outcome {
    let dev = installation("1h", &TWO)?;
    let ca = dev.start_ca().await?;
    let admin = ca.admin()?;
    let root = settled(&admin, 0).await?;
    let before = now_at(&admin).await?;
    let issuing = |rotation: &Rotation| active_issuers(rotation).map(|one| one.id.clone()).next();
    let first = issuing(&before).ok_or_else(|| Failure::unexpected("there is no issuing CA"))?;
    ca.operator().done(&["authority", "rotate", "--issuing"])?;
    until(&admin, "another issuing CA", SOON, |rotation| issuing(rotation).filter(|id| *id != first)).await?;
    let after = now_at(&admin).await?;
    assert_eq!((after.bundle_sequence, root_ids(&after)), (before.bundle_sequence, vec![root]));
    Ok(())
}
