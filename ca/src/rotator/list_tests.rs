//! Revocation lists that nobody here can make: kept while they are good, given up before they end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::atomic::Ordering;

use signet_core::authority::AuthorityId;
use signet_core::bundle::MAX_LISTS_BYTES;
use signet_core::certificate::{Facts, Serial};
use signet_core::clock::Clock;
use signet_core::revocation::{LIST_MARGIN, RevocationList, RevocationReason};
use signet_core::rotation::{Authorities, Command};
use signet_core::seams::store::AuthorityJournal;

use super::test_own_ca::{Directory, OwnCa};
use super::*;
use crate::operations::Operator;
use crate::world_tests::{DAY, NOW, World, application};

async fn journal(world: &World) -> Authorities {
    world.store.load().await.unwrap().unwrap().1
}

fn sorted(mut lists: Vec<RevocationList>) -> Vec<RevocationList> {
    lists.sort_by(|one, other| one.issuer.cmp(&other.issuer));
    lists
}

#[tokio::test]
async fn lists_of_cas_that_leaves_still_chain_through_stay_as_their_owner_made_them() {
    let empty = World::empty();
    let (root, end) = (OwnCa::root("root"), NOW + 20 * DAY);
    let middle = root.below("middle");
    let (first, second) = (middle.below("first"), root.below("second"));
    let (kept, of_root) = ([first.list(1, end), middle.list(2, end)], root.list(3, end));
    let lists = vec![kept[0].clone(), kept[1].clone(), of_root.clone()];
    let directory = Directory::with(&first.set(&empty, &root, lists).await);
    let world = empty.another_on(directory.clone());
    world.make_authority().await;
    world.rotator.turn().await.unwrap();
    assert_eq!(journal(&world).await.revocations.lists.len(), 3);
    // Another signer, without the one between.
    let of_second = second.list(4, end + 40 * DAY);
    let newer = vec![of_second.clone(), root.list(5, end + 40 * DAY)];
    directory.put(&second.set(&empty, &root, newer.clone()).await);
    let all = sorted([&newer[..], &kept].concat());
    // Also when lists of our own would be due for renewal: these would lose what their owner revokes.
    for days in [0, 1, 10] {
        world.clock.set(NOW + days * DAY);
        world.rotator.turn().await.unwrap();
        let now = journal(&world).await;
        assert_eq!(sorted(now.revocations.lists.clone()), all, "day {days}");
        assert_eq!(now.active_issuer(world.clock.now()).unwrap().id, second.id());
        let before = world.store.version().await.unwrap();
        world.rotator.turn().await.unwrap();
        assert_eq!(world.store.version().await.unwrap(), before, "and nothing is written again and again");
    }
    // One for each, or none: before the list of the one between ends, all go.
    world.clock.set(end - LIST_MARGIN - Duration::from_secs(1));
    world.rotator.turn().await.unwrap();
    assert_eq!(journal(&world).await.revocations.lists.len(), 4);
    world.clock.set(end - LIST_MARGIN);
    world.rotator.turn().await.unwrap();
    let now = journal(&world).await;
    assert!(now.revocations.lists.is_empty() && now.revocations.failed_at == world.clock.now().unix_timestamp());
    // What cannot be is not tried again and again, and is told.
    let before = world.store.version().await.unwrap();
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(61));
        world.rotator.turn().await.unwrap();
    }
    assert_eq!(world.store.version().await.unwrap(), before);
    let at = world.clock.now();
    let told = now.revocations.alert(&now.lists_of(at), at).unwrap();
    assert!(told.contains(middle.id().as_str()), "{told}");
    // Once nothing can chain through it any more, the others are enough.
    world.clock.set(NOW + 301 * DAY);
    let far = NOW + 400 * DAY;
    let third = root.below("third");
    directory.put(&third.set(&empty, &root, vec![third.list(6, far), root.list(7, far)]).await);
    assert!(!journal(&world).await.list_issuers(world.clock.now()).contains(&middle.id()));
}

