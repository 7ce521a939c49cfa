//! Holders: what certificates and acknowledgements make of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use signet_core::audit::{AuditEvent, EventKind, Outcome};
use signet_core::authority::AuthorityId;
use signet_core::holder::{
    Acknowledgement, Acknowledger, Count, Coverage, Handover, Holder, HolderKey, HolderQuery, Lag, MAX_HOLDERS, Mark,
    Reply,
};
use signet_core::seams::store::{AppendError, AuditStore, HolderStore};
use time::{Duration, OffsetDateTime};
use tokio::task::JoinSet;

use super::{START, issued, refused, serial};

/// The issuing CA of certificates that do not say otherwise.
pub(super) const AUTHORITY: u8 = 0xcd;

/// Runs the cases of this file.
pub(super) async fn every_case<S>(make: &impl AsyncFn() -> [Arc<S>; 2])
where
    S: AuditStore + HolderStore + 'static,
{
    nobody_is_a_holder_at_first(&*make().await[0]).await;
    only_an_issued_workload_certificate_makes_a_holder(&*make().await[0]).await;
    the_instance_tells_holders_apart(&*make().await[0]).await;
    the_newest_certificate_counts(&*make().await[0]).await;
    a_batch_does_what_its_events_would_do_one_by_one(make().await, make().await).await;
    a_taken_serial_changes_no_holder(&*make().await[0]).await;
    a_reply_that_was_handed_over_counts_as_received_unless_the_holder_acknowledges(&*make().await[0]).await;
    acknowledgements_raise_and_refusals_do_not(&*make().await[0]).await;
    who_lags_and_who_refuses_is_counted_while_its_certificate_lives(&*make().await[0]).await;
    an_acknowledgement_by_any_of_its_certificates_is_the_holders(&*make().await[0]).await;
    two_handles_agree_on_everything(make().await).await;
}

/// What [`issued`] certifies, for the pod `pod`, in bundle `sequence`, for `life` seconds.
pub(in crate::store) fn held(who: &str, pod: &str, serial: u64, sequence: u64, life: i64) -> AuditEvent {
    let mut event = issued(who, serial, START + i64::try_from(serial).unwrap());
    event.who.pod_uid = Some(pod.to_owned());
    let what = event.what.as_mut().unwrap();
    (what.bundle_sequence, what.not_after) = (sequence, START / 1_000_000 + life);
    event
}

/// What became of the reply with the certificate of this event.
pub(in crate::store) fn mark(event: &AuditEvent, handover: Handover) -> Mark {
    let what = event.what.as_ref().unwrap();
    let (serial, authority) = (what.serial.clone(), what.authority.clone());
    let reply = Reply { holder: event.holder().unwrap(), serial, authority, sequence: what.bundle_sequence };
    Mark { reply, handover }
}

/// Appends, and hands over the replies.
pub(in crate::store) async fn hand_over(store: &(impl AuditStore + HolderStore), events: Vec<AuditEvent>) {
    let marks: Vec<Mark> = events.iter().map(|event| mark(event, Handover::Whole)).collect();
    assert!(store.append(events).await.unwrap().iter().all(Result::is_ok));
    store.mark(&marks, ended(0)).await.unwrap();
}

/// The same from a holder that acknowledges bundles itself.
pub(in crate::store) fn acknowledging(mut event: AuditEvent) -> AuditEvent {
    event.what.as_mut().unwrap().acknowledges = true;
    event
}

/// The same from another issuing CA.
pub(in crate::store) fn by(mut event: AuditEvent, authority: u8) -> AuditEvent {
    event.what.as_mut().unwrap().authority = issuer(authority).to_string();
    event
}

pub(in crate::store) fn issuer(byte: u8) -> AuthorityId {
    serde_json::from_value(format!("{byte:02x}").repeat(20).into()).unwrap()
}

/// A moment after the start of test time.
pub(in crate::store) fn ended(life: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(START / 1_000_000 + life).unwrap()
}

/// The name of a holder of [`held`].
pub(in crate::store) fn key(who: &str, instance: &str) -> HolderKey {
    HolderKey { spiffe_id: format!("spiffe://cluster.local/ns/{who}/sa/default"), instance: instance.to_owned() }
}

