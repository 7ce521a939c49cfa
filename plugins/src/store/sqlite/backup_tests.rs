//! Copies of databases that others work on, and of those that are not whole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signet_core::authority::KeyId;
use signet_core::seams::store::{AuditStore, AuthorityJournal, JournalVersion, SealedKeys, StoreError};
use sqlx::ConnectOptions;

use super::open::beside;
use super::tests::{meddle, store, url};
use super::{Copied, SqliteSettings, SqliteStore, file_guard};
use crate::store::suite::{START, assert_gapless, everything, issued};

async fn backup(path: &Path, target: &Path) -> Result<Copied, StoreError> {
    SqliteStore::backup(&url(path), SqliteSettings::default(), target).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn copies_of_a_database_at_work_hold_what_was_recorded_before_and_go_on_as_storage_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let store = Arc::new(store(&path).await);
    store.insert(&KeyId::parse("k").unwrap(), b"sealed").await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (writer, end) = (Arc::clone(&store), Arc::clone(&stop));
    #[expect(clippy::disallowed_methods, reason = "a test of two at work at once")]
    let work = tokio::spawn(async move {
        let mut numbers = 0..;
        while !end.load(Ordering::SeqCst) {
            let batch = numbers.by_ref().take(64).map(|n| issued("a", n, START)).collect();
            // Whatever a backup does, no commit fails.
            assert!(writer.append(batch).await.unwrap().iter().all(Result::is_ok));
        }
    });
    for round in 1..5 {
        let at_least = loop {
            let known = everything(&*store).await.len();
            if known >= round * 2000 {
                break known;
            }
            tokio::task::yield_now().await;
        };
        let target = directory.path().join(format!("copy-{round}.db"));
        File::create_new(&target).unwrap();
        let copied = backup(&path, &target).await.unwrap();
        assert!(copied.events >= at_least as u64 && copied.journal == 1 && copied.keys == 1, "{copied:?}");
        assert!(["-wal", "-shm", "-journal"].iter().all(|suffix| !beside(&target, suffix).exists()));

        let copy = super::tests::store(&target).await;
        let held = everything(&copy).await;
        assert_eq!(held.len() as u64, copied.events);
        assert_gapless(&held);
        assert_eq!(copy.load().await.unwrap(), store.load().await.unwrap());
        assert_eq!(copy.version().await.unwrap(), JournalVersion(1));
        assert_eq!(copy.fetch(&KeyId::parse("k").unwrap()).await.unwrap(), Some(b"sealed".to_vec()));
        // Its counters and serials go on from there.
        let new = copy.append(vec![issued("a", 1 << 40, START)]).await.unwrap();
        assert!(new[0].is_ok());
        let again = copy.append(vec![issued("a", 0, START)]).await.unwrap();
        assert!(again[0].is_err(), "a serial of before the copy is taken");
        copy.close().await;
        assert!(!beside(&target, "-wal").exists());
    }
    stop.store(true, Ordering::SeqCst);
    work.await.unwrap();
    // The guard of the one at work has nothing to say.
    store.append(vec![issued("a", 1 << 41, START)]).await.unwrap();
    store.probe().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_put_beside_what_is_left_of_the_original_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (path, target) = (directory.path().join("signet.db"), directory.path().join("copy.db"));
    let store = store(&path).await;
    for n in 0..200 {
        store.append(vec![issued("a", n, START)]).await.unwrap();
    }
    File::create_new(&target).unwrap();
    backup(&path, &target).await.unwrap();
    // As after a kill: the -wal stays. Not copied by this process, which would give up its locks.
    let other = directory.path().join("restored.db");
    let copy = format!("cp $1 {0} && cp $2-wal {0}-wal", other.display());
    let shell = std::process::Command::new("sh").args(["-c", &copy, "sh"]).args([&target, &path]).status().unwrap();
    assert!(shell.success());
    let refused = SqliteStore::open(&url(&other), SqliteSettings::default()).await.err();
    assert!(matches!(refused, Some(StoreError::Damaged(_))), "{refused:?}");
    // Also where the pages happen to fit: it is another database, of which no checkpoint is known.
    let row = async |path: &Path| {
        let mut connection = super::open::reader_options(path, Duration::ZERO).connect().await.unwrap();
        file_guard::row(&mut connection).await.unwrap()
    };
    let (original, copy) = (row(&path).await, row(&target).await);
    assert!(original.store_id != copy.store_id && original.finished > 0);
    assert_eq!((copy.announced, copy.finished, copy.complete), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_storage_of_ours_is_not_copied() {
    let directory = tempfile::tempdir().unwrap();
    let make = async |name: &str| {
        let path = directory.path().join(name);
        let store = store(&path).await;
        for n in 0..400 {
            store.append(vec![issued("a", n, START)]).await.unwrap();
        }
        store.close().await;
        path
    };
    let foreign = make("foreign.db").await;
    meddle(&foreign, "DROP TABLE _sqlx_migrations").await;
    let gap = make("gap.db").await;
    meddle(&gap, "DELETE FROM audit_event WHERE seq = 7").await;
    let index = make("index.db").await;
    meddle(
        &index,
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, '(serial)', '(leaf_hash)') \
         WHERE name = 'audit_event_serial'",
    )
    .await;
    let text = directory.path().join("text.db");
    fs::write(&text, "not a database".repeat(1000)).unwrap();
    let garbage = make("garbage.db").await;
    let mut bytes = fs::read(&garbage).unwrap();
    bytes[20 * 4096..28 * 4096].fill(0xa5);
    fs::write(&garbage, bytes).unwrap();
    for (path, expected) in [
        (&foreign, "another program"),
        (&gap, "missing"),
        (&index, "not whole"),
        (&text, "not an SQLite database"),
        (&garbage, "damaged"),
        (&directory.path().join("none.db"), "cannot look at"),
    ] {
        let target = directory.path().join("copy.db");
        let _exists = fs::remove_file(&target);
        File::create_new(&target).unwrap();
        let told = backup(path, &target).await.unwrap_err().to_string();
        assert!(told.contains(expected), "{}: {told}", path.display());
    }
    assert!(SqliteStore::backup("postgres://x", SqliteSettings::default(), &text).await.is_err());
}
