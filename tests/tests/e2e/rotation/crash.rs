//! Killed in each phase under load, the CA goes on where it was, and no request fails.

use std::time::Duration;

use signet_proto::admin::v1alpha1::AuthorityState;
use signet_tests::client::admin::{active_root, root_ids, roots_in};
use signet_tests::failure::Outcome;
use signet_tests::harness::rotation::{ROTATION, keys as config};
use signet_tests::stage::Stage;
use signet_tests::traffic::Traffic;

use super::{SOON, active, calm, installation, now_at, prepared, settled, until};

/// Kills the CA and starts it again. Certificates live long enough that half a life is more than a start takes.
async fn kill(stage: &mut Stage) -> Outcome {
    stage.ca.process.kill();
    stage.ca = stage.dev.start_ca().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_each_phase_of_a_rotation_it_goes_on_where_it_was() -> Outcome {
    let dev = installation("30s", &["client=default/client", "server=default/server"])?;
    dev.set_ca(config::PROPAGATION, "4s")?;
    let mut stage = Stage::set(dev, 2, |_| {}).await?;
    let admin = stage.ca.admin()?;
    let old = settled(&admin, 2).await?;
    let traffic = Traffic::start(stage.entrance(), 2, Duration::from_millis(20));
    // At the moment of prepare: the command has been answered, or not.
    stage.ca.operator().rotate()?;
    kill(&mut stage).await?;
    let new = prepared(&admin).await?;
    // In propagate.
    let sequence = now_at(&admin).await?.bundle_sequence;
    kill(&mut stage).await?;
    until(&admin, "the same state after the restart", SOON, |rotation| {
        let same = rotation.bundle_sequence == sequence && rotation.authorities.iter().any(|one| one.id == new);
        same.then_some(())
    })
    .await?;
    active(&admin, &new).await?;
    // Right after activate, and in drain.
    kill(&mut stage).await?;
    active(&admin, &new).await?;
    until(&admin, "holders to leave the old root", ROTATION, |rotation| {
        rotation.authorities.iter().find(|one| one.id == old).is_none_or(|one| one.holders == 0).then_some(())
    })
    .await?;
    kill(&mut stage).await?;
    assert_eq!(settled(&admin, 2).await?, new);
    kill(&mut stage).await?;
    assert_eq!(settled(&admin, 2).await?, new);
    calm(&traffic.stop().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_each_phase_of_an_emergency_it_goes_on_where_it_was() -> Outcome {
    let dev = installation("30s", &["client=default/client", "server=default/server"])?;
    let mut stage = Stage::set(dev, 2, |_| {}).await?;
    let admin = stage.ca.admin()?;
    let tainted = settled(&admin, 2).await?;
    let traffic = Traffic::start(stage.entrance(), 2, Duration::from_millis(20));
    stage.ca.operator().taint(&tainted, "test")?;
    kill(&mut stage).await?;
    let new = until(&admin, "a replacement", ROTATION, |rotation| {
        let tainted_still = rotation.authorities.iter().any(|one| one.id == tainted && one.tainted_at.is_some());
        let new = Some(active_root(rotation)).filter(|id| !id.is_empty() && *id != tainted);
        new.filter(|_| tainted_still)
    })
    .await?;
    kill(&mut stage).await?;
    until(&admin, "holders to leave the tainted root", ROTATION, |rotation| {
        rotation.authorities.iter().all(|one| one.id != tainted || one.holders == 0).then_some(())
    })
    .await?;
    stage.ca.operator().revoke(&tainted, "test").await?;
    kill(&mut stage).await?;
    until(&admin, "the tainted root to be gone", SOON, |rotation| (root_ids(rotation) == [new.as_str()]).then_some(()))
        .await?;
    assert_eq!(settled(&admin, 2).await?, new);
    calm(&traffic.stop().await)
}

#[tokio::test]
async fn coverage_is_exact_after_a_restart() -> Outcome {
    let dev = installation("1h", &["client=default/client", "server=default/server"])?;
    dev.set_ca(config::PROPAGATION, "1h")?;
    let mut ca = dev.start_ca().await?;
    let mut agents = [dev.start_agent("client").await?, dev.start_agent("server").await?];
    let admin = ca.admin()?;
    settled(&admin, 2).await?;
    // One of two is away when the bundle changes.
    agents[1].process.kill();
    ca.operator().prepare()?;
    let half = |rotation: &signet_proto::admin::v1alpha1::Rotation| {
        let coverage = rotation.coverage.as_ref()?;
        let one =
            (coverage.covered, coverage.holders) == (1, 2) && roots_in(rotation, AuthorityState::Prepared).len() == 1;
        one.then(|| coverage.laggards.iter().map(|holder| holder.spiffe_id.clone()).collect::<Vec<_>>())
    };
    let before = until(&admin, "one of two", SOON, half).await?;
    ca.process.kill();
    // The one that has it is away too, so that nobody repeats anything.
    agents[0].process.kill();
    let ca = dev.start_ca().await?;
    let after = until(&ca.admin()?, "the same one of two", SOON, half).await?;
    assert_eq!(before, after);
    Ok(())
}
