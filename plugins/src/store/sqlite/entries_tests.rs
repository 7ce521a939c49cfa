//! What an append writes, and the entries that are made behind it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;

use signet_core::audit::{AuditEvent, AuditQuery, Class, Outcome};
use signet_core::holder::Handover::Whole;
use signet_core::seams::retention::{Forgetting, RecordRetention};
use signet_core::seams::store::{AuditStore, HolderStore};
use sqlx::ConnectOptions;

use super::open;
use super::tests::store;
use super::upgrade_tests::typical;
use crate::store::suite::{START, ended, issued, mark, refused};
use crate::store::terms::PIECE;

fn wal_pages(path: &Path) -> f64 {
    std::fs::metadata(open::beside(path, "-wal")).unwrap().len() as f64 / 4120.0
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a measure")]
async fn an_append_writes_a_quarter_of_a_page_for_each_certificate_and_less_than_two_in_all() {
    const BATCHES: u64 = 62;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let store = store(&path).await;
    let certificates: Vec<AuditEvent> = (0..BATCHES * 32).map(typical).collect();
    let before = wal_pages(&path);
    for batch in certificates.chunks(32) {
        store.append(batch.to_vec()).await.unwrap();
    }
    let appended = wal_pages(&path);
    while store.settle().await.unwrap() {}
    let settled = wal_pages(&path);
    let marks: Vec<_> = certificates.iter().map(|event| mark(event, Whole)).collect();
    store.mark(&marks, ended(1)).await.unwrap();
    let each = |from: f64, to: f64| (to - from) / (BATCHES * 32) as f64;
    let (append, entries, holders) = (each(before, appended), each(appended, settled), each(settled, wal_pages(&path)));
    eprintln!("pages per certificate: {append:.2} appended, {entries:.2} of entries, {holders:.2} of new holders");
    assert!(append <= 0.3 && append + entries + holders < 2.0, "{append} {entries} {holders}");
}

#[tokio::test]
async fn entries_are_made_once_whichever_process_makes_them_and_hide_nothing_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let (one, other) = (store(&path).await, store(&path).await);
    let event = |n: u64| match n % 3 {
        0 => refused("b", START + n as i64),
        _ => issued(["a", "b"][(n % 2) as usize], n, START + n as i64),
    };
    let all: Vec<AuditEvent> = (0..PIECE * 9).map(event).collect();
    let found = async || {
        for (who, outcome) in [("a", None), ("b", Some(Outcome::Refused)), ("", Some(Outcome::Issued)), ("b", None)] {
            let spiffe_id = issued(who, 0, 0).who.spiffe_id;
            let query = AuditQuery { spiffe_id, outcome, ..AuditQuery::newest(1000).unwrap() };
            let here = one.query(&query).await.unwrap();
            assert!(here == other.query(&query).await.unwrap() && here.items.len() > 20, "{who} {outcome:?}");
            let is_meant = |event: &AuditEvent| {
                (who.is_empty() || event.who.spiffe_id == query.spiffe_id)
                    && outcome.is_none_or(|outcome| event.outcome == outcome)
            };
            assert!(here.items.iter().all(|one| is_meant(&one.event)));
        }
    };
    for (number, batch) in all.chunks(512).enumerate() {
        [&one, &other][number % 2].append(batch.to_vec()).await.unwrap();
        let (first, second) = tokio::join!(one.settle(), other.settle());
        assert!(first.is_ok() && second.is_ok());
        found().await;
    }
    while one.settle().await.unwrap() || other.settle().await.unwrap() {}
    let mut connection =
        ConnectOptions::connect(&open::reader_options(&path, std::time::Duration::from_secs(5))).await.unwrap();
    let counts = "SELECT start, below, (SELECT count(DISTINCT piece) FROM audit_term), (SELECT count(*) FROM audit_identity) \
        FROM audit_closed";
    let counts: (i64, i64, i64, i64) = sqlx::query_as(counts).fetch_one(&mut connection).await.unwrap();
    assert_eq!(counts, (0, (PIECE * 9) as i64, 9, 2));
}

