//! A database that was moved: nobody opens it for writing, and nobody who has it open writes into it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use signet_core::authority::KeyId;
use signet_core::seams::store::{AuditStore, AuthorityJournal, HolderStore, JournalVersion, SealedKeys, StoreError};
use sqlx::{ConnectOptions, Connection, Executor};

use super::moved_mark::Mark;
use super::tests::{meddle, open_error, store, url};
use super::{SqliteSettings, SqliteStore, open};
use crate::store::suite::{START, admitting, ended, everything, held, issued, refused};
use crate::store::tables::TABLES;

fn mark() -> Mark {
    Mark { target: "postgres://it's@db:5432/signet".into(), target_id: vec![7; 16], at_micros: START }
}

/// Leaves the mark beside stores that are open, which [`Source`](super::storage_move::Source) does not allow.
async fn leave(path: &Path) {
    let mut connection = open::writer_options(path, Duration::from_secs(5)).connect().await.unwrap();
    let tables: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    mark().leave(&mut connection, &tables).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_store_that_was_open_all_the_time_releases_and_changes_nothing_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let key = KeyId::parse("key").unwrap();
    let [usual, fresh] = [store(&path).await, store(&path).await];
    usual.append(vec![held("a", "p", 1, 1, 10)]).await.unwrap();
    usual.insert(&key, b"sealed").await.unwrap();
    leave(&path).await;
    // One with everything in its memory, one that has yet to look, and each for both.
    for store in [&usual, &fresh] {
        let wrote = [
            store.append(vec![issued("a", 2, START)]).await.map(drop),
            store.append((10..90).map(|n| held("b", "p", n, 1, 10)).collect()).await.map(drop),
            store.append(vec![refused("a", START)]).await.map(drop),
            store.replace(JournalVersion(1), &admitting()).await.map(drop),
            store.insert(&KeyId::parse("other").unwrap(), b"sealed").await.map(drop),
            store.reseal(&key, b"sealed", b"anew").await.map(drop),
            store.probe().await,
        ];
        for (number, result) in wrote.into_iter().enumerate() {
            let Err(StoreError::Unavailable(text)) = result else { panic!("{number}: {result:?}") };
            assert!(text.contains("was moved to postgres://it's@db:5432/signet on 2023-11-14T22:13:20"), "{text}");
        }
    }
    // The record can be read for ever.
    assert_eq!(everything(&usual).await.len(), 1);
    assert_eq!(usual.fetch(&key).await.unwrap(), Some(b"sealed".to_vec()));
    assert_eq!(usual.version().await.unwrap(), JournalVersion(1));
}

#[tokio::test]
async fn nobody_opens_it_for_writing_and_everybody_for_reading() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let first = store(&path).await;
    first.append(vec![issued("a", 1, START)]).await.unwrap();
    first.close().await;
    leave(&path).await;
    let checked = SqliteStore::check(&url(&path), SqliteSettings::default()).await.unwrap_err();
    for error in [open_error(&path).await, checked] {
        let StoreError::Unavailable(text) = error else { panic!("{error}") };
        for words in ["signet.db: this storage was moved to postgres://", "set `storage` to that"] {
            assert!(text.contains(words), "{text}");
        }
    }
    let reading = SqliteStore::open_read_only(&url(&path), SqliteSettings::default()).await.unwrap();
    assert_eq!(everything(&reading).await.len(), 1);
    assert_eq!(reading.coverage(ended(0)).await.unwrap().live(), 1);
    assert_eq!(reading.last_ends().await.unwrap().len(), 1);
}

/// As a program does that has never heard of the mark, or a person with the `sqlite3` shell.
#[tokio::test]
async fn no_statement_of_anybody_changes_what_a_ca_has_kept_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let first = store(&path).await;
    first.append(vec![held("a", "p", 1, 1, 10)]).await.unwrap();
    first.insert(&KeyId::parse("key").unwrap(), b"sealed").await.unwrap();
    assert_eq!(first.coverage(ended(0)).await.unwrap().live(), 1);
    first.close().await;
    let rest = "INSERT INTO removed_key VALUES ('x', 1); INSERT INTO holder_raise VALUES (1, 2, 3); \
        INSERT INTO publication VALUES ('p', 1, 1, NULL, 1); INSERT INTO publication_reached VALUES ('p', 1, 1); \
        INSERT INTO pod_certificate VALUES ('u', 'c', 'me', 1, 2, NULL, NULL); \
        INSERT INTO signed_leaf VALUES (zeroblob(16), 1, x'30'); \
        INSERT INTO retention_cursor VALUES (0, 7); INSERT INTO retention_put_off VALUES (5, 0, 9); \
        INSERT INTO longest_life VALUES (1, 60, 9); INSERT INTO record_tile VALUES (0, 3, zeroblob(8192)); INSERT INTO record_checkpoint VALUES (1, 1, 'n', 'k', x'00'); \
        INSERT INTO record_note VALUES ('quorum', 'n')";
    meddle(&path, rest).await;
    leave(&path).await;
    let mut connection = open::writer_options(&path, Duration::from_secs(5)).connect().await.unwrap();
    for table in TABLES.iter().map(|table| table.name).chain(["storage_probe"]) {
        let column = match table {
            "storage_probe" => "writes",
            _ => TABLES.iter().find(|one| one.name == table).unwrap().columns[0].name,
        };
        for statement in [
            format!("INSERT INTO {table} SELECT * FROM {table}"),
            format!("UPDATE {table} SET {column} = {column}"),
            format!("DELETE FROM {table}"),
        ] {
            let done = connection.execute(sqlx::AssertSqlSafe(statement.clone())).await;
            let error = done.expect_err(&statement).to_string();
            assert!(error.contains("this storage was moved"), "{statement}: {error}");
        }
    }
}
