//! Each condition against records, and the conditions of each step.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::super::test_authorities::{START, Seen, draining, id, prepared, rules};
use super::super::{Activation, Command, Refused, judge, next_step, unpublished};
use super::*;
use crate::holder::{Count, Raise};
use crate::publication::{Publication, Publications};

/// One publisher that had these bundles in place first at these times, and was heard of at [`START`].
fn published(publisher: &str, reached: &[(u64, OffsetDateTime)]) -> Publications {
    let reached = reached.iter().copied().collect();
    let publisher = publisher.to_owned();
    Publications::new(vec![Publication { publisher, reached, wanted: 1, in_place: 1, problem: None, heard_at: START }])
}

#[test]
fn a_condition_holds_exactly_when_the_records_say_so() {
    let count = |holders, acknowledging| Count { holders, acknowledging };
    let coverage = Coverage {
        by_sequence: [(3, count(1, 0)), (4, count(8, 1)), (5, count(1, 1))].into(),
        by_authority: [(id("a"), 9), (id("b"), 0), (id("c"), 1)].into(),
        gone: 5,
        raised: vec![Raise { before: 3, after: 4, at: START }],
        published: published("a", &[(4, START)]),
    };
    let there = |sequence, publishers: &[&str], by| Condition::Published {
        sequence,
        publishers: publishers.iter().map(ToString::to_string).collect(),
        by,
        now: START,
    };
    let ends = [(id("a"), START), (id("b"), START - SETTLE)].into();
    let ids = |names: &[&str]| names.iter().map(|name| id(name)).collect::<Vec<_>>();
    for (condition, holds) in [
        (Condition::Covered { sequence: 3, percent: 100 }, true),
        (Condition::Covered { sequence: 4, percent: 100 }, false),
        (Condition::Covered { sequence: 4, percent: 90 }, true),
        (Condition::Covered { sequence: 4, percent: 91 }, false),
        (Condition::CaughtUp { sequence: 4, by: START }, true),
        (Condition::CaughtUp { sequence: 4, by: START - SETTLE }, false),
        (Condition::CaughtUp { sequence: 3, by: START - SETTLE }, true),
        (Condition::CaughtUp { sequence: 5, by: START - SETTLE }, true),
        (there(4, &["a"], START), true),
        (there(3, &[], START), true),
        (there(4, &["a", "b"], START), false),
        (there(5, &["a"], START), false),
        (there(5, &[], START), false),
        (there(4, &["a"], START - SETTLE), false),
        (Condition::Arrived { sequence: 4 }, true),
        (Condition::Arrived { sequence: 5 }, false),
        (Condition::Left(ids(&["b", "nobody"])), true),
        (Condition::Left(ids(&["b", "c"])), false),
        (Condition::Left(Vec::new()), true),
        (Condition::Drained(ids(&["a", "b", "nobody"]), START), true),
        (Condition::Drained(ids(&["a", "b"]), START - SETTLE), false),
        (Condition::Drained(ids(&["b"]), START - SETTLE), true),
    ] {
        assert_eq!(condition.holds(&coverage, &ends), holds, "{condition:?}");
    }
}

#[test]
fn every_step_that_needs_holders_or_their_absence_is_taken_on_condition() {
    let (waiting, draining) = (prepared(Activation::WhenCovered), draining());
    let (r1, r2) = (id("r1"), id("r2"));
    let old = vec![id("r1-issuing")];
    let by = START - SETTLE;
    for (step, authorities, expected) in [
        (
            Step::Activate(r2.clone()),
            &waiting,
            vec![
                Condition::Covered { sequence: 2, percent: 99 },
                Condition::CaughtUp { sequence: 2, by: START - rules().propagation },
                Condition::Published {
                    sequence: 2,
                    publishers: Vec::new(),
                    by: START - rules().propagation,
                    now: START,
                },
            ],
        ),
        (Step::Activate(r1.clone()), &draining, vec![Condition::Covered { sequence: 1, percent: 100 }]),
        (Step::Reinstate(r1.clone()), &draining, vec![Condition::Covered { sequence: 1, percent: 100 }]),
        (Step::Leave(r1.clone()), &draining, vec![Condition::Drained(old.clone(), START)]),
        (Step::Retire(r1.clone()), &draining, vec![Condition::Drained(old.clone(), by)]),
        (Step::Revoke(r1.clone()), &draining, vec![Condition::Left(old.clone())]),
        (Step::RevokeIssuing(id("r1-issuing")), &draining, vec![Condition::Left(old)]),
        (Step::Taint(r1.clone()), &draining, vec![]),
        (Step::DropPrepared(r2, true), &waiting, vec![]),
        (Step::PrepareRoot(Activation::OnCommand), &draining, vec![]),
    ] {
        let rules = Rules { coverage: 99, ..rules() };
        assert_eq!(conditions(&step, authorities, &Seen::nobody().view(), &rules, START), expected, "{step:?}");
    }
}