#[tokio::test]
async fn while_the_files_are_damaged_their_lists_are_served_until_shortly_before_they_end() {
    let empty = World::empty();
    let (root, end) = (OwnCa::root("root"), NOW + 20 * DAY);
    let signer = root.below("signer");
    let set = signer.set(&empty, &root, vec![signer.list(1, end), root.list(2, end + DAY)]).await;
    for restart in [false, true] {
        let empty = World::empty();
        signer.set(&empty, &root, vec![]).await;
        let directory = Directory::with(&set);
        let mut world = empty.another_on(directory.clone());
        world.make_authority().await;
        world.rotator.turn().await.unwrap();
        directory.damage();
        if restart {
            world = empty.another_on(directory.clone());
        }
        for (at, lists) in
            [(NOW + 10 * DAY, 2), (end - LIST_MARGIN - Duration::from_secs(1), 2), (end - LIST_MARGIN, 0)]
        {
            world.clock.set(at);
            world.rotator.turn().await.unwrap();
            assert_eq!(
                crate::signing_state::current(&world.state).unwrap().validation.revocation_lists.len(),
                lists,
                "{at}"
            );
        }
        assert!(world.receive(&application()).await.is_ok(), "certificates do not depend on lists");
        // And new ones are used when they come.
        let far = end + 40 * DAY;
        directory.put(&signer.set(&empty, &root, vec![signer.list(3, far), root.list(4, far)]).await);
        world.rotator.turn().await.unwrap();
        assert_eq!(crate::signing_state::current(&world.state).unwrap().validation.revocation_lists.len(), 2);
    }
}

#[tokio::test]
async fn a_step_whose_list_cannot_be_made_goes_on_without_lists_and_they_come_back_later() {
    let world = World::new().await;
    let operator = Operator { name: "uid 0".to_owned(), peer: None };
    let issued = world.receive(&application()).await.unwrap();
    let serial = Serial::parse(&Facts::read(issued.chain.leaf()).unwrap().serial_text()).unwrap();
    world.operations.revoke_certificate(&operator, serial, RevocationReason::KeyCompromise, false).await.unwrap();
    assert_eq!(journal(&world).await.revocations.lists.len(), 2);
    world.lists_fail.store(true, Ordering::SeqCst);
    world.operations.command(&operator, Command::Prepare, "").await.unwrap();
    let now = journal(&world).await;
    assert!(now.prepared().is_some() && now.revocations.lists.is_empty(), "never a set with a hole");
    let failed_at = world.clock.now().unix_timestamp();
    assert_eq!((now.revocations.entries.len(), now.revocations.failed_at), (1, failed_at));
    world.rotator.turn().await.unwrap();
    let readiness = signet_runtime::readiness::Readiness::new();
    let condition = readiness.condition("authority");
    world.rotator.report(&condition, None, &Unsettled::default());
    let text = format!("{:?}", readiness.snapshot());
    assert!(text.contains("no revocation lists are served"), "{text}");
    // Tried again after a minute, not at once; then not so often, since each time is on record.
    for (seconds, fails, tried, lists) in [(59, true, 0, 0), (1, true, 1, 0), (3599, false, 0, 0), (1, false, 1, 3)] {
        world.lists_fail.store(fails, Ordering::SeqCst);
        let before = journal(&world).await.revocations.number;
        world.clock.advance(Duration::from_secs(seconds));
        world.rotator.turn().await.unwrap();
        let now = journal(&world).await;
        assert_eq!((now.revocations.number - before, now.revocations.lists.len()), (tried, lists), "{seconds}");
    }
    assert_eq!(journal(&world).await.revocations.failed_at, 0);
}

