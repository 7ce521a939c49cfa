//! Holders: who counts as live, how they are listed, and what is forgotten when.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;

use signet_core::holder::{HolderKey, HolderQuery};
use signet_core::seams::store::{AuditStore, HolderStore};
use time::{Duration, OffsetDateTime};

use super::START;
use super::holders::{AUTHORITY, acknowledging, by, counts, ended, hand_over, held, issuer, key, listed, query};

/// Runs the cases of this file.
pub(super) async fn every_case<S>(make: &impl AsyncFn() -> [Arc<S>; 2])
where
    S: AuditStore + HolderStore,
{
    a_certificate_that_ends_now_has_ended(&*make().await[0]).await;
    pages_of_holders_follow_the_order_of_bytes(&*make().await[0]).await;
    ended_holders_are_forgotten_a_few_at_a_time(&*make().await[0]).await;
    the_last_end_of_each_authority_is_remembered(&*make().await[0]).await;
}

async fn names(store: &impl HolderStore, query: &HolderQuery) -> Vec<String> {
    store.holders(query).await.unwrap().into_iter().map(|holder| holder.key.instance).collect()
}

async fn a_certificate_that_ends_now_has_ended(store: &(impl AuditStore + HolderStore)) {
    hand_over(store, vec![held("a", "p", 1, 1, 10), acknowledging(by(held("a", "q", 2, 1, 20), 7))]).await;
    let second = Duration::seconds(1);
    let nanosecond = Duration::nanoseconds(1);
    for (now, live) in [
        (ended(-100), &["p", "q"][..]),
        (ended(10) - second, &["p", "q"]),
        (ended(10) - nanosecond, &["p", "q"]),
        (ended(10), &["q"]),
        (ended(10) + nanosecond, &["q"]),
        (ended(20) - nanosecond, &["q"]),
        (ended(20), &[]),
        (ended(9_000_000), &[]),
    ] {
        assert_eq!(names(store, &query(now)).await, live, "{now}");
        let coverage = store.coverage(now).await.unwrap();
        assert_eq!(coverage.live(), live.len() as u64, "{now}");
        assert_eq!(coverage.by_authority.values().sum::<u64>(), live.len() as u64, "{now}");
    }
    let coverage = store.coverage(ended(0)).await.unwrap();
    assert_eq!(coverage.by_sequence, counts(&[(0, 1, 1), (1, 1, 0)]));
    assert_eq!(coverage.by_authority, [(issuer(7), 1), (issuer(AUTHORITY), 1)].into());
}

async fn pages_of_holders_follow_the_order_of_bytes(store: &(impl AuditStore + HolderStore)) {
    let mut expected = Vec::new();
    let mut batch = Vec::new();
    for (number, (who, pod)) in ["a", "B", "a0", "é"].iter().flat_map(|who| (0..30).map(move |n| (who, n))).enumerate()
    {
        let pod = [format!("p{pod}"), format!("P{pod}"), format!("~{pod}")][number % 3].clone();
        expected.push(key(who, &pod));
        batch.push(by(
            held(who, &pod, number as u64, (number % 4) as u64, 10 + (number % 2) as i64),
            (number % 5) as u8,
        ));
    }
    let all: Vec<(HolderKey, usize)> = expected.into_iter().zip(0..).collect();
    hand_over(store, batch).await;
    for (now, behind, authorities) in [
        (ended(0), None, &[][..]),
        (ended(10), None, &[]),
        (ended(0), Some(2), &[]),
        (ended(0), Some(0), &[]),
        (ended(0), None, &[3]),
        (ended(10), Some(3), &[0, 4, 9]),
    ] {
        let mut expected: Vec<HolderKey> = all
            .iter()
            .filter(|(_, n)| 10 + (n % 2) as i64 > now.unix_timestamp() - START / 1_000_000)
            .filter(|(_, n)| behind.is_none_or(|behind| ((n % 4) as u64) < behind))
            .filter(|(_, n)| authorities.is_empty() || authorities.contains(&((n % 5) as u8)))
            .map(|(key, _)| key.clone())
            .collect();
        expected.sort();
        let issuers = authorities.iter().map(|one| issuer(*one)).collect();
        let mut query = HolderQuery { behind, authorities: issuers, limit: 7, ..query(now) };
        let mut found: Vec<HolderKey> = Vec::new();
        loop {
            let page = store.holders(&query).await.unwrap();
            assert!(page.len() <= 7);
            let Some(last) = page.last() else { break };
            query.after = Some(last.key.clone());
            found.extend(page.into_iter().map(|holder| holder.key));
        }
        assert_eq!(found, expected);
    }
}

async fn ended_holders_are_forgotten_a_few_at_a_time(store: &(impl AuditStore + HolderStore)) {
    let batch = (0..20).map(|n| by(held("a", &format!("p{n:02}"), n, 1, n as i64), n as u8)).collect();
    store.append(batch).await.unwrap();
    assert_eq!(store.forget_ended(ended(0), 100).await.unwrap(), 0, "what ends at that moment stays");
    assert_eq!(store.forget_ended(ended(10), 0).await.unwrap(), 0);
    for expected in [4, 4, 2, 0] {
        assert_eq!(store.forget_ended(ended(10), 4).await.unwrap(), expected);
    }
    let expected: Vec<String> = (10..20).map(|n| format!("p{n:02}")).collect();
    assert_eq!(names(store, &query(OffsetDateTime::UNIX_EPOCH)).await, expected);
    assert_eq!(store.forget_ended(ended(10) + Duration::nanoseconds(1), 100).await.unwrap(), 1);
    assert_eq!(store.last_ends().await.unwrap().len(), 20, "the use of authorities is never forgotten");
    // One that is back starts anew.
    store.append(vec![acknowledging(held("a", "p00", 100, 1, 50))]).await.unwrap();
    assert_eq!((listed(store).await[0].sequence, listed(store).await.len()), (0, 10));
}

async fn the_last_end_of_each_authority_is_remembered(store: &(impl AuditStore + HolderStore)) {
    let batch = |events: &[(u64, u8, i64)]| {
        events.iter().map(|(n, authority, life)| by(held("a", "p", *n, 1, *life), *authority)).collect()
    };
    store.append(batch(&[(1, 1, 50)])).await.unwrap();
    store.append(batch(&[(2, 1, 40), (3, 2, 10), (4, 2, 30), (5, 2, 20), (6, 3, 5)])).await.unwrap();
    store.append(batch(&[(7, 3, 60)])).await.unwrap();
    let expected = [(issuer(1), ended(50)), (issuer(2), ended(30)), (issuer(3), ended(60))];
    assert_eq!(store.last_ends().await.unwrap(), expected.into());
}
