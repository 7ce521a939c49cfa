//! What the fence lets out in each state of the authorities.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::super::test_authorities::{DAY, START, Seen, draining, first, id, issuing_ca, prepared, take};
use super::super::{Activation, Step};
use super::*;
use crate::unknown_fields::Unknown;

/// The sequences of a bundle, from 0 on, with which a certificate of this issuing CA may leave.
fn oldest(authorities: &Authorities, issuing: &str) -> Option<u64> {
    let fence = Fence::of(authorities);
    (0..20).find(|sequence| fence.admits(EventKind::Certificate, id(issuing).as_str(), *sequence))
}

fn serves(authorities: &Authorities, issuing: &str) -> bool {
    Fence::of(authorities).admits(EventKind::ServingCertificate, id(issuing).as_str(), 0)
}

fn step(authorities: &Authorities, step: &Step) -> Authorities {
    take(step, authorities, &Seen::nobody(), START, "x")
}

#[test]
fn without_a_journal_nothing_leaves() {
    assert_eq!(Fence::of(&Authorities::default()), Fence::default());
    assert!(!Fence::default().admits(EventKind::Certificate, id("r1-issuing").as_str(), u64::MAX));
    assert!(!Fence::default().admits(EventKind::ServingCertificate, id("r1-issuing").as_str(), u64::MAX));
}

#[test]
fn only_the_root_that_signs_may_certify_workloads_and_only_with_every_root_in_the_bundle() {
    for (name, authorities, (r1, r2)) in [
        ("first", first(), (Some(1), None)),
        ("prepared", prepared(Activation::OnCommand), (Some(2), None)),
        ("draining", draining(), (None, Some(2))),
        // What an untainted root leaves behind refuses nobody: one root too many does no harm.
        ("retired", step(&draining(), &Step::Retire(id("r1"))), (None, Some(2))),
        ("taken back", step(&prepared(Activation::OnCommand), &Step::DropPrepared(id("r2"), true)), (Some(1), None)),
        ("compromised", step(&draining(), &Step::Taint(id("r1"))), (None, Some(2))),
        ("revoked", step(&step(&draining(), &Step::Taint(id("r1"))), &Step::Revoke(id("r1"))), (None, Some(3))),
        ("drained", step(&step(&draining(), &Step::Taint(id("r1"))), &Step::Retire(id("r1"))), (None, Some(3))),
        // It may be dropped because it is compromised.
        ("dropped", step(&prepared(Activation::OnCommand), &Step::DropPrepared(id("r2"), false)), (Some(3), None)),
        ("reinstated", step(&draining(), &Step::Reinstate(id("r1"))), (Some(2), None)),
        // No certificates at all would be worse, until its successor is known.
        ("compromised and active", step(&first(), &Step::Taint(id("r1"))), (Some(1), None)),
    ] {
        let found = (oldest(&authorities, "r1-issuing"), oldest(&authorities, "r2-issuing"));
        assert_eq!(found, (r1, r2), "{name}");
        assert_eq!(oldest(&authorities, "nobody"), None, "{name}");
    }
}

#[test]
fn the_serving_certificate_may_stay_under_an_old_root_until_that_is_gone_or_compromised() {
    let tainted = step(&draining(), &Step::Taint(id("r1")));
    for (name, authorities, (r1, r2)) in [
        ("first", first(), (true, false)),
        ("prepared", prepared(Activation::OnCommand), (true, false)),
        ("draining", draining(), (true, true)),
        ("leaving", step(&draining(), &Step::Leave(id("r1"))), (false, true)),
        ("retired", step(&draining(), &Step::Retire(id("r1"))), (false, true)),
        ("its issuing CA compromised", step(&draining(), &Step::TaintIssuing(id("r1-issuing"))), (false, true)),
        ("tainted", tainted, (false, true)),
        ("tainted and active", step(&first(), &Step::Taint(id("r1"))), (true, false)),
    ] {
        assert_eq!((serves(&authorities, "r1-issuing"), serves(&authorities, "r2-issuing")), (r1, r2), "{name}");
    }
}

#[test]
fn an_issuing_ca_signs_until_it_is_left_behind_on_purpose() {
    let mut authorities = first();
    authorities.add_issuing(&id("r1"), issuing_ca("next", START, 30 * DAY), START, true);
    assert_eq!(
        (oldest(&authorities, "r1-issuing"), oldest(&authorities, "next")),
        (Some(1), Some(1)),
        "a late replica"
    );
    let waits = {
        let mut authorities = authorities.clone();
        authorities.roots[0].issuing[1].after_sequence = 2;
        authorities
    };
    assert_eq!((oldest(&waits, "r1-issuing"), oldest(&waits, "next")), (Some(1), None), "its list must travel first");
    let left = step(&authorities, &Step::TaintIssuing(id("r1-issuing")));
    assert_eq!((oldest(&left, "r1-issuing"), oldest(&left, "next")), (None, Some(1)));
    let alone = step(&first(), &Step::TaintIssuing(id("r1-issuing")));
    assert_eq!(oldest(&alone, "r1-issuing"), Some(1), "the one that signs is never locked out");
}

#[test]
fn newer_revocation_lists_refuse_nobody() {
    let mut authorities = draining();
    let before = authorities.bundle_sequence;
    let list = crate::revocation::RevocationList {
        issuer: id("r2"),
        der: vec![1].into(),
        next_update: 0,
        unknown: Unknown::default(),
    };
    authorities.set_lists(vec![list], before);
    assert!(authorities.bundle_sequence > before);
    assert_eq!(oldest(&authorities, "r2-issuing"), Some(2));
}
