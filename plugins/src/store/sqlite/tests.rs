//! What only a database in a file can get wrong: crashes, several processes, broken disks and foreign files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use signet_core::audit::{AuditEvent, AuditQuery, EventKind, Outcome, UnknownFields, Unreadable, leaf_hash};
use signet_core::authority::KeyId;
use signet_core::rotation::Authorities;
use signet_core::seams::store::{AppendError, AuditStore, AuthorityJournal, JournalVersion, SealedKeys, StoreError};
use sqlx::{ConnectOptions, Connection, Executor};
use time::OffsetDateTime;

use super::{SqliteSettings, SqliteStore, open, search};
use crate::store::suite::{START, admitting, assert_gapless, every_case, everything, issued, refused, serial};

pub(super) fn url(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

/// A store whose journal lets every issuing CA of the tests sign, as soon as it has none.
pub(super) async fn store(path: &Path) -> SqliteStore {
    let store = SqliteStore::open(&url(path), SqliteSettings::default()).await.unwrap();
    if store.version().await.unwrap() == JournalVersion(0) {
        store.replace(JournalVersion(0), &admitting()).await.unwrap();
    }
    store
}

pub(super) async fn open_error(path: &Path) -> StoreError {
    SqliteStore::open(&url(path), SqliteSettings::default()).await.err().expect("opening should fail")
}

/// Ends the only store on a file, which leaves one complete file.
async fn stop(store: SqliteStore) {
    let wal = open::beside(&store.path, "-wal");
    store.close().await;
    assert!(!wal.exists(), "the database file is not complete");
}

/// Runs SQL on the file behind the store's back.
pub(super) async fn meddle(path: &Path, sql: &'static str) {
    let mut connection = open::writer_options(path, Duration::from_secs(5)).connect().await.unwrap();
    connection.execute(sql).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_passes_the_suite() {
    let directory = tempfile::tempdir().unwrap();
    let count = AtomicU32::new(0);
    every_case(async || {
        let path = directory.path().join(format!("{}.db", count.fetch_add(1, Ordering::SeqCst)));
        let open = async || Arc::new(SqliteStore::open(&url(&path), SqliteSettings::default()).await.unwrap());
        [open().await, open().await]
    })
    .await;
}

#[tokio::test]
async fn files_are_readable_by_their_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let store = store(&path).await;
    store.append(vec![issued("a", 1, START)]).await.unwrap();
    let mut names = Vec::new();
    for entry in fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["signet.db", "signet.db-shm", "signet.db-wal"]);
}

#[tokio::test]
async fn a_reopened_store_goes_on_where_it_ended() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let first = store(&path).await;
    first.append(vec![issued("a", 1, START), issued("a", 2, START)]).await.unwrap();
    first.replace(JournalVersion(1), &Authorities { bundle_sequence: 5, ..admitting() }).await.unwrap();
    drop(first);
    let second = store(&path).await;
    let results = second.append(vec![issued("a", 2, START), issued("a", 3, START)]).await.unwrap();
    assert_eq!(results[0], Err(AppendError::SerialTaken));
    assert_eq!(results[1].as_ref().unwrap().sequence(), 2);
    assert_eq!(
        second.load().await.unwrap(),
        Some((JournalVersion(2), Authorities { bundle_sequence: 5, ..admitting() }))
    );
}

