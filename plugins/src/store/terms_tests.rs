//! What is kept of pieces, and which of it is read.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use signet_core::audit::AuditQuery;
use time::OffsetDateTime;

use super::*;
use crate::store::rows::{LogRow, NewRow};
use crate::store::suite::{START, issued, refused};

fn row(seq: u64, event: &AuditEvent) -> LogRow {
    LogRow::of(seq, &NewRow::new(event.clone()))
}

fn positions(number: u64, events: &[LogRow], query: &AuditQuery) -> Vec<u64> {
    let rows = Piece::new(number, events).rows;
    let rows: Vec<TermRow> = rows.into_iter().map(|(key, piece, entries)| TermRow { key, piece, entries }).collect();
    let plan = Plan::new(query, Some(&[]));
    let keys = plan.keys(number * PIECE / SEGMENT..=number * PIECE / SEGMENT);
    let asked: Vec<TermRow> = rows.into_iter().filter(|row| keys.contains(&row.key)).collect();
    plan.positions(&asked, number * PIECE..(number + 1) * PIECE).unwrap()
}

#[test]
fn hashes_and_keys_are_fixed_for_ever() {
    let term = Term::text(Field::Pod, "web-1");
    assert_eq!((term.bucket, term.hash), (69, 0xf94c_c238));
    let term = Term::number(Field::Kind, 3);
    assert_eq!((term.bucket, term.hash), (104, 0xfd31_e505));
    assert_eq!((key(0, 5), key(3, ENDS)), (5, 3 * 256 + 128));
    assert_eq!((unit(-1), unit(599), unit(600), unit(i64::MAX)), (0, 0, 1, UNREAD - 1));
}

#[test]
fn pieces_are_made_forwards_and_then_backwards() {
    let piece = |number: u64| number * PIECE;
    for (closed, head, made) in [
        (0..0, PIECE - 1, None),
        (0..0, PIECE, Some((0, 0..piece(1)))),
        (0..0, piece(7) + 5, Some((6, piece(6)..piece(7)))),
        (piece(6)..piece(7), piece(7) + 5, Some((5, piece(5)..piece(7)))),
        (piece(6)..piece(7), piece(8), Some((7, piece(6)..piece(8)))),
        (0..piece(7), piece(8) - 1, None),
    ] {
        assert_eq!(next(&closed, head), made, "{closed:?} {head}");
    }
}

#[test]
fn one_two_and_many_places_are_found_again_alone_and_together() {
    let (count, seconds) = (PIECE, START / 1_000_000);
    let events: Vec<AuditEvent> = (0..count)
        .map(|n| {
            let mut event = issued(["often", "twice"][usize::from(n == 5 || n == 900)], n, START);
            event.request_id = format!("r{n}");
            event.who.node = (n % 2 == 0).then(|| "even".to_owned());
            event.what.as_mut().unwrap().not_after = seconds + n as i64 * 60;
            if n % 3 == 0 { event } else { AuditEvent { request_id: event.request_id, ..refused("often", START) } }
        })
        .collect();
    let rows: Vec<LogRow> = events.iter().enumerate().map(|(at, event)| row(3 * PIECE + at as u64, event)).collect();
    let all = || AuditQuery::newest(1).unwrap();
    let text = |text: &str| Some(text.to_owned());
    let at = |seconds: i64| Some(OffsetDateTime::from_unix_timestamp(seconds).unwrap());
    for query in [
        AuditQuery { request_id: text("r1023"), ..all() },
        AuditQuery { request_id: text("r0"), ..all() },
        AuditQuery { spiffe_id: text("spiffe://cluster.local/ns/twice/sa/default"), ..all() },
        AuditQuery { node: text("even"), ..all() },
        AuditQuery { node: text("even"), namespace: text("twice"), ..all() },
        AuditQuery { node: text("odd"), ..all() },
        AuditQuery { namespace: text("often"), node: text("even"), reason: text("not_entitled"), ..all() },
        AuditQuery { authorities: vec!["cd".repeat(20), "ab".into()], ..all() },
    ] {
        let expected: Vec<u64> = rows
            .iter()
            .zip(&events)
            .rev()
            .filter(|(_, event)| query.matches(event))
            .map(|(row, _)| row.seq.unsigned_abs())
            .collect();
        assert_eq!(positions(3, &rows, &query), expected, "{query:?}");
    }
    // Ends are known by ten minutes.
    let query = AuditQuery { expires_after: at(seconds + 5_940), expires_before: at(seconds + 5_941), ..all() };
    let found = positions(3, &rows, &query);
    assert!(found.len() <= 10 && found.iter().any(|position| query.matches(&events[(position - 3 * PIECE) as usize])));
}

