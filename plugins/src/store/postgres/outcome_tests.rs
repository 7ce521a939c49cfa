//! Commits of which the answer was lost: looked up, never guessed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use signet_core::seams::store::{AuditStore, AuthorityJournal, Change, Changed, JournalVersion, StoreError};

use super::test_cut::{Cut, Way};
use super::tests::{append_one, database, local, server};
use super::{PostgresSettings, PostgresStore};
use crate::store::suite::{START, admitting, assert_gapless, ended, everything, issued, refused};

/// A store behind a way that can be cut, and its database.
async fn behind() -> (PostgresStore, Way, String) {
    let name = database().await;
    let way = Way::to(server().port()).await;
    let store = PostgresStore::open(&local("signet", way.port, &name), PostgresSettings::default()).await.unwrap();
    store.replace(JournalVersion(0), &admitting()).await.unwrap();
    append_one(&store, issued("a", 1, START)).await.unwrap();
    append_one(&store, refused("a", START)).await.unwrap();
    (store, way, name)
}

fn batches(database: &str) -> String {
    let batches = "SELECT count(*) FILTER (WHERE kept), count(*) FILTER (WHERE NOT kept) FROM committed_batch";
    server().sql(database, batches).unwrap()
}

#[tokio::test]
async fn an_append_whose_answer_was_lost_is_found_and_one_that_never_arrived_is_made_again() {
    for (cut, given_up) in [(Cut::After, "0"), (Cut::Before, "1")] {
        let (store, way, name) = behind().await;
        way.arm("spiffe:", cut);
        let events = vec![issued("a", 2, START), refused("a", START)];
        let recorded: Vec<u64> =
            store.append(events).await.unwrap().into_iter().map(|one| one.unwrap().sequence()).collect();
        assert!(!way.is_armed());
        assert_eq!(recorded, [2, 3], "{cut:?}");
        assert_eq!(batches(&name), format!("4|{given_up}"), "{cut:?}");
        assert_eq!(append_one(&store, issued("a", 3, START)).await, Ok(4));
        assert_gapless(&everything(&store).await);
    }
}

#[tokio::test]
async fn what_was_given_up_fails_when_it_arrives_late() {
    let (store, way, name) = behind().await;
    way.arm("ns/late", Cut::Late);
    // Nothing in it is unique but the name of its batch.
    assert_eq!(append_one(&store, refused("late", START)).await, Ok(2));
    way.release().await;
    assert_eq!(everything(&store).await.len(), 3);
    assert_eq!(batches(&name), "4|1");
    assert_eq!(append_one(&store, refused("a", START)).await, Ok(3));
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_found_and_one_that_never_arrived_was_not_made() {
    for (cut, made) in [(Cut::After, true), (Cut::Before, false), (Cut::Late, false)] {
        let (store, way, _) = behind().await;
        let next = admitting();
        way.arm("; COMMIT", cut);
        let events = vec![refused("a", START)];
        let change = Change { expected: JournalVersion(1), next: &next, conditions: &[], now: ended(0), events };
        let changed = store.change(change).await;
        assert!(!way.is_armed());
        match changed {
            Ok(changed) => assert!(made && changed == Changed::Made(JournalVersion(2)), "{cut:?}: {changed:?}"),
            Err(StoreError::Unavailable(why)) => assert!(!made && why.contains("lost"), "{cut:?}: {why}"),
            Err(error) => panic!("{cut:?}: {error}"),
        }
        if cut == Cut::Late {
            way.release().await;
        }
        assert_eq!(store.version().await.unwrap(), JournalVersion(if made { 2 } else { 1 }), "{cut:?}");
        assert_eq!(everything(&store).await.len(), if made { 3 } else { 2 }, "{cut:?}");
    }
}
