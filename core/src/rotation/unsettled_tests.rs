//! Nothing is called settled while there is anything that somebody should know of.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::super::test_authorities::{DAY, START, Seen, draining, first, id, prepared, take};
use super::super::{Activation, Phase, Step};
use super::*;
use crate::holder::Lag;
use crate::revocation::{RevocationReason, Revoked};
use crate::source::SourceStanding;
use crate::unknown_fields::Unknown;

fn holders_of(name: &str, count: u64) -> Seen {
    let mut seen = Seen::holders(&[(1, count)]);
    seen.coverage.by_authority.insert(id(name), count);
    seen
}

fn told(authorities: &Authorities, seen: &Seen, now: OffsetDateTime) -> (Phase, Unsettled) {
    let unsettled = Unsettled::of(authorities, &seen.view(), now);
    (Phase::of(authorities).with(&unsettled), unsettled)
}

#[test]
fn each_thing_that_is_not_over_keeps_the_phase_from_settled() {
    let nothing = Unsettled::default();
    let (settled, under_way) = (first(), prepared(Activation::WhenCovered));
    let refusing = Seen { lag: Lag { refusing: 1, last_end: None }, ..holders_of("r1-issuing", 2) };
    let mut superseded = holders_of("r1-issuing", 2);
    superseded.source.standing = SourceStanding::Superseded;
    let mut unrevoked = first();
    unrevoked.revocations.ask_for_leaf("ab", &id("r1-issuing"));
    let seen = holders_of("r1-issuing", 2);
    let expected = (Phase::Degraded, Unsettled { unrevoked: 1, ..nothing });
    assert_eq!(told(&unrevoked, &seen, START), expected, "a leaf of a backend is no compromised CA");
    unrevoked.revocations.ask_elsewhere("cd", &id("r1"), vec![1].into());
    let expected = (Phase::Emergency, Unsettled { unrevoked: 1, tainted_issuing: 1, ..nothing });
    assert_eq!(told(&unrevoked, &seen, START), expected);
    let unpublished = Seen { publishers: vec!["config-map/a".to_owned()], ..holders_of("r1-issuing", 2) };
    for (name, seen, phase, expected) in [
        ("all is well", holders_of("r1-issuing", 2), Phase::Settled, nothing),
        (
            "a certificate of an issuing CA that is gone",
            holders_of("gone", 2),
            Phase::Emergency,
            Unsettled { cut_off: 2, ..nothing },
        ),
        ("a certificate of it that is no more", holders_of("gone", 0), Phase::Settled, nothing),
        ("a refused bundle", refusing, Phase::Degraded, Unsettled { refusing: 1, ..nothing }),
        ("a place where it is not published", unpublished, Phase::Degraded, Unsettled { unpublished: 1, ..nothing }),
        ("newer files elsewhere", superseded, Phase::Degraded, Unsettled { superseded: true, ..nothing }),
    ] {
        assert_eq!(told(&settled, &seen, START), (phase, expected), "{name}");
        // What is not worse than what is under way does not hide it.
        let other = if phase == Phase::Emergency { Phase::Emergency } else { Phase::Propagate };
        assert_eq!(told(&under_way, &seen, START).0, other, "{name}, during a rotation");
    }
    assert_eq!(told(&Authorities::default(), &holders_of("gone", 2), START).0, Phase::None);
}

#[test]
fn a_compromised_authority_is_told_until_nobody_can_use_its_key() {
    let seen = holders_of("r1-issuing", 0);
    let tainted = take(&Step::Taint(id("r1")), &first(), &seen, START, "x");
    assert_eq!(told(&tainted, &seen, START).1.tainted_roots, 1, "it signs still");
    let former = take(&Step::Taint(id("r1")), &draining(), &seen, START, "x");
    assert_eq!(told(&former, &seen, START).1.tainted_roots, 1);
    let gone = take(&Step::Revoke(id("r1")), &former, &seen, START, "x");
    assert_eq!(told(&gone, &seen, START), (Phase::Settled, Unsettled::default()));
    // An issuing CA that another one has replaced, under a root that goes on.
    let renewed = take(&Step::CertifyIssuing(id("r1")), &first(), &seen, START, "second");
    let mut tainted = take(&Step::TaintIssuing(id("r1-issuing")), &renewed, &seen, START, "x");
    let expected = (Phase::Emergency, Unsettled { tainted_issuing: 1, ..Unsettled::default() });
    assert_eq!(told(&tainted, &seen, START), expected);
    let end = tainted.roots[0].issuing[0].not_after;
    assert_eq!(told(&tainted, &seen, end).0, Phase::Settled, "nothing that it signs is valid any more");
    tainted.revocations.entries.push(Revoked {
        serial: String::new(),
        issuer: id("r1"),
        reason: RevocationReason::CaCompromise,
        at: START.unix_timestamp(),
        not_after: (START + DAY).unix_timestamp(),
        unknown: Unknown::default(),
    });
    assert!(!told(&tainted, &seen, START).1.is_nothing(), "another certificate is revoked");
}
