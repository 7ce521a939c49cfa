//! When waiting is over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use AuthorityState::{Active, Old, Prepared, Revoked, Tainted, Unspecified};
use Phase::{Degraded, Drain, Emergency, Propagate, Settled};
use prost_types::Timestamp;
use signet_proto::admin::v1alpha1::{Coverage, Publisher};

use super::*;

/// When the root of before has just left the bundle, and a publisher has not told of that yet, or why it cannot.
fn publishing(rotation: Rotation, problem: &str) -> Rotation {
    let lacks = Publisher { lacking: true, problem: problem.to_owned(), ..Publisher::default() };
    Rotation { publishers: vec![Publisher::default(), lacks], ..rotation }
}

/// A root of a generation; its id repeats the generation.
fn root(generation: u64, state: AuthorityState) -> Authority {
    let id = generation.to_string().repeat(40);
    Authority { id, kind: AuthorityKind::Root.into(), state: state.into(), generation, ..Authority::default() }
}

fn rotation(phase: Phase, authorities: Vec<Authority>) -> Rotation {
    Rotation { phase: phase.into(), authorities, coverage: Some(Coverage::default()), ..Rotation::default() }
}

fn is(verdict: &Verdict, expected: &str) -> bool {
    match (verdict, expected) {
        (Verdict::Going, "going") => true,
        (Verdict::Done(_), "done") => true,
        (Verdict::Stopped(text), why) => text.contains(why),
        _ => false,
    }
}

#[test]
fn a_rotation_is_over_when_the_new_root_signs_alone_or_somebody_has_ended_it() {
    let goal = Goal::Signs(root(2, Unspecified).id);
    let tainted = Authority { tainted_at: Some(Timestamp::default()), ..root(2, Active) };
    let pinned = Authority { pinned: true, ..root(1, Old) };
    let paused = Rotation { paused: true, ..rotation(Propagate, vec![root(1, Active), root(2, Prepared)]) };
    let held = |generation| Authority { held: true, ..root(generation, Old) };
    for (rotation, expected) in [
        (rotation(Propagate, vec![root(1, Active), root(2, Prepared)]), "going"),
        (rotation(Drain, vec![root(1, Old), root(2, Active)]), "going"),
        (rotation(Drain, vec![held(1), root(2, Active)]), "done"),
        (rotation(Propagate, vec![held(1), root(2, Active), root(3, Prepared)]), "done"),
        (rotation(Drain, vec![root(0, Old), held(1), root(2, Active)]), "going"),
        (rotation(Emergency, vec![root(0, Tainted), held(1), root(2, Active)]), "going"),
        (rotation(Emergency, vec![root(1, Tainted), root(2, Active)]), "going"),
        (rotation(Settled, vec![root(2, Active)]), "done"),
        // Somebody has refused a bundle, or is cut off, which is told elsewhere.
        (rotation(Degraded, vec![root(2, Active)]), "done"),
        (rotation(Emergency, vec![root(2, Active)]), "done"),
        (publishing(rotation(Degraded, vec![root(2, Active)]), ""), "going"),
        (publishing(rotation(Degraded, vec![root(2, Active)]), "403"), "done"),
        (publishing(rotation(Propagate, vec![root(2, Active), root(3, Prepared)]), ""), "done"),
        (rotation(Propagate, vec![root(2, Active), root(3, Prepared)]), "done"),
        (rotation(Propagate, vec![root(1, Old), root(2, Active), root(3, Prepared)]), "going"),
        (rotation(Propagate, vec![pinned, root(2, Active), root(3, Prepared)]), "done"),
        (rotation(Emergency, vec![root(1, Tainted), root(2, Active), root(3, Prepared)]), "going"),
        (rotation(Settled, vec![root(1, Active)]), "rolled the rotation back"),
        (rotation(Drain, vec![root(1, Active), root(2, Old)]), "rolled the rotation back"),
        (rotation(Drain, vec![root(2, Old), root(3, Active)]), "replaced by a newer one"),
        (rotation(Emergency, vec![tainted]), "compromised"),
        (paused, "paused"),
    ] {
        let verdict = goal.verdict(&rotation);
        assert!(is(&verdict, expected), "{expected}: {verdict:?}");
    }
}

