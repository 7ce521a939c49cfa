//! What operators are told of the end is never too early: with a holder whose agent has stopped, and with every phase that is
//! still to come.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::super::test_authorities::{DAY, START, Seen, draining, first, id, offer, prepared, rules, take};
use super::super::{Activation, Step, next_step};
use super::*;
use crate::holder::Lag;

const HOUR: Duration = Duration::from_secs(3600);

/// So many holders that have what they should, and one that does not, whose agent has stopped, until `end`.
fn one_lags(end: OffsetDateTime) -> Seen {
    let mut seen = Seen::holders(&[(1, 1), (2, 3)]);
    seen.lag.last_end = Some(end);
    seen.ends.insert(id("r1-issuing"), end);
    seen
}

#[test]
fn a_rotation_that_waits_for_a_stopped_agent_ends_no_later_than_was_said_at_any_time() {
    let rules = rules();
    // An hour for the one that lags, then certificates of two days, signed until the last moment.
    let lapse = START + HOUR;
    let (mut now, mut authorities) = (START, prepared(Activation::WhenCovered));
    let mut seen = one_lags(lapse);
    let mut said = Vec::new();
    for _ in 0..1000 {
        if now >= lapse && seen.lag.last_end.take().is_some() {
            seen.coverage = Seen::holders(&[(2, 3)]).coverage;
        }
        if authorities.active().unwrap().id == id("r1") {
            seen.ends.insert(id("r1-issuing"), now + rules.leaf_ttl);
        }
        match next_step(now, &authorities, &seen.view(), &rules) {
            Step::WaitUntil(at) => {
                said.extend(authorities.expected_end(&seen.view(), &rules, now));
                if authorities.roots.len() == 1 {
                    break;
                }
                // Never past the moment at which the certificate of the one that lags ends.
                now = if now < lapse { at.min(lapse) } else { at };
            }
            step => authorities = take(&step, &authorities, &seen, now, "r2"),
        }
    }
    assert_eq!(authorities.roots.len(), 1, "it is over");
    let (first, earliest) = (said[0], *said.iter().min().unwrap());
    assert!(now <= earliest, "over at {now}, and said {earliest}");
    assert!(first < now + HOUR, "and it was not said much too late: {first}");
    assert!(now > lapse + rules.leaf_ttl, "every phase was gone through: {now}");
    assert_eq!(authorities.expected_end(&seen.view(), &rules, now), None, "nothing is in progress");
}

#[test]
fn the_end_is_told_when_time_alone_brings_it_about() {
    let plain = rules();
    let manual = Rules { retirement: Retirement::Manual, ..plain };
    let lapse = START + HOUR;
    let lagging = || one_lags(lapse);
    let covered = || Seen::holders(&[(2, 3)]);
    let refusing = || Seen { lag: Lag { refusing: 1, last_end: Some(lapse) }, ..lagging() };
    // From activation on: what is signed until then, and the removal.
    let rest = plain.leaf_ttl + LAG + REMOVAL;
    let at = |wait: Duration| Some(START + wait + rest);
    let waiting = prepared(Activation::WhenCovered);
    let later = START + 3 * HOUR;
    let timed = prepared(Activation::NotBefore(later.unix_timestamp()));
    let by_hand = prepared(Activation::OnCommand);
    for (name, authorities, seen, rules, expected) in [
        ("settled", &first(), covered(), plain, None),
        ("everybody has it", &waiting, covered(), plain, at(plain.propagation)),
        ("one has not", &waiting, lagging(), plain, at(HOUR + plain.propagation)),
        ("one refuses it", &waiting, refusing(), plain, None),
        ("an operator decides", &by_hand, covered(), plain, None),
        ("an operator lets it go in the end", &waiting, covered(), manual, None),
        ("not before a time", &timed, covered(), plain, Some(later + rest)),
        ("a former root", &draining(), lagging(), plain, Some(lapse + REMOVAL)),
        ("a former root that an operator lets go", &draining(), lagging(), manual, None),
        ("files that are the same as ever", &first(), covered().offered(offer("r1", "s")), plain, None),
    ] {
        assert_eq!(authorities.expected_end(&seen.view(), &rules, START), expected, "{name}");
    }
}

#[test]
fn who_is_cut_off_is_waited_for_until_its_certificate_ends_and_a_compromised_issuing_ca_until_it_does() {
    let mut seen = Seen::holders(&[(1, 1)]);
    seen.coverage.by_authority.insert(id("gone"), 1);
    seen.ends.insert(id("gone"), START + HOUR);
    let rules = rules();
    assert_eq!(first().expected_end(&seen.view(), &rules, START), Some(START + HOUR));
    let renewed = take(&Step::CertifyIssuing(id("r1")), &first(), &seen, START, "second");
    let tainted = take(&Step::TaintIssuing(id("r1-issuing")), &renewed, &seen, START, "x");
    let end = tainted.roots[0].issuing[0].not_after;
    assert!(end > START + DAY);
    assert_eq!(tainted.expected_end(&seen.view(), &rules, START), Some(end));
}
