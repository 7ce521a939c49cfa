//! Tests of the rotator against real authorities in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use super::*;
use crate::operations::{Awaited, Next, OperationError, Operator};
use crate::signing_state;
use crate::world_tests::{DAY, NOW, World, application};
use signet_core::audit::{AuditEvent, EventKind, Outcome};
use signet_core::certificate::{Facts, Serial};
use signet_core::clock::{Clock, rfc3339};
use signet_core::holder::{Acknowledgement, Acknowledger};
use signet_core::revocation::RevocationReason;
use signet_core::rotation::Command;
use signet_core::seams::store::{AuthorityJournal, HolderStore};

#[tokio::test]
async fn the_first_authority_is_a_root_and_an_issuing_ca_and_is_on_record() {
    let world = World::new().await;
    let state = signing_state::current(&world.state).unwrap();
    assert_eq!((state.bundle().sequence(), state.bundle().roots().len()), (1, 1));
    let executor = world.events().await.into_iter().filter(|stored| stored.event.kind == EventKind::Authority).count();
    assert_eq!(executor, 4, "intended, tried out for both kinds of certificates, and done");
    // Nothing is due: a second turn changes nothing.
    world.rotator.turn().await.unwrap();
    assert_eq!(signing_state::current(&world.state).unwrap().authorities, state.authorities);
}

#[tokio::test]
async fn the_issuing_ca_is_renewed_at_half_life_without_touching_the_bundle_or_cutting_leaves() {
    let world = World::new().await;
    let before = signing_state::current(&world.state).unwrap();
    world.clock.set(NOW + 15 * DAY);
    world.rotator.turn().await.unwrap();
    let after = signing_state::current(&world.state).unwrap();
    assert_eq!(after.bundle(), before.bundle());
    assert_ne!(after.authority.limits().authority, before.authority.limits().authority);
    let issued = world.receive(&application()).await.unwrap();
    assert_eq!(issued.state.bundle(), before.bundle());
    let leaf = Facts::read(issued.chain.leaf()).unwrap();
    assert_eq!(leaf.not_after, NOW + 16 * DAY);
    let issuing = after.authorities.active_issuer(world.clock.now()).unwrap();
    assert_eq!(leaf.authority_key_id, Facts::read(&issuing.certificate).unwrap().subject_key_id);
    assert_eq!(issuing.id, after.authority.limits().authority);
}

#[tokio::test]
async fn two_replicas_on_one_journal_end_with_the_same_authority() {
    let world = World::new().await;
    let other = world.another();
    other.rotator.turn().await.unwrap();
    let same = || {
        let (one, two) = (signing_state::current(&world.state).unwrap(), signing_state::current(&other.state).unwrap());
        assert_eq!(one.authorities, two.authorities);
        one.authorities.clone()
    };
    same();
    world.clock.set(NOW + 15 * DAY);
    let (first, second) = tokio::join!(world.rotator.turn(), other.rotator.turn());
    first.unwrap();
    second.unwrap();
    world.rotator.turn().await.unwrap();
    assert_eq!(same().roots[0].issuing.len(), 2);
    // Who lost the race has not done it, and does not say so.
    let done = |event: &AuditEvent| (event.kind, event.outcome) == (EventKind::Authority, Outcome::Done);
    let done = world.events().await.into_iter().filter(|one| done(&one.event)).count();
    assert_eq!(done as u64, world.store.version().await.unwrap().0);
}

#[tokio::test]
async fn an_issuing_ca_made_while_the_clock_was_ahead_does_not_stop_the_one_before_it() {
    let world = World::new().await;
    let before = signing_state::current(&world.state).unwrap().authority.limits().authority.clone();
    world.clock.set(NOW + 16 * DAY);
    world.rotator.turn().await.unwrap();
    assert_ne!(signing_state::current(&world.state).unwrap().authority.limits().authority, before);
    world.clock.set(NOW);
    world.rotator.turn().await.unwrap();
    assert_eq!(signing_state::current(&world.state).unwrap().authority.limits().authority, before);
    assert!(world.receive(&application()).await.is_ok());
}

/// A whole rotation, step by step, with time passing between the steps.
async fn rotate(world: &World) {
    for _ in 0..40 {
        if world.rotator.turn().await.is_err() {
            return;
        }
        world.clock.advance(Duration::from_secs(3600));
    }
}

