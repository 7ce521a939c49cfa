//! Holders in a file: changed whole or not at all, and derived for databases that are older than they are.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use signet_core::audit::{AuditEvent, AuditQuery};
use signet_core::holder::{Acknowledgement, Acknowledger, Holder};
use signet_core::seams::store::{AuditStore, HolderStore, StoreError};

use super::tests::{meddle, store, url};
use super::upgrade_tests::log_of_before;
use super::{SqliteSettings, SqliteStore};
use crate::store::suite::{START, ended, hand_over, held, issued, key, listed, refused, serial};

#[tokio::test]
async fn an_acknowledgement_that_finds_no_room_is_not_half_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory.path().join("signet.db")).await;
    store.append((0..30).map(|n| held("a", &format!("p{n:02}"), n, 1, 10)).collect()).await.unwrap();
    assert_eq!(listed(&store).await.len(), 30);
    store.limit_pages(1);
    let long = |n| Acknowledgement {
        from: Acknowledger::Holder(key("a", &format!("p{n:02}"))),
        sequence: 2,
        refused: (n >= 10).then(|| "x".repeat(4000)),
        at: ended(1),
    };
    let all: Vec<Acknowledgement> = (0..30).map(long).collect();
    assert!(matches!(store.acknowledge(&all).await, Err(StoreError::Unavailable(_))));
    assert!(listed(&store).await.iter().all(|holder| holder.sequence == 0 && holder.refused.is_none()));
    store.limit_pages(0);
    store.acknowledge(&all).await.unwrap();
    assert_eq!(listed(&store).await.iter().filter(|holder| holder.sequence == 2).count(), 10);
}

#[tokio::test]
async fn an_older_database_gets_the_holders_of_its_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let first = store(&path).await;
    let mut events: Vec<AuditEvent> = (0..60)
        .map(|n| {
            let mut event =
                held(["a", "b"][(n % 2) as usize], &format!("p{}", n % 5), n, n * 7 % 11, (n * 37 % 50) as i64);
            event.who.pod = (n % 3 == 0).then(|| format!("pod-{n}"));
            event.who.node = Some(format!("node-{}", n % 4));
            event.who.cluster = Some("c".into());
            // What such a log cannot hold: nobody acknowledged before there were holders.
            event.what.as_mut().unwrap().acknowledges = false;
            event
        })
        .collect();
    events.extend([issued("c", 100, START), refused("c", START)]);
    let mut named = issued("c", 101, START);
    named.who.instance = Some("client".into());
    events.push(named);
    // Such a program counted replies when their records were kept.
    let certificates = events.iter().filter(|event| event.what.is_some()).cloned();
    hand_over(&first, certificates.collect()).await;
    let counted = async |store: &SqliteStore| store.coverage(ended(20)).await.unwrap().by_sequence;
    let expected = (listed(&first).await, first.last_ends().await.unwrap(), counted(&first).await);
    assert_eq!(expected.0.len(), 12);
    let older = directory.path().join("older.db");
    log_of_before(&older, 4, &events).await;
    let second = store(&older).await;
    let found = (listed(&second).await, second.last_ends().await.unwrap(), counted(&second).await);
    assert_eq!(found, expected);
    // A row whose body is gone or damaged does not stop the upgrade, and its holder has received nothing.
    let damaged = directory.path().join("damaged.db");
    log_of_before(&damaged, 4, &events).await;
    let change = "UPDATE audit_event SET body = NULL WHERE seq = 3; UPDATE audit_event SET body = '{' WHERE seq = 4";
    meddle(&damaged, change).await;
    let third = store(&damaged).await;
    let strange: Vec<Holder> = listed(&third).await.into_iter().filter(|one| one.key.instance == one.serial).collect();
    let found: Vec<(String, u64)> = strange.into_iter().map(|one| (one.serial, one.sequence)).collect();
    assert_eq!(found, [(serial(4).to_string(), 0), (serial(3).to_string(), 0), (serial(100).to_string(), 1)]);
    assert_eq!(third.last_ends().await.unwrap(), expected.1);
}

#[tokio::test]
async fn a_certificate_is_acknowledged_although_its_body_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let store = store(&path).await;
    store.append(vec![held("a", "p", 1, 1, 10), held("a", "q", 2, 1, 10)]).await.unwrap();
    assert_eq!(listed(&store).await.len(), 2);
    meddle(&path, "UPDATE audit_event SET body = NULL").await;
    let from = Acknowledger::Certificate { spiffe_id: key("a", "").spiffe_id, serial: serial(2).to_string() };
    store.acknowledge(&[Acknowledgement { from, sequence: 5, refused: None, at: ended(1) }]).await.unwrap();
    let sequences: Vec<u64> = listed(&store).await.iter().map(|holder| holder.sequence).collect();
    assert_eq!(sequences, [0, 5]);
}

#[tokio::test]
async fn holders_are_read_beside_a_running_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let writing = store(&path).await;
    let reading = SqliteStore::open_read_only(&url(&path), SqliteSettings::default()).await.unwrap();
    writing.append(vec![held("a", "p", 1, 1, 10)]).await.unwrap();
    assert_eq!(listed(&reading).await, listed(&writing).await);
    assert_eq!(reading.coverage(ended(0)).await.unwrap().live(), 1);
    assert!(matches!(reading.forget_ended(ended(99), 9).await, Err(StoreError::Unavailable(_))));
    assert_eq!(reading.query(&AuditQuery::newest(9).unwrap()).await.unwrap().items.len(), 1);
}
