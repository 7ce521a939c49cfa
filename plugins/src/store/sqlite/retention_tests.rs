//! A process that ends in the middle of forgetting.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use signet_core::seams::store::AuditStore;

use super::*;
use crate::store::sqlite::tests::store;
use crate::store::suite::{START, refused};

#[tokio::test]
async fn names_that_a_process_has_left_which_ended_between_two_transactions_are_swept_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let store = store(&path).await;
    // More names than are looked at once, of which each third has another event.
    let name = |n: u64| format!("w{n:04}");
    let events =
        (0..300).map(|n| refused(&name(n), START)).chain((0..300).step_by(3).map(|n| refused(&name(n), START)));
    store.append(events.collect()).await.unwrap();
    // Enough of others, so that there are words of them all.
    for _ in 0..10 {
        store.append((0..400).map(|n| refused("other", START + n)).collect()).await.unwrap();
    }
    while store.settle().await.unwrap() {}
    let names = async || {
        let names: Vec<String> =
            sqlx::query_scalar("SELECT spiffe_id FROM audit_identity").fetch_all(&store.readers).await.unwrap();
        names.len()
    };
    assert_eq!(names().await, 301);
    let step = |from: u64, below: u64| Forgetting {
        class: Class::Refusals,
        from,
        below,
        forgotten: (from..below).collect(),
        put_off: Vec::new(),
    };
    // The first of the two transactions, and no more.
    for (from, below) in [(0, 256), (256, 300)] {
        let mut writer = store.writer().await.unwrap();
        assert!(forget(&mut writer.session.connection, &step(from, below)).await.unwrap());
        writer.keep().await.unwrap();
    }
    assert_eq!(names().await, 301, "they are left");
    let (mut after, mut rounds) = (String::new(), 0);
    while let Some(last) = store.sweep_names(&after).await.unwrap() {
        (after, rounds) = (last, rounds + 1);
    }
    assert_eq!((names().await, rounds), (101, 4));
    assert!(store.sweep_names("").await.unwrap().is_some());
    assert_eq!(names().await, 101);
}
