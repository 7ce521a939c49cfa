//! Two replicas publish one after the other, and one that was asleep puts nothing old back.

use rustix::process::Signal;
use serde_json::Value;
use signet_tests::client::admin::{active_root, is_settled, root_ids};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::ROTATION;
use signet_tests::harness::{Ca, database};

use super::{SOON, Stage, condition, installation, told};

const PLACES: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn a_leader_that_was_asleep_during_a_rotation_puts_no_old_root_back() -> Outcome {
    let dev = installation()?;
    dev.store_in(database::shared()?)?;
    let stage = Stage::on(dev).await?;
    let names = stage.namespaces(PLACES).await?;
    let replica = stage.dev.replica()?;
    let mut first = stage.dev.start_ca().await?;
    let published = format!("in {PLACES} places");
    told(&mut first, "config-map", "ready", &published).await?;
    let mut second = replica.start(&stage.dev).await?;
    told(&mut second, "config-map", "ready", "another replica publishes").await?;
    let admin = second.admin()?;
    let failed = Failure::while_doing::<tonic::Status>;
    let old = active_root(&admin.rotation().await.map_err(failed("ask where rotation stands"))?);

    // It falls asleep in the middle of its work: somebody has just changed what it keeps.
    for name in &names {
        stage.done("DELETE", &Stage::path(name), Value::Null).await?;
    }
    first.process.signal(Signal::STOP);
    told(&mut second, "config-map", "ready", &published).await?;
    second.operator().rotate()?;
    let settled = async || {
        let rotation = admin.rotation().await.ok()?;
        (is_settled(&rotation) && active_root(&rotation) != old && root_ids(&rotation).len() == 1).then_some(rotation)
    };
    let new = active_root(&eventually("the rotation to end", ROTATION, settled).await?);
    stage.all_have(PLACES, &[&new]).await?;
    let before = versions(&stage, &names).await?;
    first.process.signal(Signal::CONT);
    // When it says whose turn it is, whatever it had begun has ended.
    awake(&mut first).await?;
    stage.all_have(PLACES, &[&new]).await?;
    let after = versions(&stage, &names).await?;
    ensure(before == after, || format!("it has written: {before:?}, then {after:?}"))?;

    // And takes over when the other one is gone.
    second.process.stop().await?;
    told(&mut first, "config-map", "ready", &published).await?;
    stage.done("DELETE", &Stage::path(&names[0]), Value::Null).await?;
    stage.all_have(PLACES, &[&new]).await
}

async fn awake(ca: &mut Ca) -> Outcome {
    let says = async || {
        let (_, detail) = condition(ca, "config-map").await.ok()?;
        (detail == "another replica publishes").then_some(())
    };
    eventually("the former leader to know", SOON, says).await
}

async fn versions(stage: &Stage, names: &[String]) -> Outcome<Vec<String>> {
    let mut all = Vec::new();
    for name in names {
        all.push(stage.map(name).await?["metadata"]["resourceVersion"].to_string());
    }
    Ok(all)
}
