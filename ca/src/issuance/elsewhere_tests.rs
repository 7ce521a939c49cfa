//! A backend that signs leaves itself: what is asked of it is on record before, what came of it afterwards, and what comes too
//! late goes to nobody.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use signet_core::audit::StoredEvent;
use signet_core::certificate::Facts;
use signet_core::rotation::Command;

use self::backend::{Backend, Does, TheirCa};
use super::*;
use crate::operations::Operator;
use crate::world_tests::{AT_ONCE, DAY, NOW, World, application};

async fn world(backend: &Arc<Backend>) -> World {
    let world = World::empty().another_on(Arc::clone(backend) as _);
    world.make_authority().await;
    world.rotator.turn().await.unwrap();
    world
}

/// The events about the request `r1`, oldest first.
async fn of_request(world: &World) -> Vec<StoredEvent> {
    let mut events = world.events().await;
    events.retain(|stored| stored.event.request_id == "r1");
    events.reverse();
    events
}

/// The same once there are so many.
async fn events(world: &World, count: usize) -> Vec<AuditEvent> {
    for _ in 0..10_000 {
        let events = of_request(world).await;
        if events.len() >= count {
            assert_eq!(events.len(), count, "{events:?}");
            return events.into_iter().map(|stored| stored.event).collect();
        }
        tokio::task::yield_now().await;
    }
    panic!("not {count} events: {:?}", of_request(world).await);
}

fn told(event: &AuditEvent) -> (Outcome, Option<&str>, usize) {
    (event.outcome, event.reason.as_deref(), event.what.as_ref().map_or(0, |what| what.serial.len()))
}

