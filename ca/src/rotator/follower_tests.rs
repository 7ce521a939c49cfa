//! Several replicas on one journal, to which different files, or another backend, have come: one rotation, no fight.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use signet_core::audit::{EventKind, Outcome};
use signet_core::authority::AuthorityId;
use signet_core::clock::Clock;
use signet_core::rotation::Command;
use signet_core::seams::store::AuthorityJournal;

use super::test_own_ca::{Directory, OwnCa};
use super::*;
use crate::operations::{Done, OperationError, Operator};
use crate::world_tests::{DAY, World, application};

fn operator() -> Operator {
    Operator { name: "uid 0".to_owned(), peer: None }
}

/// Both work, one after the other, while time passes.
async fn work(replicas: [&World; 2]) {
    for _ in 0..10 {
        for replica in replicas {
            replica.rotator.turn().await.unwrap();
        }
        replicas[0].clock.advance(Duration::from_secs(20));
    }
}

/// What was done with authorities, oldest first.
async fn done(world: &World) -> Vec<String> {
    let events = world.events().await.into_iter().rev().map(|stored| stored.event);
    let done = events.filter(|event| (event.kind, event.outcome) == (EventKind::Authority, Outcome::Done));
    done.filter_map(|event| event.detail).collect()
}

async fn signing_root(world: &World) -> AuthorityId {
    world.store.load().await.unwrap().unwrap().1.active().unwrap().id.clone()
}

fn readiness(world: &World) -> String {
    let readiness = signet_runtime::readiness::Readiness::new();
    let condition = readiness.condition("authority");
    world.rotator.report(&condition, None, &Unsettled::default());
    format!("{:?}", readiness.snapshot())
}

#[tokio::test]
async fn files_that_reach_one_replica_later_make_one_rotation_and_the_late_one_goes_on_with_the_journal() {
    let empty = World::empty();
    let (old_root, new_root) = (OwnCa::root("old"), OwnCa::root("new"));
    let old = old_root.below("old signer").set(&empty, &old_root, vec![]).await;
    let new = new_root.below("new signer").set(&empty, &new_root, vec![]).await;
    let (early, late) = (Directory::with(&old), Directory::with(&old));
    let (first, second) = (empty.another_on(early.clone()), empty.another_on(late.clone()));
    first.make_authority().await;
    work([&first, &second]).await;
    assert_eq!(done(&empty).await.len(), 1);
    first.receive(&application()).await.unwrap();
    early.put(&new);
    work([&first, &second]).await;
    assert_eq!(signing_root(&empty).await, old_root.id(), "its holder does not know the new root");
    first.clock.advance(DAY);
    work([&first, &second]).await;
    assert_eq!(signing_root(&empty).await, new_root.id());
    let text = readiness(&second);
    assert!(text.contains("egraded") && text.contains("newer CA files") && text.contains("authority adopt"), "{text}");
    assert!(!readiness(&first).contains("egraded"));
    second.receive(&application()).await.unwrap();
    first.clock.advance(2 * DAY);
    work([&first, &second]).await;
    let before = done(&empty).await;
    let followed = before.iter().filter(|text| text.contains("CA files are adopted")).count();
    assert_eq!((followed, before.len()), (1, 5), "made, adopted, activated, left, retired: {before:?}");
    for command in [Command::Prepare, Command::Rollback, Command::RenewIssuing] {
        let refused = second.operations.command(&operator(), command, "").await;
        let Err(OperationError::Refused(text)) = refused else { panic!("{refused:?}") };
        assert!(text.contains("send the command to a replica that has the newest"), "{text}");
    }
    late.put(&new);
    work([&first, &second]).await;
    assert_eq!(done(&empty).await, before, "nothing is left to do");
    assert!(!readiness(&second).contains("egraded"));
}

