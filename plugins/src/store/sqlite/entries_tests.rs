//! What an append writes, and the entries that are made behind it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;

use signet_core::audit::{AuditEvent, AuditQuery, Outcome};
use signet_core::holder::Handover::Whole;
use signet_core::seams::store::{AuditStore, HolderStore};

use super::entries::PIECE;
use super::open;
use super::tests::store;
use super::upgrade_tests::typical;
use crate::store::suite::{START, ended, issued, mark, refused};

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
        sqlx::ConnectOptions::connect(&open::reader_options(&path, std::time::Duration::from_secs(5))).await.unwrap();
    let count = "SELECT below, (SELECT count(*) FROM audit_by_identity), (SELECT count(*) FROM audit_by_outcome) FROM audit_entries";
    let counts: (i64, i64, i64) = sqlx::query_as(count).fetch_one(&mut connection).await.unwrap();
    let whole = (PIECE * 9) as i64;
    assert_eq!(counts, (whole, whole, whole));
}