#[tokio::test]
async fn lists_of_more_than_agents_take_are_left_out_so_that_roots_still_travel() {
    let world = World::new().await;
    let operator = Operator { name: "uid 0".to_owned(), peer: None };
    let issued = world.receive(&application()).await.unwrap();
    let serial = Serial::parse(&Facts::read(issued.chain.leaf()).unwrap().serial_text()).unwrap();
    world.operations.revoke_certificate(&operator, serial, RevocationReason::KeyCompromise, false).await.unwrap();
    // Each of them could travel, all of them together could not.
    world.list_bytes.store(MAX_LISTS_BYTES / 3, Ordering::SeqCst);
    world.operations.command(&operator, Command::Prepare, "").await.unwrap();
    let now = journal(&world).await;
    assert!(now.prepared().is_some() && now.revocations.lists.is_empty(), "{} lists", now.revocations.lists.len());
    assert_eq!(now.revocations.failed_at, world.clock.now().unix_timestamp());
}

#[tokio::test]
async fn lists_of_a_replaced_root_go_on_while_it_is_in_the_bundle_and_end_with_it() {
    let empty = World::empty();
    let (old, new, far) = (OwnCa::root("old"), OwnCa::root("new"), NOW + 90 * DAY);
    let (first, second) = (old.below("first"), new.below("second"));
    let of_old = vec![first.list(1, far), old.list(2, far)];
    let of_new = vec![second.list(3, far), new.list(4, far)];
    let set = first.set(&empty, &old, of_old.clone()).await;
    for (lists, expected) in [
        (of_new.clone(), sorted([&of_old[..], &of_new].concat())),
        // No file, or an empty one: nothing is revoked.
        (vec![], vec![]),
    ] {
        let empty = World::empty();
        first.set(&empty, &old, vec![]).await;
        let directory = Directory::with(&set);
        let world = empty.another_on(directory.clone());
        world.make_authority().await;
        world.rotator.turn().await.unwrap();
        assert_eq!(sorted(journal(&world).await.revocations.lists), sorted(of_old.clone()));
        directory.put(&second.set(&empty, &new, lists.clone()).await);
        world.rotator.turn().await.unwrap();
        let now = journal(&world).await;
        assert_eq!((now.roots.len(), &now.active().unwrap().id), (2, &old.id()));
        assert_eq!(sorted(now.revocations.lists), expected);
        let mut at = NOW;
        while journal(&world).await.roots.len() > 1 {
            at += Duration::from_secs(60);
            assert!(at < NOW + DAY, "the old root is never retired");
            world.clock.set(at);
            world.rotator.turn().await.unwrap();
        }
        let now = journal(&world).await;
        assert_eq!(now.active_issuer(at).unwrap().id, second.id());
        assert!(lists.iter().all(|list| now.revocations.lists.contains(list)), "those of the new root stay");
    }
}

#[tokio::test]
async fn lists_of_the_files_go_on_after_a_change_to_roots_of_our_own_until_nothing_chains_to_theirs() {
    let empty = World::empty();
    let (root, far) = (OwnCa::root("root"), NOW + 90 * DAY);
    let signer = root.below("signer");
    let theirs = vec![signer.list(1, far), root.list(2, far)];
    let files = empty.another_on(Directory::with(&signer.set(&empty, &root, theirs.clone()).await));
    files.make_authority().await;
    files.rotator.turn().await.unwrap();
    let world = empty.another();
    let mut at = NOW;
    loop {
        world.rotator.turn().await.unwrap();
        let now = journal(&world).await;
        if now.root(&root.id()).is_none() {
            assert!(now.revocations.lists.is_empty(), "nothing is revoked any more");
            break;
        }
        assert!(theirs.iter().all(|list| now.revocations.lists.contains(list)), "{at}");
        let listed = |id: &AuthorityId| now.revocations.lists.iter().any(|list| list.issuer == *id);
        assert!(now.list_issuers(at).iter().all(listed), "one for each");
        at += Duration::from_secs(60);
        assert!(at < NOW + DAY, "the root of the files is never retired");
        world.clock.set(at);
    }
}

