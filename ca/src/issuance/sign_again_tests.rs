//! A replica that lags signs again from the journal as it is, and lets nothing else out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use signet_core::audit::Outcome;
use signet_core::authority::AuthorityId;
use signet_core::rotation::Command;

use super::*;
use crate::operations::Operator;
use crate::world_tests::{World, application};

/// Lets another root sign, through another replica; gives its id.
async fn replace_root(other: &World) -> AuthorityId {
    let operator = Operator { name: "uid 0".to_owned(), peer: None };
    let old = other.rotator.executor.observe().await.unwrap().authorities.active().unwrap().id.clone();
    let command = async |command| other.operations.command(&operator, command, "test").await.unwrap().1.authorities;
    let id = command(Command::Prepare).await.prepared().unwrap().id.clone();
    command(Command::Activate { id: id.clone(), force: true }).await;
    command(Command::Taint { id: old.clone(), force: false }).await;
    let left = command(Command::Revoke { id: old, force: true }).await;
    assert_eq!(left.roots.len(), 1);
    id
}

/// The issuing CAs of all certificates on record, newest first.
async fn recorded(world: &World) -> Vec<String> {
    let events = world.events().await.into_iter().map(|stored| stored.event);
    events.filter_map(|event| event.released().map(|what| what.authority.clone())).collect()
}

#[tokio::test]
async fn what_was_signed_with_authorities_of_before_is_signed_again_within_the_request() {
    let world = World::new().await;
    let new = replace_root(&world.another()).await;
    let reload = async {
        world.rotator.wake_up.notified().await;
        world.rotator.turn().await.unwrap();
    };
    let application = application();
    let (issued, ()) = tokio::join!(world.issuance.issue(&application), reload);
    let issued = issued.unwrap();
    let authorities = world.rotator.executor.observe().await.unwrap().authorities;
    assert_eq!(issued.state.bundle().sequence(), authorities.bundle_sequence);
    let [authority] = recorded(&world).await.try_into().unwrap();
    let root = authorities.roots.iter().find(|root| root.issuing.iter().any(|one| one.id.as_str() == authority));
    assert_eq!(root.unwrap().id, new);
    assert_eq!(world.metrics.totals(), (1, 0, 0));
}

#[tokio::test]
async fn what_has_arrived_already_is_not_waited_for() {
    let world = World::new().await;
    let used = crate::signing_state::current(&world.state).unwrap();
    replace_root(&world.another()).await;
    world.rotator.turn().await.unwrap();
    let newer = world.issuance.newer_than(&used).await.unwrap();
    assert!(!Arc::ptr_eq(&used, &newer));
    assert_eq!(recorded(&world).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_does_not_hear_of_the_change_lets_nothing_out_and_says_why() {
    let world = World::new().await;
    replace_root(&world.another()).await;
    let (error, on_record) = world.issuance.issue(&application()).await.unwrap_err();
    assert_eq!((error.label(), error.outcome()), ("authority_changed", Outcome::Failed));
    let recorded_as = world.recorded(Outcome::Failed, "authority_changed").await.request_id;
    assert_eq!(on_record, Some(recorded_as));
    assert_eq!(recorded(&world).await, [""; 0]);
    // With the change it goes on.
    world.rotator.turn().await.unwrap();
    assert!(world.issuance.issue(&application()).await.is_ok());
}
