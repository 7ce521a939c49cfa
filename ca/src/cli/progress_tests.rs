//! The picture of a rotation, as people see it, and how it is redrawn.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use prost_types::Timestamp;
use signet_proto::admin::v1alpha1::next::Step;
use signet_proto::admin::v1alpha1::{Authority, AuthorityState, Holder, Next, Phase, RefusedBundle};

use super::*;

const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);

const ID: &str = "5a1b2c3d5a1b2c3d5a1b2c3d5a1b2c3d5a1b2c3d";

fn laggard(name: &str) -> Holder {
    Holder {
        spiffe_id: format!("spiffe://cluster.local/ns/default/sa/{name}"),
        pod: format!("{name}-7f9c"),
        node: "node-1".into(),
        bundle_sequence: 3,
        ..Holder::default()
    }
}

fn propagating(covered: u64, laggards: &[&str]) -> Rotation {
    let mut laggards: Vec<Holder> = laggards.iter().map(|name| laggard(name)).collect();
    if let Some(first) = laggards.first_mut() {
        first.refused = Some(RefusedBundle { sequence: 4, reason: "unknown \u{1b}[2Jalgorithm".into() });
    }
    Rotation {
        phase: Phase::Propagate.into(),
        bundle_sequence: 4,
        coverage: Some(Coverage { sequence: 4, holders: 15, covered, threshold_percent: 100, laggards, gone: 0 }),
        next: Some(Next { step: Step::Activate.into(), authorities: vec![ID.into()], holders: 8, ..Next::default() }),
        expected_at: Some(Timestamp { seconds: NOW.unix_timestamp() + 86_000, nanos: 0 }),
        ..Rotation::default()
    }
}

fn moment(rotation: &Rotation) -> Moment<'_> {
    Moment { title: "Rotation to root 5a1b2c3d (generation 2)", rotation, renewed: None, trouble: None, now: NOW }
}

const NAMES_OF_SIX: [&str; 6] = ["api", "web", "db", "cache", "queue", "mail"];

