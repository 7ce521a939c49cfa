//! The serving certificate where roots are an operator's: it stays under the earlier one although no file has it any more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use signet_core::authority::AuthorityId;
use signet_core::rotation::{Command, SETTLE};

use super::test_own_ca::{Directory, OwnCa};
use crate::operations::Operator;
use crate::signing_state;
use crate::world_tests::{DAY, World, application};

/// The roots of the serving certificate and of workloads' certificates.
fn under(world: &World) -> (AuthorityId, AuthorityId) {
    let state = signing_state::current(&world.state).unwrap();
    (state.serving.is.0.clone(), state.authorities.active().unwrap().id.clone())
}

async fn activate(world: &World, root: &OwnCa) {
    world.rotator.turn().await.unwrap();
    let operator = Operator { name: "uid 0".to_owned(), peer: None };
    let force = Command::Activate { id: root.id(), force: true };
    world.operations.command(&operator, force, "a test").await.unwrap();
    world.rotator.turn().await.unwrap();
}

#[tokio::test]
async fn after_a_change_of_the_backend_or_of_its_files_it_stays_under_the_root_of_before_until_that_has_drained() {
    let native = World::new().await;
    let (_, ours) = under(&native);
    native.issuance.issue(&application()).await.unwrap();
    let (first, second) = (OwnCa::root("first"), OwnCa::root("second"));
    let set = first.below("first signer").set(&native, &first, vec![]).await;
    let directory = Directory::with(&set);
    let world = native.another_on(directory.clone());
    activate(&world, &first).await;
    assert_eq!(under(&world), (ours, first.id()));
    let drain = async |world: &World, to: &OwnCa| {
        for by in [DAY, SETTLE] {
            world.clock.advance(by);
            world.rotator.turn().await.unwrap();
            assert_eq!(under(world), (to.id(), to.id()), "left, then dropped");
        }
        assert_eq!(signing_state::current(&world.state).unwrap().bundle().roots().len(), 1);
    };
    drain(&world, &first).await;
    // Other files, and the key of the earlier ones is in storage only.
    world.issuance.issue(&application()).await.unwrap();
    let set = second.below("second signer").set(&native, &second, vec![]).await;
    directory.put(&set);
    activate(&world, &second).await;
    assert_eq!(under(&world), (first.id(), second.id()));
    let restarted = native.another_on(Directory::with(&set));
    restarted.rotator.turn().await.unwrap();
    assert_eq!(under(&restarted), (first.id(), second.id()), "also after a restart");
    drain(&restarted, &second).await;
}