#[test]
fn what_cannot_be_read_may_be_anything_and_what_was_removed_is_nothing() {
    let event = issued("a", 1, START);
    let rows = vec![row(0, &event), row(1, &event).damaged(), row(2, &event).removed()];
    let query = |who: &str| AuditQuery { namespace: Some(who.to_owned()), ..AuditQuery::newest(1).unwrap() };
    assert_eq!(positions(0, &rows, &query("a")), [1, 0]);
    assert_eq!(positions(0, &rows, &query("nobody")), [1]);
}

#[test]
fn rows_that_are_cut_are_no_entries() {
    let event = issued("a", 1, START);
    let rows: Vec<LogRow> = (0..100).map(|at| row(at, &event)).collect();
    let plan = Plan::new(&AuditQuery { namespace: Some("a".into()), ..AuditQuery::newest(1).unwrap() }, None);
    for (key, piece, mut entries) in Piece::new(0, &rows).rows {
        entries.pop();
        let asked = plan.keys(0..=0).contains(&key);
        let found = plan.positions(&[TermRow { key, piece, entries }], 0..100);
        assert!(if asked { found == Err(0) } else { found == Ok(Vec::new()) }, "{key}");
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a measure")]
fn a_certificate_takes_less_than_forty_bytes() {
    for (name, pods) in [("one certificate of each pod", PIECE * 8), ("a thousand pods", 1000)] {
        let mut bytes = 0;
        for number in 0..8 {
            let events: Vec<LogRow> =
                (0..PIECE).map(|at| row(number * PIECE + at, &typical(number * PIECE + at, pods))).collect();
            // With what SQLite keeps beside each row.
            bytes += Piece::new(number, &events).rows.iter().map(|(.., entries)| entries.len() + 16).sum::<usize>();
        }
        let each = bytes as f64 / (8 * PIECE) as f64;
        eprintln!("bytes of words for each certificate, {name}: {each:.1}");
        assert!(each < 45.0, "{each}");
    }
}

fn typical(n: u64, pods: u64) -> AuditEvent {
    let pod = n % pods;
    let mut event = issued(&format!("ns-{}", pod % 10), n, START + n as i64 * 20_000);
    let hash = |name: &str| signet_core::digest::hex(&sha256(format!("{name} {n}").as_bytes()));
    event.request_id = hash("request")[..32].to_owned();
    event.who.service_account = Some(format!("account-{}", pod % 100));
    event.who.spiffe_id = Some(format!("spiffe://cluster.local/ns/ns-{}/sa/account-{}", pod % 10, pod % 100));
    event.who.pod = Some(format!("account-5d9c6b7f8d-{pod:05}"));
    event.who.node = Some(format!("node-{}", pod % 40));
    event.who.cluster = Some("Kubernetes".into());
    let what = event.what.as_mut().unwrap();
    (what.key_hash, what.fingerprint) = (hash("key"), Some(hash("certificate")));
    what.serial = format!("46b0bc{:02x}{}", n / 800, &hash("serial")[..24]);
    what.not_after = START / 1_000_000 + 86_400 + n as i64 / 50;
    event
}
