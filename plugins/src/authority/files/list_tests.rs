//! The operator's revocation lists beside the CA files: all or nothing, and never in the way of keys.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::test_pki::{Ca, DAY, Encoding, NOW};
use super::read::LISTS;
use super::test_world::World;

#[tokio::test]
async fn lists_are_offered_while_every_ca_has_one_in_force_and_never_stand_in_the_way_of_keys() {
    let (root, world) = (Ca::root("root"), World::new());
    let middle = root.below("middle", |_| {});
    let signer = middle.below("signer", |_| {});
    world.put_set(&signer, &[&middle], &[&root]);
    let first = world.offer().await;
    assert_eq!((first.revocation_lists.len(), world.files.crl_problem()), (0, None));
    let all = |until| signer.crl(NOW - DAY, until) + &middle.crl(NOW - DAY, until) + &root.crl(NOW - DAY, until);

    world.put(LISTS, all(NOW + DAY));
    let issuers: Vec<_> = world.offer().await.revocation_lists.into_iter().map(|list| list.issuer).collect();
    assert_eq!(issuers, [signer.id(), middle.id(), root.id()]);
    assert_eq!(world.files.crl_problem(), None);

    let table = [
        ("junk".to_owned(), "no list in it"),
        (signer.crl(NOW - DAY, NOW + DAY), "there is no list of `CN=middle`"),
        (signer.crl(NOW - DAY, NOW + DAY) + &middle.crl(NOW - DAY, NOW + DAY), "there is no list of `CN=root`"),
        (all(NOW), "expired at"),
        (all(NOW + DAY) + &Ca::root("root").crl(NOW - DAY, NOW + DAY), "`CN=root` is of no CA in the files"),
        (all(NOW + DAY) + &Ca::root("x").crl(NOW - DAY, NOW + DAY), "`CN=x` is of no CA in the files"),
    ];
    for (content, expected) in table {
        world.put(LISTS, content);
        let offer = world.offer().await;
        assert_eq!((offer.revocation_lists.len(), &offer.issuing), (0, &first.issuing));
        let problem = world.files.crl_problem().unwrap();
        assert!(problem.starts_with("ca-crl.pem: ") && problem.contains(expected), "{problem}");
    }
    // Peers whose certificates lead to another root of the file would be refused.
    let other = Ca::root("other");
    world.put_set(&signer, &[&middle], &[&root, &other]);
    world.put(LISTS, all(NOW + DAY));
    assert_eq!(world.offer().await.revocation_lists.len(), 0);
    assert!(world.files.crl_problem().unwrap().contains("there is no list of `CN=other`"));
    world.put(LISTS, all(NOW + DAY) + &other.crl(NOW - DAY, NOW + DAY));
    assert_eq!(world.offer().await.revocation_lists.len(), 4);
    // A new signer is not held up by lists that do not fit it (istio/istio#61075).
    let next = middle.below("next", |_| {});
    world.put_set(&next, &[&middle], &[&root]);
    world.put(LISTS, all(NOW + DAY));
    assert_eq!(world.offer().await.given().unwrap().id, next.id());
    assert!(world.files.crl_problem().is_some());
    world.put_set(&signer, &[&middle], &[&root]);
    assert_eq!(world.offer().await.revocation_lists.len(), 3);
    // Empty means cleared (istio/istio#61073), and so does a file that is gone.
    world.put(LISTS, "");
    assert_eq!((world.offer().await.revocation_lists.len(), world.files.crl_problem()), (0, None));
    world.put(LISTS, "junk");
    world.offer().await;
    std::fs::remove_file(world.dir.path().join(LISTS)).unwrap();
    assert_eq!((world.offer().await.revocation_lists.len(), world.files.crl_problem()), (0, None));
}

#[tokio::test]
async fn lists_that_run_out_are_withdrawn_although_the_file_is_the_same() {
    let (root, world) = (Ca::root("root"), World::new());
    world.put_set(&root, &[], &[&root]);
    world.put(LISTS, root.crl(NOW, NOW + DAY));
    assert_eq!(world.offer().await.revocation_lists.len(), 1);
    world.clock.set(NOW + DAY - Duration::from_secs(1));
    assert_eq!(world.offer().await.revocation_lists.len(), 1);
    world.clock.set(NOW + DAY);
    assert_eq!(world.offer().await.revocation_lists.len(), 0);
    assert!(world.files.crl_problem().unwrap().contains("expired at 2026-03-02T12:00:00Z; make a new one"));
    assert_eq!(world.custody.imports.load(Ordering::SeqCst), 1);
    world.put(LISTS, root.crl(NOW, NOW + 2 * DAY));
    assert_eq!((world.offer().await.revocation_lists.len(), world.files.crl_problem()), (1, None));
}

#[tokio::test]
async fn replicas_recognise_a_set_by_what_the_operator_put_there_whatever_the_form_or_the_time() {
    let (root, world) = (Ca::root("root"), World::new());
    let ending = Ca::root_with("ending", |params| params.not_after = NOW + DAY);
    let middle = root.below("middle", |_| {});
    let signer = middle.below("signer", |_| {});
    world.put_set(&signer, &[&middle], &[&ending, &root]);
    let first = world.offer().await;
    // Also to one that reads it only when a root of it has ended.
    world.clock.set(NOW + 2 * DAY);
    let other = World::new();
    other.clock.set(NOW + 2 * DAY);
    other.put("tls.crt", signer.pem() + &middle.pem() + &root.pem());
    other.put("tls.key", signer.key_pem(Encoding::Pkcs8));
    other.put("ca.crt", root.pem() + &ending.pem());
    for later in [world.offer().await, other.offer().await] {
        assert_eq!((first.roots.len(), later.roots.len()), (2, 1));
        assert_eq!(later.fingerprint, first.fingerprint);
    }
    // Any certificate and any list makes a difference; lists that are of no use say nothing.
    let list = |until| root.crl(NOW, until) + &signer.crl(NOW, until) + &middle.crl(NOW, until);
    world.put_set(&signer, &[&middle], &[&root]);
    let plain = world.offer().await.fingerprint;
    let lists = list(NOW + 3 * DAY);
    world.put(LISTS, &lists);
    let with = world.offer().await.fingerprint;
    assert!(plain != first.fingerprint && with != plain && !with.has_unusable_lists());
    world.put(LISTS, list(NOW + 4 * DAY));
    assert_ne!(world.offer().await.fingerprint, with);
    world.put(LISTS, "");
    assert_eq!(world.offer().await.fingerprint, plain);
    world.put(LISTS, "junk");
    assert_eq!(world.offer().await.fingerprint, plain.clone().with_unusable_lists());
    world.put(LISTS, &lists);
    assert_eq!(world.offer().await.fingerprint, with);
    world.clock.set(NOW + 3 * DAY);
    assert_eq!(world.offer().await.fingerprint, plain.with_unusable_lists(), "they have ended");
}