#[test]
fn the_goal_of_a_rotation_is_the_newest_root_on_its_way() {
    let goal = |authorities| Goal::of_rotate(&rotation(Phase::Unspecified, authorities));
    let two = Some(Goal::Signs(root(2, Unspecified).id));
    assert_eq!(goal(vec![root(1, Active), root(2, Prepared)]), two);
    // Picked up while the old one drains; an even newer one that was compromised is none to wait for.
    assert_eq!(goal(vec![root(1, Old), root(2, Active), root(3, Tainted)]), two);
    assert_eq!(goal(vec![]), None);
    // With files, it is whatever was put there.
    let pinned = |root: Authority| Authority { pinned: true, ..root };
    for authorities in [
        vec![pinned(root(1, Active))],
        vec![root(1, Active), pinned(root(2, Prepared))],
        vec![pinned(root(1, Active)), pinned(root(2, Old))],
    ] {
        assert_eq!(goal(authorities), Some(Goal::Adopted));
    }
}

#[test]
fn a_word_to_follow_other_files_is_over_when_a_root_of_theirs_signs_alone() {
    let pinned = |root: Authority| Authority { pinned: true, ..root };
    let tainted = |root: Authority| Authority { tainted_at: Some(Timestamp::default()), ..root };
    let of = |phase, roots| rotation(phase, roots);
    // What others had followed is about to be dropped, and has a higher generation.
    let asked = of(Propagate, vec![pinned(root(1, Old)), root(2, Active), root(3, Prepared)]);
    let goal = Goal::Adopted;
    assert_eq!(goal.title(&asked), "Rotation to the CA files that were adopted");
    assert!(goal.again().contains("authority adopt") && !goal.again().contains("rotate"), "that would be refused");
    let signing = of(Drain, vec![pinned(root(1, Active)), root(2, Old)]);
    for (rotation, expected) in [
        (asked, "going"),
        (of(Propagate, vec![pinned(root(1, Old)), root(2, Active)]), "going"),
        (signing.clone(), "going"),
        (of(Settled, vec![pinned(root(1, Active)), pinned(root(3, Old))]), "done"),
        (of(Degraded, vec![pinned(root(1, Active)), pinned(root(3, Old))]), "done"),
        (publishing(of(Degraded, vec![pinned(root(1, Active))]), ""), "going"),
        (publishing(of(Degraded, vec![pinned(root(1, Active))]), "403"), "done"),
        (of(Emergency, vec![pinned(root(1, Active)), pinned(root(3, Old))]), "done"),
        (of(Emergency, vec![pinned(root(1, Old)), root(2, Active)]), "going"),
        (of(Drain, vec![pinned(root(1, Active)), Authority { held: true, ..root(2, Old) }]), "done"),
        (of(Drain, vec![pinned(root(1, Old)), root(2, Active), Authority { held: true, ..root(3, Old) }]), "going"),
        (of(Propagate, vec![tainted(pinned(root(1, Tainted))), root(2, Active)]), "compromised"),
    ] {
        let verdict = goal.verdict(&rotation);
        assert!(is(&verdict, expected), "{expected}: {verdict:?}");
    }
    let holders = |root: Authority, holders| Authority { holders, ..root };
    let moving = of(Drain, vec![holders(pinned(root(1, Active)), 2), holders(root(2, Old), 3)]);
    assert_eq!(goal.renewed(&moving), Some((2, 5)));
    let before = of(Propagate, vec![pinned(root(1, Old)), holders(root(2, Active), 3)]);
    assert_eq!(goal.renewed(&before), None);
}

#[test]
fn a_word_to_leave_the_files_is_over_when_an_own_root_signs() {
    // The own root is not made yet: the files' one signs, unwanted.
    let asked = rotation(Propagate, vec![root(1, Active)]);
    let goal = Goal::Adopted;
    assert!(is(&goal.verdict(&asked), "going"), "{goal:?}");
    let prepared = rotation(Propagate, vec![root(1, Active), root(2, Prepared)]);
    let drain = rotation(Drain, vec![root(1, Old), root(2, Active)]);
    assert!(is(&goal.verdict(&prepared), "going") && is(&goal.verdict(&drain), "going"));
    assert!(is(&goal.verdict(&rotation(Settled, vec![root(2, Active)])), "done"));
    let paused = Rotation { paused: true, ..asked };
    assert!(is(&goal.verdict(&paused), "paused"));
    assert_eq!(Goal::of_rotate(&prepared), Some(Goal::Signs(root(2, Unspecified).id)));
}

