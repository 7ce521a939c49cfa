//! The fence of a database that programs wrote which knew of none.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use signet_core::rotation::Authorities;
use signet_core::seams::store::{AppendError, AuditStore, AuthorityJournal, HolderStore, JournalVersion, StoreError};

use super::tests::{meddle, store};
use crate::store::suite::{START, admitting, ended, issued};

/// A journal in which nothing signs.
fn nothing() -> Authorities {
    Authorities { bundle_sequence: 9, ..Authorities::default() }
}

#[tokio::test]
async fn an_older_database_gets_the_fence_of_its_journal() {
    let directory = tempfile::tempdir().unwrap();
    for (name, journal, admits) in [("signs", admitting(), true), ("nothing", nothing(), false)] {
        let path = directory.path().join(name);
        let first = store(&path).await;
        first.append(vec![issued("a", 1, START)]).await.unwrap();
        first.replace(JournalVersion(1), &journal).await.unwrap();
        drop(first);
        meddle(&path, "DROP TABLE authority_fence; DELETE FROM _sqlx_migrations WHERE version = 6").await;
        let second = store(&path).await;
        for serial in [2, 3] {
            let results = second.append(vec![issued("a", serial, START)]).await.unwrap();
            assert_eq!(results[0].is_ok(), admits, "{name}: {results:?}");
        }
        assert_eq!(second.load().await.unwrap(), Some((JournalVersion(2), journal)));
    }
}

#[tokio::test]
async fn a_change_by_a_program_that_knows_no_fence_counts_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let store = store(&path).await;
    store.append(vec![issued("a", 1, START)]).await.unwrap();
    assert!(store.append(vec![issued("a", 2, START)]).await.unwrap()[0].is_ok());
    assert_eq!(store.coverage(ended(0)).await.unwrap().live(), 2, "as such a program has entered them");
    meddle(&path, r#"UPDATE authority_journal SET version = version + 1, body = '{"bundle_sequence":9,"roots":[]}'"#)
        .await;
    for serial in [3, 4] {
        assert_eq!(store.append(vec![issued("a", serial, START)]).await.unwrap(), [Err(AppendError::Fenced)]);
    }
    assert_eq!(store.load().await.unwrap(), Some((JournalVersion(2), nothing())));
    store.replace(JournalVersion(2), &admitting()).await.unwrap();
    assert!(store.append(vec![issued("a", 5, START)]).await.unwrap()[0].is_ok());
}

#[tokio::test]
async fn a_damaged_journal_or_fence_lets_nothing_out_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    for (name, damage) in [
        ("fence", "UPDATE authority_fence SET body = '{'"),
        ("journal", "UPDATE authority_journal SET version = 2, body = '{'"),
    ] {
        let path = directory.path().join(name);
        store(&path).await.close().await;
        meddle(&path, damage).await;
        let result = store(&path).await.append(vec![issued("a", 1, START)]).await;
        assert!(matches!(result, Err(StoreError::Damaged(_))), "{name}: {result:?}");
    }
}
