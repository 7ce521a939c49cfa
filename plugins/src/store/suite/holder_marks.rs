//! Marks: what a reply that was handed over, in full or not at all, makes of its holder, and what activation waits for.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;

use signet_core::audit::AuditEvent;
use signet_core::holder::Handover::{self, Nothing, Whole};
use signet_core::holder::{Acknowledgement, Acknowledger, Raise};
use signet_core::rotation::{Activation, AuthorityState, Condition};
use signet_core::seams::store::{AuditStore, AuthorityJournal, Change, Changed, HolderStore, JournalVersion};
use time::OffsetDateTime;

use super::holders::{AUTHORITY, acknowledging, by, ended, held, issuer, key, listed, mark, query};

/// Runs the cases of this file.
pub(super) async fn every_case<S>(make: &impl AsyncFn() -> [Arc<S>; 2])
where
    S: AuditStore + AuthorityJournal + HolderStore,
{
    a_record_makes_a_holder_that_has_received_nothing(&*make().await[0]).await;
    a_certificate_that_nobody_has_makes_no_holder_unless_there_is_another(&*make().await[0]).await;
    marks_that_change_nothing_write_nothing(&*make().await[0]).await;
    a_holder_may_use_what_it_had_until_the_newest_is_handed_over(&*make().await[0]).await;
    only_those_who_had_been_behind_are_waited_for(&*make().await[0]).await;
    many_marks_at_once_do_what_they_would_do_one_by_one(make().await, make().await).await;
    marks_count_however_many_records_wait_before_theirs(make().await).await;
    who_was_counted_meanwhile_is_waited_for_and_forgotten_when_nothing_waits(make().await).await;
}

async fn sequences(store: &impl HolderStore) -> Vec<(String, u64)> {
    listed(store).await.into_iter().map(|holder| (holder.key.instance, holder.sequence)).collect()
}

fn pairs(all: &[(&str, u64)]) -> Vec<(String, u64)> {
    all.iter().map(|(name, sequence)| ((*name).to_owned(), *sequence)).collect()
}

async fn say(store: &impl HolderStore, event: &AuditEvent, handover: Handover) -> bool {
    store.mark(&[mark(event, handover)], ended(1)).await.unwrap()
}

async fn a_record_makes_a_holder_that_has_received_nothing(store: &(impl AuditStore + HolderStore)) {
    let first = held("a", "p", 1, 5, 10);
    store.append(vec![first.clone()]).await.unwrap();
    assert_eq!(sequences(store).await, pairs(&[("p", 0)]));
    assert!(say(store, &first, Whole).await);
    assert_eq!(sequences(store).await, pairs(&[("p", 5)]));
    let second = held("a", "p", 2, 8, 10);
    store.append(vec![second.clone()]).await.unwrap();
    assert_eq!(sequences(store).await, pairs(&[("p", 5)]), "the reply may be lost");
    // A late word about the reply before changes nothing, one about the next reply does.
    assert!(!say(store, &first, Whole).await && say(store, &second, Whole).await);
    assert_eq!(sequences(store).await, pairs(&[("p", 8)]));
    // Nor do words about replies that nobody knows.
    assert!(
        !say(store, &held("b", "p", 3, 9, 10), Whole).await && !say(store, &held("b", "p", 4, 9, 10), Nothing).await
    );
    assert_eq!(sequences(store).await, pairs(&[("p", 8)]));
}

