//! An operator's CA in files: what is offered, what is refused, and what follows when the files change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::atomic::Ordering;

use signet_core::certificate::Facts;
use signet_core::key_type::KeyType;
use signet_core::seams::certificate_authority::CertificateAuthority;

use super::super::test_pki::{Ca, DAY, Encoding, NOW, write};
use super::test_world::World;
use super::*;
use crate::authority::NativeAuthority;

/// What custody calls the key of a signer: as ever, by the key alone.
fn key_name(signer: &Ca) -> String {
    format!("files-{}", hex(&key_identifier(&Facts::read(&signer.der).unwrap().spki_der)))
}

fn lists_of(all: &[&Ca]) -> String {
    all.iter().map(|ca| ca.crl(NOW - DAY, NOW + DAY)).collect()
}

fn ids(roots: &[Root]) -> Vec<AuthorityId> {
    roots.iter().map(|root| root.id.clone()).collect()
}

#[tokio::test]
async fn both_forms_and_all_key_encodings_of_every_key_type_make_a_ca() {
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        for encoding in [Encoding::Traditional, Encoding::Pkcs8] {
            let root = Ca::root_of(key_type, "root", |_| {}).await;
            let middle = root.below("middle", |_| {});
            let signer = middle.below_of(key_type, "signer", |_| {}).await;
            let istio = World::new();
            write(istio.dir.path(), &signer, encoding, &[&middle], &[&root]);
            let tls = World::new();
            tls.put("tls.crt", signer.pem() + &middle.pem());
            tls.put("tls.key", signer.key_pem(encoding));
            tls.put("ca.crt", root.pem());
            for world in [istio, tls] {
                let offer = world.offer().await;
                assert_eq!(offer.given().unwrap().id, signer.id());
                assert_eq!(offer.given().unwrap().key.as_ref().unwrap().as_str(), key_name(&signer));
                assert_eq!(offer.given().unwrap().certificate, signer.der);
                assert_eq!(offer.given().unwrap().intermediates, std::slice::from_ref(&middle.der));
                assert_eq!(&offer.signer, &root.id());
                let [one] = offer.roots.as_slice() else { panic!("one root") };
                assert_eq!((&one.id, &one.key, &one.certificate), (&root.id(), &None, &root.der));
                world.check_signs(&offer, &[&root]).await;
            }
        }
    }
}

#[tokio::test]
async fn a_chain_file_as_istio_makes_it_with_signer_and_root_in_it_gives_no_certificate_twice() {
    let root = Ca::root("root");
    let (world, signer) = (World::new(), root.below("signer", |_| {}));
    world.put_set(&signer, &[&signer, &root], &[&root]);
    let offer = world.offer().await;
    assert!(offer.given().unwrap().intermediates.is_empty());
    world.check_signs(&offer, &[&root]).await;
    let middle = root.below("middle", |_| {});
    let deep = middle.below("deep", |_| {});
    let stranger = Ca::root("stranger").below("middle", |_| {});
    world.put_set(&deep, &[&root, &stranger, &middle, &deep, &middle], &[&root, &root]);
    let offer = world.offer().await;
    assert_eq!(offer.given().unwrap().intermediates, [middle.der]);
    assert_eq!(offer.roots.len(), 1);
    world.check_signs(&offer, &[&root]).await;
}

#[tokio::test]
async fn a_root_that_signs_leaves_itself_is_offered_with_its_key_and_sends_no_chain() {
    let (world, root) = (World::new(), Ca::root("root"));
    world.put_set(&root, &[], &[&root]);
    let offer = world.offer().await;
    assert_eq!((&offer.signer, &offer.given().unwrap().id), (&root.id(), &root.id()));
    assert_eq!(offer.roots[0].key, offer.given().unwrap().key.clone());
    assert_eq!(
        (&offer.given().unwrap().certificate, offer.given().unwrap().intermediates.len()),
        (&offer.roots[0].certificate, 0)
    );
    world.check_signs(&offer, &[&root]).await;

    // Istio renews with the same key and leaves the old certificate in the root file.
    let renewed = root.renewed(|params| params.not_after = NOW + 900 * DAY);
    world.put_set(&renewed, &[], &[&root]);
    let offer = world.offer().await;
    assert_eq!((offer.roots.len(), &offer.given().unwrap().certificate), (1, &root.der));
    world.check_signs(&offer, &[&root]).await;
    world.put_set(&renewed, &[], &[&root, &renewed]);
    let offer = world.offer().await;
    assert_eq!(ids(&offer.roots), [root.id()], "a name and a key are one authority");
    assert_eq!((&offer.given().unwrap().certificate, &offer.roots[0].certificate), (&renewed.der, &renewed.der));
    world.check_signs(&offer, &[&root, &renewed]).await;

    world.put_set(&Ca::root("other"), &[], &[&root]);
    assert!(world.refused().await.contains("ca-cert.pem is self-signed, but not in root-cert.pem"));
}