#[tokio::test]
async fn an_earlier_set_counts_again_only_when_an_operator_says_so_whatever_a_process_has_seen() {
    let empty = World::empty();
    let (one, two) = (OwnCa::root("one"), OwnCa::root("two"));
    let first = one.below("first").set(&empty, &one, vec![]).await;
    let second = two.below("second").set(&empty, &two, vec![]).await;
    let directory = Directory::with(&first);
    let (running, other) = (empty.another_on(directory.clone()), empty.another_on(Directory::with(&first)));
    running.make_authority().await;
    for set in [&first, &second] {
        directory.put(set);
        work([&running, &other]).await;
        assert_eq!(signing_root(&empty).await, set.signer);
    }
    // Put back under a running process, or there at its start: that may be late or meant.
    directory.put(&first);
    let before = done(&empty).await.len();
    for replica in [&running, &empty.another_on(directory.clone())] {
        work([replica, &other]).await;
        assert_eq!((signing_root(&empty).await, done(&empty).await.len()), (two.id(), before));
        assert!(readiness(replica).contains("authority adopt") && readiness(replica).contains("egraded"));
    }
    let refused = running.operations.command(&operator(), Command::Rotate, "").await;
    assert!(matches!(refused, Err(OperationError::Refused(text)) if text.contains("authority adopt")));
    let newest = empty.another_on(Directory::with(&second));
    let (said, _) = running.operations.command(&operator(), Command::Adopt, "the first set was right").await.unwrap();
    assert!(matches!(said, Done::FilesAdopted(_) | Done::FilesAwaited(_)), "{said}");
    work([&running, &newest]).await;
    assert_eq!(signing_root(&empty).await, one.id());
    assert!(readiness(&newest).contains("egraded") && !readiness(&running).contains("egraded"));
    // Asked again it changes nothing, and is on record with its operator each time.
    let settled = empty.store.load().await.unwrap();
    let (said, _) = running.operations.command(&operator(), Command::Adopt, "again").await.unwrap();
    assert_eq!(said, Done::NothingToAdopt);
    assert_eq!(empty.store.load().await.unwrap(), settled);
    let events = empty.events().await.into_iter().map(|stored| stored.event);
    let asked = events.filter(|event| event.reason.as_deref() == Some("adopt") && event.kind == EventKind::Admin);
    let details: Vec<String> = asked.filter_map(|event| event.detail).collect();
    assert!(details.len() == 2 && details.iter().all(|detail| detail.starts_with("uid 0: adopt (")), "{details:?}");
}

#[tokio::test]
async fn a_restart_at_any_moment_changes_nothing_of_whose_files_count() {
    let empty = World::empty();
    let (one, two) = (OwnCa::root("one"), OwnCa::root("two"));
    let first = one.below("first").set(&empty, &one, vec![]).await;
    let second = two.below("second").set(&empty, &two, vec![]).await;
    let directory = Directory::with(&first);
    let running = empty.another_on(directory.clone());
    running.make_authority().await;
    running.rotator.turn().await.unwrap();
    for set in [&second, &first, &second] {
        directory.put(set);
        let looks = [
            running.rotator.executor.observe().await,
            empty.another_on(directory.clone()).rotator.executor.observe().await,
        ];
        let [one, two] = looks.map(|observation| observation.unwrap().source.standing);
        assert_eq!(one, two);
        running.rotator.turn().await.unwrap();
    }
    let adopted = empty.store.load().await.unwrap().unwrap().1.adopted;
    assert_eq!(adopted, vec![first.fingerprint, second.fingerprint].into());
}

/// One key, two names: to whoever verifies, that is another root, so it goes the way of one.
#[tokio::test]
async fn a_root_with_the_key_of_the_one_in_use_and_another_name_is_published_first_and_signs_once_covered() {
    let empty = World::empty();
    let old = OwnCa::root("old name");
    let renamed = old.renamed("new name");
    assert_ne!(old.id(), renamed.id());
    let before = old.below("signer").set(&empty, &old, vec![]).await;
    let after = renamed.below("signer").set(&empty, &renamed, vec![]).await;
    let directory = Directory::with(&before);
    let world = empty.another_on(directory.clone());
    world.make_authority().await;
    world.rotator.turn().await.unwrap();
    world.issuance.issue(&application()).await.unwrap();
    directory.put(&after);
    work([&world, &world]).await;
    let both = empty.store.load().await.unwrap().unwrap().1;
    assert_eq!((both.roots.len(), both.active().unwrap().id.clone()), (2, old.id()), "its holder lacks the new one");
    world.clock.advance(2 * DAY);
    work([&world, &world]).await;
    assert_eq!(signing_root(&empty).await, renamed.id());
    world.issuance.issue(&application()).await.unwrap();
}

/// A root that signs leaves itself, in a bundle with another one of its key.
#[tokio::test]
async fn a_root_that_signs_leaves_itself_is_told_from_one_with_its_key_and_another_name() {
    let empty = World::empty();
    let old = OwnCa::root("old name");
    let directory = Directory::with(&old.set(&empty, &old, vec![]).await);
    let world = empty.another_on(directory.clone());
    world.make_authority().await;
    world.rotator.turn().await.unwrap();
    world.issuance.issue(&application()).await.unwrap();
    let renamed = old.renamed("new name");
    directory.put(&renamed.set(&empty, &renamed, vec![]).await);
    for _ in 0..3 {
        work([&world, &world]).await;
        world.issuance.issue(&application()).await.unwrap();
        world.clock.advance(DAY);
    }
    assert_eq!(signing_root(&empty).await, renamed.id());
}

