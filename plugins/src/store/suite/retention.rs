//! Words of events are forgotten, by one process at a time; hashes stay.

use std::sync::Arc;
use std::time::Duration;

use signet_core::audit::{AuditEvent, AuditQuery, Class, MAX_PAGE, Outcome, leaf_hash};
use signet_core::seams::record_tree::RecordTree;
use signet_core::seams::retention::{Forgetting, MAX_AT_ONCE, RecordRetention};
use signet_core::seams::store::{AppendError, AuditStore, HolderStore};
use time::OffsetDateTime;

use super::{START, ended, everything, held, issued, refused};

pub(super) async fn every_case<S>(make: &impl AsyncFn() -> [Arc<S>; 2])
where
    S: AuditStore + HolderStore + RecordTree + RecordRetention + 'static,
{
    words_are_forgotten_and_nothing_else(make().await).await;
    what_is_forgotten_is_found_no_more_wherever_it_is_in_the_log(make().await).await;
    of_two_who_forget_from_one_place_one_does(make().await).await;
    what_was_put_off_is_due_in_its_order(make().await).await;
    holders_know_of_what_is_forgotten(make().await).await;
    the_longest_life_counts_until_all_that_had_it_has_ended(make().await).await;
}

fn step(class: Class, from: u64, below: u64, forgotten: impl IntoIterator<Item = u64>) -> Forgetting {
    Forgetting { class, from, below, forgotten: forgotten.into_iter().collect(), put_off: Vec::new() }
}

fn moment(micros: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000).unwrap()
}

async fn words_are_forgotten_and_nothing_else<S>([here, there]: [Arc<S>; 2])
where
    S: AuditStore + RecordTree + RecordRetention,
{
    let events = [issued("a", 1, START), refused("a", START + 1), issued("b", 2, START + 2)];
    here.append(events.to_vec()).await.unwrap();
    assert_eq!(there.looked_at_below(Class::Certificates).await.unwrap(), 0);
    let found = there.aging(1).await.unwrap();
    let of = |found: &[signet_core::seams::retention::Aging]| -> Vec<_> {
        found.iter().map(|one| (one.sequence, one.at_micros, one.kind, one.outcome, one.body.clone())).collect()
    };
    let expected = |n: usize, body| (n as u64, events[n].at_micros, events[n].kind, events[n].outcome, body);
    assert_eq!(of(&found), [1, 2].map(|n| expected(n, Some(events[n].encode()))));

    assert!(here.forget(&step(Class::Certificates, 0, 2, [0])).await.unwrap());
    assert_eq!(there.looked_at_below(Class::Certificates).await.unwrap(), 2);
    assert_eq!(there.looked_at_below(Class::Refusals).await.unwrap(), 0, "each class has its own place");
    assert_eq!(of(&there.aging(0).await.unwrap())[0], expected(0, None));
    let left: Vec<_> = everything(&*there).await.into_iter().map(|one| one.sequence).collect();
    assert_eq!(left, [2, 1]);
    // Proofs of what is left need the hashes of what is not.
    let leaves = there.leaves(0, 10).await.unwrap();
    assert_eq!(leaves[0].hash, leaf_hash(&events[0].encode()));
    assert_eq!((&leaves[0].body, &leaves[1].body), (&None, &Some(events[1].encode())));
    assert_eq!(there.leaf_hashes(0, 10).await.unwrap().len(), 3);
    let again = there.append(vec![issued("c", 1, START + 3)]).await.unwrap();
    assert_eq!(again, [Err(AppendError::SerialTaken)], "no serial number twice, also when nobody knows whose it was");
}

/// A log that is longer than what has entries, in either database.
const MANY: u64 = 10_000;

async fn what_is_forgotten_is_found_no_more_wherever_it_is_in_the_log<S>([here, there]: [Arc<S>; 2])
where
    S: AuditStore + RecordRetention,
{
    let event = |n: u64| match n % 4 {
        0 => refused("b", START + n as i64),
        _ => issued("a", n, START + n as i64),
    };
    for from in (0..MANY).step_by(1000) {
        here.append((from..from + 1000).map(event).collect()).await.unwrap();
    }
    while here.settle().await.unwrap() {}
    // All but each hundredth is forgotten, up to what may have no entries yet.
    let mut from = 0;
    while from < MANY {
        let below = MANY.min(from + u64::from(MAX_AT_ONCE));
        let forgotten = (from..below).filter(|n| n % 100 != 0 && n % 100 != 1);
        assert!(there.forget(&step(Class::Certificates, from, below, forgotten)).await.unwrap());
        from = below;
    }
    here.append((MANY..MANY + 9000).map(event).collect()).await.unwrap();
    while here.settle().await.unwrap() {}
    let identity = |who: &str| Some(format!("spiffe://cluster.local/ns/{who}/sa/default"));
    for (who, outcome) in [(None, Some(Outcome::Issued)), (identity("b"), None), (identity("a"), Some(Outcome::Issued))]
    {
        let mut query = AuditQuery { spiffe_id: who.clone(), outcome, ..AuditQuery::newest(MAX_PAGE).unwrap() };
        query.before = Some(MANY);
        let found: Vec<u64> = there.query(&query).await.unwrap().items.iter().map(|one| one.sequence).collect();
        let wanted: u64 = if who == identity("b") { 0 } else { 1 };
        let expected: Vec<u64> = (0..MANY).rev().filter(|n| n % 100 == wanted).collect();
        assert_eq!(found, expected, "{who:?} {outcome:?}");
    }
}

