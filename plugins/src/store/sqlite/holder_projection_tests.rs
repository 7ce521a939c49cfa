//! Holders behind the log: whoever asks, whenever a process ends and whatever a record holds, they say what is on record.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;

use signet_core::audit::{AuditEvent, leaf_hash};
use signet_core::holder::Handover::{Nothing, Whole};
use signet_core::holder::{Acknowledgement, Acknowledger, Coverage, Holder};
use signet_core::seams::store::{AuditStore, AuthorityJournal, HolderStore, JournalVersion};
use sqlx::{ConnectOptions, Connection, Executor};

use super::holder_projection::{MOST_WAITING, PIECE, WAITING};
use super::tests::{meddle, store, url};
use super::{SqliteSettings, SqliteStore, holders, open, schema_tests};
use crate::store::holders::ended_below;
use crate::store::memory::MemoryStore;
use crate::store::rows::{Head, NewRow};
use crate::store::suite::{START, acknowledging, admitting, by, ended, held, key, listed, mark, refused, serial};

/// All that is told of holders.
async fn told(store: &impl HolderStore) -> (Vec<Holder>, Coverage, Vec<i64>) {
    let ends = store.last_ends().await.unwrap().values().map(|end| end.unix_timestamp()).collect();
    (listed(store).await, store.coverage(ended(0)).await.unwrap(), ends)
}

/// Certificates of few holders and several issuing CAs, and other events among them.
fn events(from: u64, count: u64) -> Vec<AuditEvent> {
    let event = |n: u64| match n % 7 {
        0 => refused("a", START),
        1 => acknowledging(by(held("b", &format!("{}", n % 11), n, n % 5, (n % 60) as i64), (n % 3) as u8)),
        _ => by(held("a", &format!("{}", n % 40), n, n % 5, (n % 60) as i64), (n / 50 % 3) as u8),
    };
    (from..from + count).map(event).collect()
}

async fn waiting(path: &Path) -> i64 {
    let mut connection = open::reader_options(path, std::time::Duration::from_secs(5)).connect().await.unwrap();
    let count = "SELECT (SELECT max(seq) + 1 FROM audit_event) - below FROM holder_fold";
    let waiting = sqlx::query_scalar(count).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    waiting
}

#[tokio::test]
async fn whoever_asks_is_told_all_that_is_on_record_and_a_process_may_end_before_it_is_entered() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let memory = MemoryStore::new();
    memory.replace(JournalVersion(0), &admitting()).await.unwrap();
    let first = store(&path).await;
    for round in 0..4 {
        let batch = events(round * 1000, 300);
        for part in batch.chunks(60) {
            first.append(part.to_vec()).await.unwrap();
            memory.append(part.to_vec()).await.unwrap();
        }
        assert_eq!(waiting(&path).await, 300, "an append writes the log alone");
        // A store that may not write tells it too, and writes nothing; nor does one on a copy after a crash.
        let expected = told(&memory).await;
        let reading = SqliteStore::open_read_only(&url(&path), SqliteSettings::default()).await.unwrap();
        for _ in 0..2 {
            assert_eq!(told(&reading).await, expected);
        }
        assert_eq!(waiting(&path).await, 300);
        drop(reading);
        let copy = directory.path().join(format!("copy-{round}.db"));
        std::fs::copy(&path, &copy).unwrap();
        std::fs::copy(open::beside(&path, "-wal"), open::beside(&copy, "-wal")).unwrap();
        assert_eq!(told(&store(&copy).await).await, expected);
        match round {
            0 => assert_eq!(first.coverage(ended(0)).await.unwrap(), expected.1),
            1 => assert_eq!(first.last_ends().await.unwrap().len(), expected.2.len()),
            2 => assert_eq!(listed(&first).await, expected.0),
            _ => assert_eq!(told(&store(&path).await).await, expected, "another process"),
        }
        assert_eq!(waiting(&path).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_append_ask_and_mark_at_once_enter_each_event_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let (one, other) = tokio::join!(store(&path), store(&path));
    let work = async |store: &SqliteStore, name: &str, base: u64| {
        for round in 0..30 {
            let batch: Vec<AuditEvent> =
                (0..40).map(|n| held(name, &format!("{n}"), base + round * 40 + n, round, 10)).collect();
            store.append(batch.clone()).await.unwrap();
            let marks: Vec<_> = batch.iter().map(|event| mark(event, Whole)).collect();
            store.mark(&marks, ended(1)).await.unwrap();
            while store.settle().await.unwrap() {}
            assert!(store.coverage(ended(0)).await.unwrap().live() >= 40);
        }
    };
    tokio::join!(work(&one, "a", 0), work(&other, "b", 1_000_000));
    for store in [&one, &other] {
        let (holders, coverage, _) = told(store).await;
        assert_eq!((holders.len(), coverage.live(), coverage.covered(29)), (80, 80, 80));
    }
    assert_eq!(waiting(&path).await, 0);
}

#[tokio::test]
async fn a_mark_of_a_renewal_like_the_one_before_enters_and_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let store = store(&path).await;
    let first = [held("a", "p", 1, 5, 10), by(held("a", "q", 2, 5, 10), 1)];
    store.append(first.to_vec()).await.unwrap();
    assert!(store.mark(&first.clone().map(|event| mark(&event, Whole)), ended(1)).await.unwrap());
    assert_eq!(waiting(&path).await, 0);
    for (number, (event, handover, changes, waits)) in [
        (held("a", "p", 11, 5, 10), Whole, false, 1),
        (held("a", "p", 12, 5, 10), Nothing, false, 2),
        (held("a", "p", 13, 4, 10), Whole, false, 3),
        // Another issuing CA, another bundle, and a holder that nobody knows yet.
        (by(held("a", "q", 14, 5, 10), 2), Whole, true, 0),
        (held("a", "p", 15, 6, 10), Whole, true, 0),
        (held("a", "r", 16, 6, 10), Whole, true, 0),
        (held("a", "s", 17, 6, 10), Nothing, true, 0),
    ]
    .into_iter()
    .enumerate()
    {
        store.append(vec![event.clone()]).await.unwrap();
        assert_eq!(store.mark(&[mark(&event, handover)], ended(1)).await.unwrap(), changes, "{number}");
        assert_eq!(waiting(&path).await, waits, "{number}");
    }
    let found: Vec<(String, u64)> =
        listed(&store).await.into_iter().map(|one| (one.key.instance, one.sequence)).collect();
    assert_eq!(found, [("p".to_owned(), 6), ("q".to_owned(), 5), ("r".to_owned(), 6)]);
}