async fn a_certificate_that_nobody_has_makes_no_holder_unless_there_is_another(
    store: &(impl AuditStore + HolderStore),
) {
    let lost = [held("a", "p", 1, 5, 10), acknowledging(held("a", "q", 2, 5, 20))];
    store.append(lost.to_vec()).await.unwrap();
    assert_eq!(store.coverage(ended(0)).await.unwrap().live(), 2);
    for event in &lost {
        assert!(say(store, event, Nothing).await);
    }
    assert_eq!(store.coverage(ended(0)).await.unwrap().live(), 0);
    assert_eq!(store.last_ends().await.unwrap(), [(issuer(AUTHORITY), ended(20))].into(), "it counts for the drain");
    // With a certificate of before, whether or not that was handed over, it is a holder.
    for (name, first, between) in [("r", 10, None), ("s", 20, Some(Whole)), ("t", 30, Some(Nothing))] {
        let (one, two) = (held("a", name, first, 5, 10), held("a", name, first + 1, 6, 10));
        let at_once = first == 30;
        if at_once {
            store.append(vec![one.clone(), two.clone()]).await.unwrap();
        } else {
            store.append(vec![one.clone()]).await.unwrap();
            if let Some(between) = between {
                say(store, &one, between).await;
            }
            store.append(vec![two.clone()]).await.unwrap();
        }
        assert!(!say(store, &two, Nothing).await && !say(store, &one, Nothing).await, "{name}");
    }
    assert_eq!(sequences(store).await, pairs(&[("r", 0), ("s", 5), ("t", 0)]));
    // Whoever has acknowledged is there.
    let agent = acknowledging(held("a", "u", 40, 5, 10));
    store.append(vec![agent.clone()]).await.unwrap();
    let from = Acknowledger::Holder(key("a", "u"));
    store.acknowledge(&[Acknowledgement { from, sequence: 5, refused: None, at: ended(1) }]).await.unwrap();
    assert!(!say(store, &agent, Nothing).await);
    // And whoever is back after that is new.
    store.append(vec![held("a", "p", 50, 7, 10)]).await.unwrap();
    assert_eq!(sequences(store).await, pairs(&[("p", 0), ("r", 0), ("s", 5), ("t", 0), ("u", 5)]));
}

async fn marks_that_change_nothing_write_nothing(store: &(impl AuditStore + HolderStore)) {
    let renewals: Vec<AuditEvent> = (1..5).map(|serial| held("a", "p", serial, 5, 10)).collect();
    for (number, event) in renewals.iter().enumerate() {
        store.append(vec![event.clone()]).await.unwrap();
        assert_eq!(say(store, event, Whole).await, number == 0, "{number}");
    }
    let agent = acknowledging(held("a", "q", 10, 5, 10));
    store.append(vec![agent.clone()]).await.unwrap();
    assert!(!say(store, &agent, Whole).await, "it says for itself what it has");
    assert!(!store.mark(&[], ended(1)).await.unwrap());
    assert_eq!(sequences(store).await, pairs(&[("p", 5), ("q", 0)]));
}

async fn a_holder_may_use_what_it_had_until_the_newest_is_handed_over(store: &(impl AuditStore + HolderStore)) {
    let counted = async || -> Vec<u64> {
        let coverage = store.coverage(ended(0)).await.unwrap();
        assert_eq!(coverage.live(), coverage.by_sequence.values().map(|count| count.holders).sum::<u64>());
        (1..=3).map(|one| coverage.by_authority.get(&issuer(one)).copied().unwrap_or_default()).collect()
    };
    let with = async |one: u8| {
        store
            .holders(&signet_core::holder::HolderQuery { authorities: vec![issuer(one)], ..query(ended(0)) })
            .await
            .unwrap()
            .len()
    };
    for acknowledges in [false, true] {
        let name = if acknowledges { "q" } else { "p" };
        let event = |serial, authority| {
            let event = by(held("a", name, serial + 100 * u64::from(acknowledges), 5, 10), authority);
            if acknowledges { acknowledging(event) } else { event }
        };
        let base = counted().await;
        let more = async || counted().await.iter().zip(&base).map(|(now, before)| now - before).collect::<Vec<u64>>();
        store.append(vec![event(1, 1)]).await.unwrap();
        assert_eq!(more().await, [1, 0, 0]);
        say(store, &event(1, 1), Whole).await;
        // Renewed twice, and nobody knows which of the three is in use.
        store.append(vec![event(2, 2)]).await.unwrap();
        assert_eq!(more().await, [1, 1, 0]);
        store.append(vec![event(3, 3)]).await.unwrap();
        assert_eq!((more().await, with(1).await), (vec![1, 1, 1], 1 + base[0] as usize));
        assert!(!say(store, &event(3, 3), Nothing).await);
        assert!(!say(store, &event(2, 2), Whole).await, "it is not the newest");
        assert_eq!(more().await, [1, 1, 1]);
        let former = listed(store).await.into_iter().find(|one| one.key.instance == name).unwrap().former;
        assert_eq!(former, [issuer(1), issuer(2)]);
        assert!(say(store, &event(3, 3), Whole).await);
        assert_eq!((more().await, with(1).await), (vec![0, 0, 1], base[0] as usize));
        // In one batch: both may be in use.
        store.append(vec![event(4, 1), event(5, 2)]).await.unwrap();
        assert_eq!(more().await, [1, 1, 1]);
        say(store, &event(5, 2), Whole).await;
        assert_eq!(more().await, [0, 1, 0]);
        // Back and forth: each is named once.
        store.append(vec![event(6, 1)]).await.unwrap();
        store.append(vec![event(7, 2)]).await.unwrap();
        assert_eq!(more().await, [1, 1, 0]);
    }
}