#[tokio::test]
async fn a_bad_file_of_lists_beside_a_new_signer_keeps_the_lists_in_use_and_the_signer_gets_one() {
    let empty = World::empty();
    let (root, far) = (OwnCa::root("root"), NOW + 90 * DAY);
    let (first, second) = (root.below("first"), root.below("second"));
    let lists = vec![first.list(1, far), root.list(2, far)];
    let directory = Directory::with(&first.set(&empty, &root, lists.clone()).await);
    let world = empty.another_on(directory.clone());
    world.make_authority().await;
    world.rotator.turn().await.unwrap();
    let mut bad = second.set(&empty, &root, vec![]).await;
    bad.fingerprint = bad.fingerprint.with_unusable_lists();
    directory.put(&bad);
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(30));
        world.rotator.turn().await.unwrap();
    }
    let now = journal(&world).await;
    assert!(lists.iter().all(|list| now.revocations.lists.contains(list)));
    assert!(now.revocations.lists.len() == 3 && now.active_issuer(NOW).unwrap().id == second.id());
    // Good ones take their places, and an empty file still ends them.
    let good = vec![second.list(3, far), root.list(4, far)];
    directory.put(&second.set(&empty, &root, good.clone()).await);
    world.rotator.turn().await.unwrap();
    let now = journal(&world).await;
    assert_eq!(sorted(now.revocations.lists), sorted([&good[..], &lists[..1]].concat()));
    directory.put(&second.set(&empty, &root, vec![]).await);
    world.rotator.turn().await.unwrap();
    assert!(journal(&world).await.revocations.lists.is_empty());
}

#[tokio::test]
async fn an_ended_list_of_a_replaced_signer_whose_key_is_here_does_not_take_the_others_out_of_use() {
    let empty = World::empty();
    let (root, end, far) = (OwnCa::root("root"), NOW + 2 * DAY, NOW + 90 * DAY);
    let (first, second) = (root.below("first"), root.below("second"));
    let directory = Directory::with(&first.set(&empty, &root, vec![first.list(1, end), root.list(2, far)]).await);
    let world = empty.another_on(directory.clone());
    world.make_authority().await;
    world.rotator.turn().await.unwrap();
    let good = vec![second.list(3, far), root.list(4, far)];
    directory.put(&second.set(&empty, &root, good.clone()).await);
    for (at, is_the_owners) in [(end - LIST_MARGIN - Duration::from_secs(1), true), (end - LIST_MARGIN, false)] {
        world.clock.set(at);
        world.rotator.turn().await.unwrap();
        let now = journal(&world).await;
        assert!(now.revocations.lists.len() == 3 && good.iter().all(|list| now.revocations.lists.contains(list)));
        assert_eq!(now.revocations.lists.contains(&first.list(1, end)), is_the_owners);
    }
}

#[tokio::test]
async fn while_the_storage_of_keys_is_away_lists_are_tried_again_and_those_in_use_stay() {
    let world = World::new().await;
    let operator = Operator { name: "uid 0".to_owned(), peer: None };
    let mut serials = Vec::new();
    for _ in 0..2 {
        let issued = world.receive(&application()).await.unwrap();
        serials.push(Serial::parse(&Facts::read(issued.chain.leaf()).unwrap().serial_text()).unwrap());
    }
    let reason = RevocationReason::KeyCompromise;
    world.operations.revoke_certificate(&operator, serials[0], reason, false).await.unwrap();
    let before = journal(&world).await;
    assert_eq!(before.revocations.lists.len(), 2);
    world.store.keys_away.store(true, Ordering::SeqCst);
    assert!(world.operations.revoke_certificate(&operator, serials[1], reason, false).await.is_err());
    assert_eq!(journal(&world).await, before);
    world.store.keys_away.store(false, Ordering::SeqCst);
    world.operations.revoke_certificate(&operator, serials[1], reason, false).await.unwrap();
    let now = journal(&world).await.revocations;
    assert_eq!((now.entries.len(), now.lists.len(), now.failed_at), (2, 2, 0));
}