pub(super) fn query(now: OffsetDateTime) -> HolderQuery {
    HolderQuery { now, behind: None, authorities: Vec::new(), after: None, limit: MAX_HOLDERS }
}

/// All holders whose certificates end after 1970.
pub(in crate::store) async fn listed(store: &impl HolderStore) -> Vec<Holder> {
    store.holders(&query(OffsetDateTime::UNIX_EPOCH)).await.unwrap()
}

async fn only(store: &impl HolderStore) -> Holder {
    let [holder] = <[Holder; 1]>::try_from(listed(store).await).unwrap();
    holder
}

pub(super) fn applied(from: Acknowledger, sequence: u64, life: i64) -> Acknowledgement {
    Acknowledgement { from, sequence, refused: None, at: ended(life) }
}

pub(super) fn refusing(from: Acknowledger, sequence: u64, why: &str) -> Acknowledgement {
    Acknowledgement { refused: Some(why.to_owned()), ..applied(from, sequence, 50) }
}

pub(super) fn holder(who: &str, instance: &str) -> Acknowledger {
    Acknowledger::Holder(key(who, instance))
}

fn certificate(who: &str, number: u64) -> Acknowledger {
    Acknowledger::Certificate { spiffe_id: key(who, "").spiffe_id, serial: serial(number).to_string() }
}

pub(super) fn counts(counts: &[(u64, u64, u64)]) -> BTreeMap<u64, Count> {
    let count = |(sequence, holders, acknowledging): &(u64, u64, u64)| {
        (*sequence, Count { holders: *holders, acknowledging: *acknowledging })
    };
    counts.iter().map(count).collect()
}

async fn who_lags_and_who_refuses_is_counted_while_its_certificate_lives(store: &(impl AuditStore + HolderStore)) {
    let events = [("a", 100), ("b", 200), ("c", 300)].into_iter().zip(1..);
    let events = events.map(|((pod, life), number)| acknowledging(held("a", pod, number, 3, life)));
    hand_over(store, events.collect()).await;
    let [a, b, c] = ["a", "b", "c"].map(|pod| holder("a", pod));
    let seen = async |life, sequence| store.lag(ended(life), sequence).await.unwrap();
    let lag = |refusing, life: Option<i64>| Lag { refusing, last_end: life.map(ended) };
    assert_eq!(seen(0, 3).await, lag(0, Some(300)), "nobody has acknowledged yet");
    assert_eq!(seen(0, 0).await, lag(0, None), "no bundle is wanted");
    store.acknowledge(&[applied(a.clone(), 3, 1), applied(c, 3, 1), refusing(b.clone(), 3, "no")]).await.unwrap();
    assert_eq!((seen(0, 3).await, seen(0, 4).await), (lag(1, Some(200)), lag(1, Some(300))));
    // One that has it may refuse it later, too: it is asked anew after a restart.
    store.acknowledge(&[refusing(a.clone(), 3, "no")]).await.unwrap();
    assert_eq!(seen(0, 3).await, lag(2, Some(200)));
    assert_eq!(seen(100, 3).await, lag(1, Some(200)), "the certificate of the other one has ended");
    store.acknowledge(&[applied(a, 4, 1), applied(b, 4, 1)]).await.unwrap();
    assert_eq!((seen(0, 3).await, seen(0, 4).await), (lag(0, None), lag(0, Some(300))));
}

async fn nobody_is_a_holder_at_first(store: &impl HolderStore) {
    assert_eq!(store.lag(ended(0), 9).await.unwrap(), Lag::default());
    assert_eq!(store.coverage(ended(0)).await.unwrap(), Coverage::default());
    assert_eq!(listed(store).await, []);
    assert_eq!(store.last_ends().await.unwrap(), BTreeMap::new());
    assert_eq!(store.forget_ended(ended(9), 9).await.unwrap(), 0);
    store.acknowledge(&[]).await.unwrap();
    store.acknowledge(&[applied(holder("a", "x"), 3, 1), applied(certificate("a", 1), 3, 1)]).await.unwrap();
    assert_eq!(listed(store).await, [], "an acknowledgement makes no holder");
}