#[tokio::test]
async fn what_cannot_be_entered_leaves_the_log_as_it_is_and_is_entered_later() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let store = store(&path).await;
    for (round, (table, trigger)) in [
        (
            "holder",
            "CREATE TRIGGER broken BEFORE INSERT ON holder WHEN new.instance = 'last' \
             BEGIN SELECT raise(ABORT, 'broken'); END",
        ),
        (
            "authority_usage",
            "CREATE TRIGGER broken BEFORE INSERT ON authority_usage BEGIN SELECT raise(ABORT, 'broken'); END",
        ),
        ("holder_fold", "CREATE TRIGGER broken BEFORE UPDATE ON holder_fold BEGIN SELECT raise(ABORT, 'broken'); END"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = |n: u64| format!("{round}-{n:03}");
        let before = told(&store).await;
        meddle(&path, trigger).await;
        let mut batch: Vec<AuditEvent> = (0..90).map(|n| held("b", &name(n), round as u64 * 100 + n, 1, 99)).collect();
        batch[89].who.pod_uid = Some("last".into());
        assert!(store.append(batch.clone()).await.unwrap().iter().all(Result::is_ok), "{table}");
        let said = [mark(&batch[0], Whole)];
        assert!(store.coverage(ended(0)).await.is_err() && store.mark(&said, ended(1)).await.is_err(), "{table}");
        meddle(&path, "DROP TRIGGER broken").await;
        let holders = before.0.len() + 90 - usize::from(round > 0);
        assert_eq!(listed(&store).await.len(), holders, "{table}");
        assert!(store.mark(&said, ended(1)).await.unwrap(), "{table}");
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_counts_as_a_holder_without_a_bundle_and_keeps_every_issuing_ca_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let store = store(&path).await;
    let known = held("a", "p", 1, 5, 10);
    store.append(vec![known.clone()]).await.unwrap();
    store.mark(&[mark(&known, Whole)], ended(1)).await.unwrap();
    store.append((2..6).map(|n| held("a", "p", n, 5, 10)).collect()).await.unwrap();
    store.close().await;
    // Removed, changed, and of a newer program.
    meddle(&path, "UPDATE audit_event SET body = NULL WHERE seq = 1").await;
    meddle(&path, "UPDATE audit_event SET body = CAST(body || x'00' AS BLOB) WHERE seq = 2").await;
    let mut newer = open::writer_options(&path, std::time::Duration::from_secs(5)).connect().await.unwrap();
    let body = b"\x82\x02\x00".as_slice();
    let update = sqlx::query("UPDATE audit_event SET body = ?, leaf_hash = ? WHERE seq = 3");
    newer.execute(update.bind(body).bind(leaf_hash(body).to_vec())).await.unwrap();
    newer.close().await.unwrap();
    let store = self::store(&path).await;
    let (holders, coverage, ends) = told(&store).await;
    let found: Vec<(&str, u64)> = holders.iter().map(|one| (one.key.spiffe_id.as_str(), one.sequence)).collect();
    let p = key("a", "p").spiffe_id;
    let expected = [(p.as_str(), 5), ("unread record 1", 0), ("unread record 2", 0), ("unread record 3", 0)];
    assert_eq!(found, expected);
    assert_eq!(holders[1].serial, serial(2).to_string());
    assert_eq!((coverage.live(), coverage.covered(5), coverage.reaches(5, 100)), (4, 1, false));
    let latest = START / 1_000_000 + 90 * 24 * 3600;
    assert_eq!(ends, vec![latest; ends.len()]);
    assert_eq!(ends.len(), 2);
    // It goes on.
    assert!(store.append(vec![held("a", "q", 9, 5, 10)]).await.unwrap()[0].is_ok());
    assert_eq!(store.coverage(ended(0)).await.unwrap().live(), 5);
}

#[tokio::test]
async fn no_program_of_whatever_version_changes_the_journal_while_holders_of_the_record_are_not_entered() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let store = store(&path).await;
    store.append(vec![held("a", "p", 1, 1, 10)]).await.unwrap();
    // As programs do that know of no such thing.
    let mut older = open::writer_options(&path, std::time::Duration::from_secs(5)).connect().await.unwrap();
    let change = "INSERT INTO authority_journal (id, version, body) SELECT id, version + 1, body FROM authority_journal \
        WHERE true ON CONFLICT (id) DO UPDATE SET version = excluded.version";
    let refused = older.execute(change).await.unwrap_err().to_string();
    assert!(refused.contains("not entered yet"), "{refused}");
    let (version, journal) = store.load().await.unwrap().unwrap();
    assert_eq!(store.replace(version, &journal).await.unwrap(), Some(JournalVersion(2)));
    assert_eq!(waiting(&path).await, 0);
    older.execute(change).await.unwrap();
    older.close().await.unwrap();
    assert_eq!(store.version().await.unwrap(), JournalVersion(3));
}

