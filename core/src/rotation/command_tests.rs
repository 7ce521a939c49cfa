//! Tests of what operators may do, by the state that their commands meet.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use super::super::test_authorities::{DAY, START, Seen, draining, first, id, issuing_ca, offer, prepared, rules, take};
use super::*;
use crate::source::{Offer, OfferedCa, SourceFingerprint};

#[test]
fn a_repeated_rollback_never_returns_to_what_was_taken_back() {
    let seen = Seen::nobody();
    let back = take(&Step::Reinstate(id("r1")), &draining(), &seen, START, "x");
    assert_eq!(judge(START, &back, &seen.view(), &rules(), &Command::Rollback), Err(Refused::NothingToRollBack));
    // Nor to a root that was forced upon holders who do not know it.
    let third = take(&Step::PrepareRoot(Activation::OnCommand), &draining(), &seen, START, "r3");
    let third = take(&Step::Activate(id("r3")), &third, &seen, START, "r3");
    let behind = Seen::holders(&[(1, 1)]);
    let back = judge(START, &third, &behind.view(), &rules(), &Command::Rollback);
    assert_eq!(back, Ok(Some(Step::Reinstate(id("r1")))), "r2 is newer, but not known to all");
}

#[test]
fn going_on_after_a_backup_is_done_once_and_only_for_what_somebody_has_shown() {
    let (seen, authorities) = (Seen::nobody(), first());
    let at = authorities.bundle_sequence;
    let ask = |authorities: &Authorities, shown| {
        judge(START, authorities, &seen.view(), &rules(), &Command::Resume { shown })
    };
    for (shown, expected) in [(0, None), (at, None), (at + 1, Some(Step::Resume(at + 1)))] {
        assert_eq!(ask(&authorities, shown), Ok(expected), "{shown}");
    }
    let after = take(&Step::Resume(at + 1), &authorities, &seen, START, "x");
    assert_eq!(ask(&after, at + 1), Ok(None), "said again");
    assert_eq!(ask(&Authorities::default(), 9), Err(Refused::NoAuthority));
}

#[test]
fn commands_are_judged_by_the_state_they_meet() {
    let seen = Seen::holders(&[(1, 1), (2, 2)]);
    let covered = Seen::holders(&[(2, 3)]);
    let waiting = prepared(Activation::OnCommand);
    let drain = draining();
    let tainted = take(&Step::Taint(id("r1")), &drain, &seen, START, "x");
    let activate = |name: &str, force| Command::Activate { id: id(name), force };
    let revoke = |name: &str| Command::Revoke { id: id(name), force: false };
    let taint = |name: &str| Command::Taint { id: id(name), force: false };
    let late = START + DAY;
    let ask = |authorities: &Authorities, seen: &Seen, now, command: &Command| {
        judge(now, authorities, &seen.view(), &rules(), command)
    };
    let state = |result: Result<Option<Step>, Refused>| matches!(result, Err(Refused::State { .. }));
    assert_eq!(ask(&first(), &seen, late, &Command::Prepare), Ok(Some(Step::PrepareRoot(Activation::OnCommand))));
    assert_eq!(ask(&waiting, &seen, late, &Command::Prepare), Ok(None), "prepared already");
    assert_eq!(ask(&waiting, &seen, late, &Command::Rotate), Ok(Some(Step::Await(id("r2"), Activation::WhenCovered))));
    assert_eq!(ask(&drain, &seen, late, &Command::Rotate), Ok(None), "goes on with the one under way");
    assert_eq!(ask(&waiting, &covered, late, &activate("r2", false)), Ok(Some(Step::Activate(id("r2")))));
    assert!(matches!(
        ask(&waiting, &seen, late, &activate("r2", false)),
        Err(Refused::NotCovered { behind: 1, live: 3, sequence: 2, .. })
    ));
    assert!(matches!(ask(&waiting, &covered, START, &activate("r2", false)), Err(Refused::TooSoon { .. })));
    let jumped = Seen { steady: false, ..Seen::holders(&[(2, 3)]) };
    assert_eq!(ask(&waiting, &jumped, late, &activate("r2", false)), Err(Refused::ClockJumped));
    assert_eq!(ask(&waiting, &seen, START, &activate("r2", true)), Ok(Some(Step::Activate(id("r2")))));
    assert_eq!(ask(&waiting, &covered, late, &activate("r1", true)), Ok(None), "it signs already");
    let compromised = take(&Step::Taint(id("r1")), &first(), &seen, START, "x");
    assert!(state(ask(&compromised, &covered, late, &activate("r1", true))), "active and tainted");
    assert!(state(ask(&drain, &covered, late, &activate("r1", true))), "old");
    assert!(state(ask(&tainted, &covered, late, &activate("r1", true))), "tainted");
    assert_eq!(ask(&waiting, &seen, late, &activate("r9", false)), Err(Refused::Unknown(id("r9"))));
    assert_eq!(ask(&waiting, &seen, late, &Command::Rollback), Ok(Some(Step::DropPrepared(id("r2"), true))));
    assert_eq!(ask(&drain, &seen, late, &Command::Rollback), Ok(Some(Step::Reinstate(id("r1")))));
    assert_eq!(ask(&first(), &seen, late, &Command::Rollback), Err(Refused::NothingToRollBack));
    assert_eq!(
        ask(&tainted, &seen, late, &Command::Rollback),
        Err(Refused::NothingToRollBack),
        "never to a tainted one"
    );
    assert_eq!(ask(&drain, &seen, late, &taint("r2")), Ok(Some(Step::Taint(id("r2")))));
    assert_eq!(ask(&waiting, &seen, late, &taint("r2")), Ok(Some(Step::DropPrepared(id("r2"), false))));
    assert!(state(ask(&drain, &seen, late, &revoke("r1"))), "not tainted");
    assert!(state(ask(&drain, &seen, late, &revoke("r2"))), "active");
    assert_eq!(ask(&tainted, &seen, late, &revoke("r1")), Ok(Some(Step::Revoke(id("r1")))));
    assert_eq!(ask(&tainted, &seen, START, &revoke("r1")), Err(Refused::Settling(id("r1"))));
    let mut needed = Seen::holders(&[(2, 3)]);
    needed.coverage.by_authority.insert(id("r1-issuing"), 2);
    assert!(matches!(ask(&tainted, &needed, late, &revoke("r1")), Err(Refused::Needed { holders: 2, .. })));
    let forced = Command::Revoke { id: id("r1"), force: true };
    assert_eq!(ask(&tainted, &needed, late, &forced), Ok(Some(Step::Revoke(id("r1")))));
    assert!(state(ask(&drain, &seen, START, &revoke("r2-issuing"))), "signing");
    assert_eq!(ask(&drain, &seen, START, &revoke("r1-issuing")), Ok(Some(Step::RevokeIssuing(id("r1-issuing")))));
    assert_eq!(ask(&Authorities::default(), &seen, late, &Command::Rotate), Err(Refused::NoAuthority));
}