async fn only_an_issued_workload_certificate_makes_a_holder(store: &(impl AuditStore + HolderStore)) {
    let serving = AuditEvent { kind: EventKind::ServingCertificate, ..held("a", "p", 1, 1, 9) };
    let failed = AuditEvent { outcome: Outcome::Failed, ..held("a", "p", 2, 1, 9) };
    let mut nobody = held("a", "p", 3, 1, 9);
    nobody.who.spiffe_id = None;
    let events =
        vec![serving, failed, nobody, refused("a", START), AuditEvent { what: None, ..held("a", "p", 4, 1, 9) }];
    store.append(events).await.unwrap();
    assert_eq!((listed(store).await, store.last_ends().await.unwrap()), (Vec::new(), BTreeMap::new()));
    // Among others, it does.
    let events = vec![refused("a", START), held("a", "p", 5, 1, 9), refused("a", START)];
    store.append(events).await.unwrap();
    assert_eq!(only(store).await.serial, serial(5).to_string());
}

async fn the_instance_tells_holders_apart(store: &(impl AuditStore + HolderStore)) {
    let (mut named, mut both) = (issued("a", 1, START), held("a", "pod", 2, 1, 9));
    named.who.instance = Some("client".into());
    both.who.instance = Some("client".into());
    store.append(vec![named, both, issued("a", 3, START), held("b", "pod", 4, 1, 9)]).await.unwrap();
    let found: Vec<HolderKey> = listed(store).await.into_iter().map(|holder| holder.key).collect();
    let third = serial(3).to_string();
    assert_eq!(found, [key("a", &third), key("a", "client"), key("a", "pod"), key("b", "pod")]);
}

async fn the_newest_certificate_counts(store: &(impl AuditStore + HolderStore)) {
    let mut first = held("a", "p", 1, 4, 90);
    (first.who.pod, first.who.node, first.who.cluster) = (Some("web-1".into()), Some("n1".into()), Some("c1".into()));
    hand_over(store, vec![first]).await;
    let expected = Holder {
        key: key("a", "p"),
        pod: Some("web-1".into()),
        node: Some("n1".into()),
        cluster: Some("c1".into()),
        serial: serial(1).to_string(),
        authority: issuer(AUTHORITY),
        former: Vec::new(),
        not_after: ended(90),
        sequence: 4,
        acknowledges: false,
        seen_at: ended(0) + Duration::microseconds(1),
        refused: None,
        gone_at: None,
    };
    assert_eq!(only(store).await, expected);
    // A shorter one of another authority, with an older bundle, of a caller without a pod name, at an earlier time.
    let mut second = acknowledging(by(held("a", "p", 2, 3, 60), 7));
    (second.who.node, second.at_micros) = (Some("n2".into()), START);
    store.append(vec![second]).await.unwrap();
    let changed = Holder {
        pod: None,
        node: Some("n2".into()),
        cluster: None,
        serial: serial(2).to_string(),
        authority: issuer(7),
        former: vec![issuer(AUTHORITY)],
        acknowledges: true,
        ..expected
    };
    assert_eq!(only(store).await, changed);
}

/// Many events of few holders, in batches and one at a time.
async fn a_batch_does_what_its_events_would_do_one_by_one<S>(batched: [Arc<S>; 2], single: [Arc<S>; 2])
where
    S: AuditStore + HolderStore,
{
    let event = |n: u64| {
        let event = held(["a", "b"][(n % 2) as usize], &format!("p{}", n % 7), n, n * 31 % 17, (n * 37 % 101) as i64);
        let event = by(event, (n / 40) as u8);
        if n * 13 % 5 < 2 { acknowledging(event) } else { event }
    };
    let mut next = 0;
    for size in [1, 2, 30, 64, 65, 3, 200] {
        batched[0].append((next..next + size).map(event).collect()).await.unwrap();
        next += size;
    }
    for n in 0..next {
        single[0].append(vec![event(n)]).await.unwrap();
    }
    assert_eq!(listed(&*batched[0]).await.len(), 14);
    assert_eq!(listed(&*batched[1]).await, listed(&*single[0]).await);
    assert_eq!(batched[0].last_ends().await.unwrap(), single[1].last_ends().await.unwrap());
    assert_eq!(batched[0].last_ends().await.unwrap().len(), 10);
    assert_eq!(batched[1].coverage(ended(60)).await.unwrap(), single[0].coverage(ended(60)).await.unwrap());
}