async fn only_those_who_had_been_behind_are_waited_for(store: &(impl AuditStore + HolderStore)) {
    let raised = async || store.coverage(ended(0)).await.unwrap().raised;
    let raise = |before, after, at| Raise { before, after, at };
    // A first certificate comes with its bundle, whoever says so.
    let (first, agent) = (held("a", "p", 1, 5, 10), acknowledging(held("a", "q", 2, 5, 10)));
    store.append(vec![first.clone(), agent]).await.unwrap();
    store.mark(&[mark(&first, Whole)], ended(1)).await.unwrap();
    let word = |name: &str, sequence, at| {
        let from = Acknowledger::Holder(key("a", name));
        [Acknowledgement { from, sequence, refused: None, at }]
    };
    store.acknowledge(&word("q", 5, ended(2))).await.unwrap();
    assert_eq!(raised().await, []);
    // What comes later does not.
    store.acknowledge(&word("q", 7, ended(3))).await.unwrap();
    let second = held("a", "p", 3, 7, 10);
    store.append(vec![second.clone()]).await.unwrap();
    store.mark(&[mark(&second, Whole)], ended(4)).await.unwrap();
    assert_eq!(raised().await, [raise(5, 7, ended(4))]);
    // Late news are not the last, and what is no news is none.
    store.append(vec![acknowledging(held("a", "r", 4, 5, 10))]).await.unwrap();
    store.acknowledge(&word("r", 7, ended(3))).await.unwrap();
    store.acknowledge(&word("q", 7, ended(9))).await.unwrap();
    store.mark(&[mark(&second, Whole)], ended(9)).await.unwrap();
    assert_eq!(raised().await, [raise(5, 7, ended(4))]);
    // A first certificate that came with an earlier bundle than its holder has, and one of which there are two.
    store.append(vec![acknowledging(held("a", "s", 5, 6, 10)), held("a", "t", 6, 7, 10)]).await.unwrap();
    store.acknowledge(&word("s", 7, ended(5))).await.unwrap();
    let again = held("a", "t", 7, 7, 10);
    store.append(vec![again.clone()]).await.unwrap();
    store.mark(&[mark(&again, Whole)], ended(6)).await.unwrap();
    assert_eq!(raised().await, [raise(0, 7, ended(6)), raise(5, 7, ended(4)), raise(6, 7, ended(5))]);
    let refused = word("s", 9, ended(7)).map(|word| Acknowledgement { refused: Some("no".into()), ..word });
    store.acknowledge(&refused).await.unwrap();
    assert_eq!(raised().await.len(), 3);
}

/// Of holders that nobody has asked for yet, the last ones first: more than any store enters in one piece.
async fn marks_count_however_many_records_wait_before_theirs<S: AuditStore + HolderStore>(handles: [Arc<S>; 2]) {
    const ALL: u64 = 1500;
    let [store, other] = &handles;
    let events: Vec<AuditEvent> = (0..ALL).map(|n| held("a", &format!("p{n:04}"), n, 5, 50)).collect();
    for batch in events.chunks(500) {
        store.append(batch.to_vec()).await.unwrap();
    }
    let marks: Vec<_> = events.iter().rev().map(|event| mark(event, Whole)).collect();
    assert!(other.mark(&marks, ended(1)).await.unwrap());
    let coverage = store.coverage(ended(1)).await.unwrap();
    assert_eq!((coverage.live(), coverage.covered(5)), (ALL, ALL));
}