#[tokio::test]
async fn events_wait_in_bounded_numbers_whether_or_not_anybody_settles() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let store = store(&path).await;
    let batch =
        |n: u64| -> Vec<AuditEvent> { (0..500).map(|m| held("a", &format!("{m}"), n * 500 + m, 1, 10)).collect() };
    let most = i64::try_from(MOST_WAITING + 500 + PIECE).unwrap();
    for n in 0..30 {
        store.append(batch(n)).await.unwrap();
        assert!(waiting(&path).await <= most);
    }
    while store.settle().await.unwrap() {}
    assert!(waiting(&path).await <= i64::try_from(WAITING).unwrap());
    assert_eq!(store.coverage(ended(0)).await.unwrap().live(), 500);
}

#[tokio::test]
async fn a_log_whose_holders_were_written_with_it_is_not_entered_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    schema_tests::made_by(&path, 16).await;
    let all = events(0, 9000);
    let mut connection = open::writer_options(&path, std::time::Duration::from_secs(5)).connect().await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    let mut head = Head { next: 0, high_micros: i64::MIN };
    for batch in all.chunks(60) {
        let rows: Vec<NewRow> = batch.iter().cloned().map(NewRow::new).collect();
        head = super::audit::insert(&mut transaction, &rows.iter().collect::<Vec<_>>(), head).await.unwrap();
        holders::renew(&mut transaction, &batch.iter().collect::<Vec<_>>()).await.unwrap();
    }
    // Handed over after that: entered again, it would be behind.
    transaction.execute("UPDATE holder SET former = '', first_bundle = NULL, sequence = 5").await.unwrap();
    transaction.commit().await.unwrap();
    connection.close().await.unwrap();
    let store = store(&path).await;
    let (holders, coverage, _) = told(&store).await;
    assert_eq!((holders.len() as u64, coverage.covered(5)), (coverage.live(), coverage.live()));
    assert!(coverage.live() > 40 && holders.iter().all(|one| one.former.is_empty()));
    let latest = held("a", "new", 100_000, 5, 10);
    store.append(vec![latest]).await.unwrap();
    assert_eq!(store.coverage(ended(0)).await.unwrap().live(), coverage.live() + 1);
    assert!(matches!(store.append(vec![all[2].clone()]).await.as_deref(), Ok([Err(_)])));
}

/// Between catching up and the write lock another process may append: its events are entered under the lock.
#[tokio::test]
async fn what_was_appended_before_the_write_lock_was_had_is_entered_under_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let store = store(&path).await;
    store.append(vec![acknowledging(held("a", "p", 1, 5, 10))]).await.unwrap();
    let of = key("a", "p");
    let word = Acknowledgement { from: Acknowledger::Holder(of.clone()), sequence: 7, refused: None, at: ended(1) };
    let mut writer = store.writer().await.unwrap();
    holders::acknowledge(&mut writer.session, &[word]).await.unwrap();
    writer.keep().await.unwrap();
    assert_eq!(listed(&store).await[0].sequence, 7);

    store.append(vec![acknowledging(held("a", "p", 2, 7, 90))]).await.unwrap();
    let mut writer = store.writer().await.unwrap();
    let seemed_ended = [(of.spiffe_id, of.instance)];
    let before = ended_below(ended(20));
    assert_eq!(holders::forget(&mut writer.session, &seemed_ended, before).await.unwrap(), 0);
    writer.keep().await.unwrap();
    assert_eq!(listed(&store).await[0].serial, serial(2).to_string());
}
