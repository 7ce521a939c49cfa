//! What is verified anew after which change, and what is only looked up.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;
use crate::client_identity::test_mesh::{TestRoot, authorities, nothing, publish_authorities};
use crate::signing_state::{StateReader, current};
use signet_core::revocation::Revoked;
use std::time::{Duration, Instant};
use time::OffsetDateTime;

const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);

fn nothing_known() -> Verdicts {
    Verdicts::new(Arc::new(rustls::crypto::ring::default_provider()))
}

fn newest(verdicts: &Verdicts, reader: &StateReader) -> Arc<Roster> {
    verdicts.of(&current(reader).unwrap()).unwrap()
}

fn verdict(valid: (u64, u64), names: Vec<(AuthorityId, String)>) -> Arc<Verdict> {
    Arc::new(Verdict { spiffe_id: SpiffeId::parse("spiffe://cluster.local/x").unwrap(), valid, names })
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

#[test]
fn what_was_verified_counts_until_roots_or_what_is_compromised_change() {
    let (old, new) = (TestRoot::new("old"), TestRoot::new("new"));
    let (writer, reader) = nothing();
    let (verdicts, chain) = (nothing_known(), ChainHash([7; 32]));
    let leaf = old.leaf("spiffe://cluster.local/x", NOW, |_| {});
    let publish = |sequence, roots: &[&TestRoot], revoked: &[Revoked], tainted: bool| {
        let mut authorities = authorities(sequence, roots, revoked);
        authorities.roots[0].tainted_at = tainted.then_some(NOW);
        publish_authorities(&writer, authorities, &new);
        newest(&verdicts, &reader)
    };
    let is_known = |roster: &Roster| verdicts.found(chain, Trust::Any, &roster.anchors, at(50)).is_some();
    let first = publish(1, &[&old, &new], &[], false);
    assert!(Arc::ptr_eq(&first, &newest(&verdicts, &reader)), "prepared once per state");
    assert!(!is_known(&first));
    let both = [
        ("nothing", publish(1, &[&old, &new], &[], false), true),
        (
            "a revocation and a new sequence",
            publish(2, &[&old, &new], &[leaf.revoked(0, old.issuing_id())], false),
            true,
        ),
    ];
    verdicts.remember(chain, Trust::Any, &first.anchors, verdict((0, 100), Vec::new()));
    for (what, roster, known) in both {
        assert_eq!(is_known(&roster), known, "{what}");
    }
    for (what, roster) in [
        ("a compromised root", publish(2, &[&old, &new], &[], true)),
        ("a root less", publish(3, &[&new], &[], false)),
        ("the same roots as at first, after others", publish(4, &[&old, &new], &[], false)),
    ] {
        assert!(!is_known(&roster), "{what}");
    }
}

#[test]
fn what_was_verified_says_nothing_about_other_times_other_chains_and_other_trust() {
    let root = TestRoot::new("a");
    let (writer, reader) = nothing();
    let (verdicts, chain) = (nothing_known(), ChainHash([7; 32]));
    publish_authorities(&writer, authorities(1, &[&root], &[]), &root);
    let roster = newest(&verdicts, &reader);
    verdicts.remember(chain, Trust::Any, &roster.anchors, verdict((10, 20), Vec::new()));
    for (hash, trust, seconds, expected) in [
        (chain, Trust::Any, 10, true),
        (chain, Trust::Any, 20, true),
        (chain, Trust::Any, 9, false),
        (chain, Trust::Any, 21, false),
        (chain, Trust::Sound, 10, false),
        (ChainHash([8; 32]), Trust::Any, 10, false),
    ] {
        let found = verdicts.found(hash, trust, &roster.anchors, at(seconds)).is_some();
        assert_eq!(found, expected, "{hash:?} {trust:?} {seconds}");
    }
}

/// Journals of before ids covered names name their authorities by key alone, for as long as these are in use.
#[test]
fn a_certificate_of_an_authority_with_a_former_id_is_revoked_under_that_id() {
    let (former, other) = (TestRoot::new("former"), TestRoot::new("other"));
    let (writer, reader) = nothing();
    let leaf = former.leaf("spiffe://cluster.local/x", NOW, |_| {});
    let spki = Facts::read(&former.issuing).unwrap().spki_der;
    let id: AuthorityId = serde_json::from_value(hex(&signet_core::digest::key_identifier(&spki)).into()).unwrap();
    for (entry, revoked) in [(leaf.revoked(0, id.clone()), true), (leaf.revoked(0, other.issuing_id()), false)] {
        let mut authorities = authorities(1, &[&other, &former], &[entry]);
        authorities.roots[1].issuing[0].ca.id = id.clone();
        publish_authorities(&writer, authorities, &former);
        let roster = newest(&nothing_known(), &reader);
        let sent: Vec<Facts> = leaf.chain.iter().map(|der| Facts::read(der).unwrap()).collect();
        let verdict = roster.anchors.verdict(SpiffeId::parse("spiffe://cluster.local/x").unwrap(), &sent, Trust::Sound);
        assert_eq!(roster.check_revoked(&verdict.unwrap()).is_err(), revoked);
    }
}

#[test]
fn nobody_gets_by_with_the_key_of_a_compromised_root_under_another_name() {
    let (stolen, sound) = (TestRoot::new("stolen"), TestRoot::new("sound"));
    let (writer, reader) = nothing();
    let mut authorities = authorities(1, &[&stolen, &sound], &[]);
    authorities.roots[0].tainted_at = Some(NOW);
    publish_authorities(&writer, authorities, &sound);
    let roster = newest(&nothing_known(), &reader);
    let leaf = Facts::read(&sound.leaf("spiffe://cluster.local/x", NOW, |_| {}).chain[0]).unwrap();
    let renamed = Facts { subject_der: b"another name".to_vec(), ..Facts::read(&stolen.certificate).unwrap() };
    for (sent, trust, refused) in [
        (vec![leaf.clone(), renamed.clone()], Trust::Sound, true),
        (vec![leaf.clone(), renamed], Trust::Any, false),
        (vec![leaf], Trust::Sound, false),
    ] {
        let verdict = roster.anchors.verdict(SpiffeId::parse("spiffe://cluster.local/x").unwrap(), &sent, trust);
        assert_eq!(matches!(verdict, Err(ClientRefused::Compromised)), refused);
    }
}

#[test]
fn a_verdict_counts_while_all_certificates_of_the_chain_are_valid() {
    let root = TestRoot::new("a");
    let (writer, reader) = nothing();
    publish_authorities(&writer, authorities(1, &[&root], &[]), &root);
    let roster = newest(&nothing_known(), &reader);
    let leaf = Facts::read(&root.leaf("spiffe://cluster.local/x", NOW, |_| {}).chain[0]).unwrap();
    let hour = Duration::from_secs(3600);
    let late = Facts { not_before: NOW, not_after: NOW + 2 * hour, ..leaf.clone() };
    let early = Facts { not_before: NOW - hour, not_after: NOW + hour, ..leaf };
    let seconds = |at: OffsetDateTime| u64::try_from(at.unix_timestamp()).unwrap();
    for sent in [[late.clone(), early.clone()], [early, late]] {
        let id = SpiffeId::parse("spiffe://cluster.local/x").unwrap();
        let verdict = roster.anchors.verdict(id, &sent, Trust::Any).unwrap();
        assert_eq!(verdict.valid, (seconds(NOW), seconds(NOW + hour)));
    }
}

#[test]
fn certificates_are_told_apart_in_a_chain() {
    let [one, two, both] = [vec![1], vec![2], vec![1, 2]].map(CertificateDer::from);
    let hashes = [vec![&one, &two], vec![&two, &one], vec![&both], vec![&one], vec![]];
    let hashes: HashSet<_> = hashes.into_iter().map(|chain| ChainHash::of(chain.into_iter())).collect();
    assert_eq!(hashes.len(), 5);
}

#[test]
fn no_more_chains_are_remembered_than_there_is_room_for() {
    let root = TestRoot::new("a");
    let (writer, reader) = nothing();
    let verdicts = nothing_known();
    publish_authorities(&writer, authorities(1, &[&root], &[]), &root);
    let roster = newest(&verdicts, &reader);
    let found = verdict((0, 100), Vec::new());
    let chain = |number: usize| {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        ChainHash(hash)
    };
    let remember = |number| verdicts.remember(chain(number), Trust::Any, &roster.anchors, Arc::clone(&found));
    let count = || verdicts.remembered.lock().unwrap().len();
    (0..MOST_CHAINS).for_each(remember);
    remember(0);
    assert_eq!(count(), MOST_CHAINS, "one that is known takes no room");
    remember(MOST_CHAINS);
    assert_eq!(count(), 1);
    assert!(verdicts.found(chain(MOST_CHAINS), Trust::Any, &roster.anchors, at(1)).is_some());
}

/// A scan over this many entries takes a thousand times as long as a look by key; the bound lies far from both.
#[test]
fn a_look_among_many_revocations_takes_no_longer_than_among_few() {
    let root = TestRoot::new("a");
    let (writer, reader) = nothing();
    let verdicts = nothing_known();
    let shown = root.leaf("spiffe://cluster.local/x", NOW, |_| {});
    let entry = shown.revoked(0, root.issuing_id());
    let looked = verdict((0, u64::MAX), vec![(root.issuing_id(), "none".into()), (root.id(), "none".into())]);
    let mut times = [2, 50_000].map(|many: usize| {
        let entries: Vec<_> = (0..many).map(|n| Revoked { serial: format!("{n:032x}"), ..entry.clone() }).collect();
        publish_authorities(&writer, authorities(1, &[&root], &entries), &root);
        let roster = newest(&verdicts, &reader);
        let started = Instant::now();
        for _ in 0..2_000 {
            assert!(roster.check_revoked(&looked).is_ok());
        }
        started.elapsed()
    });
    times[0] = times[0].max(Duration::from_millis(1));
    assert!(times[1] < 100 * times[0], "{times:?}");
}