/// Many marks of few holders, at once and one at a time.
async fn many_marks_at_once_do_what_they_would_do_one_by_one<S>(batched: [Arc<S>; 2], single: [Arc<S>; 2])
where
    S: AuditStore + HolderStore,
{
    let event = |n: u64| {
        let event = by(held("a", &format!("p{}", n % 70), n, n * 31 % 17, 50), (n / 100) as u8);
        if n % 70 < 10 { acknowledging(event) } else { event }
    };
    let events: Vec<AuditEvent> = (0..300).map(event).collect();
    let marks: Vec<_> =
        (0..300_u64).filter(|n| n % 3 > 0).map(|n| mark(&event(n), if n % 5 == 0 { Nothing } else { Whole })).collect();
    for store in [&batched[0], &single[0]] {
        store.append(events.clone()).await.unwrap();
    }
    // Some that have one certificate only.
    let alone: Vec<AuditEvent> = (300..400).map(|n| held("b", &format!("p{n}"), n, 3, 50)).collect();
    let said = |n: usize| if n.is_multiple_of(2) { Nothing } else { Whole };
    let more: Vec<_> = alone.iter().enumerate().map(|(n, event)| mark(event, said(n))).collect();
    for store in [&batched[0], &single[0]] {
        store.append(alone.clone()).await.unwrap();
    }
    let all: Vec<_> = marks.into_iter().chain(more).collect();
    batched[1].mark(&all, ended(1)).await.unwrap();
    for one in &all {
        single[1].mark(std::slice::from_ref(one), ended(1)).await.unwrap();
    }
    assert_eq!(listed(&*batched[0]).await, listed(&*single[0]).await);
    assert_eq!(listed(&*batched[0]).await.len(), 70 + 50);
    let now = async |store: &S| {
        let coverage = store.coverage(ended(0)).await.unwrap();
        (
            coverage.by_sequence.clone(),
            coverage.by_authority.clone(),
            (0..20).map(|n| coverage.caught_up_at(n)).collect::<Vec<_>>(),
        )
    };
    assert_eq!(now(&*batched[0]).await, now(&*single[0]).await);
}

async fn who_was_counted_meanwhile_is_waited_for_and_forgotten_when_nothing_waits<S>(handles: [Arc<S>; 2])
where
    S: AuditStore + AuthorityJournal + HolderStore,
{
    let [store, other] = &handles;
    let (_, mut waiting) = store.load().await.unwrap().unwrap();
    waiting.roots[0].state = AuthorityState::Prepared(Activation::OnCommand);
    waiting.roots[0].published = 7;
    let behind = held("a", "p", 1, 5, 10);
    let renewed = held("a", "p", 2, 7, 10);
    store.append(vec![behind.clone(), renewed.clone()]).await.unwrap();
    store.mark(&[mark(&behind, Whole)], ended(1)).await.unwrap();
    assert_eq!(store.replace(JournalVersion(1), &waiting).await.unwrap(), Some(JournalVersion(2)));
    assert_eq!(store.coverage(ended(0)).await.unwrap().raised, [], "nothing waits for bundle 5");
    other.mark(&[mark(&renewed, Whole)], ended(3)).await.unwrap();
    let mut version = 2;
    for (by, expected) in [(ended(2), false), (ended(3), true), (ended(4), true), (OffsetDateTime::UNIX_EPOCH, false)] {
        let conditions = [Condition::CaughtUp { sequence: 7, by }];
        let (expect, now) = (JournalVersion(version), ended(5));
        let change = Change { expected: expect, next: &waiting, conditions: &conditions, now, events: Vec::new() };
        let changed = store.change(change).await.unwrap();
        assert_eq!(changed != Changed::Unmet, expected, "{by}");
        version += u64::from(expected);
    }
    // Who had it already, and is counted for a later one, is in nobody's way, and there may be many of those.
    let later = held("a", "p", 3, 9, 10);
    store.append(vec![later.clone()]).await.unwrap();
    other.mark(&[mark(&later, Whole)], ended(4)).await.unwrap();
    store.replace(JournalVersion(version), &waiting).await.unwrap();
    version += 1;
    let raise = Raise { before: 5, after: 7, at: ended(3) };
    assert_eq!(other.coverage(ended(0)).await.unwrap().raised, [raise], "it is still waited for");
    waiting.roots[0].state = AuthorityState::Active;
    store.replace(JournalVersion(version), &waiting).await.unwrap();
    assert_eq!(other.coverage(ended(0)).await.unwrap().raised, []);
}
