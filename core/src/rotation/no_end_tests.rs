//! Authorities, lists and records at both ends of the calendar: every decision is made, none overflows.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::test_authorities::{DAY, START, Seen, draining, first, id, prepared, rules, take};
use super::*;
use crate::revocation::{RevocationList, RevocationReason, Revoked};
use crate::unknown_fields::Unknown;
use time::OffsetDateTime;
use time::macros::datetime;

/// RFC 5280 section 4.1.2.5.
const NEVER: OffsetDateTime = datetime!(9999-12-31 23:59:59 UTC);
const FIRST: OffsetDateTime = datetime!(0001-01-01 0:00 UTC);

/// The same authorities with all their times moved to this end.
fn moved(mut authorities: Authorities, (not_before, not_after): (OffsetDateTime, OffsetDateTime)) -> Authorities {
    for root in &mut authorities.roots {
        (root.ca.not_before, root.ca.not_after, root.since) = (not_before, not_after, not_after);
        if let AuthorityState::Old { leaving_since } = &mut root.state {
            *leaving_since = leaving_since.map(|_| not_after);
        }
        for issuing in &mut root.issuing {
            (issuing.ca.not_before, issuing.ca.not_after) = (not_before, not_after);
        }
    }
    authorities
}

fn with_lists(mut authorities: Authorities, seconds: i64) -> Authorities {
    let revoked = Revoked {
        serial: "ab".to_owned(),
        issuer: id("r1-issuing"),
        at: seconds,
        not_after: seconds,
        reason: RevocationReason::KeyCompromise,
        unknown: Unknown::default(),
    };
    let issuers = authorities.list_issuers(START);
    let list =
        |issuer| RevocationList { issuer, der: vec![1].into(), next_update: seconds, unknown: Unknown::default() };
    authorities.revocations.lists = issuers.into_iter().map(list).collect();
    authorities.revocations.entries = vec![revoked];
    authorities.revocations.failed_at = seconds;
    authorities
}

#[test]
fn every_decision_is_made_at_both_ends_of_the_calendar() {
    let spans = [(FIRST, NEVER), (START, NEVER), (NEVER, NEVER), (FIRST, FIRST), (NEVER, FIRST)];
    let leaving = take(&Step::Leave(id("r1")), &draining(), &Seen::nobody(), START, "x");
    let waiting = [prepared(Activation::WhenCovered), prepared(Activation::NotBefore(i64::MAX))];
    let phases = [first(), draining(), leaving].into_iter().chain(waiting);
    let commands = || {
        let id = id("r1");
        [
            Command::Prepare,
            Command::Rotate,
            Command::Adopt,
            Command::RenewIssuing,
            Command::Activate { id: id.clone(), force: false },
            Command::Rollback,
            Command::Taint { id: id.clone(), force: false },
            Command::Revoke { id: id.clone(), force: false },
            Command::Retire { id },
        ]
    };
    for authorities in phases {
        for span in spans {
            for seconds in [i64::MIN, FIRST.unix_timestamp(), NEVER.unix_timestamp(), i64::MAX] {
                let plain = moved(authorities.clone(), span);
                for authorities in [plain.clone(), with_lists(plain, seconds)] {
                    for (now, steady) in [(START, true), (NEVER, true), (FIRST, true), (NEVER, false)] {
                        let mut seen = Seen { steady, ..Seen::holders(&[(1, 3)]) };
                        seen.ends = authorities
                            .roots
                            .iter()
                            .flat_map(|root| &root.issuing)
                            .map(|one| (one.id.clone(), span.1))
                            .collect();
                        let _step = next_step(now, &authorities, &seen.view(), &rules());
                        for command in commands() {
                            let _judged = judge(now, &authorities, &seen.view(), &rules(), &command);
                        }
                        let _alert = authorities.revocations.alert(&authorities.lists_of(now), now);
                        let _end = authorities.expected_end(&seen.view(), &rules(), now);
                        let _serving = authorities.serving_issuers(now);
                        let mut changed = authorities.clone();
                        changed.revocations.forget_ended(now);
                        changed.revocations.note_failure(&authorities.revocations, now);
                        changed.add_issuing(&id("r1"), test_authorities::issuing_ca("other", START, DAY), now, true);
                    }
                }
            }
        }
    }
}

#[test]
fn a_root_without_an_end_is_rotated_like_any_other_when_an_operator_says_so() {
    let (mut authorities, mut seen) = (first(), Seen::nobody());
    authorities.roots[0].ca.not_after = NEVER;
    assert!(matches!(next_step(START, &authorities, &seen.view(), &rules()), Step::WaitUntil(at) if at > START));
    let prepare = judge(START, &authorities, &seen.view(), &rules(), &Command::Rotate).unwrap().unwrap();
    let authorities = take(&prepare, &authorities, &seen, START, "r2");
    let now = START + rules().propagation;
    let activate = next_step(now, &authorities, &seen.view(), &rules());
    assert_eq!(activate, Step::Activate(id("r2")));
    let authorities = take(&activate, &authorities, &seen, now, "r2");
    // As long as a certificate below it is said to live, it stays.
    seen.ends.insert(id("r1-issuing"), NEVER);
    assert!(matches!(next_step(now + 9 * DAY, &authorities, &seen.view(), &rules()), Step::WaitUntil(_)));
    seen.ends.clear();
    assert_eq!(next_step(now + 9 * DAY, &authorities, &seen.view(), &rules()), Step::Leave(id("r1")));
}
