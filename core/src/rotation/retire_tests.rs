//! When a former root goes, and what an operator may say about it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use super::super::test_authorities::{DAY, START, Seen, draining, first, id, prepared, rules, take};
use super::super::{Activation, Command, Condition, LAG, Phase, conditions, judge, next_step};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn step(authorities: &Authorities, step: &Step) -> Authorities {
    take(step, authorities, &Seen::nobody(), START, "x")
}

fn next(now: OffsetDateTime, authorities: &Authorities, seen: &Seen, retirement: Retirement) -> Step {
    next_step(now, authorities, &seen.view(), &Rules { retirement, ..rules() })
}

/// The last certificate under r1 ends at this time.
fn until(end: OffsetDateTime) -> Seen {
    let mut seen = Seen::nobody();
    seen.ends.insert(id("r1-issuing"), end);
    seen
}

#[test]
fn a_drained_root_is_left_first_and_dropped_when_every_replica_has_moved() {
    let (end, r1) = (START + DAY, id("r1"));
    let (seen, automatic) = (until(end), Retirement::Automatic);
    assert_eq!(next(end - SECOND, &draining(), &seen, automatic), Step::WaitUntil(end));
    assert_eq!(next(end, &draining(), &seen, automatic), Step::Leave(r1.clone()));
    let leave = conditions(&Step::Leave(r1.clone()), &draining(), &seen.view(), &rules(), end);
    assert_eq!(leave, [Condition::Drained(vec![id("r1-issuing")], end)], "counted again when it is taken");
    for late in [Duration::ZERO, 5 * DAY] {
        let left = end + late;
        let leaving = take(&Step::Leave(r1.clone()), &draining(), &seen, left, "x");
        assert_eq!((leaving.bundle_sequence, Phase::of(&leaving)), (2, Phase::Drain), "nothing is published anew");
        assert_eq!(leaving.expected_end(&seen.view(), &rules(), left), Some(left + SETTLE + LAG));
        assert_eq!(next(left + SETTLE - SECOND, &leaving, &seen, automatic), Step::WaitUntil(left + SETTLE));
        assert_eq!(next(left + SETTLE, &leaving, &seen, automatic), Step::Retire(r1.clone()));
    }
    // One that the files list again stays, and so does one that signs again.
    let mut pinned = step(&draining(), &Step::Leave(r1.clone()));
    pinned.roots[0].pinned = true;
    assert!(matches!(next(end + DAY, &pinned, &seen, automatic), Step::WaitUntil(_) | Step::AdoptRoots));
    let back = step(&step(&draining(), &Step::Leave(r1.clone())), &Step::Reinstate(r1.clone()));
    assert_eq!(back.root(&r1).unwrap().leaving_since(), None);
    // A compromised one has been left when another one began to sign.
    let tainted = step(&draining(), &Step::Taint(r1.clone()));
    assert_eq!(next(end + SETTLE - SECOND, &tainted, &seen, automatic), Step::WaitUntil(end + SETTLE));
    assert_eq!(next(end + SETTLE, &tainted, &seen, automatic), Step::Retire(r1));
}

#[test]
fn held_by_hand_a_drained_root_stays_until_an_operator_says_so_but_a_compromised_one_goes() {
    let (end, r1) = (START + DAY, id("r1"));
    let (seen, manual) = (until(end), Rules { retirement: Retirement::Manual, ..rules() });
    let held = |authorities: &Authorities, now| is_held(&authorities.roots[0], &seen.view(), &manual, now);
    // As long as the issuing CA of r2 is not due.
    for now in [end, end + SETTLE, end + 9 * DAY] {
        assert!(matches!(next(now, &draining(), &seen, manual.retirement), Step::WaitUntil(_)), "{now}");
        assert!(held(&draining(), now), "{now}");
    }
    assert!(!held(&draining(), end - SECOND) && !held(&first(), end));
    assert!(!is_held(&draining().roots[0], &seen.view(), &rules(), end), "by itself");
    let leaving = take(&Step::Leave(r1.clone()), &draining(), &seen, end, "x");
    assert!(!held(&leaving, end));
    assert_eq!(next(end + SETTLE, &leaving, &seen, manual.retirement), Step::Retire(r1.clone()));
    let tainted = step(&draining(), &Step::Taint(r1.clone()));
    assert_eq!(next(end + SETTLE, &tainted, &seen, manual.retirement), Step::Retire(r1));
}

#[test]
fn a_root_that_is_held_is_in_no_rotations_way_but_one_that_drains_or_leaves_is() {
    let (end, manual) = (START + DAY, Rules { retirement: Retirement::Manual, ..rules() });
    let seen = until(end);
    let rotate = |now, authorities: &Authorities| judge(now, authorities, &seen.view(), &manual, &Command::Rotate);
    assert_eq!(rotate(end - SECOND, &draining()), Ok(None), "it drains");
    assert_eq!(rotate(end, &draining()), Ok(Some(Step::PrepareRoot(Activation::WhenCovered))));
    let leaving = take(&Step::Leave(id("r1")), &draining(), &seen, end, "x");
    assert_eq!(rotate(end, &leaving), Ok(None), "an operator let it go");
}

#[test]
fn an_operator_retires_a_former_root_that_nothing_chains_to_and_nothing_else() {
    let (end, r1) = (START + DAY, id("r1"));
    let mut seen = until(end);
    seen.coverage.by_authority.insert(id("r1-issuing"), 2);
    let ask = |authorities: &Authorities, seen: &Seen, now, root: &str| {
        judge(now, authorities, &seen.view(), &rules(), &Command::Retire { id: id(root) })
    };
    let state = |result: Result<Option<Step>, Refused>| matches!(result, Err(Refused::State { .. }));
    let chained = Refused::StillChained { id: r1.clone(), holders: 2, until: "2026-03-02T12:00:00Z".to_owned() };
    assert_eq!(ask(&draining(), &seen, end - SECOND, "r1"), Err(chained));
    assert_eq!(ask(&draining(), &seen, end, "r1"), Ok(Some(Step::Leave(r1.clone()))));
    let jumped = Seen { steady: false, ..until(end) };
    assert_eq!(ask(&draining(), &jumped, end, "r1"), Err(Refused::ClockDoubtful));
    let leaving = step(&draining(), &Step::Leave(r1.clone()));
    assert_eq!(ask(&leaving, &seen, START, "r1"), Ok(None), "said again");
    assert_eq!(ask(&leaving, &seen, end, "r9"), Err(Refused::Unknown(id("r9"))));
    let mut pinned = draining();
    pinned.roots[0].pinned = true;
    let tainted = step(&draining(), &Step::Taint(r1));
    for (name, authorities, root) in [
        ("signs", draining(), "r2"),
        ("has signed nothing", prepared(Activation::OnCommand), "r2"),
        ("is compromised", tainted, "r1"),
        ("is listed", pinned, "r1"),
    ] {
        assert!(state(ask(&authorities, &seen, end, root)), "{name}");
    }
    // Whoever leaves all steps to others may say it too: it only marks what the journal holds.
    let mut late = until(end);
    late.source.standing = crate::source::SourceStanding::Superseded;
    assert!(matches!(ask(&draining(), &late, end, "r1"), Ok(Some(Step::Leave(_)))));
}
