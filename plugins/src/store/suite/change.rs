//! A change of the journal: with its conditions and its record, or not at all.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;

use signet_core::audit::{AuditEvent, EventKind, Outcome};
use signet_core::rotation::{Authorities, Condition};
use signet_core::seams::store::{AuditStore, AuthorityJournal, Change, Changed, HolderStore, JournalVersion};

use super::holders::{acknowledging, by, issuer};
use super::{START, admitting, assert_gapless, ended, everything, hand_over, held, refused};

/// Runs the cases of this file.
pub(super) async fn every_case<S>(make: &impl AsyncFn() -> [Arc<S>; 2])
where
    S: AuditStore + AuthorityJournal + HolderStore + 'static,
{
    a_change_is_made_with_its_record_or_not_at_all(make().await).await;
    what_a_change_depends_on_is_counted_when_it_is_made(make().await).await;
    what_was_just_recorded_counts_for_the_next_change(make().await).await;
    a_change_that_nobody_waits_for_has_its_record_or_was_not_made(make().await).await;
}

fn step(number: i64) -> AuditEvent {
    AuditEvent { kind: EventKind::Authority, outcome: Outcome::Done, ..refused("", START + number) }
}

fn document(bundle_sequence: u64) -> Authorities {
    Authorities { bundle_sequence, ..admitting() }
}

fn change<'a>(
    expected: u64,
    next: &'a Authorities,
    conditions: &'a [Condition],
    events: Vec<AuditEvent>,
) -> Change<'a> {
    Change { expected: JournalVersion(expected), next, conditions, now: ended(0), events }
}

async fn a_change_is_made_with_its_record_or_not_at_all<S: AuditStore + AuthorityJournal>(handles: [Arc<S>; 2]) {
    let [one, other] = &handles;
    let (first, second) = (document(1), document(2));
    let made = one.change(change(0, &first, &[], vec![step(1), step(2)])).await.unwrap();
    assert_eq!(made, Changed::Made(JournalVersion(1)));
    for expected in [0, 2] {
        let late = change(expected, &second, &[], vec![step(3)]);
        assert_eq!(other.change(late).await.unwrap(), Changed::Overtaken);
    }
    other.append(vec![held("a", "p", 1, 1, 10)]).await.unwrap();
    assert_eq!(other.change(change(1, &second, &[], vec![step(4)])).await.unwrap(), Changed::Made(JournalVersion(2)));
    one.append(vec![held("a", "p", 2, 1, 10)]).await.unwrap();
    let log = everything(&**one).await;
    assert_gapless(&log);
    let steps: Vec<i64> = log.iter().map(|stored| stored.event.at_micros - START).collect();
    assert_eq!(steps, [2, 4, 1, 2, 1]);
    assert_eq!(one.load().await.unwrap(), Some((JournalVersion(2), second)));
}

async fn what_a_change_depends_on_is_counted_when_it_is_made<S>(handles: [Arc<S>; 2])
where
    S: AuditStore + AuthorityJournal + HolderStore,
{
    let [store, other] = &handles;
    store.replace(JournalVersion(0), &document(1)).await.unwrap();
    let covered = |sequence| Condition::Covered { sequence, percent: 100 };
    let holders = vec![by(held("a", "p", 1, 3, 10), 1), acknowledging(by(held("a", "q", 2, 9, 20), 2))];
    let mut version = 1;
    for (before, condition, expected) in [
        (vec![], covered(9), true),
        (holders, covered(3), false),
        (vec![], covered(0), true),
        (vec![], Condition::Arrived { sequence: 1 }, false),
        (vec![], Condition::Arrived { sequence: 0 }, true),
        (vec![], Condition::Left(vec![issuer(1), issuer(7)]), false),
        (vec![], Condition::Left(vec![issuer(7)]), true),
        (vec![by(held("a", "p", 3, 3, 5), 7)], Condition::Left(vec![issuer(7)]), false),
        (vec![], Condition::Left(vec![issuer(1)]), true),
        (vec![], Condition::Drained(vec![issuer(1), issuer(7)], ended(10)), true),
        (vec![], Condition::Drained(vec![issuer(1), issuer(7)], ended(9)), false),
        (vec![], Condition::Drained(vec![issuer(7)], ended(9)), true),
    ] {
        hand_over(&**other, before).await;
        let length = everything(&**store).await.len();
        let (next, all) = (document(version + 1), [covered(0), condition]);
        let changed = store.change(change(version, &next, &all, vec![step(0)])).await.unwrap();
        assert_eq!(matches!(changed, Changed::Made(_)), expected, "{all:?}: {changed:?}");
        assert!(expected || changed == Changed::Unmet);
        version += u64::from(expected);
        assert_eq!(store.version().await.unwrap(), JournalVersion(version));
        assert_eq!(everything(&**store).await.len(), length + usize::from(expected), "{all:?}");
    }
}

/// Nobody has asked for holders since: whoever makes a change has to know of them by itself.
async fn what_was_just_recorded_counts_for_the_next_change<S>(handles: [Arc<S>; 2])
where
    S: AuditStore + AuthorityJournal + HolderStore,
{
    let [store, other] = &handles;
    store.replace(JournalVersion(0), &document(1)).await.unwrap();
    let next = document(2);
    for (number, condition) in [
        Condition::Covered { sequence: 3, percent: 100 },
        Condition::Arrived { sequence: 2 },
        Condition::Left(vec![issuer(7)]),
        Condition::Drained(vec![issuer(8)], ended(9)),
    ]
    .into_iter()
    .enumerate()
    {
        let (number, before) = (number as u64 + 1, [condition]);
        // What spoils the condition comes last, and from the other process.
        let (name, who) = (format!("p{number}"), if number == 4 { 8 } else { 7 });
        other.append(vec![by(acknowledging(held("a", &name, number, 1, 10)), who)]).await.unwrap();
        let changed = store.change(change(1, &next, &before, vec![step(0)])).await.unwrap();
        assert_eq!(changed, Changed::Unmet, "{before:?}");
    }
}

async fn a_change_that_nobody_waits_for_has_its_record_or_was_not_made<S>(handles: [Arc<S>; 2])
where
    S: AuditStore + AuthorityJournal + HolderStore,
{
    let [store, other] = &handles;
    store.replace(JournalVersion(0), &document(1)).await.unwrap();
    let all = [Condition::Covered { sequence: 0, percent: 100 }];
    for polls in 0..60 {
        let version = other.version().await.unwrap();
        let next = document(version.0 + 1);
        let mut made = store.change(change(version.0, &next, &all, vec![step(0)]));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        for _ in 0..=polls {
            if made.as_mut().poll(&mut context).is_ready() {
                break;
            }
            std::thread::yield_now();
        }
        drop(made);
        // What was on its way has arrived, or never will, once somebody else has had the lock.
        other.append(vec![refused("a", START)]).await.unwrap();
    }
    let log = everything(&**other).await;
    assert_gapless(&log);
    let recorded = log.iter().filter(|stored| stored.event.kind == EventKind::Authority).count();
    assert_eq!(other.version().await.unwrap(), JournalVersion(recorded as u64 + 1));
}
