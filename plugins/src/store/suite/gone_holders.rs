//! Holders whose pods are gone: nobody waits for them, but their certificates may still be used.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use signet_core::holder::{Gone, HolderQuery, Lag};
use signet_core::seams::store::{AuditStore, HolderStore};
use time::Duration;

use super::holders::{
    AUTHORITY, acknowledging, applied, by, counts, ended, hand_over, held, holder, issuer, key, listed, query, refusing,
};

/// Runs the cases of this file.
pub(super) async fn every_case<S>(make: &impl AsyncFn() -> [Arc<S>; 2])
where
    S: AuditStore + HolderStore,
{
    nobody_waits_for_pods_that_are_gone_but_their_certificates_count(&make().await).await;
    any_sign_of_life_takes_it_back(&make().await).await;
    only_silent_holders_of_that_certificate_go(&*make().await[0]).await;
}

fn gone(who: &str, pod: &str, serial: u64) -> Gone {
    Gone { key: key(who, pod), serial: held(who, pod, serial, 0, 0).what.unwrap().serial }
}

async fn nobody_waits_for_pods_that_are_gone_but_their_certificates_count<S>(stores: &[Arc<S>; 2])
where
    S: AuditStore + HolderStore,
{
    let [store, other] = stores;
    let events = vec![
        held("a", "left", 1, 1, 100),
        by(acknowledging(held("a", "left-too", 2, 1, 90)), 7),
        held("a", "lags", 3, 1, 50),
        held("a", "has", 4, 3, 200),
    ];
    hand_over(&**store, events).await;
    let acknowledged = [holder("a", "left-too"), holder("a", "has")].map(|who| applied(who, 1, 1));
    store.acknowledge(&acknowledged).await.unwrap();
    // Also a count that was made before says so.
    for store in stores {
        assert_eq!(store.coverage(ended(0)).await.unwrap().live(), 4);
    }
    store.acknowledge(&[refusing(holder("a", "left"), 3, "no")]).await.unwrap();
    assert_eq!(store.lag(ended(0), 3).await.unwrap(), Lag { refusing: 1, last_end: Some(ended(100)) });

    let left = [gone("a", "left", 1), gone("a", "left-too", 2)];
    assert_eq!(store.gone(&left, ended(60), ended(60)).await.unwrap(), 2);
    for store in [store, other] {
        let coverage = store.coverage(ended(0)).await.unwrap();
        assert_eq!((coverage.live(), coverage.gone), (2, 2));
        assert_eq!(coverage.by_sequence, counts(&[(1, 1, 0), (3, 1, 0)]));
        assert_eq!(coverage.by_authority, [(issuer(7), 1), (issuer(AUTHORITY), 3)].into());
        assert_eq!((coverage.acknowledging_behind(9), coverage.reaches(3, 50)), (0, true));
        assert_eq!(store.lag(ended(0), 3).await.unwrap(), Lag { refusing: 0, last_end: Some(ended(50)) });
        let behind = HolderQuery { behind: Some(3), ..query(ended(0)) };
        let behind = store.holders(&behind).await.unwrap();
        assert_eq!(behind.iter().map(|one| one.key.instance.as_str()).collect::<Vec<_>>(), ["lags"]);
        let all = listed(&**store).await;
        let when: Vec<_> = all.iter().map(|one| (one.key.instance.as_str(), one.gone_at)).collect();
        assert_eq!(when, [("has", None), ("lags", None), ("left", Some(ended(60))), ("left-too", Some(ended(60)))]);
    }
    let ends = store.last_ends().await.unwrap();
    assert_eq!(ends.get(&issuer(7)), Some(&ended(90)), "drained is what has ended");
    // What is over is over.
    assert_eq!(store.coverage(ended(95)).await.unwrap().gone, 1);
    assert_eq!(store.coverage(ended(100)).await.unwrap().gone, 0);
}

async fn any_sign_of_life_takes_it_back<S>(stores: &[Arc<S>; 2])
where
    S: AuditStore + HolderStore,
{
    let [store, other] = stores;
    let pods = ["renews", "applies", "refuses", "stays"];
    hand_over(&**store, pods.iter().zip(1..).map(|(pod, n)| held("a", pod, n, 1, 100)).collect()).await;
    let left: Vec<Gone> = pods.iter().zip(1..).map(|(pod, n)| gone("a", pod, n)).collect();
    assert_eq!(store.gone(&left, ended(10), ended(10)).await.unwrap(), 4);
    for store in stores {
        assert_eq!(store.coverage(ended(0)).await.unwrap().live(), 0);
    }
    let mut newer = held("a", "renews", 9, 1, 100);
    newer.at_micros += 20_000_000;
    other.append(vec![newer]).await.unwrap();
    assert_eq!(store.coverage(ended(0)).await.unwrap().live(), 1);
    let at = |mut one: signet_core::holder::Acknowledgement| {
        one.at = ended(20);
        one
    };
    let applies = at(applied(holder("a", "applies"), 1, 1));
    let refuses = at(refusing(holder("a", "refuses"), 1, "no"));
    other.acknowledge(&[applies, refuses]).await.unwrap();
    for store in stores {
        let coverage = store.coverage(ended(0)).await.unwrap();
        assert_eq!((coverage.live(), coverage.gone), (3, 1));
        let alive: Vec<_> = listed(&**store).await.into_iter().filter(|one| one.gone_at.is_none()).collect();
        assert_eq!(
            alive.iter().map(|one| one.key.instance.as_str()).collect::<Vec<_>>(),
            ["applies", "refuses", "renews"]
        );
    }
}

async fn only_silent_holders_of_that_certificate_go(store: &(impl AuditStore + HolderStore)) {
    hand_over(store, vec![held("a", "p", 1, 1, 100), held("a", "p", 2, 1, 100)]).await;
    let seen = ended(0) + Duration::microseconds(2);
    for (who, seen_before, at, news) in [
        (gone("a", "p", 1), ended(60), ended(60), 0),
        (gone("a", "other", 2), ended(60), ended(60), 0),
        (gone("b", "p", 2), ended(60), ended(60), 0),
        (gone("a", "p", 2), seen, ended(60), 0),
        // By a clock that was set back.
        (gone("a", "p", 2), ended(60), seen, 0),
        (gone("a", "p", 2), ended(60), ended(60), 1),
        (gone("a", "p", 2), ended(70), ended(70), 0),
    ] {
        assert_eq!(store.gone(std::slice::from_ref(&who), seen_before, at).await.unwrap(), news, "{who:?}");
    }
    assert_eq!(store.gone(&[], ended(60), ended(60)).await.unwrap(), 0);
    assert_eq!(store.coverage(ended(0)).await.unwrap().gone, 1);
}
