//! What must hold in the model, whatever happens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_lets_a_holder_meet_a_certificate_it_cannot_verify(events in prop::collection::vec(event(), 1..250)) {
        let mut world = World::with_first_root();
        for event in &events {
            world.apply(event);
        }
    }

    /// The same where most that happens is that replies are lost.
    #[test]
    fn no_lost_reply_lets_a_holder_meet_a_certificate_it_cannot_verify(events in prop::collection::vec(holders::lossy_event(), 1..200)) {
        let mut world = World::with_first_root();
        for event in &events {
            world.apply(event);
        }
    }

    /// Left alone with holders that answer, every rotation comes to its end.
    #[test]
    fn rotation_always_comes_to_an_end_when_holders_answer(events in prop::collection::vec(event(), 1..120)) {
        let mut world = World::with_first_root();
        for event in &events {
            world.apply(event);
        }
        world.command(0, &Command::Rotate);
        world.calm();
        prop_assert_eq!(Phase::of(&world.journal), Phase::Settled);
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 300, ..ProptestConfig::default() })]

    /// However files came, went and came back, the newest set is what signs in the end, with one adoption, although one
    /// replica never gets it; and when it does, nothing happens any more.
    #[test]
    fn replicas_with_different_files_settle_on_the_newest(events in prop::collection::vec(event_with_files(), 1..200)) {
        let mut world = World::with_first_root();
        for event in &events {
            world.apply(event);
        }
        world.calm();
        let settled = (world.adoptions, world.journal.adopted.clone());
        world.calm();
        prop_assert_eq!((world.adoptions, &world.journal.adopted), (settled.0, &settled.1), "a fight");
        world.apply(&Event::Change { replica: 0, set: 4 });
        world.calm();
        prop_assert!(world.has_adopted(0) && !world.has_adopted(1));
        let newest = world.processes[0].files.clone().unwrap();
        prop_assert_eq!(&world.journal.active().unwrap().id, &newest.signer);
        prop_assert_eq!(Phase::of(&world.journal), Phase::Settled);
        world.processes[1].files = Some(newest);
        world.calm();
        prop_assert_eq!(world.adoptions, settled.0 + 1);
        // An earlier set counts at an operator's word only, whatever the process has seen.
        let earlier = offer("f1", "f1-signer");
        let known = world.journal.adopted.standing(&earlier.fingerprint) == SourceStanding::Superseded;
        world.apply(&Event::Change { replica: 1, set: 1 });
        world.calm();
        prop_assert_eq!(world.has_adopted(1), !known);
        world.command(1, &Command::Adopt);
        prop_assert!(world.has_adopted(1));
        world.processes[0].files = Some(earlier);
        world.calm();
        world.apply(&Event::Change { replica: 0, set: 4 });
        world.calm();
        prop_assert!(world.has_adopted(0) && !world.has_adopted(1));
        world.apply(&Event::Change { replica: 0, set: 1 });
        world.calm();
        prop_assert!(!world.has_adopted(0) && !world.has_adopted(1));
        world.command(0, &Command::Adopt);
        world.calm();
        prop_assert!(world.has_adopted(0) && world.has_adopted(1));
        prop_assert_eq!(&world.journal.active().unwrap().id, &id("f1"));
    }
}

#[test]
fn the_model_reaches_every_phase() {
    // The properties above would hold for a machine that does nothing; this shows that random events get everywhere.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut phases = BTreeMap::new();
    for _ in 0..300 {
        let events = prop::collection::vec(event(), 250).new_tree(&mut runner).unwrap().current();
        let mut world = World::with_first_root();
        for event in &events {
            world.apply(event);
            *phases.entry(Phase::of(&world.journal).as_str()).or_insert(0) += 1;
        }
    }
    let reached: Vec<&str> = phases.keys().copied().collect();
    assert_eq!(reached, ["drain", "emergency", "propagate", "settled"], "{phases:?}");
}