async fn of_two_who_forget_from_one_place_one_does<S>([here, there]: [Arc<S>; 2])
where
    S: AuditStore + RecordRetention,
{
    here.append((0..6).map(|n| refused("a", START + n)).collect()).await.unwrap();
    assert!(!here.forget(&step(Class::Refusals, 1, 2, [1])).await.unwrap(), "nobody has looked at what is before");
    let (one, other) = (step(Class::Refusals, 0, 2, [0, 1]), step(Class::Refusals, 0, 3, [0, 1, 2]));
    let done = tokio::join!(here.forget(&one), there.forget(&other));
    let done = [done.0.unwrap(), done.1.unwrap()];
    assert_eq!(done.iter().filter(|done| **done).count(), 1);
    let below = if done[0] { 2 } else { 3 };
    assert_eq!(here.looked_at_below(Class::Refusals).await.unwrap(), below);
    assert_eq!(everything(&*there).await.len() as u64, 6 - below, "nothing of the other step was done");
}

async fn what_was_put_off_is_due_in_its_order<S>([here, there]: [Arc<S>; 2])
where
    S: AuditStore + RecordRetention,
{
    here.append((0..600).map(|n| issued("a", n, START + n as i64)).collect()).await.unwrap();
    let put_off = (0..600).map(|n| (n, moment(START + 1000 - n as i64))).collect();
    let first = Forgetting { put_off, ..step(Class::Certificates, 0, 600, []) };
    assert!(here.forget(&first).await.unwrap());
    let due = async |at: i64| {
        let due = there.put_off(Class::Certificates, moment(START + at)).await.unwrap();
        due.into_iter().map(|one| one.sequence).collect::<Vec<_>>()
    };
    assert_eq!(due(400).await, [] as [u64; 0]);
    assert_eq!(due(402).await, [598, 599]);
    assert_eq!(due(2000).await, (344..600).collect::<Vec<_>>(), "the longest due first, as many as are done at once");
    assert!(there.put_off(Class::Refusals, moment(START + 2000)).await.unwrap().is_empty());
    // One of them goes, one is put off again; what is looked through stays where it is.
    let put_off = vec![(598, moment(START + 5000))];
    let next = Forgetting { put_off, ..step(Class::Certificates, 600, 600, [599]) };
    assert!(there.forget(&next).await.unwrap());
    assert_eq!(due(403).await, [597]);
    assert_eq!(here.aging(599).await.unwrap()[0].body, None);
}

async fn holders_know_of_what_is_forgotten<S>([here, there]: [Arc<S>; 2])
where
    S: AuditStore + HolderStore + RecordRetention,
{
    // Nobody has asked for holders yet, so that nobody need have read what is on record.
    let events: Vec<AuditEvent> = (0..50).map(|n| held("a", &format!("p{n}"), n, 1, 10)).collect();
    here.append(events).await.unwrap();
    assert!(there.forget(&step(Class::Certificates, 0, 50, 0..50)).await.unwrap());
    assert_eq!(here.coverage(ended(0)).await.unwrap().live(), 50);
}

async fn the_longest_life_counts_until_all_that_had_it_has_ended<S: RecordRetention>([here, there]: [Arc<S>; 2]) {
    let day = Duration::from_hours(24);
    let at = |days: f64| moment(START + (days * 86_400e6) as i64);
    for (store, configured, now, expected) in [
        (&here, 2, 0.0, 2),
        (&there, 90, 1.0, 90),
        // Whoever issues shorter ones knows of those that another one has issued, until they are over.
        (&here, 2, 1.0, 90),
        (&here, 2, 90.9, 90),
        (&there, 90, 50.0, 90),
        (&here, 2, 139.9, 90),
        (&here, 2, 140.2, 2),
        (&there, 3, 140.3, 3),
    ] {
        let longest = store.longest_life(day * configured, at(now)).await.unwrap();
        assert_eq!(longest, day * expected, "{configured} at {now}");
    }
}
