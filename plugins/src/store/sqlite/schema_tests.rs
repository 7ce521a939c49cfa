//! Schemas that this program has not made: older, newer, changed and foreign ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use signet_core::seams::store::{AuditStore, AuthorityJournal, HolderStore, JournalVersion, StoreError};
use sqlx::{ConnectOptions, Connection};

use super::open::{self, MIGRATIONS};
use super::tests::{meddle, open_error, store, url};
use super::{SqliteSettings, SqliteStore};
use crate::store::suite::{START, assert_gapless, ended, everything, held, issued, listed};

/// Makes a database as a program did whose newest migration was `last`.
pub(super) async fn made_by(path: &Path, last: i64) {
    let options = open::writer_options(path, Duration::from_secs(5)).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    MIGRATIONS.run_to(last, &mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn reading(path: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open_read_only(&url(path), SqliteSettings::default()).await
}

/// What a newer program leaves that adds a column, a table and an index, and names the reader 14.
const ADDED: &str = "ALTER TABLE audit_event ADD COLUMN added TEXT; ALTER TABLE holder ADD COLUMN added INTEGER DEFAULT 1; \
    CREATE TABLE added (id INTEGER PRIMARY KEY); CREATE INDEX added_holder ON holder (added); \
    INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
    VALUES (9001, 'added', 1, x'01', 0); INSERT INTO schema_reader (version, oldest_reader) VALUES (9001, 14)";

#[tokio::test]
async fn a_program_works_on_a_schema_to_which_a_newer_one_has_only_added() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let first = store(&path).await;
    first.append(vec![held("a", "p", 1, 1, 10)]).await.unwrap();
    first.close().await;
    meddle(&path, ADDED).await;
    for round in 2..4 {
        let second = store(&path).await;
        let batch = (0..70).map(|n| held("a", &format!("{n}"), round * 100 + n, 1, 10)).collect();
        assert!(second.append(batch).await.unwrap().iter().all(Result::is_ok));
        let (version, journal) = second.load().await.unwrap().unwrap();
        assert_eq!(second.replace(version, &journal).await.unwrap(), Some(JournalVersion(version.0 + 1)));
        assert_eq!(second.coverage(ended(0)).await.unwrap().live(), 71);
        assert_gapless(&everything(&second).await);
        assert_eq!(everything(&reading(&path).await.unwrap()).await.len() as u64, 1 + (round - 1) * 70);
        second.close().await;
    }
}

#[tokio::test]
async fn a_running_program_notices_that_a_newer_one_has_migrated_its_storage() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let running = store(&path).await;
    meddle(&path, ADDED).await;
    assert_eq!(running.probe().await, Ok(()), "something was added");
    meddle(&path, "UPDATE schema_reader SET oldest_reader = 9001 WHERE version = 9001").await;
    let Err(StoreError::Schema(text)) = running.probe().await else { panic!("it says that all is well") };
    assert!(text.contains("migration 9001"), "{text}");
}

#[tokio::test]
async fn foreign_newer_and_changed_databases_are_refused_untouched() {
    let directory = tempfile::tempdir().unwrap();
    const NEWER: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
        VALUES (9001, '', 1, x'01', 0); INSERT INTO schema_reader (version, oldest_reader) VALUES (9001, 9001)";
    for (name, sql, words) in [
        ("newer", NEWER, "migration 9001, which this version does not know"),
        ("unnamed", "UPDATE _sqlx_migrations SET version = 9999 WHERE version = 5", "migration 9999"),
        ("changed", "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 1", "not the one of this version"),
        ("foreign", "DROP TABLE _sqlx_migrations", "another program"),
    ] {
        let path = directory.path().join(name);
        store(&path).await.close().await;
        meddle(&path, sql).await;
        let before = std::fs::read(&path).unwrap();
        let read_only = reading(&path).await.err();
        for error in [open_error(&path).await, read_only.expect("opening should fail")] {
            let StoreError::Schema(text) = error else { panic!("{name}: {error}") };
            assert!(text.contains(words) && text.contains(name), "{text}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), before, "{name}");
    }
    // The two added to each other: what the newer one adds, without what this one has.
    let path = directory.path().join("apart");
    store(&path).await.close().await;
    meddle(&path, ADDED).await;
    meddle(&path, "DROP TABLE authority_fence; DELETE FROM _sqlx_migrations WHERE version = 6").await;
    let StoreError::Schema(text) = open_error(&path).await else { panic!("opened") };
    assert!(text.contains("migration 9001 of another version but lacks migration 6"), "{text}");
}

#[tokio::test]
async fn an_older_database_is_not_read_before_it_was_brought_up_to_date() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    made_by(&path, 13).await;
    assert!(matches!(reading(&path).await.err(), Some(StoreError::Schema(text)) if text.contains("older version")));
    let store = store(&path).await;
    store.probe().await.unwrap();
    store.append(vec![issued("a", 1, START)]).await.unwrap();
    assert_eq!((everything(&store).await.len(), listed(&store).await.len()), (1, 1));
    assert_eq!(everything(&reading(&path).await.unwrap()).await.len(), 1);
}

#[tokio::test]
async fn every_migration_names_the_oldest_program_that_may_run_on_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    store(&path).await.close().await;
    let mut connection = open::reader_options(&path, Duration::from_secs(5)).connect().await.unwrap();
    let readers = sqlx::query_as("SELECT version, oldest_reader FROM schema_reader").fetch_all(&mut connection).await;
    let readers: BTreeMap<i64, i64> = Vec::<(i64, i64)>::from_iter(readers.unwrap()).into_iter().collect();
    let from_14_on = MIGRATIONS.iter().map(|one| one.version).filter(|version| *version >= 14);
    assert_eq!(
        readers.keys().copied().collect::<Vec<i64>>(),
        from_14_on.collect::<Vec<i64>>(),
        "see migrations/README.md"
    );
    for (version, oldest) in readers {
        assert!(oldest <= version && oldest >= 14 && MIGRATIONS.version_exists(oldest), "{version}: {oldest}");
    }
}

#[tokio::test]
async fn a_file_that_another_process_has_just_made_is_nobodys_and_empty() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    std::fs::write(&path, "").unwrap();
    let empty = async || SqliteStore::is_empty(&url(&path), SqliteSettings::default()).await.unwrap();
    assert!(empty().await);
    let Err(StoreError::Schema(why)) = reading(&path).await else { panic!("it was read") };
    assert!(why.contains("has none of the tables of a CA"), "{why}");
    // WAL mode writes a header before there is any table.
    let options = open::writer_options(&path, Duration::from_secs(5));
    options.connect().await.unwrap().close().await.unwrap();
    assert!(empty().await && std::fs::metadata(&path).unwrap().len() > 0);
    store(&path).await.close().await;
    assert!(!empty().await && reading(&path).await.is_ok());
}
