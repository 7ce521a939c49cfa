//! Tests of what stands for a source, and of which one counts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use rustls_pki_types::CertificateDer;

use super::*;
use crate::authority::AuthorityId;
use crate::revocation::RevocationList;
use crate::unknown_fields::Unknown;

/// A set with this name, and lists with these contents.
fn set(name: &str, lists: &[u8]) -> SourceFingerprint {
    let der = CertificateDer::from(name.as_bytes().to_vec());
    SourceFingerprint::of_set(&der, [], []).with_lists(&of(lists))
}

fn of(contents: &[u8]) -> Vec<RevocationList> {
    let list = |content: &u8| RevocationList {
        issuer: AuthorityId::new(b"", b"x"),
        der: vec![*content].into(),
        next_update: 0,
        unknown: Unknown::default(),
    };
    contents.iter().map(list).collect()
}

fn bad(name: &str) -> SourceFingerprint {
    set(name, &[]).with_unusable_lists()
}

fn adopted(oldest_first: &[SourceFingerprint]) -> AdoptedSources {
    oldest_first.to_vec().into()
}

#[test]
fn a_fingerprint_follows_from_the_content_and_from_nothing_else() {
    let der = |content: &str| CertificateDer::from(content.as_bytes().to_vec());
    let (a, b, c, d) = (der("a"), der("b"), der("c"), der("d"));
    let one = SourceFingerprint::of_set(&a, [&b, &c], [&c, &d]);
    assert_eq!(one, SourceFingerprint::of_set(&a, [&c, &b], [&d, &c, &d]), "in any order, and twice or not");
    let others = [
        SourceFingerprint::of_set(&b, [&b, &c], [&c, &d]),
        SourceFingerprint::of_set(&a, [&b], [&c, &d]),
        SourceFingerprint::of_set(&a, [&b, &c], [&d]),
        SourceFingerprint::of_set(&a, [&c, &d], [&b, &c]),
        one.clone().with_lists(&of(&[1])),
        SourceFingerprint::own(),
    ];
    for other in others {
        assert_ne!(one, other);
    }
    assert_eq!(one.clone().with_lists(&of(&[1, 2])), one.clone().with_lists(&of(&[2, 1])));
    assert_eq!(one.clone().with_lists(&[]), one, "no lists are no file");
    for fingerprint in
        [SourceFingerprint::own(), one.clone(), one.clone().with_unusable_lists(), one.with_lists(&of(&[1]))]
    {
        let text = serde_json::to_string(&fingerprint).unwrap();
        assert_eq!(serde_json::from_str::<SourceFingerprint>(&text).unwrap(), fingerprint);
    }
}

#[test]
fn a_replica_stands_as_the_journal_says() {
    let known = adopted(&[SourceFingerprint::own(), set("a", &[1]), set("b", &[]), set("b", &[2])]);
    for (mine, expected) in [
        (set("b", &[2]), SourceStanding::Newest),
        (set("b", &[]), SourceStanding::Superseded),
        (set("a", &[1]), SourceStanding::Superseded),
        (SourceFingerprint::own(), SourceStanding::Superseded),
        (set("c", &[]), SourceStanding::New),
        (set("a", &[]), SourceStanding::New),
        (set("b", &[3]), SourceStanding::New),
        // Lists that cannot be used say nothing.
        (bad("b"), SourceStanding::Newest),
        (bad("a"), SourceStanding::Superseded),
        (bad("c"), SourceStanding::New),
    ] {
        assert_eq!(known.standing(&mine), expected, "{mine:?}");
    }
}

#[test]
fn what_is_adopted_again_moves_to_the_end_and_only_the_oldest_is_forgotten() {
    let mut known = adopted(&[SourceFingerprint::own(), set("a", &[]), set("b", &[])]);
    known.note(&set("a", &[]));
    assert_eq!(known.0, [SourceFingerprint::own(), set("b", &[]), set("a", &[])]);
    // Lists that are new each day do not push out what backends there were.
    for day in 0..150 {
        known.note(&set("a", &[day]));
    }
    assert_eq!(known.0.len(), MAX_ADOPTED);
    assert_eq!(known.0[..2], [SourceFingerprint::own(), set("b", &[])]);
    assert_eq!(known.0.last(), Some(&set("a", &[149])));
    for name in 0..200 {
        known.note(&set(&format!("s{name}"), &[]));
    }
    // Nor does anything push out what replicas without files of their own have.
    assert_eq!((known.0.len(), &known.0[0]), (MAX_ADOPTED, &SourceFingerprint::own()));
    assert_eq!(known.standing(&set("s73", &[])), SourceStanding::Superseded);
    assert_eq!(known.standing(&set("s72", &[])), SourceStanding::New, "forgotten");
    // With lists that cannot be used, those stand that were there before.
    known.note(&set("z", &[7]));
    known.note(&set("s199", &[]));
    known.note(&bad("z"));
    assert_eq!(known.0.last(), Some(&set("z", &[7])));
    known.note(&bad("y"));
    assert_eq!(known.0.last(), Some(&bad("y")));
    for lists in [&[][..], &[1]] {
        assert_eq!(known.standing(&set("y", lists)), SourceStanding::New, "what its lists say was not known");
    }
}