#[tokio::test]
async fn what_append_returned_is_in_the_files_at_that_instant() {
    let directory = tempfile::tempdir().unwrap();
    let (path, copy) = (directory.path().join("signet.db"), directory.path().join("copy.db"));
    let store = store(&path).await;
    for round in 0..5 {
        store.append(vec![issued("a", round, START)]).await.unwrap();
        // What a crash would leave: the files as they are, without the shared memory and with nobody closing them.
        fs::copy(&path, &copy).unwrap();
        fs::copy(directory.path().join("signet.db-wal"), directory.path().join("copy.db-wal")).unwrap();
        let survived = self::store(&copy).await;
        assert_eq!(everything(&survived).await.len() as u64, round + 1);
        survived.readers.close().await;
        drop(survived.writer.lock().await.take().unwrap().connection.close().await);
        drop(fs::remove_file(&copy));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_file_neither_fork_nor_gap_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let (one, other) = tokio::join!(store(&path), store(&path));
    let work = async |store: &SqliteStore, base: u64| {
        let mut sequences = Vec::new();
        for round in 0..60 {
            let size = [1, 5, 70][(round % 3) as usize];
            let first = base + round * 100;
            let batch = (first..first + size).map(|n| issued("a", n, START)).collect();
            sequences.extend(store.append(batch).await.unwrap().iter().map(|one| one.as_ref().unwrap().sequence()));
        }
        sequences
    };
    let (mut sequences, others) = tokio::join!(work(&one, 0), work(&other, 1_000_000));
    assert!(sequences.is_sorted() && others.is_sorted());
    sequences.extend(others);
    sequences.sort_unstable();
    assert_eq!(sequences, (0..2 * 20 * 76).collect::<Vec<u64>>());
    assert_gapless(&everything(&one).await);
    // A serial of the other process is known here too.
    assert_eq!(one.append(vec![issued("a", 1_000_000, START)]).await.unwrap(), [Err(AppendError::SerialTaken)]);
}

#[tokio::test]
async fn a_full_disk_keeps_nothing_and_heals() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory.path().join("signet.db")).await;
    store.append(vec![issued("a", 0, START)]).await.unwrap();
    store.limit_pages(1);
    for size in [40, 130] {
        let batch: Vec<AuditEvent> = (1..=size).map(|n| issued("a", n, START)).collect();
        let Err(StoreError::Unavailable(text)) = store.append(batch).await else { panic!("the disk is full") };
        assert!(text.contains("disk is full"), "{text}");
    }
    let id = KeyId::parse("k").unwrap();
    assert!(matches!(store.insert(&id, &[0; 9000]).await, Err(StoreError::Unavailable(_))));
    assert_eq!(everything(&store).await.len(), 1, "reading goes on");
    store.limit_pages(0);
    let results = store.append((1..=40).map(|n| issued("a", n, START)).collect()).await.unwrap();
    assert_eq!(results[0].as_ref().unwrap().sequence(), 1);
    assert!(store.insert(&id, &[0; 9000]).await.unwrap());
    assert_gapless(&everything(&store).await);
}

#[tokio::test]
async fn a_foreign_lock_fails_within_the_deadline_and_only_writers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let settings = SqliteSettings { deadline: Duration::from_secs(3), readers: 1 };
    let store = SqliteStore::open(&url(&path), settings).await.unwrap();
    store.replace(JournalVersion(0), &admitting()).await.unwrap();
    store.append(vec![issued("a", 1, START)]).await.unwrap();
    let mut rival = open::writer_options(&path, Duration::ZERO).connect().await.unwrap();
    rival.execute("BEGIN IMMEDIATE").await.unwrap();
    assert!(matches!(store.append(vec![issued("a", 2, START)]).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.probe().await, Err(StoreError::Unavailable(_))));
    assert_eq!(everything(&store).await.len(), 1);
    rival.execute("ROLLBACK").await.unwrap();
    store.probe().await.unwrap();
    assert_eq!(store.append(vec![issued("a", 2, START)]).await.unwrap()[0].as_ref().unwrap().sequence(), 1);
}

#[tokio::test]
async fn an_append_that_nobody_waits_for_leaves_no_transaction_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let store = store(&path).await;
    let mut rival = open::writer_options(&path, Duration::from_secs(5)).connect().await.unwrap();
    for polls in 0..40 {
        let batch = (0..70).map(|n| issued("a", polls * 100 + n, START)).collect();
        let mut append = store.append(batch);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        for _ in 0..=polls {
            if append.as_mut().poll(&mut context).is_ready() {
                break;
            }
            std::thread::yield_now();
        }
        drop(append);
        rival.execute("BEGIN IMMEDIATE; UPDATE storage_probe SET writes = 0; COMMIT").await.unwrap();
    }
    store.append(vec![issued("a", 1_000_000, START)]).await.unwrap();
    let log = everything(&store).await;
    assert_gapless(&log);
    assert_eq!((log.len() - 1) % 70, 0, "a batch is kept whole or not at all");
}

#[tokio::test]
async fn a_file_that_is_gone_or_replaced_takes_no_records() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let store = store(&path).await;
    store.append(vec![refused("a", START)]).await.unwrap();
    let moved = directory.path().join("moved.db");
    fs::rename(&path, &moved).unwrap();
    assert!(matches!(store.append(vec![refused("a", START)]).await, Err(StoreError::Lost(_))));
    fs::write(&path, "").unwrap();
    assert!(matches!(store.probe().await, Err(StoreError::Lost(_))));
}