#[test]
fn the_picture_shows_phase_coverage_laggards_and_end() {
    let rotation = propagating(7, &NAMES_OF_SIX);
    let shown = picture(&moment(&rotation), Size { columns: 110, rows: 40 });
    let expected = "\
Rotation to root 5a1b2c3d (generation 2)
phase     propagate: the next root is on its way to all holders and signs nothing yet
coverage  [##################----------------------]  46%  7 of 15 holders have bundle 4 (100 % needed)
lagging   REFUSED spiffe://cluster.local/ns/default/sa/api pod api-7f9c on node-1 bundle 4: unknown
          \\u{1b}[2Jalgorithm
          bundle 3  spiffe://cluster.local/ns/default/sa/web  pod web-7f9c on node-1
          bundle 3  spiffe://cluster.local/ns/default/sa/db  pod db-7f9c on node-1
          bundle 3  spiffe://cluster.local/ns/default/sa/cache  pod cache-7f9c on node-1
          bundle 3  spiffe://cluster.local/ns/default/sa/queue  pod queue-7f9c on node-1
          and 3 more
next      root 5a1b2c3d is activated when 8 more holders have received it
expected  by 2026-03-02T11:53:20Z, in 23h
Ctrl-C ends this view; the CA goes on by itself.";
    assert_eq!(shown.join("\n"), expected);
}

#[test]
fn both_bars_have_one_width_and_their_numbers_fit() {
    let rotation = propagating(7, &[]);
    for columns in [80, 100, 300] {
        let shown = picture(&Moment { renewed: Some((2, 15)), ..moment(&rotation) }, Size { columns, rows: 40 });
        let bars: Vec<&String> = shown.iter().filter(|line| line.contains("] ")).collect();
        assert_eq!(bars[0].find(']'), bars[1].find(']'), "{columns}");
        assert!(bars[0].ends_with("needed)") && bars[1].ends_with("new root"), "{columns}: {shown:?}");
    }
}

#[test]
fn every_line_fits_the_terminal_and_the_picture_too() {
    let rotation = propagating(7, &NAMES_OF_SIX);
    for size in [Size { columns: 20, rows: 5 }, Size { columns: 1, rows: 1 }, Size { columns: 80, rows: 24 }] {
        let lines = picture(&Moment { trouble: Some("no answer"), ..moment(&rotation) }, size);
        assert!(lines.iter().all(|line| line.len() < size.columns.max(2)), "{size:?} {lines:?}");
        assert!(lines.len() < size.rows.max(2), "{size:?}");
        assert!(lines.iter().all(|line| line.bytes().all(|byte| (b' '..=b'~').contains(&byte))));
    }
}

#[test]
fn what_comes_next_is_told_in_full_on_a_narrow_terminal_and_without_long_ids() {
    let shown = picture(&moment(&propagating(7, &[])), Size { columns: 50, rows: 40 });
    let next = shown.iter().position(|line| line.starts_with("next")).unwrap();
    assert_eq!(
        shown[next..next + 2],
        ["next      root 5a1b2c3d is activated when 8 more", "          holders have received it"]
    );
}

#[test]
fn nothing_that_tells_holders_apart_is_cut_off_on_a_narrow_terminal() {
    let (one, other) = (format!("{}-b", "a".repeat(250)), format!("{}-c", "a".repeat(250)));
    let rotation = propagating(7, &[&one, &other]);
    let shown = picture(&Moment { renewed: Some((2, 15)), ..moment(&rotation) }, Size { columns: 60, rows: 60 });
    let text: String = shown.iter().flat_map(|line| line.chars().skip(NAMES)).filter(|c| *c != ' ').collect();
    assert!(text.contains(&one) && text.contains(&other), "{shown:#?}");
    let words = shown.iter().flat_map(|line| line.split_whitespace()).collect::<Vec<_>>().join(" ");
    for told in ["7 of 15 holders have bundle 4 (100 % needed)", "2 of 15 holders have renewed under the new root"] {
        assert!(words.contains(told), "{shown:#?}");
    }
}

#[test]
fn a_bar_is_full_only_when_all_are_there() {
    for (part, all, start) in [
        (0, 10, "[-"),
        (999_999, 1_000_000, "[#######################################-]  99%"),
        (10, 10, "[########################################] 100%"),
        (0, 0, "[########################################] 100%"),
        (u64::MAX, u64::MAX, "[########################################] 100%"),
    ] {
        let shown = bar(part, all, 40);
        assert!(shown.starts_with(start), "{part}/{all}: {shown}");
    }
}

#[test]
fn the_picture_is_redrawn_over_itself() {
    let mut screen = Screen::default();
    let lines = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    assert_eq!(
        screen.redraw(&lines(&["one", "two", "three"]), 80),
        "one\u{1b}[K\r\ntwo\u{1b}[K\r\nthree\u{1b}[K\r\n\u{1b}[J"
    );
    assert_eq!(screen.redraw(&lines(&["one"]), 80), "\r\u{1b}[3Aone\u{1b}[K\r\n\u{1b}[J");
    // The terminal has become narrower: what was one row is three now.
    let mut screen = Screen::default();
    drop(screen.redraw(&lines(&[&"x".repeat(50), "y"]), 80));
    assert!(screen.redraw(&lines(&["z"]), 20).starts_with("\r\u{1b}[4A"));
}

#[test]
fn a_line_says_all_of_it_at_once() {
    let rotation = propagating(9, &NAMES_OF_SIX);
    let told = line(&Moment { renewed: Some((2, 15)), ..moment(&rotation) });
    assert_eq!(
        told,
        "2026-03-01T12:00:00Z  propagate: 9 of 15 holders have bundle 4 (100 % needed); 2 of 15 renewed under the new \
         root; lagging: spiffe://cluster.local/ns/default/sa/api, spiffe://cluster.local/ns/default/sa/web, \
         spiffe://cluster.local/ns/default/sa/db, spiffe://cluster.local/ns/default/sa/cache, \
         spiffe://cluster.local/ns/default/sa/queue and 1 more; next: root 5a1b2c3d is activated when 8 more holders \
         have received it; expected by 2026-03-02T11:53:20Z"
    );
}

#[test]
fn only_what_matters_is_a_change() {
    let first = propagating(7, &NAMES_OF_SIX);
    let change = |rotation: &Rotation| Change::of(&moment(rotation));
    let later = Rotation { expected_at: None, next: None, ..first.clone() };
    assert_eq!(change(&first), change(&later));
    let state = Authority { id: "a".into(), state: AuthorityState::Active.into(), ..Authority::default() };
    for other in [
        propagating(8, &NAMES_OF_SIX),
        Rotation { phase: Phase::Drain.into(), ..first.clone() },
        Rotation { paused: true, ..first.clone() },
        Rotation { authorities: vec![state], ..first.clone() },
    ] {
        assert_ne!(change(&first), change(&other));
    }
    assert_ne!(change(&first), Change::of(&Moment { trouble: Some("away"), ..moment(&first) }));
    assert_ne!(change(&first), Change::of(&Moment { renewed: Some((1, 2)), ..moment(&first) }));
    // A large mesh moves all the time; its percentages do not.
    let large = |covered| {
        let coverage = Coverage { sequence: 4, holders: 100_000, covered, ..Coverage::default() };
        change(&Rotation { coverage: Some(coverage), ..Rotation::default() })
    };
    assert_eq!(large(50_000), large(50_001));
    assert_ne!(large(99_998), large(99_999));
}

#[test]
fn the_time_left_is_told_in_fitting_units() {
    let at = |seconds: i64| left(&Timestamp { seconds: NOW.unix_timestamp() + seconds, nanos: 0 }, NOW);
    let told: Vec<String> = [-5, 30, 600, 9000, 400_000].into_iter().map(at).collect();
    assert_eq!(told, ["any moment", "in 30s", "in 10m", "in 2h 30m", "in 4d 15h"]);
}