fn operator() -> Operator {
    Operator { name: "uid 0".to_owned(), peer: None }
}

/// Wherever a process dies, before a write is kept or after it and before it hears of it, the next one goes on from
/// there, and in the end nothing tells the difference but keys that nobody names.
#[tokio::test]
async fn a_rotation_that_dies_at_any_write_is_finished_by_the_next_process() {
    let mut finished = 0;
    for last_is_kept in [false, true] {
        for writes in 1..30 {
            let world = World::new().await;
            let before = signing_state::current(&world.state).unwrap().authorities.active().unwrap().id.clone();
            world.receive(&application()).await.unwrap();
            world.store.die_after(writes, last_is_kept);
            let asked = world.operations.command(&operator(), Command::Rotate, "test").await;
            if asked.is_ok() {
                rotate(&world).await;
            }
            let survived = world.store.is_alive();
            world.store.live();
            let next = world.another();
            // An operator who got no answer asks again.
            next.operations.command(&operator(), Command::Rotate, "again").await.unwrap();
            for _ in 0..3 {
                world.clock.advance(Duration::from_secs(20));
                next.rotator.turn().await.unwrap();
            }
            // Its holder has not heard of the new root: it waits until the certificate has ended.
            let waits = signing_state::current(&next.state).unwrap().authorities.clone();
            if !survived && waits.prepared().is_some() {
                assert_eq!(waits.active().unwrap().id, before);
            }
            rotate(&next).await;
            let after = signing_state::current(&next.state).unwrap().authorities.clone();
            assert_eq!(Phase::of(&after), Phase::Settled, "died at write {writes}");
            assert_ne!(after.active().unwrap().id, before);
            next.receive(&application()).await.unwrap();
            // Every change of the journal is on record, wherever the process died.
            let executor = |event: &AuditEvent| (event.kind, event.outcome) == (EventKind::Authority, Outcome::Done);
            let done = next.events().await.into_iter().filter(|one| executor(&one.event)).count();
            let version = next.store.version().await.unwrap();
            assert_eq!(done as u64, version.0, "died at write {writes}");
            assert!(done >= 4, "first root, prepare, activate, retire");
            finished += usize::from(survived);
        }
    }
    assert!(finished > 0, "the last rounds reach the end without dying, so every write has been tried");
    assert!(finished < 50);
}

#[tokio::test]
async fn nothing_is_activated_before_every_holder_has_the_bundle_and_the_laggard_is_named() {
    let world = World::new().await;
    let mut agent = application();
    agent.acknowledges = true;
    agent.instance = Some("0123456789abcdef0123456789abcdef".into());
    world.receive(&agent).await.unwrap();
    let (_, view) = world.operations.command(&operator(), Command::Rotate, "").await.unwrap();
    assert_eq!((view.phase, view.awaited_sequence, view.coverage.covered(2)), (Phase::Propagate, 2, 0));
    assert_eq!(view.laggards[0].key.spiffe_id, crate::world_tests::WEB);
    world.clock.advance(Duration::from_secs(60));
    world.rotator.turn().await.unwrap();
    let prepared = view.authorities.prepared().unwrap().id.clone();
    let early = Command::Activate { id: prepared.clone(), force: false };
    let refused = world.operations.command(&operator(), early, "").await;
    let Err(OperationError::Refused(text)) = refused else { panic!("activated") };
    assert!(text.contains(crate::world_tests::WEB) && text.contains("1 of 1 holders"), "{text}");
    // A refusal is no acknowledgement; the real one is.
    let word = |refused: Option<String>| Acknowledgement {
        from: Acknowledger::Holder(view.laggards[0].key.clone()),
        sequence: 2,
        refused,
        at: world.clock.now(),
    };
    world.store.acknowledge(&[word(Some("bad bundle".into()))]).await.unwrap();
    world.rotator.turn().await.unwrap();
    let view = world.operations.view().await.unwrap();
    assert_eq!((view.phase, view.laggards[0].refused.clone()), (Phase::Propagate, Some((2, "bad bundle".to_owned()))));
    world.store.acknowledge(&[word(None)]).await.unwrap();
    // It had been behind, so what it says is given time, and everybody is told how much.
    let until = world.clock.now() + world.rotator.executor.rules.propagation;
    assert_eq!(world.rotator.turn().await.unwrap(), until);
    let view = world.operations.view().await.unwrap();
    assert!(
        view.phase == Phase::Propagate && view.expected_at > Some(until),
        "draining follows: {:?}",
        view.expected_at
    );
    assert_eq!(view.next, Next::Activate(prepared.clone(), Awaited::Propagation(Some(until))));
    let early = Command::Activate { id: prepared.clone(), force: false };
    let refused = world.operations.command(&operator(), early, "").await;
    assert!(matches!(refused, Err(OperationError::Refused(text)) if text.contains(&rfc3339(until))));
    // One that is new has what came with its certificate, and puts nothing off.
    world.clock.advance(Duration::from_secs(9));
    let mut new = application();
    new.instance = Some("00000000000000000000000000000001".into());
    world.receive(&new).await.unwrap();
    assert_eq!(world.rotator.turn().await.unwrap(), until);
    world.clock.advance(Duration::from_secs(1));
    world.rotator.turn().await.unwrap();
    let view = world.operations.view().await.unwrap();
    assert_eq!((view.phase, &view.authorities.active().unwrap().id), (Phase::Drain, &prepared));
}