#[tokio::test]
async fn queries_work_beside_a_running_store_and_without_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let missing = SqliteStore::open_read_only(&url(&path), SqliteSettings::default()).await;
    assert!(matches!(missing.err(), Some(StoreError::Unavailable(_))));
    assert!(!path.exists());
    let writing = store(&path).await;
    writing.append(vec![issued("a", 1, START)]).await.unwrap();
    let reading = SqliteStore::open_read_only(&url(&path), SqliteSettings::default()).await.unwrap();
    assert_eq!(everything(&reading).await.len(), 1);
    writing.append(vec![issued("a", 2, START)]).await.unwrap();
    assert_eq!(everything(&reading).await.len(), 2);
    assert!(matches!(reading.append(vec![issued("a", 3, START)]).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(reading.probe().await, Err(StoreError::Unavailable(_))));
    reading.readers.close().await;
    stop(writing).await;
    let reading = SqliteStore::open_read_only(&url(&path), SqliteSettings::default()).await.unwrap();
    assert_eq!(everything(&reading).await.len(), 2);
}

#[tokio::test]
async fn each_unusable_place_has_its_own_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    for (bad, words) in [
        (directory.path().join("absent/signet.db"), "does not exist; create it"),
        (directory.path().to_path_buf(), "is a directory, not a database"),
    ] {
        let StoreError::Unavailable(text) = open_error(&bad).await else { panic!("{}", bad.display()) };
        assert!(text.contains(words), "{text}");
    }
    for bad in ["sqlite::memory:", "sqlite://relative.db", "postgres://host/db", "sqlite:///"] {
        let Err(StoreError::Unavailable(text)) = open::path(bad) else { panic!("{bad}") };
        assert!(text.contains("sqlite:///absolute/path"), "{text}");
    }
    fs::write(&path, "this is certainly not a database, ".repeat(200)).unwrap();
    let StoreError::Damaged(text) = open_error(&path).await else { panic!("accepted garbage") };
    assert!(text.contains("not an SQLite database"), "{text}");
    let StoreError::Damaged(_) =
        SqliteStore::open_read_only(&url(&path), SqliteSettings::default()).await.err().unwrap()
    else {
        panic!("accepted garbage")
    };
}