#[tokio::test]
async fn a_backend_that_is_switched_while_another_replica_still_has_the_old_one_is_switched_once() {
    let native = World::new().await;
    let root = OwnCa::root("own");
    let set = root.below("signer").set(&native, &root, vec![]).await;
    let files = native.another_on(Directory::with(&set));
    work([&files, &native]).await;
    assert_eq!(signing_root(&native).await, root.id());
    let refused = native.operations.command(&operator(), Command::Prepare, "").await;
    assert!(matches!(refused, Err(OperationError::Refused(_))), "{refused:?}");
    let steps = done(&native).await;
    let back = native.another();
    work([&files, &back]).await;
    assert_eq!(done(&native).await, steps, "nobody has said that this is meant");
    assert!(readiness(&back).contains("authority adopt"));
    back.operations.command(&operator(), Command::Adopt, "back").await.unwrap();
    work([&files, &back]).await;
    let signs = signing_root(&native).await;
    assert!(signs != root.id() && !readiness(&back).contains("egraded"));
    let settled = done(&native).await;
    assert!(settled.iter().any(|text| text.contains("no CA files count any more")), "{settled:?}");
    work([&files, &back]).await;
    assert_eq!((signing_root(&native).await, done(&native).await.len()), (signs, settled.len()));
    // What the replica with the files cannot make, it does not try to.
    let id = AuthorityId::new(b"", b"x");
    for command in
        [Command::Prepare, Command::Activate { id: id.clone(), force: true }, Command::Taint { id, force: true }]
    {
        let refused = files.operations.command(&operator(), command, "test").await;
        assert!(matches!(refused, Err(OperationError::Refused(_))), "{refused:?}");
    }
}

/// A start with files that cannot be used, while a root signs that these did not bring.
#[tokio::test]
async fn a_start_without_usable_files_serves_what_is_there_and_still_takes_what_only_marks() {
    let native = World::new().await;
    native.receive(&application()).await.unwrap();
    let root = OwnCa::root("own");
    let set = root.below("signer").set(&native, &root, vec![]).await;
    let directory = Directory::with(&set);
    directory.damage();
    let blind = native.another_on(directory.clone());
    blind.rotator.turn().await.unwrap();
    blind.receive(&application()).await.unwrap();
    let before = signing_root(&native).await;
    assert_eq!(blind.operations.view().await.unwrap().authorities.active().unwrap().id, before);
    for command in [Command::Adopt, Command::Rotate, Command::Prepare, Command::RenewIssuing] {
        let refused = blind.operations.command(&operator(), command, "").await;
        assert!(
            matches!(&refused, Err(OperationError::Refused(text)) if text.contains("put it in order")),
            "{refused:?}"
        );
    }
    let marked = Command::Taint { id: before.clone(), force: false };
    blind.operations.command(&operator(), marked, "stolen").await.unwrap();
    blind.rotator.turn().await.unwrap();
    assert!(readiness(&blind).contains("is compromised and still signs"));
    assert!(!readiness(&blind).contains("newer CA files"), "nobody has newer ones");
    // Once they are there they are followed, which replaces the compromised root.
    directory.put(&set);
    for _ in 0..10 {
        blind.rotator.turn().await.unwrap();
        blind.clock.advance(DAY);
    }
    assert_eq!(signing_root(&native).await, root.id());
}

/// Whoever is late says everything that is wrong, not only that.
#[tokio::test]
async fn a_late_replica_tells_of_compromised_roots_and_of_issuing_cas_that_nobody_renews() {
    let native = World::new().await;
    let root = OwnCa::root("own");
    let set = root.below("signer").set(&native, &root, vec![]).await;
    let gone = native.another_on(Directory::with(&set));
    gone.rotator.turn().await.unwrap();
    native.rotator.turn().await.unwrap();
    let signs = signing_root(&native).await;
    native.operations.command(&operator(), Command::Taint { id: signs, force: false }, "stolen").await.unwrap();
    native.clock.advance(29 * DAY);
    native.rotator.turn().await.unwrap();
    let text = readiness(&native);
    for worry in ["newer CA files", "is compromised", "nobody has renewed the issuing CA"] {
        assert!(text.contains(worry), "{worry} is not in {text}");
    }
}

#[tokio::test]
async fn files_that_are_damaged_for_a_while_are_neither_something_new_nor_something_late() {
    let empty = World::empty();
    let root = OwnCa::root("own");
    let signer = root.below("signer");
    let end = empty.clock.now() + 30 * DAY;
    let good = signer.set(&empty, &root, vec![signer.list(1, end), root.list(2, end)]).await;
    let set = signer.set(&empty, &root, vec![]).await;
    let bad = signet_core::source::Offer { fingerprint: set.fingerprint.with_unusable_lists(), ..set };
    let directory = Directory::with(&good);
    let (mut one, other) = (empty.another_on(directory.clone()), empty.another_on(Directory::with(&good)));
    one.make_authority().await;
    work([&one, &other]).await;
    let before = empty.store.load().await.unwrap().unwrap();
    assert_eq!(before.1.revocations.lists.len(), 2);
    for restart in [false, true] {
        for damage in [true, false] {
            if damage {
                directory.damage()
            } else {
                directory.put(&bad)
            }
            if restart {
                one = empty.another_on(directory.clone());
            }
            work([&one, &other]).await;
            directory.put(&good);
            work([&one, &other]).await;
            assert_eq!(empty.store.load().await.unwrap().unwrap(), before, "nothing has changed at all");
            assert!(!readiness(&one).contains("egraded"));
        }
    }
}