/// A log that was there before any piece of it, as after an upgrade: the newest piece comes first.
#[tokio::test]
async fn a_log_without_words_gets_them_backwards_while_it_grows() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let one = store(&path).await;
    let event = |n: u64| issued(["a", "b"][usize::from(n % 100 == 7)], n, START + n as i64);
    for from in (0..5 * PIECE).step_by(512) {
        one.append((from..from + 512).map(event).collect()).await.unwrap();
    }
    let mut connection =
        ConnectOptions::connect(&open::reader_options(&path, std::time::Duration::from_secs(5))).await.unwrap();
    let query = AuditQuery { spiffe_id: issued("b", 0, 0).who.spiffe_id, ..AuditQuery::newest(1000).unwrap() };
    let (mut closed, mut head) = (vec![(0, 0)], 5 * PIECE);
    loop {
        let page = one.query(&query).await.unwrap();
        let expected: Vec<u64> = (0..head).rev().filter(|n| n % 100 == 7).collect();
        assert_eq!(page.items.iter().map(|one| one.sequence).collect::<Vec<_>>(), expected, "{closed:?}");
        if !one.settle().await.unwrap() {
            break;
        }
        let range = sqlx::query_as("SELECT start / 1024, below / 1024 FROM audit_closed");
        let range: (i64, i64) = range.fetch_one(&mut connection).await.unwrap();
        if closed.last() != Some(&range) {
            closed.push(range);
        }
        // Once: what follows the log has other things to do in between.
        if range == (4, 5) && head == 5 * PIECE {
            one.append((head..head + PIECE).map(event).collect()).await.unwrap();
            head += PIECE;
        }
    }
    assert_eq!(closed, [(0, 0), (4, 5), (4, 6), (3, 6), (2, 6), (1, 6), (0, 6)]);
}

#[tokio::test]
async fn a_page_in_a_log_without_words_is_bounded_and_says_where_to_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let one = store(&path).await;
    for from in (0..40_000_u64).step_by(2000) {
        let events = (from..from + 2000).map(|n| issued(["a", "b"][usize::from(n == 3)], n, START + n as i64));
        one.append(events.collect()).await.unwrap();
    }
    let mut query = AuditQuery { spiffe_id: issued("b", 0, 0).who.spiffe_id, ..AuditQuery::newest(10).unwrap() };
    let mut pages = Vec::new();
    loop {
        let page = one.query(&query).await.unwrap();
        pages.push((page.items.len(), page.next));
        query.before = page.next;
        if page.next.is_none() {
            break;
        }
    }
    assert_eq!(pages.len(), 3, "{pages:?}");
    assert!(pages[0].0 == 0 && pages[0].1.is_some_and(|next| (20_000..25_000).contains(&next)), "{pages:?}");
    assert_eq!(pages[2], (1, None));
}

#[tokio::test]
async fn what_is_forgotten_leaves_no_words_and_no_name_that_nothing_else_has() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let store = store(&path).await;
    let event = |n: u64| match n {
        7 => refused("once", START),
        _ => issued(["a", "b"][(n % 2) as usize], n, START + n as i64),
    };
    store.append((0..PIECE * 2 + 10).map(event).collect()).await.unwrap();
    while store.settle().await.unwrap() {}
    let mut connection = open::writer_options(&path, std::time::Duration::from_secs(5)).connect().await.unwrap();
    let mut words = async || {
        let words: (i64, i64) = sqlx::query_as(
            "SELECT (SELECT coalesce(sum(length(entries)), 0) FROM audit_term WHERE piece = 0), (SELECT count(*) FROM audit_identity)",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        words
    };
    let (all, names) = words().await;
    assert_eq!(names, 3);
    let forget = |from: u64, below: u64, forgotten: Vec<u64>| Forgetting {
        class: Class::Certificates,
        from,
        below,
        forgotten,
        put_off: Vec::new(),
    };
    assert!(store.forget(&forget(0, 8, (0..8).collect())).await.unwrap());
    let (fewer, names) = words().await;
    assert!(fewer < all && names == 2, "the name of the one that was only there is gone: {fewer} of {all}, {names}");
    for from in (8..PIECE).step_by(254) {
        assert!(store.forget(&forget(from, from + 254, (from..from + 254).collect())).await.unwrap());
    }
    assert_eq!(words().await, (0, 2), "what is on record of the two is found by their names");
    let left = "SELECT count(*) FROM audit_event WHERE body IS NULL AND identity_key IS NOT NULL";
    let left: i64 = sqlx::query_scalar(left).fetch_one(&mut connection).await.unwrap();
    assert_eq!(left, 0, "a hash of whom it was about can be guessed");
}
