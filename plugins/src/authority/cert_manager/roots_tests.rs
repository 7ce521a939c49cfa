//! Roots as they may be written, and which of them is the issuer's.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::super::super::test_pki::{Ca, DAY, NOW};
use super::*;

fn text(all: &[&Ca]) -> Vec<u8> {
    all.iter().map(|ca| ca.pem()).collect::<String>().into_bytes()
}

#[test]
fn the_first_root_is_the_issuers_and_all_are_offered() {
    let (one, two) = (Ca::root("one"), Ca::root("two"));
    let roots = Roots::parse(&text(&[&one, &two, &one]), NOW).unwrap();
    let offer = roots.offer(None, NOW);
    assert_eq!((&offer.signer, offer.roots.len()), (&one.id(), 2));
    assert_eq!(offer.certifies_until(&one.id()), Some(one.params.not_after));
    assert_eq!((offer.certifies_until(&two.id()), offer.given()), (None, None));
    let turned = Roots::parse(&text(&[&two, &one]), NOW).unwrap().offer(None, NOW);
    assert_eq!(turned.signer, two.id());
    assert_ne!(turned.fingerprint, offer.fingerprint, "the issuer's root is another one");
}

#[test]
fn a_root_that_has_ended_is_left_out_and_makes_nothing_look_new() {
    let (one, two) = (Ca::root("one"), Ca::root_with("two", |params| params.not_after = NOW + DAY));
    let before = Roots::parse(&text(&[&one, &two]), NOW).unwrap();
    let after = Roots::parse(&text(&[&one, &two]), NOW + 2 * DAY).unwrap();
    assert_eq!((after.all.len(), after.ended.len()), (1, 1));
    assert_eq!(before.offer(None, NOW).fingerprint, after.offer(None, NOW).fingerprint);
    // Read before and offered after that.
    assert_eq!(before.offer(None, NOW + 2 * DAY).roots.len(), 1);
    // One that was renewed with its key counts with the longer certificate.
    let renewed = two.renewed(|params| params.not_after = NOW + 9 * DAY);
    for all in [[&two, &renewed], [&renewed, &two]] {
        let roots = Roots::parse(&text(&all), NOW).unwrap();
        assert_eq!((roots.all.len(), &roots.signer.certificate), (1, &renewed.der));
    }
}

#[test]
fn what_is_no_root_is_refused_with_its_name() {
    let one = Ca::root("one");
    let middle = one.below("middle", |_| {});
    let over = Ca::root_with("over", |params| params.not_after = NOW - DAY);
    let soon = Ca::root_with("soon", |params| params.not_before = NOW + DAY);
    let broken = one.with_broken_signature();
    for (content, words) in [
        (Vec::new(), "there is no certificate"),
        (b"garbage".to_vec(), "no PEM block"),
        (text(&[&middle, &one]), "CN=middle is not a root"),
        (text(&[&one, &middle]), "CN=middle is not a root"),
        (text(&[&broken]), "CN=one is not a root"),
        (text(&[&over, &one]), "the first root has ended: CN=over"),
        (text(&[&over]), "the first root has ended"),
        (text(&[&soon]), "CN=soon begins only at"),
    ] {
        let why = Roots::parse(&content, NOW).unwrap_err();
        assert!(why.contains(words), "{words:?} is not in {why:?}");
    }
}