/// RFC 5280 section 6.1.1 (d): a trust anchor is a name with a key.
#[tokio::test]
async fn two_roots_with_one_key_and_two_names_are_two_and_each_chain_leads_to_its_own() {
    let root = Ca::root("one");
    let renamed = root.renamed("two");
    assert_ne!(root.id(), renamed.id());
    for (above, other) in [(&root, &renamed), (&renamed, &root)] {
        let signer = above.below("signer", |_| {});
        for set in [&signer, above] {
            let world = World::new();
            world.put_set(set, &[], &[&root, &renamed]);
            world.put("ca-crl.pem", lists_of(&[set, &root, &renamed]));
            let offer = world.offer().await;
            assert_eq!((ids(&offer.roots), &offer.signer), (vec![root.id(), renamed.id()], &above.id()));
            assert_eq!(
                (&offer.given().unwrap().id, offer.given().unwrap().key.as_ref().unwrap().as_str()),
                (&set.id(), key_name(set).as_str())
            );
            let mut listed: Vec<_> = offer.revocation_lists.iter().map(|list| list.issuer.clone()).collect();
            listed.sort();
            let mut expected = vec![set.id(), root.id(), renamed.id()];
            expected.sort();
            expected.dedup();
            assert_eq!((world.files.crl_problem(), listed), (None, expected));
            // OpenSSL builds the chain among both roots, and under its own alone; Signet's check finds the same.
            world.check_signs(&offer, &[above]).await;
            world.check_signs_in_one_bundle(&offer, &[other, above]).await;
        }
    }
}

#[tokio::test]
async fn certificates_of_istios_own_scripts_are_accepted_and_the_shortest_of_the_chain_counts() {
    // No authority key identifiers, and an intermediate made after its root for as long.
    let root = Ca::root("root");
    let signer = root.below("signer", |params| {
        params.use_authority_key_identifier_extension = false;
        params.not_after = root.params.not_after + DAY;
        params.not_before = root.params.not_before - DAY;
    });
    assert_eq!(Facts::read(&signer.der).unwrap().authority_key_id, None);
    let world = World::new();
    world.put_set(&signer, &[&root], &[&root]);
    let offer = world.offer().await;
    assert_eq!(offer.given().unwrap().not_after, root.params.not_after);
    assert_eq!(offer.given().unwrap().not_before, root.params.not_before);
    let key = world.custody.open(offer.given().unwrap().key.as_ref().unwrap()).await.unwrap();
    let authority = NativeAuthority::new(key, offer.given().unwrap()).unwrap();
    let limits = (authority.limits().not_before, authority.limits().not_after);
    assert_eq!(limits, (root.params.not_before, root.params.not_after), "no leaf outlives its root");
    world.check_signs(&offer, &[&root]).await;
}

#[tokio::test]
async fn files_that_appear_later_and_sets_that_change_are_followed_without_a_restart() {
    let (world, root) = (World::new(), Ca::root("root"));
    assert!(world.refused().await.contains("there are no CA files in"));
    let signer = root.below("signer", |_| {});
    world.put("ca-cert.pem", signer.pem());
    assert!(world.refused().await.contains("incomplete"));
    world.put_set(&signer, &[], &[&root]);
    let first = world.offer().await;

    // Half of a new set: refused whole, and the old one again afterwards.
    let next = root.below("signer", |_| {});
    world.put("ca-cert.pem", next.pem());
    assert!(world.refused().await.contains("ca-key.pem is not the key of ca-cert.pem"));
    world.put("ca-cert.pem", signer.pem());
    assert_eq!(world.offer().await, first);

    world.put_set(&next, &[], &[&root]);
    let second = world.offer().await;
    assert_eq!((&second.given().unwrap().id, &second.signer), (&next.id(), &first.signer));
    world.check_signs(&second, &[&root]).await;
    world.check_signs(&first, &[&root]).await; // the former key is still in custody
}