#[test]
fn a_compromised_root_is_done_with_when_nobody_uses_it() {
    let goal = Goal::Unused(root(1, Unspecified).id);
    let used = Authority { holders: 3, tainted_at: Some(Timestamp::default()), ..root(1, Tainted) };
    let signing = Authority { tainted_at: Some(Timestamp::default()), ..root(1, Active) };
    for (authorities, expected) in [
        (vec![signing, root(2, Prepared)], "going"),
        (vec![used, root(2, Active)], "going"),
        (vec![Authority { tainted_at: Some(Timestamp::default()), ..root(1, Tainted) }, root(2, Active)], "done"),
        (vec![root(2, Active)], "done"),
    ] {
        let verdict = goal.verdict(&rotation(Emergency, authorities));
        assert!(is(&verdict, expected), "{expected}: {verdict:?}");
    }
}

#[test]
fn a_compromised_issuing_ca_is_done_with_when_nobody_uses_it() {
    let goal = Goal::Unused("ab".repeat(20));
    let issuing = |holders| Authority {
        id: "ab".repeat(20),
        kind: AuthorityKind::Issuing.into(),
        state: Old.into(),
        holders,
        ..Authority::default()
    };
    for (holders, expected) in [(2, "going"), (0, "done")] {
        let rotation = rotation(Settled, vec![root(1, Active), issuing(holders)]);
        let verdict = goal.verdict(&rotation);
        assert!(is(&verdict, expected), "{expected}: {verdict:?}");
        assert!(goal.title(&rotation).contains("issuing CA abababab"));
    }
    assert!(is(&goal.verdict(&rotation(Settled, vec![root(1, Active)])), "done"));
    assert!(goal.again().contains("authority taint abababab --wait"));
}

#[test]
fn the_renewal_of_an_issuing_ca_is_over_when_the_new_one_signs() {
    let issuing = |id: &str, state: AuthorityState| Authority {
        id: id.into(),
        kind: AuthorityKind::Issuing.into(),
        state: state.into(),
        root: root(1, Unspecified).id,
        ..Authority::default()
    };
    let with = |states: [AuthorityState; 2]| {
        rotation(Settled, vec![root(1, Active), issuing("aa", states[0]), issuing("bb", states[1])])
    };
    let goal = Goal::of_renewal(&with([Active, Prepared])).unwrap();
    assert_eq!(goal, Goal::Issues("bb".into()));
    assert!(is(&goal.verdict(&with([Active, Prepared])), "going"));
    assert!(is(&goal.verdict(&with([Old, Active])), "done"));
    assert!(is(&goal.verdict(&with([Active, Revoked])), "another one"));
}

#[test]
fn a_phase_or_a_state_of_a_newer_ca_decides_nothing() {
    let unknown = |one: Authority| Authority { state: 99, ..one };
    let going = |goal: &Goal, phase: i32, authorities: Vec<Authority>| {
        let rotation = Rotation { phase, ..rotation(Settled, authorities) };
        let verdict = goal.verdict(&rotation);
        assert!(is(&verdict, "going"), "{goal:?} {phase}: {verdict:?}");
    };
    let (signs, used) = (Goal::Signs(root(2, Active).id), Goal::Unused(root(1, Active).id));
    going(&signs, 99, vec![root(1, Old), root(2, Active)]);
    going(&signs, Settled.into(), vec![root(1, Active), unknown(root(2, Prepared))]);
    going(&Goal::Adopted, 99, vec![root(2, Active)]);
    going(&used, Settled.into(), vec![unknown(root(1, Tainted)), root(2, Active)]);
    let issuing = Authority { id: "aa".into(), kind: AuthorityKind::Issuing.into(), ..Authority::default() };
    going(&Goal::Issues("aa".into()), Settled.into(), vec![root(1, Active), unknown(issuing)]);
    let kind = Authority { kind: 99, ..root(3, Prepared) };
    assert_eq!(Goal::of_rotate(&rotation(Settled, vec![root(2, Active), kind])), Some(signs));
}

#[test]
fn moving_over_counts_once_the_new_root_signs() {
    let holders = |root: Authority, holders| Authority { holders, ..root };
    let goal = Goal::Signs(root(2, Unspecified).id);
    let before = rotation(Propagate, vec![holders(root(1, Active), 5), root(2, Prepared)]);
    let after = rotation(Drain, vec![holders(root(1, Old), 3), holders(root(2, Active), 2)]);
    assert_eq!((goal.renewed(&before), goal.renewed(&after)), (None, Some((2, 5))));
    assert_eq!(Goal::Unused(root(1, Unspecified).id).renewed(&after), Some((2, 5)));
}
