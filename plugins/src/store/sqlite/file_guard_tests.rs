//! Files that change under our feet: noticed before anything is told of the next commit, and never by mistake.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;

use std::path::{Path, PathBuf};
use std::time::Duration;

use signet_core::seams::store::{AuditStore, AuthorityJournal, HolderStore, JournalVersion, StoreError};
use sqlx::{ConnectOptions, Connection, Executor};

use super::open::{self, beside};
use super::tests::{meddle, store, url};
use super::{SqliteSettings, SqliteStore, file_guard};
use crate::store::suite::{START, admitting, assert_gapless, everything, issued};

/// How many checkpoints are over.
async fn finished(store: &SqliteStore) -> i64 {
    let mut writer = store.writer().await.unwrap();
    let row = file_guard::row(&mut writer.session.connection).await.unwrap();
    writer.give_back();
    row.finished
}

/// Appends events with so many checkpoints between them.
async fn work(store: &SqliteStore, numbers: &mut std::ops::RangeFrom<u64>, checkpoints: i64) {
    let until = finished(store).await + checkpoints;
    while finished(store).await < until {
        for _ in 0..8 {
            let batch = numbers.by_ref().take(64).map(|n| issued("a", n, START)).collect();
            store.append(batch).await.unwrap();
        }
        let mut writer = store.writer().await.unwrap();
        let guard = std::sync::Arc::clone(&writer.guard);
        guard.checkpoint(&mut writer.session.connection, -1).await.unwrap();
        writer.keep().await.unwrap();
    }
}

#[tokio::test]
async fn a_checkpoint_is_made_when_nobody_waits_and_by_a_commit_only_when_it_is_long_due() {
    let directory = tempfile::tempdir().unwrap();
    for settles in [true, false] {
        let store = store(&directory.path().join(format!("{settles}.db"))).await;
        for n in 0..150 {
            store.append(vec![issued("a", n, START)]).await.unwrap();
        }
        assert_eq!(finished(&store).await, 0, "nobody has settled");
        if settles {
            assert!(store.settle().await.unwrap());
            assert_eq!(finished(&store).await, 1);
            assert!(!store.settle().await.unwrap());
        }
        for n in 150..300 {
            store.append(vec![issued("a", n, START)]).await.unwrap();
        }
        assert_eq!(finished(&store).await, 1, "settles: {settles}");
    }
}

/// A store with some checkpoints behind it, a copy of its database file from before the last of them, and whoever
/// changes its files.
async fn worn(directory: &Path) -> (PathBuf, PathBuf, SqliteStore) {
    let (path, older) = (directory.join("signet.db"), directory.join("older.db"));
    let store = store(&path).await;
    let mut numbers = 0..;
    work(&store, &mut numbers, 2).await;
    // Not opened here: closing it would give up SQLite's locks, which are this process's.
    assert!(std::process::Command::new("cp").args([&path, &older]).status().unwrap().success());
    work(&store, &mut numbers, 1).await;
    store.append(vec![issued("a", numbers.next().unwrap(), START)]).await.unwrap();
    (path, older, store)
}

/// Runs a program on files, since a process that opens and closes a database by itself gives up its locks.
fn run(command: &str, path: &Path, other: &Path) {
    let shell = std::process::Command::new("sh").args(["-c", command, "sh"]).args([path, other]).status();
    assert!(shell.unwrap().success(), "{command}");
}

const ACTS: [(&str, &str); 12] = [
    ("an older copy over it", "cp $2 $1"),
    ("an older copy over it that keeps its time", "cp -p $2 $1"),
    ("an older copy in its place", "mv $2 $1"),
    ("the database removed", "rm $1"),
    ("the -wal removed", "rm $1-wal"),
    ("the -wal replaced", "cp $1-wal $1-new && mv $1-new $1-wal"),
    ("the -wal emptied", ": > $1-wal"),
    ("the -shm removed", "rm $1-shm"),
    ("the -shm replaced", "cp $1-shm $1-new && mv $1-new $1-shm"),
    ("cut short", "truncate -s 40960 $1"),
    ("emptied", ": > $1"),
    ("garbage in its middle", "dd if=/dev/urandom of=$1 bs=4096 seek=20 count=8 conv=notrunc 2>/dev/null"),
];

