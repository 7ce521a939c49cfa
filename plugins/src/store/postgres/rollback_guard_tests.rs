//! A database that is not the one that this process has written to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use signet_core::seams::store::{AuditStore, AuthorityJournal, JournalVersion, StoreError};

use super::PostgresStore;
use super::tests::{append_one, database, open, server, store};
use crate::store::suite::{START, admitting, issued};

/// Every call is refused for good, with these words.
async fn assert_lost(store: &PostgresStore, words: &str) {
    for _ in 0..2 {
        for result in [
            store.probe().await.err(),
            store.append(vec![issued("a", 99, START)]).await.err(),
            store.replace(JournalVersion(2), &admitting()).await.err(),
            store.load().await.err(),
        ] {
            let Some(StoreError::Lost(why)) = result else { panic!("{words}: {result:?}") };
            assert!(why.contains(words) && why.contains("restart the CA"), "{words}: {why}");
        }
    }
}

#[tokio::test]
async fn a_database_that_has_gone_back_or_is_another_one_is_noticed_by_the_next_probe_and_never_forgiven() {
    let cut_log = "DELETE FROM audit_event WHERE seq = 2";
    let fork = "UPDATE audit_event SET leaf_hash = sha256('x') WHERE seq = 2";
    let longer_fork = "UPDATE audit_event SET leaf_hash = sha256('x') WHERE seq = 2; INSERT INTO audit_event \
        (seq, at_micros, high_micros, kind, outcome, leaf_hash) VALUES (3, 0, 0, 0, 0, sha256('y'))";
    let old_journal = "UPDATE authority_journal SET version = 1";
    let other = "UPDATE storage_file SET store_id = decode(repeat('ab', 16), 'hex')";
    let empty = "DROP SCHEMA public CASCADE; CREATE SCHEMA public";
    for (meddling, words) in [
        (cut_log, "the log has 2 events, and had 3"),
        (fork, "event 2 of the log is another one"),
        (longer_fork, "event 2 of the log is another one"),
        (old_journal, "the authority journal has version 1, and had 2"),
        (other, "another database is there"),
        (empty, "the tables of the database are gone"),
    ] {
        let (store, name) = store().await;
        store.replace(JournalVersion(1), &admitting()).await.unwrap();
        for serial in 0..3 {
            append_one(&store, issued("a", serial, START)).await.unwrap();
        }
        server().sql(&name, &format!("SET client_min_messages = error; {meddling}")).unwrap();
        assert_lost(&store, words).await;
        // Whoever comes new knows nothing of it.
        if meddling != empty {
            open(server(), &name).await.probe().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_log_or_journal_that_has_gone_back_takes_nothing_more_even_before_a_probe() {
    for (meddling, words) in [
        ("DELETE FROM audit_event WHERE seq = 2", "the log"),
        ("UPDATE authority_journal SET version = 1, body = body", "the authority journal has version 1"),
    ] {
        let (store, name) = store().await;
        store.replace(JournalVersion(1), &admitting()).await.unwrap();
        for serial in 0..3 {
            append_one(&store, issued("a", serial, START)).await.unwrap();
        }
        server().sql(&name, meddling).unwrap();
        let Err(StoreError::Lost(why)) = store.append(vec![issued("a", 9, START)]).await else { panic!("{words}") };
        assert!(why.contains(words), "{why}");
        assert_lost(&store, words).await;
    }
}

#[tokio::test]
async fn each_new_connection_is_looked_at() {
    let (store, name) = store().await;
    append_one(&store, issued("a", 1, START)).await.unwrap();
    let replacement = database().await;
    store.pool.clear();
    let swap = format!("ALTER DATABASE {name} RENAME TO {name}_old; ALTER DATABASE {replacement} RENAME TO {name}");
    let renamed = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname LIKE 'signet%'";
    server().sql("postgres", &format!("{renamed} AND datname IN ('{name}', '{replacement}')")).unwrap();
    for statement in swap.split(';') {
        server().sql("postgres", statement).unwrap();
    }
    let Err(StoreError::Lost(why)) = store.version().await else { panic!("the other database was read") };
    assert!(why.contains("events, and had"), "{why}");
}
