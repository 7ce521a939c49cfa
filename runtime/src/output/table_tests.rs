//! Tables of several widths: nothing is cut off, nothing is wider than there is room.
#![allow(clippy::indexing_slicing, reason = "tests")]

use super::*;

const ID: &str = "spiffe://cluster.local/ns/default/sa/client";

fn holders(accounts: &[&str]) -> Table {
    let mut table = Table::new(["holder", "pod", "bundle", "ends", "refused"]);
    for account in accounts {
        let id = format!("spiffe://cluster.local/ns/default/sa/{account}");
        table.row([id.as_str(), "client-7d9c5-x2v4q", "3", "in 23h", "-"]);
    }
    table
}

fn widest(text: &str) -> usize {
    text.lines().map(length).max().unwrap_or_default()
}

#[test]
fn no_line_is_wider_than_the_terminal_and_nothing_is_cut_off() {
    let long = "a".repeat(250);
    let (one, other) = (format!("{long}-b"), format!("{long}-c"));
    for accounts in [&["client"][..], &[&one, &other], &["client", &one]] {
        let table = holders(accounts);
        for columns in [40, 60, 80, 120, 200, 400, 1000] {
            let text = table.render(Width::Columns(columns));
            assert!(widest(&text) <= columns, "{accounts:?} at {columns}:\n{text}");
            assert!(!text.contains(BREAK), "{text}");
            for letter in ['a', 'b', 'c', 'x', 'v', '3'] {
                let count = |text: &str| text.chars().filter(|c| *c == letter).count();
                let expected: usize = table.rows.iter().flatten().map(|cell| count(cell)).sum();
                assert_eq!(count(&text), expected, "{letter} of {accounts:?} at {columns}:\n{text}");
            }
        }
    }
}

#[test]
fn what_has_room_is_a_line_a_row_and_what_has_none_a_block() {
    let table = holders(&["client", "server"]);
    let line = format!("{ID}  client-7d9c5-x2v4q  3       in 23h  -");
    assert_eq!(table.render(Width::Columns(100)).lines().nth(1), Some(line.as_str()));
    let wrapped = table.render(Width::Columns(80));
    let expected = [
        "HOLDER                               POD                 BUNDLE  ENDS    REFUSED",
        "spiffe://cluster.local/ns/default/   client-7d9c5-x2v4q  3       in 23h  -",
        "sa/client",
    ];
    assert_eq!(wrapped.lines().take(3).collect::<Vec<_>>(), expected, "{wrapped}");
    let blocks = table.render(Width::Columns(50));
    let expected = [
        "HOLDER   spiffe://cluster.local/ns/default/sa/",
        "         client",
        "POD      client-7d9c5-x2v4q",
        "BUNDLE   3",
        "ENDS     in 23h",
        "",
        "HOLDER   spiffe://cluster.local/ns/default/sa/",
    ];
    assert_eq!(blocks.lines().take(7).collect::<Vec<_>>(), expected, "{blocks}");
}

#[test]
fn what_is_to_spare_goes_to_those_that_have_a_use_for_it() {
    for (least, wanted, spare, expected) in [
        (&[4, 4][..], &[10, 4][..], 9, &[10, 4][..]),
        (&[4, 4], &[10, 40], 9, &[8, 9]),
        (&[4, 4], &[5, 40], 9, &[5, 12]),
        (&[9], &[5], 9, &[9]),
        (&[], &[], 9, &[]),
    ] {
        assert_eq!(shared(least, wanted, spare), expected, "{least:?} {wanted:?}");
    }
}

#[test]
fn on_a_pipe_a_row_is_a_line_and_one_long_cell_pads_no_other_row() {
    let long = "a".repeat(253);
    let text = holders(&["client", &long]).render(Width::Unlimited);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(length(lines[0]) < 120 && length(lines[1]) < 120, "{text}");
    assert!(lines[2].contains(&long) && lines[2].contains("  in 23h  -"), "{text}");
    assert_eq!(lines[1].find("client-7d9c5"), lines[0].find("POD"), "{text}");
}

#[test]
fn names_from_outside_do_not_steer_the_terminal() {
    let mut table = Table::new(["id", "state"]);
    table.row(["abc", "active"]).row(["evil\u{1b}[2J\n\u{202e}\u{200b}", ""]);
    let evil = r"evil\u{1b}[2J\n\u{202e}\u{200b}";
    let width = evil.len() + GAP;
    let expected = [format!("{:width$}STATE", "ID"), format!("{:width$}active", "abc"), evil.to_owned()];
    for room in [Width::Unlimited, Width::Columns(60)] {
        assert_eq!(table.render(room).lines().collect::<Vec<_>>(), expected);
    }
    assert!(!table.is_empty() && Table::new(["a"]).is_empty());
}
