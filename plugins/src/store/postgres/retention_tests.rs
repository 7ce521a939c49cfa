//! A process that ends in the middle of forgetting.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use signet_core::seams::store::AuditStore;

use super::*;
use crate::store::postgres::tests::{server, store};
use crate::store::suite::{START, refused};
use crate::store::terms::PIECE;

#[tokio::test]
async fn names_that_a_process_has_left_which_ended_between_two_transactions_are_swept_and_no_others() {
    let (store, database) = store().await;
    // More names than are looked at once, of which each third has another event.
    let name = |n: u64| format!("w{n:04}");
    let events =
        (0..300).map(|n| refused(&name(n), START)).chain((0..300).step_by(3).map(|n| refused(&name(n), START)));
    store.append(events.collect()).await.unwrap();
    store.append((0..PIECE as i64 * 2).map(|n| refused("other", START + n)).collect()).await.unwrap();
    store.close_pieces().await.unwrap();
    let names = || {
        let number = server().sql(&database, "SELECT count(*) FROM audit_identity").unwrap();
        number.trim().parse::<u64>().unwrap()
    };
    assert_eq!(names(), 301);
    let step = |from: u64, below: u64| Forgetting {
        class: Class::Refusals,
        from,
        below,
        forgotten: (from..below).collect(),
        put_off: Vec::new(),
    };
    // The first of the two transactions, and no more.
    for (from, below) in [(0, 256), (256, 300)] {
        let mut lease = store.lease(Use::Writing).await.unwrap();
        assert!(forget(&mut lease, &step(from, below)).await.unwrap());
        lease.keep();
    }
    assert_eq!(names(), 301, "they are left");
    let (mut after, mut rounds) = (String::new(), 0);
    while let Some(last) = store.sweep_names(&after).await.unwrap() {
        (after, rounds) = (last, rounds + 1);
    }
    assert_eq!((names(), rounds), (101, 4));
    assert!(store.sweep_names("").await.unwrap().is_some());
    assert_eq!(names(), 101);
}
