//! Every kind of change is named, at every place, with the events before and behind it left alone.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::audit::leaf_hash;

fn leaf(number: u64) -> Hash {
    leaf_hash(&number.to_be_bytes())
}

/// Events by their numbers, at these positions, against `size` signed ones.
fn compared(size: u64, stored: &[(u64, u64)]) -> Compared {
    let mut comparison = Comparison::default();
    let mut rows = stored.iter();
    for first in (0..size.max(1)).step_by(300) {
        comparison.signed((first..size.min(first + 300)).map(leaf));
        for (sequence, number) in rows.by_ref().take(300) {
            comparison.stored(*sequence, leaf(*number), true);
        }
        comparison.advance();
        assert!(comparison.signed.len().min(comparison.stored.len()) <= LOOKAHEAD + 300, "what agrees is not kept");
    }
    for (sequence, number) in rows {
        comparison.stored(*sequence, leaf(*number), true);
        comparison.advance();
    }
    comparison.end()
}

fn rows(numbers: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
    numbers.into_iter().map(|number| (number, number)).collect()
}

/// As whoever has changed the positions of all that follow.
fn renumbered(numbers: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
    (0..).zip(numbers).collect()
}

#[test]
fn what_was_left_alone_agrees_and_what_came_later_is_counted() {
    for (size, events) in [(0, 0), (0, 5), (1, 1), (300, 300), (300, 301), (5000, 5000), (5000, 6000)] {
        let expected = Compared { findings: Vec::new(), cut: false, agree: size, after: events - size };
        assert_eq!(compared(size, &rows(0..events)), expected, "{size} {events}");
    }
}

#[test]
fn every_kind_of_change_is_named_at_every_place() {
    for size in [1, 2, 5, 3000] {
        for at in [0, 1, 2, 1023, 1024, 2998, 2999] {
            if at >= size {
                continue;
            }
            let found = |stored: &[(u64, u64)]| {
                let compared = compared(size, stored);
                assert!(!compared.cut);
                compared.findings
            };
            let others = || (0..size + 3).filter(move |number| *number != at);
            let mut changed = rows(0..size + 3);
            changed[at as usize].1 = 1_000_000;
            assert_eq!(found(&changed), [Finding::Changed(at)], "{size}");
            assert_eq!(found(&rows(others())), [Finding::Removed(at)], "{size}");
            let inserted = (0..at).chain([1_000_000]).chain(at..size + 3);
            let expected = [Finding::Inserted(at), Finding::Shifted { from: at, to: at + 1 }];
            assert_eq!(found(&renumbered(inserted)), expected, "{size}");
            if at + 1 < size {
                let expected = [Finding::Removed(at), Finding::Shifted { from: at + 1, to: at }];
                assert_eq!(found(&renumbered(others())), expected, "{size}");
                let mut swapped = rows(0..size + 3);
                (swapped[at as usize].1, swapped[size as usize - 1].1) = (size - 1, at);
                let expected = [Finding::Moved { from: at, to: size - 1 }, Finding::Moved { from: size - 1, to: at }];
                assert_eq!(found(&swapped), expected, "{size}");
            }
        }
    }
}

#[test]
fn the_end_that_was_cut_off_is_named_and_a_flood_of_findings_is_cut() {
    let compared_to = compared(10, &rows(0..7));
    assert_eq!(compared_to.findings, [Finding::Removed(7), Finding::Removed(8), Finding::Removed(9)]);
    let all = compared(30_000, &[]);
    assert_eq!((all.findings.len(), all.cut, all.findings[0]), (MOST, true, Finding::Removed(0)));
}

#[test]
fn an_event_whose_stored_hash_is_not_its_own_is_named_once() {
    let mut comparison = Comparison::default();
    comparison.signed((0..4).map(leaf));
    for (sequence, number, agrees) in [(0, 0, true), (1, 99, false), (2, 2, false), (3, 3, true), (4, 4, false)] {
        comparison.stored(sequence, leaf(number), agrees);
    }
    let found = comparison.end();
    assert_eq!(found.findings, [Finding::Changed(1), Finding::Disagrees(2), Finding::Disagrees(4)]);
    assert_eq!((found.agree, found.after), (3, 1));
}

proptest! {
    #[test]
    fn nothing_is_named_that_was_left_alone(
        changes in proptest::collection::vec((0_u64..2500, 0_u8..4, 0_u64..2500), 1..6)
    ) {
        let mut stored: Vec<u64> = (0..2500).collect();
        for (number, (at, kind, to)) in changes.into_iter().enumerate() {
            let at = (at as usize).min(stored.len() - 1);
            match kind {
                0 => stored[at] = 10_000 + number as u64,
                1 => drop(stored.remove(at)),
                2 => stored.insert(at, 20_000 + number as u64),
                _ => {
                    let to = (to as usize).min(stored.len() - 1);
                    stored.swap(at, to);
                }
            }
        }
        let found = compared(2500, &renumbered(stored.iter().copied()));
        prop_assert!(!found.cut);
        let is_left: HashSet<u64> = stored.iter().copied().collect();
        for finding in &found.findings {
            match *finding {
                Finding::Removed(at) => prop_assert!(!is_left.contains(&at), "{finding}"),
                Finding::Inserted(at) => prop_assert!(stored[at as usize] >= 10_000, "{finding}"),
                Finding::Changed(at) => prop_assert!(!is_left.contains(&at), "{finding}"),
                Finding::Moved { from, to } => prop_assert_eq!(stored[to as usize], from),
                Finding::Shifted { from, to } => prop_assert_eq!(stored[to as usize], from),
                Finding::Disagrees(_) => prop_assert!(false, "all of them agree"),
            }
        }
        if stored != (0..2500).collect::<Vec<_>>() {
            prop_assert!(!found.findings.is_empty());
        }
    }
}