async fn a_taken_serial_changes_no_holder(store: &(impl AuditStore + HolderStore)) {
    store.append(vec![held("a", "p", 1, 1, 10)]).await.unwrap();
    let before = only(store).await;
    let thief = || by(held("a", "p", 1, 9, 99), 9);
    assert_eq!(store.append(vec![thief()]).await.unwrap(), [Err(AppendError::SerialTaken)]);
    let mut batch: Vec<AuditEvent> = (10..150).map(|n| held("b", "p", n, 2, 10)).collect();
    batch[70] = thief();
    batch[139] = thief();
    let results = store.append(batch).await.unwrap();
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 2);
    let found = listed(store).await;
    assert_eq!((found.len(), &found[0], &found[1].serial), (2, &before, &serial(148).to_string()));
    assert_eq!(store.last_ends().await.unwrap(), [(issuer(AUTHORITY), ended(10))].into());
}

async fn a_reply_that_was_handed_over_counts_as_received_unless_the_holder_acknowledges(
    store: &(impl AuditStore + HolderStore),
) {
    for (serial, acknowledges, sequence, expected) in
        [(1, false, 3, 3), (2, false, 2, 3), (3, false, 5, 5), (4, true, 9, 5), (5, false, 9, 5), (6, true, 9, 5)]
    {
        // Once it acknowledges, a reply to somebody else in the same pod says nothing about its proxies.
        let sticks = serial >= 4;
        let event = held("a", "p", serial, sequence, 10);
        hand_over(store, vec![if acknowledges { acknowledging(event) } else { event }]).await;
        let found = only(store).await;
        assert_eq!((found.sequence, found.acknowledges), (expected, sticks), "certificate {serial}");
        let coverage = store.coverage(ended(0)).await.unwrap();
        assert_eq!(coverage.by_sequence, counts(&[(expected, 1, u64::from(sticks))]));
    }
}

async fn acknowledgements_raise_and_refusals_do_not(store: &(impl AuditStore + HolderStore)) {
    store.append(vec![acknowledging(held("a", "p", 1, 9, 10)), held("a", "q", 2, 1, 10)]).await.unwrap();
    let p = || holder("a", "p");
    for (acknowledgement, sequence, refused) in [
        (applied(p(), 3, 20), 3, None),
        (applied(p(), 2, 21), 3, None),
        (refusing(p(), 4, "no such curve"), 3, Some((4, "no such curve".to_owned()))),
        (refusing(p(), 5, "still not"), 3, Some((5, "still not".to_owned()))),
        (applied(p(), 3, 23), 3, None),
        (applied(p(), 5, 24), 5, None),
    ] {
        store.acknowledge(std::slice::from_ref(&acknowledgement)).await.unwrap();
        let found = &listed(store).await[0];
        assert_eq!((found.sequence, found.refused.clone()), (sequence, refused), "{acknowledgement:?}");
        assert!(found.seen_at >= acknowledgement.at);
    }
    // In order within one call, and an unknown holder is in nobody's way.
    let nobody = applied(holder("a", "nobody"), 99, 30);
    let at_once = [refusing(p(), 6, "x"), nobody, applied(p(), 6, 60), refusing(p(), 7, "y")];
    store.acknowledge(&at_once).await.unwrap();
    let found = listed(store).await;
    assert_eq!((found[0].sequence, found[0].refused.clone(), found[0].seen_at), (6, Some((7, "y".into())), ended(60)));
    assert_eq!((found.len(), found[1].sequence, found[1].seen_at < ended(1)), (2, 0, true), "others are left alone");
    // A new certificate neither forgets the refusal nor lowers the sequence.
    store.append(vec![acknowledging(held("a", "p", 3, 9, 10))]).await.unwrap();
    let found = &listed(store).await[0];
    assert_eq!((found.sequence, found.refused.clone(), found.seen_at), (6, Some((7, "y".into())), ended(60)));
}