#[test]
fn activation_waits_after_the_last_holder_that_had_been_behind_and_for_nobody_else() {
    let second = std::time::Duration::from_secs(1);
    let (authorities, now) = (prepared(Activation::WhenCovered), START + rules().propagation);
    let command = Command::Activate { id: id("r2"), force: false };
    for (before, after, until) in [(1, 2, now + second), (0, 9, now + second), (2, 3, now), (0, 1, now)] {
        let mut seen = Seen::holders(&[(2, 3)]);
        seen.coverage.raised = vec![Raise { before, after, at: START + second }];
        let activate = Step::Activate(id("r2"));
        let next = |at| next_step(at, &authorities, &seen.view(), &rules());
        let judged = |at| judge(at, &authorities, &seen.view(), &rules(), &command);
        assert_eq!((next(until), judged(until)), (activate.clone(), Ok(Some(activate.clone()))), "{before} {after}");
        // What was decided before it was counted is judged once more when it is done.
        let holds = |at| {
            let all = conditions(&activate, &authorities, &seen.view(), &rules(), at);
            all.iter().all(|one| one.holds(&seen.coverage, &seen.ends))
        };
        assert!(holds(until));
        if until > now {
            assert_eq!(next(now), Step::WaitUntil(until));
            assert!(matches!(judged(now), Err(Refused::TooSoon { .. })) && !holds(now));
        }
    }
    assert_eq!((authorities.awaited(), draining().awaited()), (Some((2, 2)), None));
}

#[test]
fn what_the_rules_let_happen_fulfils_its_conditions() {
    let now = START + std::time::Duration::from_secs(3600);
    for (authorities, seen) in
        [(prepared(Activation::WhenCovered), Seen::holders(&[(2, 3)])), (draining(), Seen::nobody())]
    {
        let step = next_step(now, &authorities, &seen.view(), &rules());
        let all = conditions(&step, &authorities, &seen.view(), &rules(), now);
        assert!(!all.is_empty() && all.iter().all(|one| one.holds(&seen.coverage, &seen.ends)), "{step:?} {all:?}");
    }
}

#[test]
fn a_root_that_is_not_published_everywhere_does_not_sign_unless_it_is_forced() {
    let (authorities, minute) = (prepared(Activation::WhenCovered), std::time::Duration::from_secs(60));
    let (reached, late) = (START + minute, START + minute + rules().propagation);
    let (activate, hour) = (Step::Activate(id("r2")), START + 60 * minute);
    let mut seen = Seen::holders(&[(2, 3)]);
    seen.publishers = vec!["config-map/a".to_owned()];
    let judged = |seen: &Seen, at, force| {
        judge(at, &authorities, &seen.view(), &rules(), &Command::Activate { id: id("r2"), force })
    };
    // Nobody has said anything of it yet; then it has the bundle of before; then another replica's lacks it.
    for published in [
        Publications::default(),
        published("config-map/a", &[(1, START)]),
        Publications::new(
            [published("config-map/a", &[(2, START)]), published("file/b", &[(1, START)])]
                .iter()
                .flat_map(|one| one.all().to_vec())
                .collect(),
        ),
    ] {
        seen.coverage.published = published;
        let at = START + rules().propagation;
        assert!(matches!(next_step(at, &authorities, &seen.view(), &rules()), Step::WaitUntil(_)));
        let Err(Refused::NotPublished { publishers, sequence: 2, .. }) = judged(&seen, at, false) else { panic!() };
        assert!(["config-map/a", "file/b"].contains(&publishers.as_str()), "{publishers}");
        assert_eq!(judged(&seen, at, true), Ok(Some(activate.clone())));
        assert_eq!(authorities.expected_end(&seen.view(), &rules(), at), None);
        let unsettled = crate::rotation::Unsettled::of(&authorities, &seen.view(), at);
        assert_eq!((unsettled.unpublished, unsettled.is_nothing()), (1, false));
    }
    // From the moment on at which the last place has it, it is to propagate.
    seen.coverage.published = published("config-map/a", &[(1, START), (2, reached), (3, hour)]);
    assert_eq!(next_step(reached, &authorities, &seen.view(), &rules()), Step::WaitUntil(late));
    assert!(matches!(judged(&seen, reached, false), Err(Refused::TooSoon { .. })));
    assert_eq!(next_step(late, &authorities, &seen.view(), &rules()), activate);
    assert!(authorities.expected_end(&seen.view(), &rules(), late).is_some());
    // A root that has signed before is where it was published.
    let draining = draining();
    seen.coverage.published = Publications::default();
    let all = conditions(&Step::Activate(id("r1")), &draining, &seen.view(), &rules(), START);
    assert!(all.iter().all(|one| !matches!(one, Condition::Published { .. })), "{all:?}");
    let lacking = |authorities: &Authorities, name: &str, now| {
        unpublished(authorities, authorities.root(&id(name)).unwrap(), &seen.view(), &rules(), now)
    };
    assert!(lacking(&draining, "r1", START).is_empty());
    // While one signs, the next one is waited for; when that has ended, nothing is better than it.
    let end = authorities.active().unwrap().not_after;
    assert_eq!(lacking(&authorities, "r2", end - minute), ["config-map/a"]);
    assert!(lacking(&authorities, "r2", end).is_empty());
}