/// Runs one test of this binary again as a user that is not root, who may write everywhere.
fn again_as_nobody(test: &str) {
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65_534;
    // The binary may lie where nobody may not go.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = directory.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    let mut command = std::process::Command::new(binary);
    let output = command.args(["--exact", test]).current_dir("/").uid(NOBODY).gid(NOBODY).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
async fn a_directory_that_may_not_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (path, probe) = (directory.path().join("signet.db"), directory.path().join("probe"));
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(&probe, "").is_ok() {
        return again_as_nobody("store::sqlite::tests::a_directory_that_may_not_be_written_is_named");
    }
    let StoreError::Unavailable(text) = open_error(&path).await else { panic!("no error") };
    assert!(text.contains("may not use") && text.contains("mode 0500"), "{text}");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let writing = store(&path).await;
    writing.append(vec![issued("a", 1, START)]).await.unwrap();
    stop(writing).await;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o500)).unwrap();
    assert!(matches!(open_error(&path).await, StoreError::Unavailable(_)));
    let reading = SqliteStore::open_read_only(&url(&path), SqliteSettings::default()).await.unwrap();
    assert_eq!(everything(&reading).await.len(), 1, "reading needs no writable directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    let StoreError::Unavailable(text) = open_error(&path).await else { panic!("no error") };
    assert!(text.contains("signet.db) belongs to uid") && text.contains("mode 0400"), "{text}");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn a_row_that_cannot_be_read_does_not_hide_its_page_and_a_pruned_one_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let store = store(&path).await;
    store.append((0..6).map(|n| issued("a", n, START + n as i64)).collect()).await.unwrap();
    let mut newer = open::writer_options(&path, Duration::from_secs(5)).connect().await.unwrap();
    // As a newer version would write them: another format, and another kind with another field in this one.
    let another = [0x82, 2, 0x61, b'x'];
    let unknown = [&[0x82, 1, 0xa6, 1, 7, 2, 0x60, 3, 17, 4, 9, 7, 0xa0, 10, 1][..]].concat();
    for (sequence, kind, outcome, body) in [(3, 0, 0, &another[..]), (4, 17, 9, &unknown)] {
        let update = sqlx::query("UPDATE audit_event SET kind = ?, outcome = ?, body = ?, leaf_hash = ? WHERE seq = ?");
        let update = update.bind(kind).bind(outcome).bind(body).bind(leaf_hash(body).to_vec()).bind(sequence);
        update.execute(&mut newer).await.unwrap();
    }
    newer.close().await.unwrap();
    meddle(&path, "UPDATE audit_event SET body = NULL WHERE seq = 1").await;
    meddle(&path, "UPDATE audit_event SET body = CAST(body || x'00' AS BLOB) WHERE seq = 0").await;
    let page = store.query(&AuditQuery::newest(10).unwrap()).await.unwrap();
    assert_eq!(page.items.iter().map(|one| one.sequence).collect::<Vec<u64>>(), [5, 4, 2]);
    let event = &page.items[1];
    assert_eq!((event.event.kind, event.event.outcome), (EventKind::Unknown(17), Outcome::Unknown(9)));
    assert_eq!(event.unknown_fields, UnknownFields::from([("10".to_owned(), "1".to_owned())]));
    let unread: Vec<_> = page.unread.iter().map(|one| (one.sequence, one.at_micros, one.problem)).collect();
    assert_eq!(unread, [(3, START + 3, Unreadable::Newer), (0, START, Unreadable::Damaged)]);
    // Pages of one join, whatever is on them, and each filter finds what may be meant.
    let (mut query, mut seen) = (AuditQuery::newest(1).unwrap(), Vec::new());
    loop {
        let page = store.query(&query).await.unwrap();
        assert_eq!(page.items.len() + page.unread.len(), 1);
        seen.extend(page.items.iter().map(|one| one.sequence).chain(page.unread.iter().map(|one| one.sequence)));
        query.before = page.next;
        if page.next.is_none() {
            break;
        }
    }
    assert_eq!(seen, [5, 4, 3, 2, 0]);
    let all = AuditQuery::newest(10).unwrap();
    let spiffe_id = issued("a", 0, START).who.spiffe_id;
    for (query, found) in [
        (AuditQuery { serial: Some(serial(3)), ..all.clone() }, (0, 1)),
        (AuditQuery { outcome: Some(Outcome::Issued), ..all.clone() }, (2, 2)),
        (AuditQuery { outcome: Some(Outcome::Unknown(9)), ..all.clone() }, (1, 0)),
        (AuditQuery { spiffe_id, ..all.clone() }, (2, 2)),
        (AuditQuery { spiffe_id: Some("spiffe://cluster.local/ns/b/sa/default".into()), ..all.clone() }, (0, 0)),
    ] {
        let page = store.query(&query).await.unwrap();
        assert_eq!((page.items.len(), page.unread.len()), found, "{query:?}");
    }
    // What is appended afterwards changes none of their bytes.
    store.append(vec![issued("a", 9, START)]).await.unwrap();
    let after = store.query(&AuditQuery { before: Some(6), ..all }).await.unwrap();
    assert_eq!((after.items, after.unread), (page.items, page.unread));
}

#[tokio::test]
async fn no_page_of_a_filter_is_found_by_reading_every_row() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    store(&path).await.close().await;
    let mut connection = open::reader_options(&path, Duration::from_secs(5)).connect().await.unwrap();
    let all = AuditQuery::newest(50).unwrap();
    let (outcome, since) = (Some(Outcome::Refused), Some(OffsetDateTime::UNIX_EPOCH));
    let read = |query: AuditQuery| search::read(&query, 0..8192, 51).sql().as_str().to_owned();
    let keys: Vec<i64> = (0..1024).collect();
    let positions: Vec<u64> = (0..1024).collect();
    let (range, serial) = ("INTEGER PRIMARY KEY (rowid>? AND rowid<?)", Some(serial(1)));
    for (statement, index) in [
        (read(all.clone()), range),
        (read(AuditQuery { outcome, since, kind: Some(EventKind::Admin), ..all.clone() }), range),
        (read(AuditQuery { serial, ..all }), "audit_event_serial (serial=?"),
        (search::words(&keys).sql().as_str().to_owned(), "audit_term USING PRIMARY KEY (key=?)"),
        (search::at(&positions).sql().as_str().to_owned(), "INTEGER PRIMARY KEY (rowid=?)"),
        (search::IDENTITIES.to_owned(), "audit_identity USING PRIMARY KEY (spiffe_id>? AND spiffe_id<?)"),
        (search::SERIALS.to_owned(), "audit_event_serial (serial>? AND serial<?)"),
    ] {
        let plan = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        let plan = sqlx::query_as::<_, (i64, i64, i64, String)>(plan).fetch_all(&mut connection).await.unwrap();
        let plan: Vec<String> = plan.into_iter().map(|(.., step)| step).collect();
        assert!(plan.iter().any(|step| step.contains(index)), "{statement}: {plan:#?}");
    }
}