#[tokio::test]
async fn force_needs_a_reason_and_is_on_record_with_it() {
    let world = World::new().await;
    world.receive(&application()).await.unwrap();
    let (_, view) = world.operations.command(&operator(), Command::Prepare, "").await.unwrap();
    let id = view.authorities.prepared().unwrap().id.clone();
    let force = || Command::Activate { id: id.clone(), force: true };
    assert!(matches!(world.operations.command(&operator(), force(), " ").await, Err(OperationError::Invalid(_))));
    let (_, view) = world.operations.command(&operator(), force(), "key leaked").await.unwrap();
    assert_eq!(view.authorities.active().unwrap().id, id);
    let recorded = world.events().await.into_iter().filter(|one| one.event.kind == EventKind::Admin);
    let texts: Vec<String> = recorded.filter_map(|one| one.event.detail).collect();
    assert!(texts.iter().any(|text| text.contains("uid 0: activate --force (key leaked)")), "{texts:?}");
}

#[tokio::test]
async fn a_compromised_root_goes_with_a_replacement_that_everybody_knows() {
    let world = World::new().await;
    world.receive(&application()).await.unwrap();
    let first = signing_state::current(&world.state).unwrap().authorities.active().unwrap().id.clone();
    let taint = || Command::Taint { id: first.clone(), force: false };
    let revoke = || Command::Revoke { id: first.clone(), force: false };
    world.operations.command(&operator(), taint(), "leaked").await.unwrap();
    world.rotator.turn().await.unwrap();
    let now = signing_state::current(&world.state).unwrap();
    assert_eq!((now.bundle().roots().len(), &now.authorities.active().unwrap().id), (2, &first));
    assert!(now.authorities.renewal_hints().is_empty());
    // Its holder renews, hears of the new root, and the old one stops to sign.
    world.receive(&application()).await.unwrap();
    world.clock.advance(Duration::from_secs(3));
    let old: Vec<u64> = world.operations.view().await.unwrap().coverage.by_sequence.into_keys().collect();
    assert_eq!(old.last(), Some(&2));
    world.clock.advance(DAY);
    world.receive(&application()).await.unwrap();
    world.rotator.turn().await.unwrap();
    let now = signing_state::current(&world.state).unwrap();
    assert_ne!(now.authorities.active().unwrap().id, first);
    assert_eq!(now.authorities.renewal_hints().len(), 1);
    let Err(OperationError::Refused(text)) = world.operations.command(&operator(), revoke(), "").await else {
        panic!("revoked while in use")
    };
    assert!(text.contains("1 holders still use"), "{text}");
    world.clock.advance(DAY);
    world.receive(&application()).await.unwrap();
    world.operations.command(&operator(), revoke(), "").await.unwrap();
    world.rotator.turn().await.unwrap();
    assert_eq!(signing_state::current(&world.state).unwrap().bundle().roots().len(), 1);
}

