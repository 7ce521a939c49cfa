//! A step is one commit: with its record, on what is true at that instant, and with nothing before it but an intention
//! where something is made outside of the journal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use signet_core::audit::{EventKind, Outcome};
use signet_core::certificate::Facts;
use signet_core::revocation::RevocationReason;
use signet_core::rotation::{Authorities, Command};
use signet_core::seams::store::AuthorityJournal;

use super::*;
use crate::operations::Operator;
use crate::world_tests::{DAY, World, application};

fn operator() -> Operator {
    Operator { name: "uid 0".to_owned(), peer: None }
}

async fn command(world: &World, command: Command) -> Authorities {
    world.operations.command(&operator(), command, "test").await.unwrap().1.authorities
}

#[tokio::test]
async fn keys_that_nobody_needs_are_removed_on_record_but_never_while_the_clock_is_in_doubt() {
    let world = World::new().await;
    let removed = async || {
        let events = world.events().await.into_iter().filter_map(|stored| stored.event.detail);
        events.filter(|text| text.contains("unused-900")).count()
    };
    world.operations.executor.doubt();
    world.rotator.forget().await;
    assert_eq!(removed().await, 0);
    world.clock.set(crate::world_tests::NOW + Duration::from_secs(3600));
    world.rotator.turn().await.unwrap();
    world.rotator.forget().await;
    assert_eq!(removed().await, 1);
}

#[tokio::test]
async fn a_step_is_one_commit_and_a_new_key_two_more() {
    let world = World::new().await;
    assert_eq!(
        world.store.writes(),
        1 + 2 + 2 + 1,
        "an intention, two keys, two certificates to try out, and the first root"
    );
    let old = command(&world, Command::Prepare).await.active().unwrap().id.clone();
    assert_eq!(world.store.writes(), 3, "an intention, a key, and the step with its two records");
    let new = command(&world, Command::Rollback).await;
    assert_eq!((world.store.writes(), new.prepared()), (1, None));
    let new = command(&world, Command::Rotate).await.prepared().unwrap().id.clone();
    assert_eq!(world.store.writes(), 3);
    command(&world, Command::Activate { id: new, force: true }).await;
    assert_eq!(world.store.writes(), 3 + 2, "its issuing CA is made now, and tried out");
    command(&world, Command::Taint { id: old.clone(), force: false }).await;
    assert_eq!(world.store.writes(), 1);
    command(&world, Command::Revoke { id: old, force: true }).await;
    assert_eq!(world.store.writes(), 1);
    world.rotator.turn().await.unwrap();
    let issued = world.receive(&application()).await.unwrap();
    let serial = Facts::read(issued.chain.leaf()).unwrap().serial_text();
    world.store.writes();
    let serial = signet_core::certificate::Serial::parse(&format!("{serial:0>32}")).unwrap();
    let revoked =
        world.operations.revoke_certificate(&operator(), serial, RevocationReason::Superseded, false).await.unwrap();
    assert_eq!((world.store.writes(), revoked.revoked), (1, 1));
    // What is so already is only put on record.
    command(&world, Command::Prepare).await;
    world.store.writes();
    command(&world, Command::Prepare).await;
    assert_eq!(world.store.writes(), 1);
    let intended = world.events().await.into_iter().filter(|one| one.event.outcome == Outcome::Intended);
    assert!(
        intended.map(|one| one.event).all(|event| event.kind == EventKind::Authority && event.released().is_none())
    );
}

#[tokio::test]
async fn a_step_is_not_taken_when_a_holder_has_come_since_it_was_decided() {
    let world = World::new().await;
    let prepared = command(&world, Command::Rotate).await.prepared().unwrap().id.clone();
    world.rotator.turn().await.unwrap();
    world.clock.advance(Duration::from_secs(60));
    let executor = &world.rotator.executor;
    let observation = executor.observe().await.unwrap();
    let step = next_step(observation.now, &observation.authorities, &observation.seen(), &executor.rules);
    assert_eq!(step, Step::Activate(prepared.clone()));
    // It has a bundle of its own, nobody knows which.
    let mut agent = application();
    agent.acknowledges = true;
    world.receive(&agent).await.unwrap();
    assert_eq!(executor.take(&observation, &step, Order::default()).await.unwrap(), None);
    assert_eq!(world.store.version().await.unwrap(), observation.version);
    // Whoever is in a hurry says so.
    let forced = Order { forced: true, ..Order::default() };
    assert_eq!(executor.take(&observation, &step, forced).await.unwrap().unwrap().active().unwrap().id, prepared);
}

/// During an upgrade, a replica may meet what a newer one has written.
#[tokio::test]
async fn what_only_newer_programs_may_change_is_served_and_every_command_and_step_says_so() {
    let world = World::new().await;
    let (version, before) = world.store.load().await.unwrap().unwrap();
    let mut newer: serde_json::Value = serde_json::from_str(&before.encode().unwrap()).unwrap();
    (newer["format"], newer["oldest_writer"]) = (9.into(), 8.into());
    let newer = Authorities::decode(&newer.to_string()).unwrap();
    world.store.replace(version, &newer).await.unwrap();
    // Half of the issuing CA's life is over: it would be renewed.
    world.clock.advance(20 * DAY);
    let stored = world.store.load().await.unwrap();
    for replica in [&world, &world.another()] {
        replica.rotator.turn().await.unwrap();
        replica.issuance.issue(&application()).await.unwrap();
        let readiness = signet_runtime::readiness::Readiness::new();
        let condition = readiness.condition("authority");
        replica.rotator.report(&condition, None, &Unsettled::default());
        let text = format!("{:?}", readiness.snapshot());
        assert!(text.contains("egraded") && text.contains("of format 9"), "{text}");
        for command in [Command::Prepare, Command::Rotate, Command::RenewIssuing] {
            let refused = replica.operations.command(&operator(), command, "").await.unwrap_err();
            assert!(refused.to_string().contains("of format 9"), "{refused}");
        }
        // It may name keys where this program does not look.
        let before = world.events().await.len();
        replica.rotator.forget().await;
        assert_eq!(world.events().await.len(), before);
    }
    assert_eq!(world.store.load().await.unwrap(), stored);
}