#[tokio::test]
async fn an_unchanged_set_is_not_checked_again_and_offers_the_same() {
    let (world, root) = (World::new(), Ca::root("root"));
    world.put_set(&root.below("signer", |_| {}), &[], &[&root]);
    let first = world.offer().await;
    world.clock.advance(Duration::from_secs(3600));
    for _ in 0..3 {
        assert_eq!(world.offer().await, first);
    }
    assert_eq!(world.custody.imports.load(Ordering::SeqCst), 1);
    world.put_set(&root.below("signer", |_| {}), &[], &[&root]);
    assert_ne!(world.offer().await.issuing, first.issuing);
    assert_eq!(world.custody.imports.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_custody_that_is_down_is_asked_again_and_nothing_is_offered_until_the_key_is_kept() {
    let (world, root) = (World::new(), Ca::root("root"));
    world.put_set(&root.below("signer", |_| {}), &[], &[&root]);
    world.custody.down.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert!(matches!(world.files.offer().await, Err(SignError::Unavailable(_))));
    }
    world.custody.down.store(false, Ordering::SeqCst);
    assert_eq!(world.offer().await.roots.len(), 1);
}

#[tokio::test]
async fn every_shape_of_change_is_offered_as_the_files_say() {
    let (old, new) = (Ca::root("old"), Ca::root("new"));
    let (by_old, by_new) = (old.below("signer", |_| {}), new.below("signer", |_| {}));
    let world = World::new();
    let steps: [(&str, &Ca, &[&Ca]); 6] = [
        ("one root", &by_old, &[&old]),
        ("superset", &by_old, &[&old, &new]),
        ("the signer moves", &by_new, &[&old, &new]),
        ("subset", &by_new, &[&new]),
        ("disjoint", &by_old, &[&old]),
        ("order of the file", &by_old, &[&new, &old]),
    ];
    for (what, signer, roots) in steps {
        world.put_set(signer, &[], roots);
        let offer = world.offer().await;
        assert_eq!(ids(&offer.roots), roots.iter().map(|root| root.id()).collect::<Vec<_>>(), "{what}");
        let root = if signer.id() == by_old.id() { &old } else { &new };
        assert_eq!((&offer.given().unwrap().id, &offer.signer), (&signer.id(), &root.id()), "{what}");
        assert!(offer.roots.iter().all(|root| root.key.is_none()));
        world.check_signs(&offer, &[root]).await;
    }
}

#[tokio::test]
async fn of_roots_with_one_name_the_one_that_signed_is_found_and_of_one_key_the_one_that_lives_longest() {
    let (world, root) = (World::new(), Ca::root("root"));
    let signer = root.below("signer", |params| {
        params.use_authority_key_identifier_extension = false;
        params.not_after = NOW + 2000 * DAY;
    });
    let same_name = Ca::root_with("root", |params| params.not_after = NOW + 2000 * DAY);
    for roots in [[&root, &same_name], [&same_name, &root]] {
        world.put_set(&signer, &[], &roots);
        let offer = world.offer().await;
        assert_eq!((offer.roots.len(), &offer.signer), (2, &root.id()));
        world.check_signs(&offer, &[&root]).await;
    }
    let longer = root.renewed(|params| params.not_after = NOW + 1000 * DAY);
    let later = root.renewed(|params| {
        params.not_before = NOW + DAY;
        params.not_after = NOW + 1500 * DAY;
    });
    for roots in [[&root, &longer, &later], [&later, &longer, &root]] {
        world.put_set(&signer, &[], &roots);
        let offer = world.offer().await;
        assert_eq!((offer.roots.len(), &offer.roots[0].certificate), (1, &longer.der));
        assert_eq!(offer.given().unwrap().not_after, NOW + 1000 * DAY);
        world.check_signs(&offer, &[&root, &longer]).await;
    }
}

#[tokio::test]
async fn roots_that_have_ended_are_left_out_and_those_that_start_later_are_published() {
    let (root, signer);
    let world = World::new();
    root = Ca::root("root");
    signer = root.below("signer", |_| {});
    let ended = Ca::root_with("ended", |params| params.not_after = NOW);
    let later = Ca::root_with("later", |params| params.not_before = NOW + DAY);
    world.put_set(&signer, &[], &[&ended, &root, &later]);
    assert_eq!(ids(&world.offer().await.roots), [root.id(), later.id()]);
    world.put_set(&signer, &[], &[&ended]);
    assert!(world.refused().await.contains("root-cert.pem: `CN=ended` ended at 2026-03-01T12:00:00Z"));
}

#[tokio::test]
async fn it_makes_no_roots_and_certifies_nobody() {
    let (root, world) = (Ca::root("root"), World::new());
    world.put_set(&root, &[], &[&root]);
    let offered = world.offer().await;
    let key = world.custody.open(offered.given().unwrap().key.as_ref().unwrap()).await.unwrap();
    let refusals = [
        world.files.prepare_root(1, NOW).await.err(),
        world.files.certify(&offered.roots[0], &*key, Duration::from_secs(1), NOW).await.err(),
    ];
    for refused in refusals {
        assert!(matches!(&refused, Some(SignError::Failed(text)) if text.contains("replace the files in")));
    }
    let shown = format!("{:?}", world.files);
    assert!(shown.contains(&world.dir.path().display().to_string()) && !shown.contains("PRIVATE"));
}