#[test]
fn what_is_tainted_already_may_be_tainted_again_and_nothing_more_is_done() {
    let (seen, late) = (Seen::nobody(), START + DAY);
    let ask = |authorities: &Authorities, seen: &Seen, now, name: &str, force| {
        judge(now, authorities, &seen.view(), &rules(), &Command::Taint { id: id(name), force })
    };
    let signs = take(&Step::Taint(id("r1")), &first(), &seen, START, "x");
    let replaced = take(&Step::Taint(id("r1")), &draining(), &seen, START, "x");
    for force in [false, true] {
        assert_eq!(ask(&signs, &seen, late, "r1", force), Ok(None), "it signs still");
        assert_eq!(ask(&replaced, &seen, late, "r1", force), Ok(None), "another one signs");
    }
    // With the operator's own CA, a switch cannot be forced; after the switch there is nothing to force.
    let offer = Offer {
        roots: Vec::new(),
        signer: id("r2"),
        issuing: OfferedCa::Given(issuing_ca("files", START, DAY)),
        revocation_lists: Vec::new(),
        lists_on_demand: false,
        fingerprint: SourceFingerprint::own(),
    };
    let files = Seen::nobody().offered(offer);
    assert_eq!(ask(&signs, &files, late, "r1", false), Ok(None));
    assert_eq!(ask(&signs, &files, late, "r1", true), Err(Refused::Foreign));
    assert_eq!(ask(&first(), &files, late, "r1", true), Err(Refused::Foreign));
    assert_eq!(ask(&replaced, &files, late, "r1", true), Ok(None));
    // An issuing CA: one hint, whose window does not begin again, as long as there is somebody to follow it.
    let step = Step::TaintIssuing(id("r1-issuing"));
    assert_eq!(ask(&draining(), &seen, late, "r1-issuing", false), Ok(Some(step.clone())));
    let told = take(&step, &draining(), &seen, START, "x");
    assert_eq!(ask(&told, &seen, late, "r1-issuing", false), Ok(None));
    assert_eq!(ask(&told, &seen, START + 31 * DAY, "r1-issuing", false), Ok(Some(step)), "the hint has ended");
}

#[test]
fn nothing_is_settled_while_the_root_that_signs_is_not_that_of_the_adopted_source() {
    let now = START + DAY;
    let files = |name: &str| Seen::holders(&[(9, 3)]).offered(offer(name, &format!("{name}-signer")));
    let (one, two) = (files("f1"), files("f2"));
    let adopted = |seen: &Seen, authorities: &Authorities| {
        let seen = Seen { source: seen.source.clone(), ..Seen::nobody() };
        take(&Step::AdoptRoots, authorities, &seen, now, "x")
    };
    let waiting = adopted(&one, &first());
    assert_eq!(Phase::of(&waiting), Phase::Propagate);
    let signs = take(&Step::Activate(id("f1")), &waiting, &one, now, "x");
    assert_eq!(Phase::of(&signs), Phase::Drain);
    let alone = take(&Step::Retire(id("r1")), &signs, &one, now, "x");
    assert_eq!(Phase::of(&alone), Phase::Settled);
    // Other files and back: the first root is known, so it is not prepared again, yet it does not sign.
    let other = take(&Step::Activate(id("f2")), &adopted(&two, &alone), &two, now, "x");
    let back = adopted(&one, &other);
    assert_eq!((back.prepared(), back.active().unwrap().pinned), (None, false));
    assert_eq!(Phase::of(&back), Phase::Propagate);
    // To our own: somebody else's root signs until there is one.
    let own = adopted(&Seen::nobody(), &alone);
    assert_eq!((own.roots.len(), Phase::of(&own)), (1, Phase::Propagate));
}