#[tokio::test(flavor = "multi_thread")]
async fn after_any_change_from_outside_nothing_is_kept_and_everything_says_so() {
    for (name, act) in ACTS {
        let directory = tempfile::tempdir().unwrap();
        let (path, older, store) = worn(directory.path()).await;
        run(act, &path, &older);
        for _ in 0..2 {
            let told = store.append(vec![issued("a", 1 << 40, START)]).await;
            let Err(StoreError::Lost(text)) = told else { panic!("{name}: {told:?}") };
            assert!(text.contains("while in use") && text.contains("restart"), "{name}: {text}");
            assert!(matches!(store.probe().await, Err(StoreError::Lost(_))), "{name}");
            assert!(matches!(store.replace(JournalVersion(0), &admitting()).await, Err(StoreError::Lost(_))));
            assert!(matches!(store.acknowledge(&[]).await, Ok(())));
            assert!(matches!(store.load().await, Err(StoreError::Lost(_))), "{name}");
            assert!(matches!(store.version().await, Err(StoreError::Lost(_))), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_between_a_commit_and_its_answer_withholds_the_answer() {
    for (name, act) in ACTS {
        let directory = tempfile::tempdir().unwrap();
        let (path, older, store) = worn(directory.path()).await;
        let mut writer = store.writer().await.unwrap();
        writer.session.connection.execute("UPDATE storage_probe SET writes = writes + 1").await.unwrap();
        run(act, &path, &older);
        assert!(matches!(writer.keep().await, Err(StoreError::Lost(_))), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_is_not_read_from_a_file_that_is_not_ours_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let (path, older, store) = worn(directory.path()).await;
    run("cp $2 $1", &path, &older);
    assert!(matches!(store.load().await, Err(StoreError::Lost(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_removed_wal_held_is_saved_and_a_restart_finds_every_record() {
    let directory = tempfile::tempdir().unwrap();
    let (path, older, store) = worn(directory.path()).await;
    let before = everything(&store).await;
    run("rm $1-wal", &path, &older);
    let Err(StoreError::Lost(text)) = store.probe().await else { panic!("not noticed") };
    assert!(text.contains("all records that were in it have been written"), "{text}");
    drop(store);
    // What a restart sees: another process has none of our locks and memory, so a copy stands for it.
    let copy = directory.path().join("copy.db");
    run("cp $1 $2", &path, &copy);
    let after = everything(&self::store(&copy).await).await;
    assert_eq!(before.len(), after.len());
    assert_gapless(&after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_wal_is_not_written_into_a_database_that_was_put_there_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let (path, older, store) = worn(directory.path()).await;
    run("rm $1-wal && cp $2 $1", &path, &older);
    let Err(StoreError::Lost(text)) = store.probe().await else { panic!("not noticed") };
    assert!(!text.contains("have been written"), "{text}");
    drop(store);
    run("cmp $1 $2", &path, &older);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_refuses_files_that_do_not_go_together_and_changes_nothing() {
    for (name, act, words) in [
        ("an older copy beside the -wal", "cp $2 $1", "older than the -wal"),
        ("no content beside the -wal", ": > $1", "missing or empty"),
        ("no file beside the -wal", "rm $1", "missing or empty"),
        ("another database beside the -wal", "cp $2-other $1", "another database"),
        (
            "garbage in its middle",
            "dd if=/dev/urandom of=$1 bs=4096 seek=20 count=8 conv=notrunc 2>/dev/null",
            "backup",
        ),
        ("garbage everywhere", "dd if=/dev/urandom of=$1 bs=4096 count=20 conv=notrunc 2>/dev/null", "backup"),
        ("cut short, without the -wal", "rm $1-wal; truncate -s 409600 $1", "backup"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (path, older, store) = worn(directory.path()).await;
        let other = self::store(&directory.path().join("older.db-other")).await;
        work(&other, &mut (0..), 3).await;
        other.readers.close().await;
        // What a crash leaves.
        let crashed = directory.path().join("crashed.db");
        run("cp $1 $2 && cp $1-wal $2-wal", &path, &crashed);
        let other_file = directory.path().join("older.db-other");
        run("cp $1 $2", &other_file, &older.with_extension("db-other.copy"));
        run(&act.replace("$2-other", "$2-other.copy"), &crashed, &older);
        let content = |path: &Path| fs::read(path).unwrap_or_default();
        let before = (content(&crashed), content(&beside(&crashed, "-wal")));
        for error in [
            SqliteStore::open(&url(&crashed), SqliteSettings::default()).await.err(),
            SqliteStore::check(&url(&crashed), SqliteSettings::default()).await.err(),
        ] {
            let Some(StoreError::Damaged(text)) = error else { panic!("{name}: {error:?}") };
            assert!(text.contains(words) && text.contains("backup"), "{name}: {text}");
        }
        let after = (content(&crashed), content(&beside(&crashed, "-wal")));
        assert!(before == after, "{name}: a start that is refused has changed the files");
        drop((store, other));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_refuses_a_log_with_a_gap_and_takes_what_a_crash_leaves() {
    let directory = tempfile::tempdir().unwrap();
    let (path, _, store) = worn(directory.path()).await;
    let crashed = directory.path().join("crashed.db");
    run("cp $1 $2 && cp $1-wal $2-wal", &path, &crashed);
    SqliteStore::check(&url(&crashed), SqliteSettings::default()).await.unwrap();
    let reopened = self::store(&crashed).await;
    assert_eq!(everything(&reopened).await.len(), everything(&store).await.len());
    reopened.probe().await.unwrap();
    drop(reopened);
    let gap = directory.path().join("gap.db");
    run("cp $1 $2 && cp $1-wal $2-wal", &path, &gap);
    meddle(&gap, "DELETE FROM audit_event WHERE seq = 7").await;
    let error = SqliteStore::open(&url(&gap), SqliteSettings::default()).await.err();
    assert!(
        matches!(&error, Some(StoreError::Damaged(text)) if text.contains("1 of its records are missing")),
        "{error:?}"
    );
}

/// A kill in the middle of a checkpoint leaves pages of the database file that make sense with the `-wal` only.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_takes_a_file_that_is_malformed_without_its_wal_and_whole_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let (path, _, store) = worn(directory.path()).await;
    let crashed = directory.path().join("crashed.db");
    let mut writer = store.writer().await.unwrap();
    let pages = "SELECT rootpage - 1 FROM sqlite_schema WHERE name = 'storage_file'";
    let page: i64 = sqlx::query_scalar(pages).fetch_one(&mut writer.session.connection).await.unwrap();
    writer.give_back();
    run("cp $1 $2 && cp $1-wal $2-wal", &path, &crashed);
    let half_written = format!("dd if=/dev/urandom of=$2 bs=4096 seek={page} count=1 conv=notrunc 2>/dev/null");
    run(&half_written, &path, &crashed);
    let reopened = self::store(&crashed).await;
    assert_eq!(everything(&reopened).await.len(), everything(&store).await.len());
    reopened.probe().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_that_write_and_checkpoint_raise_no_alarm() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let (one, other) = tokio::join!(store(&path), store(&path));
    let load = async |store: &SqliteStore, first: u64| {
        let mut numbers = first..;
        work(store, &mut numbers, 4).await;
    };
    let readers = async {
        for _ in 0..200 {
            one.load().await.unwrap();
            other.version().await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    // Who comes and goes, as commands do.
    let visitors = async {
        for _ in 0..20 {
            meddle(&path, "UPDATE storage_probe SET writes = writes + 1").await;
            store(&path).await.probe().await.unwrap();
            drop(SqliteStore::open_read_only(&url(&path), SqliteSettings::default()).await.unwrap());
        }
    };
    tokio::join!(load(&one, 0), load(&other, 1 << 40), readers, visitors);
    assert_gapless(&everything(&one).await);
    let serials: BTreeSet<_> = everything(&other).await.into_iter().map(|one| one.event.request_id).collect();
    assert!(!serials.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_that_died_in_a_checkpoint_stops_nobody_for_good() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let store = store(&path).await;
    work(&store, &mut (0..), 1).await;
    let mut dying = open::writer_options(&path, Duration::from_secs(5)).connect().await.unwrap();
    dying.execute("UPDATE storage_file SET announced = announced + 1").await.unwrap();
    dying.execute("PRAGMA wal_checkpoint(PASSIVE)").await.unwrap();
    drop(dying.close().await);
    store.probe().await.unwrap();
    // Its turn is taken over once it is too old.
    let guard = store.guard.clone().unwrap();
    let mut writer = store.writer().await.unwrap();
    let number = file_guard::row(&mut writer.session.connection).await.unwrap().announced;
    guard.checkpoint(&mut writer.session.connection, -1).await.unwrap();
    let row = file_guard::row(&mut writer.session.connection).await.unwrap();
    assert_eq!((row.announced, row.finished), (number, number - 1), "not before");
    guard.checkpoint(&mut writer.session.connection, number).await.unwrap();
    let row = file_guard::row(&mut writer.session.connection).await.unwrap();
    assert_eq!((row.announced, row.finished), (number + 1, number + 1));
    writer.keep().await.unwrap();
    store.append(vec![issued("b", 1 << 40, START)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_nobody_announced_is_somebody_elses() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let store = store(&path).await;
    work(&store, &mut (0..), 1).await;
    store.append(vec![issued("b", 1 << 40, START)]).await.unwrap();
    meddle(&path, "PRAGMA wal_checkpoint(PASSIVE)").await;
    assert!(matches!(store.probe().await, Err(StoreError::Lost(_))));
}