#[tokio::test]
async fn what_is_asked_is_on_record_before_and_what_came_back_afterwards_as_it_is() {
    let backend = Backend::new();
    let world = world(&backend).await;
    backend.does(Does::SignsWhenTold);
    let application = application();
    let before = async {
        backend.asked.notified().await;
        let events = events(&world, 1).await;
        assert_eq!(told(&events[0]), (Outcome::Intended, None, 0));
        assert!(events[0].what.as_ref().is_some_and(|what| !what.key_hash.is_empty() && !what.authority.is_empty()));
        backend.go_on.notify_one();
    };
    let (issued, ()) = tokio::join!(world.receive(&application), before);
    let leaf = Facts::read(issued.unwrap().chain.leaf()).unwrap();
    let events = events(&world, 2).await;
    assert_eq!(told(&events[1]), (Outcome::Issued, None, 40));
    let what = events[1].what.as_ref().unwrap();
    assert_eq!((what.serial.clone(), what.not_after), (leaf.serial_text(), leaf.not_after.unix_timestamp()));
    assert_eq!(what.not_before, leaf.not_before.unix_timestamp());
    // It is found by that number, and so is its holder.
    let query =
        signet_core::audit::AuditQuery { serial: what.serial(), ..signet_core::audit::AuditQuery::newest(5).unwrap() };
    let found = signet_core::seams::store::AuditStore::query(&*world.store, &query).await.unwrap();
    assert_eq!(found.items.len(), 1);
    assert_eq!(world.metrics.totals(), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_after_the_request_was_given_up_is_on_record_and_goes_to_nobody() {
    let backend = Backend::new();
    let world = world(&backend).await;
    backend.does(Does::SignsWhenTold);
    let error = world.issuance.issue(&application()).await.unwrap_err().0;
    assert_eq!(error.label(), "timed_out");
    let given_up = events(&world, 2).await;
    assert_eq!(told(&given_up[0]), (Outcome::Intended, None, 0));
    assert_eq!(told(&given_up[1]), (Outcome::Failed, Some("timed_out"), 0));
    backend.go_on.notify_one();
    let all = events(&world, 3).await;
    assert_eq!(told(&all[2]), (Outcome::Failed, Some("late_answer"), 40));
    // Nobody holds it.
    assert!(all.iter().all(|event| event.holder().is_none() && event.released().is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_slow_backend_takes_no_more_than_its_places_also_when_all_have_given_up() {
    let backend = Backend::new();
    let world = world(&backend).await;
    backend.does(Does::SignsWhenTold);
    let application = application();
    let all = std::iter::repeat_with(|| world.issuance.issue(&application)).take(AT_ONCE + 3);
    let errors = futures::future::join_all(all).await;
    assert!(errors.iter().all(|result| result.as_ref().is_err_and(|(error, _)| error.label() == "timed_out")));
    let intended = async || {
        let events = of_request(&world).await;
        events.iter().filter(|stored| stored.event.outcome == Outcome::Intended).count()
    };
    assert_eq!(intended().await, AT_ONCE);
    // The places are still taken.
    assert_eq!(world.issuance.issue(&application).await.unwrap_err().0.label(), "timed_out");
    assert_eq!(intended().await, AT_ONCE);
    backend.does(Does::Signs);
    for _ in 0..AT_ONCE {
        backend.go_on.notify_one();
        tokio::task::yield_now().await;
    }
    assert!(world.issuance.issue(&application).await.is_ok());
}

#[tokio::test]
async fn what_comes_to_nothing_has_its_outcome_and_a_backend_that_is_away_leaves_no_intention() {
    let backend = Backend::new();
    let world = world(&backend).await;
    for (does, label) in [(Does::Fails, "signer_unavailable"), (Does::OtherKey, "issued_differs_from_decided")] {
        let before = of_request(&world).await.len();
        backend.does(does);
        assert_eq!(world.refused().await, (label, Some("r1".to_owned())));
        let events = events(&world, before + 2).await;
        assert_eq!(told(&events[before]), (Outcome::Intended, None, 0));
        assert_eq!(told(&events[before + 1]), (Outcome::Failed, Some(label), 0));
    }
    let before = of_request(&world).await.len();
    backend.does(Does::IsAway);
    assert_eq!(world.issuance.issue(&application()).await.unwrap_err().0.label(), "signer_unavailable");
    let events = events(&world, before + 1).await;
    assert_eq!(told(&events[before]), (Outcome::Failed, Some("signer_unavailable"), 0));
}

/// The fence: the journal as it is when the outcome is recorded decides, not as it was when the backend was asked.
#[tokio::test]
async fn what_the_journal_does_not_let_out_any_more_is_on_record_as_withheld() {
    let (ca, theirs) = (TheirCa::new("theirs"), TheirCa::new("others"));
    let all = vec![Arc::clone(&ca), Arc::clone(&theirs)];
    let (backend, next) = (Backend::with(&ca, all.clone()), Backend::with(&theirs, all));
    let world = world(&backend).await;
    backend.does(Does::SignsWhenTold);
    let other = world.another_on(next);
    let application = application();
    let meanwhile = async {
        backend.asked.notified().await;
        // Another replica moves to another backend, in an emergency.
        let operator = Operator { name: "uid 0".to_owned(), peer: None };
        other.rotator.turn().await.unwrap();
        let (old, id) = (ca.root.id.clone(), theirs.root.id.clone());
        for command in [Command::Activate { id, force: true }, Command::Taint { id: old, force: false }] {
            other.operations.command(&operator, command, "test").await.unwrap();
        }
        backend.does(Does::Signs);
        backend.go_on.notify_one();
        world.rotator.wake_up.notified().await;
        world.rotator.turn().await.unwrap();
    };
    let (issued, ()) = tokio::join!(world.issuance.issue(&application), meanwhile);
    let issued = issued.unwrap();
    assert_eq!(issued.state.authority.limits().authority, theirs.issuing().id);
    let events = events(&world, 4).await;
    assert_eq!(told(&events[0]), (Outcome::Intended, None, 0));
    assert_eq!(told(&events[1]), (Outcome::Failed, Some("authority_changed"), 40));
    assert_eq!(told(&events[2]), (Outcome::Intended, None, 0));
    assert_eq!(told(&events[3]), (Outcome::Issued, None, 40));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_sign_on_trial_is_asked_again_after_a_pause_that_grows() {
    let (ca, theirs) = (TheirCa::new("theirs"), TheirCa::new("others"));
    let all = vec![Arc::clone(&ca), Arc::clone(&theirs)];
    let (backend, next) = (Backend::with(&ca, all.clone()), Backend::with(&theirs, all));
    let world = world(&backend).await;
    let other = world.another_on(Arc::clone(&next) as _);
    next.does(Does::Fails);
    let trials = async || {
        let theirs = theirs.issuing().id;
        let is_theirs = |event: &AuditEvent| event.what.as_ref().is_some_and(|what| what.authority == theirs.as_str());
        let of = |event: &AuditEvent| event.outcome == Outcome::Intended && is_theirs(event);
        world.events().await.iter().filter(|stored| of(&stored.event)).count()
    };
    for (seconds, expected) in [(0, 1), (1, 1), (5, 2), (5, 2), (6, 3)] {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        for _ in 0..3 {
            drop(other.rotator.turn().await);
        }
        assert_eq!(trials().await, expected, "after {seconds} s more");
    }
    // One that is known to be away is not asked at all.
    next.does(Does::IsAway);
    tokio::time::advance(Duration::from_secs(60)).await;
    drop(other.rotator.turn().await);
    assert_eq!(trials().await, 3);
    next.does(Does::Signs);
    drop(other.rotator.turn().await);
    assert!(trials().await > 3);
}

#[path = "test_backend.rs"]
mod backend;
#[path = "former_tests.rs"]
mod former;
#[path = "revoked_elsewhere_tests.rs"]
mod revoked;
