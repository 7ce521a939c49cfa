//! A rotation that would wait for pods that are gone.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::Ordering;
use std::time::Duration;

use signet_core::clock::Clock;
use signet_core::holder::{Acknowledgement, Acknowledger};
use signet_core::rotation::{Command, Phase};
use signet_core::seams::store::HolderStore;
use signet_core::secret::Secret;

use crate::issuance::Application;
use crate::operations::Operator;
use crate::world_tests::{World, application};

fn in_pod(uid: &str) -> Application {
    let token = Some(Secret::new(format!("web:{uid}").into_bytes()));
    Application { token, acknowledges: true, ..application() }
}

/// The phase, and how many holders are live, covered and gone.
async fn seen(world: &World) -> (Phase, u64, u64, u64) {
    world.rotator.turn().await.unwrap();
    let view = world.operations.view().await.unwrap();
    let covered = view.coverage.covered(view.awaited_sequence);
    (view.phase, view.coverage.live(), covered, view.coverage.gone)
}

#[tokio::test]
async fn nobody_waits_for_a_holder_whose_pod_is_gone_unless_it_gives_a_sign_of_life() {
    let world = World::new().await;
    for uid in ["stays", "left"] {
        world.receive(&in_pod(uid)).await.unwrap();
    }
    let (_, view) = world.operations.command(&Operator::of_this_process(), Command::Rotate, "").await.unwrap();
    let bundle = view.awaited_sequence;
    let acknowledged = |instance: &str| {
        let holder = view.laggards.iter().find(|one| one.key.instance == instance).unwrap();
        let from = Acknowledger::Holder(holder.key.clone());
        Acknowledgement { from, sequence: bundle, refused: None, at: world.clock.now() }
    };
    world.store.acknowledge(&[acknowledged("stays")]).await.unwrap();
    world.gone_pods.0.lock().unwrap().push("left".to_owned());
    // It may be so young that the cluster has not told of it.
    world.clock.advance(Duration::from_secs(119));
    assert_eq!(seen(&world).await, (Phase::Propagate, 2, 1, 0));
    world.clock.advance(Duration::from_secs(2));
    assert_eq!(seen(&world).await.3, 1);
    let (phase, live, covered, gone) = seen(&world).await;
    assert_eq!((phase, live, covered, gone), (Phase::Drain, 1, 1, 1), "its certificate is waited for all the same");
    assert!(world.operations.view().await.unwrap().laggards.is_empty());

    world.clock.advance(Duration::from_secs(1));
    world.store.acknowledge(&[acknowledged("left")]).await.unwrap();
    assert_eq!(seen(&world).await, (Phase::Drain, 2, 2, 0));
}

#[tokio::test]
async fn a_holder_without_a_pod_is_waited_for_whatever_its_instance_is_called() {
    let world = World::new().await;
    let named = Application { instance: Some("left".into()), acknowledges: true, ..application() };
    world.receive(&named).await.unwrap();
    world.gone_pods.0.lock().unwrap().push("left".to_owned());
    world.operations.command(&Operator::of_this_process(), Command::Rotate, "").await.unwrap();
    world.clock.advance(Duration::from_secs(600));
    assert_eq!(seen(&world).await, (Phase::Propagate, 1, 0, 0));
}

#[tokio::test]
async fn by_a_clock_that_has_jumped_nobody_has_been_silent_for_long() {
    let world = World::new().await;
    world.receive(&in_pod("young")).await.unwrap();
    world.operations.command(&Operator::of_this_process(), Command::Rotate, "").await.unwrap();
    world.rotator.turn().await.unwrap();
    world.gone_pods.0.lock().unwrap().push("young".to_owned());
    world.jumps.store(600, Ordering::SeqCst);
    world.clock.advance(Duration::from_secs(600));
    assert_eq!(seen(&world).await, (Phase::Propagate, 1, 0, 0));
}
