//! Tests of the rotator against real authorities in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use super::*;
use crate::state;
use crate::world_tests::{DAY, NOW, World, application};
use signet_core::audit::EventKind;

#[tokio::test]
async fn the_first_turn_makes_a_root_and_an_issuing_ca_and_records_it() {
    let world = World::new().await;
    let state = state::current(&world.state).unwrap();
    assert_eq!((state.bundle.sequence(), state.bundle.roots().len()), (1, 1));
    let steps = world.events().await.into_iter().filter(|stored| stored.event.kind == EventKind::Authority).count();
    assert_eq!(steps, 2, "intended, and done");
    // Nothing is due: a second turn changes nothing.
    world.rotator.turn().await.unwrap();
    assert_eq!(state::current(&world.state).unwrap().authorities, state.authorities);
}

#[tokio::test]
async fn the_issuing_ca_is_renewed_at_half_life_without_touching_the_bundle_or_cutting_leaves() {
    let world = World::new().await;
    let before = state::current(&world.state).unwrap();
    world.clock.set(NOW + 15 * DAY);
    world.rotator.turn().await.unwrap();
    let after = state::current(&world.state).unwrap();
    assert_eq!(after.bundle, before.bundle);
    assert_ne!(after.authority.limits().authority, before.authority.limits().authority);
    let issued = world.issuance.issue(&application()).await.unwrap();
    assert_eq!(issued.bundle, before.bundle);
    let leaf = Facts::read(issued.chain.leaf()).unwrap();
    assert_eq!(leaf.not_after, NOW + 16 * DAY);
    assert_eq!(leaf.authority_key_id.unwrap(), after.authority.limits().authority.key_id());
}

#[tokio::test]
async fn two_replicas_on_one_journal_end_with_the_same_authority() {
    let world = World::new().await;
    let other = World::new().await;
    // The second replica joins the first one's journal and custody.
    let (output, joined) = tokio::sync::watch::channel(None);
    let replica = Rotator {
        journal: Arc::clone(&world.rotator.journal),
        custody: Arc::clone(&world.rotator.custody),
        upstream: Arc::clone(&world.rotator.upstream),
        output,
        ..other.rotator
    };
    replica.turn().await.unwrap();
    let (one, two) = (state::current(&world.state).unwrap(), state::current(&joined).unwrap());
    assert_eq!(one.authorities, two.authorities);
    world.clock.set(NOW + 15 * DAY);
    other.clock.set(NOW + 15 * DAY);
    let (first, second) = tokio::join!(world.rotator.turn(), replica.turn());
    first.unwrap();
    second.unwrap();
    world.rotator.turn().await.unwrap();
    let (one, two) = (state::current(&world.state).unwrap(), state::current(&joined).unwrap());
    assert_eq!(one.authorities, two.authorities);
    assert_eq!(one.authorities.roots[0].issuing.len(), 2);
}

#[tokio::test]
async fn an_issuing_ca_made_while_the_clock_was_ahead_does_not_stop_the_one_before_it() {
    let world = World::new().await;
    let before = state::current(&world.state).unwrap().authority.limits().authority.clone();
    world.clock.set(NOW + 16 * DAY);
    world.rotator.turn().await.unwrap();
    assert_ne!(state::current(&world.state).unwrap().authority.limits().authority, before);
    world.clock.set(NOW);
    world.rotator.turn().await.unwrap();
    assert_eq!(state::current(&world.state).unwrap().authority.limits().authority, before);
    assert!(world.issuance.issue(&application()).await.is_ok());
}