async fn an_acknowledgement_by_any_of_its_certificates_is_the_holders(store: &(impl AuditStore + HolderStore)) {
    let named = |mut event: AuditEvent| {
        event.who.pod_uid = None;
        event.who.instance = Some("client".into());
        acknowledging(event)
    };
    let first = vec![acknowledging(held("a", "p", 1, 1, 10)), named(held("a", "", 2, 1, 10)), held("a", "q", 3, 0, 10)];
    store.append(first).await.unwrap();
    store.append(vec![acknowledging(held("a", "p", 4, 1, 10)), acknowledging(issued("a", 5, START))]).await.unwrap();
    let sequences = async || -> Vec<(String, u64)> {
        listed(store).await.into_iter().map(|holder| (holder.key.instance, holder.sequence)).collect()
    };
    let expect = |by_serial, client, p| {
        let own = serial(5).to_string();
        vec![(own, by_serial), ("client".to_owned(), client), ("p".to_owned(), p), ("q".to_owned(), 0)]
    };
    for (from, sequence, expected) in [
        (certificate("b", 4), 3, expect(0, 0, 0)), // somebody else's identity
        (certificate("a", 9), 3, expect(0, 0, 0)),
        (Acknowledger::Certificate { spiffe_id: key("a", "").spiffe_id, serial: "x".into() }, 3, expect(0, 0, 0)),
        (certificate("a", 1), 2, expect(0, 0, 2)), // p was issued a newer one, which it may not have
        (certificate("a", 4), 3, expect(0, 0, 3)),
        (certificate("a", 2), 4, expect(0, 4, 3)),
        (certificate("a", 5), 5, expect(5, 4, 3)),
    ] {
        store.acknowledge(&[applied(from.clone(), sequence, 1)]).await.unwrap();
        assert_eq!(sequences().await, expected, "{from:?}");
    }
}

/// Two processes append and acknowledge for the same holders at once, and both see all of it.
async fn two_handles_agree_on_everything<S: AuditStore + HolderStore + 'static>(handles: [Arc<S>; 2]) {
    const HOLDERS: u64 = 40;
    const ROUNDS: u64 = 12;
    let mut work = JoinSet::new();
    for (number, store) in (0..2).zip(&handles) {
        let (appending, noting) = (Arc::clone(store), Arc::clone(store));
        work.spawn(async move {
            for round in 0..ROUNDS {
                let serial = |n| (round * HOLDERS + n) * 2 + number;
                let one =
                    |n: u64| acknowledging(held("a", &format!("p{n:02}"), serial(n), 0, (round * 2 + number) as i64));
                appending.append((0..HOLDERS).map(one).collect()).await.unwrap();
            }
        });
        work.spawn(async move {
            for round in 1..=ROUNDS {
                let one = |n: u64| applied(holder("a", &format!("p{n:02}")), round * 2 + number, 1);
                noting.acknowledge(&(0..HOLDERS).map(one).collect::<Vec<_>>()).await.unwrap();
            }
        });
    }
    work.join_all().await;
    // Those that were noted before the holder existed are gone; once more, from the other side.
    let last: Vec<_> = (0..HOLDERS).map(|n| applied(holder("a", &format!("p{n:02}")), 2 * ROUNDS + 1, 1)).collect();
    handles[1].acknowledge(&last).await.unwrap();
    let (one, other) = (listed(&*handles[0]).await, listed(&*handles[1]).await);
    assert_eq!((one.len() as u64, &one), (HOLDERS, &other));
    for found in &one {
        assert_eq!((found.not_after, found.sequence), (ended(2 * ROUNDS as i64 - 1), 2 * ROUNDS + 1));
    }
    let expected = counts(&[(2 * ROUNDS + 1, HOLDERS, HOLDERS)]);
    assert_eq!(handles[0].coverage(ended(0)).await.unwrap().by_sequence, expected);
    assert_eq!(handles[0].last_ends().await.unwrap(), handles[1].last_ends().await.unwrap());
}