#[tokio::test]
async fn a_revoked_certificate_is_on_its_issuers_list_with_an_empty_list_for_every_other_authority_until_cleared() {
    let world = World::new().await;
    let issued = world.receive(&application()).await.unwrap();
    let serial = Facts::read(issued.chain.leaf()).unwrap().serial_text();
    let parsed = Serial::parse(&serial).unwrap();
    let who = operator();
    let revoke = |clear| world.operations.revoke_certificate(&who, parsed, RevocationReason::KeyCompromise, clear);
    // Taking off what is not on is fine.
    assert_eq!(revoke(true).await.unwrap().revoked, 0);
    assert_eq!(revoke(false).await.unwrap().revoked, 1);
    world.rotator.turn().await.unwrap();
    let now = signing_state::current(&world.state).unwrap();
    assert_eq!((now.bundle().sequence(), now.validation.revocation_lists.len()), (2, 2), "root and issuing CA");
    let revoked: Vec<usize> = now.validation.revocation_lists.iter().map(|der| entries(der)).collect();
    assert_eq!(revoked.iter().sum::<usize>(), 1);
    // An authority that comes brings its list along in the same change.
    world.operations.command(&operator(), Command::Prepare, "").await.unwrap();
    world.rotator.turn().await.unwrap();
    let now = signing_state::current(&world.state).unwrap();
    assert_eq!((now.bundle().sequence(), now.validation.revocation_lists.len()), (3, 3));
    assert_eq!(revoke(true).await.unwrap().revoked, 0);
    world.rotator.turn().await.unwrap();
    let now = signing_state::current(&world.state).unwrap();
    assert_eq!((now.bundle().sequence(), now.validation.revocation_lists.len()), (4, 0));
    let unknown = Serial::new(NOW, [9; 16]);
    let asked = world.operations.revoke_certificate(&operator(), unknown, RevocationReason::Unspecified, false).await;
    assert!(matches!(asked, Err(OperationError::Unknown(_))));
}

fn entries(der: &[u8]) -> usize {
    use x509_parser::prelude::FromDer;
    let (_, list) = x509_parser::revocation_list::CertificateRevocationList::from_der(der).unwrap();
    list.iter_revoked_certificates().count()
}

#[tokio::test]
async fn a_changed_trust_domain_keeps_working_under_the_old_root_and_the_next_root_bears_the_new_name() {
    let world = World::new().await;
    world.receive(&application()).await.unwrap();
    let renamed = world.renamed("mesh.example");
    renamed.rotator.turn().await.unwrap();
    let issued = renamed.receive(&application()).await.unwrap();
    assert_eq!(Facts::read(issued.chain.leaf()).unwrap().uris, ["spiffe://mesh.example/ns/default/sa/web"]);
    renamed.operations.command(&operator(), Command::Rotate, "new name").await.unwrap();
    rotate(&renamed).await;
    let state = signing_state::current(&renamed.state).unwrap();
    assert_eq!(Facts::read(&state.bundle().roots()[0]).unwrap().uris, ["spiffe://mesh.example"]);
    assert!(renamed.receive(&application()).await.is_ok());
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_activates_retires_and_forgets_nothing() {
    let world = World::new().await;
    world.receive(&application()).await.unwrap();
    world.operations.command(&operator(), Command::Rotate, "").await.unwrap();
    world.rotator.turn().await.unwrap();
    let jump = 2 * 86_400;
    // By this clock no holder is left, so nobody would lack the new root.
    world.jumps.fetch_add(jump, std::sync::atomic::Ordering::SeqCst);
    world.clock.advance(Duration::from_secs(jump.unsigned_abs()));
    world.rotator.turn().await.unwrap();
    world.rotator.forget().await;
    let view = world.operations.view().await.unwrap();
    assert_eq!((view.phase, view.coverage.live()), (Phase::Propagate, 0));
    let id = view.authorities.prepared().unwrap().id.clone();
    let asked = world.operations.command(&operator(), Command::Activate { id, force: false }, "").await;
    assert!(matches!(asked, Err(OperationError::Refused(text)) if text.contains("clock")));
    // Set right again, everybody is still known, and waited for.
    world.jumps.store(0, std::sync::atomic::Ordering::SeqCst);
    world.clock.set(NOW + Duration::from_secs(30));
    world.rotator.turn().await.unwrap();
    assert_eq!(world.operations.view().await.unwrap().coverage.live(), 1);
    world.clock.advance(Duration::from_secs(400));
    world.rotator.turn().await.unwrap();
    let view = world.operations.view().await.unwrap();
    assert_eq!((view.phase, view.laggards.len()), (Phase::Propagate, 1));
}
