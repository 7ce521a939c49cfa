//! When waiting is over, and what is told on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use signet_proto::admin::v1alpha1::Coverage;

use super::*;

/// A root of a generation; its id repeats the generation.
fn root(generation: u64, state: &str) -> Authority {
    let id = generation.to_string().repeat(40);
    Authority { id, kind: "root".into(), state: state.into(), generation, ..Authority::default() }
}

fn rotation(phase: &str, authorities: Vec<Authority>) -> Rotation {
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
    let goal = Goal::Signs(root(2, "").id);
    let tainted = Authority { tainted_at: 1, ..root(2, "active") };
    let pinned = Authority { pinned: true, ..root(1, "old") };
    let paused = Rotation { paused: true, ..rotation("propagate", vec![root(1, "active"), root(2, "prepared")]) };
    let held = |generation| Authority { held: true, ..root(generation, "old") };
    for (rotation, expected) in [
        (rotation("propagate", vec![root(1, "active"), root(2, "prepared")]), "going"),
        (rotation("drain", vec![root(1, "old"), root(2, "active")]), "going"),
        (rotation("drain", vec![held(1), root(2, "active")]), "done"),
        (rotation("propagate", vec![held(1), root(2, "active"), root(3, "prepared")]), "done"),
        (rotation("drain", vec![root(0, "old"), held(1), root(2, "active")]), "going"),
        (rotation("emergency", vec![root(0, "tainted"), held(1), root(2, "active")]), "going"),
        (rotation("emergency", vec![root(1, "tainted"), root(2, "active")]), "going"),
        (rotation("settled", vec![root(2, "active")]), "done"),
        (rotation("propagate", vec![root(2, "active"), root(3, "prepared")]), "done"),
        (rotation("propagate", vec![root(1, "old"), root(2, "active"), root(3, "prepared")]), "going"),
        (rotation("propagate", vec![pinned, root(2, "active"), root(3, "prepared")]), "done"),
        (rotation("emergency", vec![root(1, "tainted"), root(2, "active"), root(3, "prepared")]), "going"),
        (rotation("settled", vec![root(1, "active")]), "rolled the rotation back"),
        (rotation("drain", vec![root(1, "active"), root(2, "old")]), "rolled the rotation back"),
        (rotation("drain", vec![root(2, "old"), root(3, "active")]), "replaced by a newer one"),
        (rotation("emergency", vec![tainted]), "compromised"),
        (paused, "paused"),
    ] {
        let verdict = goal.verdict(&rotation);
        assert!(is(&verdict, expected), "{expected}: {verdict:?}");
    }
}

#[test]
fn the_goal_of_a_rotation_is_the_newest_root_on_its_way() {
    let goal = |authorities| Goal::of_rotate(&rotation("", authorities));
    let two = Some(Goal::Signs(root(2, "").id));
    assert_eq!(goal(vec![root(1, "active"), root(2, "prepared")]), two);
    // Picked up while the old one drains; an even newer one that was compromised is none to wait for.
    assert_eq!(goal(vec![root(1, "old"), root(2, "active"), root(3, "tainted")]), two);
    assert_eq!(goal(vec![]), None);
}

#[test]
fn a_word_to_follow_other_files_is_over_when_a_root_of_theirs_signs_alone() {
    let pinned = |root: Authority| Authority { pinned: true, ..root };
    let tainted = |root: Authority| Authority { tainted_at: 1, ..root };
    let of = |phase: &str, roots| rotation(phase, roots);
    // What others had followed is about to be dropped, and has a higher generation.
    let asked = of("propagate", vec![pinned(root(1, "old")), root(2, "active"), root(3, "prepared")]);
    let goal = Goal::Followed;
    assert_eq!(goal.title(&asked), "Rotation to the CA files that were adopted");
    assert!(goal.again().contains("authority adopt") && !goal.again().contains("rotate"), "that would be refused");
    let signing = of("drain", vec![pinned(root(1, "active")), root(2, "old")]);
    for (rotation, expected) in [
        (asked, "going"),
        (of("propagate", vec![pinned(root(1, "old")), root(2, "active")]), "going"),
        (signing.clone(), "going"),
        (of("settled", vec![pinned(root(1, "active")), pinned(root(3, "old"))]), "done"),
        (of("drain", vec![pinned(root(1, "active")), Authority { held: true, ..root(2, "old") }]), "done"),
        (
            of("drain", vec![pinned(root(1, "old")), root(2, "active"), Authority { held: true, ..root(3, "old") }]),
            "going",
        ),
        (of("propagate", vec![tainted(pinned(root(1, "tainted"))), root(2, "active")]), "compromised"),
    ] {
        let verdict = goal.verdict(&rotation);
        assert!(is(&verdict, expected), "{expected}: {verdict:?}");
    }
    let holders = |root: Authority, holders| Authority { holders, ..root };
    let moving = of("drain", vec![holders(pinned(root(1, "active")), 2), holders(root(2, "old"), 3)]);
    assert_eq!(goal.renewed(&moving), Some((2, 5)));
    let before = of("propagate", vec![pinned(root(1, "old")), holders(root(2, "active"), 3)]);
    assert_eq!(goal.renewed(&before), None);
}

#[test]
fn a_word_to_leave_the_files_is_over_when_an_own_root_signs() {
    // The own root is not made yet: the files' one signs, unwanted.
    let asked = rotation("propagate", vec![root(1, "active")]);
    let goal = Goal::Followed;
    assert!(is(&goal.verdict(&asked), "going"), "{goal:?}");
    let prepared = rotation("propagate", vec![root(1, "active"), root(2, "prepared")]);
    let drain = rotation("drain", vec![root(1, "old"), root(2, "active")]);
    assert!(is(&goal.verdict(&prepared), "going") && is(&goal.verdict(&drain), "going"));
    assert!(is(&goal.verdict(&rotation("settled", vec![root(2, "active")])), "done"));
    let paused = Rotation { paused: true, ..asked };
    assert!(is(&goal.verdict(&paused), "paused"));
    assert_eq!(Goal::of_rotate(&prepared), Some(Goal::Signs(root(2, "").id)));
}

#[test]
fn a_compromised_root_is_done_with_when_nobody_uses_it() {
    let goal = Goal::Unused(root(1, "").id);
    let used = Authority { holders: 3, tainted_at: 1, ..root(1, "tainted") };
    let signing = Authority { tainted_at: 1, ..root(1, "active") };
    for (authorities, expected) in [
        (vec![signing, root(2, "prepared")], "going"),
        (vec![used, root(2, "active")], "going"),
        (vec![Authority { tainted_at: 1, ..root(1, "tainted") }, root(2, "active")], "done"),
        (vec![root(2, "active")], "done"),
    ] {
        let verdict = goal.verdict(&rotation("emergency", authorities));
        assert!(is(&verdict, expected), "{expected}: {verdict:?}");
    }
}

#[test]
fn a_compromised_issuing_ca_is_done_with_when_nobody_uses_it() {
    let goal = Goal::Unused("ab".repeat(20));
    let issuing = |holders| Authority {
        id: "ab".repeat(20),
        kind: "issuing".into(),
        state: "old".into(),
        holders,
        ..Authority::default()
    };
    for (holders, expected) in [(2, "going"), (0, "done")] {
        let rotation = rotation("settled", vec![root(1, "active"), issuing(holders)]);
        let verdict = goal.verdict(&rotation);
        assert!(is(&verdict, expected), "{expected}: {verdict:?}");
        assert!(goal.title(&rotation).contains("issuing CA abababab"));
    }
    assert!(is(&goal.verdict(&rotation("settled", vec![root(1, "active")])), "done"));
    assert!(goal.again().contains("authority taint abababab --wait"));
}

#[test]
fn the_renewal_of_an_issuing_ca_is_over_when_the_new_one_signs() {
    let issuing = |id: &str, state: &str| Authority {
        id: id.into(),
        kind: "issuing".into(),
        state: state.into(),
        root: root(1, "").id,
        ..Authority::default()
    };
    let with = |states: [&str; 2]| {
        rotation("settled", vec![root(1, "active"), issuing("aa", states[0]), issuing("bb", states[1])])
    };
    let goal = Goal::of_renewal(&with(["active", "prepared"])).unwrap();
    assert_eq!(goal, Goal::Issues("bb".into()));
    assert!(is(&goal.verdict(&with(["active", "prepared"])), "going"));
    assert!(is(&goal.verdict(&with(["old", "active"])), "done"));
    assert!(is(&goal.verdict(&with(["active", "revoked"])), "another one"));
}

#[test]
fn moving_over_counts_once_the_new_root_signs() {
    let holders = |root: Authority, holders| Authority { holders, ..root };
    let goal = Goal::Signs(root(2, "").id);
    let before = rotation("propagate", vec![holders(root(1, "active"), 5), root(2, "prepared")]);
    let after = rotation("drain", vec![holders(root(1, "old"), 3), holders(root(2, "active"), 2)]);
    assert_eq!((goal.renewed(&before), goal.renewed(&after)), (None, Some((2, 5))));
    assert_eq!(Goal::Unused(root(1, "").id).renewed(&after), Some((2, 5)));
}

#[test]
fn pipes_get_a_line_and_programs_an_object_per_change() {
    let first = rotation("propagate", vec![root(1, "active"), root(2, "prepared")]);
    let second = rotation("drain", vec![root(1, "old"), root(2, "active")]);
    let now = time::macros::datetime!(2026-03-01 12:00 UTC);
    let told = |manner: Manner| {
        let mut teller = Teller { writer: Vec::new(), manner };
        for rotation in [&first, &first, &second, &second] {
            let moment = Moment { title: "", rotation, renewed: None, trouble: None, now };
            teller.tell(&moment).unwrap();
        }
        teller.end("it is \u{1b}so").unwrap();
        String::from_utf8(teller.writer).unwrap()
    };
    let lines = told(Manner::Lines(None));
    assert_eq!(lines.lines().count(), 3, "{lines}");
    assert!(lines.contains("Z  propagate: ") && lines.ends_with("done: it is \\u{1b}so\n"), "{lines}");
    let objects = told(Manner::Objects(None));
    let phases: Vec<String> = objects
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["phase"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(phases, ["propagate", "drain"]);
}

#[test]
fn a_reader_that_went_away_ends_the_waiting() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let rotation = rotation("drain", Vec::new());
    let now = time::OffsetDateTime::UNIX_EPOCH;
    let moment = Moment { title: "", rotation: &rotation, renewed: None, trouble: None, now };
    let mut teller = Teller { writer: Gone, manner: Manner::Lines(None) };
    assert!(matches!(teller.tell(&moment), Err(Failure::Failed(text)) if text.contains("nobody reads")));
}
