//! What every implementation of the storage seams must do. Each case gets its own empty store, through two handles
//! that stand for two processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod change;
mod fence;
mod filters;
mod gone_holders;
mod holder_marks;
mod holders;
mod journal;
mod live_holders;
mod pod_certificates;
mod publications;
mod record_tree;
mod retention;
mod signed_leaves;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(super) mod unused_keys;

use std::sync::Arc;

use signet_core::audit::{Attributed, AuditEvent, AuditQuery, Certified, EventKind, MAX_PAGE, Outcome, StoredEvent};
use signet_core::authority::KeyId;
use signet_core::certificate::Serial;
use signet_core::seams::pod_certificates::PodCertificateStore;
use signet_core::seams::record_tree::RecordTree;
use signet_core::seams::retention::RecordRetention;
use signet_core::seams::signed_leaves::SignedLeafStore;
use signet_core::seams::store::{
    AppendError, AuditStore, AuthorityJournal, HolderStore, JournalVersion, PublicationStore, SealedKeys,
};
use time::{Duration, OffsetDateTime};

pub(super) use self::fence::admitting;
pub(super) use self::holders::{acknowledging, by, ended, hand_over, held, issuer, key, listed, mark};

/// A start of time for test events.
pub(super) const START: i64 = 1_700_000_000_000_000;

/// An event of identity `who` with a serial made from `serial`.
pub(super) fn issued(who: &str, serial: u64, at_micros: i64) -> AuditEvent {
    let what = Certified {
        serial: self::serial(serial).to_string(),
        key_hash: "ab".repeat(32),
        other_names: Vec::new(),
        not_before: 1_700_000_000,
        not_after: 1_700_086_400,
        authority: "cd".repeat(20),
        bundle_sequence: 1,
        acknowledges: false,
        fingerprint: None,
    };
    AuditEvent { what: Some(what), outcome: Outcome::Issued, reason: None, ..refused(who, at_micros) }
}

/// A refusal of identity `who`; nobody's when it is empty.
pub(super) fn refused(who: &str, at_micros: i64) -> AuditEvent {
    let spiffe_id = (!who.is_empty()).then(|| format!("spiffe://cluster.local/ns/{who}/sa/default"));
    AuditEvent {
        at_micros,
        request_id: format!("r-{at_micros}"),
        kind: EventKind::Certificate,
        outcome: Outcome::Refused,
        reason: Some("not_entitled".into()),
        detail: None,
        who: Attributed { spiffe_id, namespace: Some(who.into()), ..Attributed::default() },
        what: None,
        repeated: None,
    }
}

/// The serial made from a number.
pub(super) fn serial(number: u64) -> Serial {
    Serial::new(OffsetDateTime::UNIX_EPOCH, u128::from(number).to_be_bytes())
}

/// The whole log, newest first.
pub(super) async fn everything(store: &impl AuditStore) -> Vec<StoredEvent> {
    pages(store, AuditQuery::newest(MAX_PAGE).unwrap()).await
}

async fn pages(store: &impl AuditStore, mut query: AuditQuery) -> Vec<StoredEvent> {
    let mut all = Vec::new();
    loop {
        let page = store.query(&query).await.unwrap();
        let full = page.items.len() == usize::try_from(query.limit).unwrap();
        assert!(full || page.next.is_none(), "only the last page may be short");
        all.extend(page.items);
        match page.next {
            Some(next) => query.before = Some(next),
            None => return all,
        }
    }
}

/// That the log holds exactly these positions: 0, 1, 2 …
pub(super) fn assert_gapless(newest_first: &[StoredEvent]) {
    let found: Vec<u64> = newest_first.iter().rev().map(|event| event.sequence).collect();
    let expected: Vec<u64> = (0..newest_first.len() as u64).collect();
    assert_eq!(found, expected);
}

/// Runs the whole suite. `make` gives two handles on one empty store.
pub(super) async fn every_case<S>(make: impl AsyncFn() -> [Arc<S>; 2])
where
    S: AuditStore
        + AuthorityJournal
        + HolderStore
        + PodCertificateStore
        + PublicationStore
        + RecordTree
        + RecordRetention
        + SealedKeys
        + SignedLeafStore
        + 'static,
{
    an_empty_store_answers(&*make().await[0]).await;
    journal::every_case(&make).await;
    change::every_case(&make).await;
    fence::every_case(&make).await;
    // The other cases are not about who may sign.
    let make = async || {
        let handles = make().await;
        handles[0].replace(JournalVersion(0), &admitting()).await.unwrap();
        handles
    };
    batches_are_kept_in_order_without_gaps(&*make().await[0]).await;
    a_taken_serial_fails_its_own_event_alone(&*make().await[0]).await;
    pages_stay_stable_while_events_are_added(&*make().await[0]).await;
    every_filter_finds_what_a_plain_scan_finds(&*make().await[0]).await;
    filters::every_filter(&*make().await[0]).await;
    filters::pages_of_a_filter_stay_stable(&*make().await[0]).await;
    what_a_certificate_was_issued_to_is_found_by_its_serial(make().await).await;
    holders::every_case(&make).await;
    live_holders::every_case(&make).await;
    gone_holders::every_case(&make).await;
    holder_marks::every_case(&make).await;
    pod_certificates::every_case(&make).await;
    publications::every_case(&make).await;
    record_tree::every_case(&make).await;
    retention::every_case(&make).await;
    signed_leaves::every_case(&make).await;
}

async fn an_empty_store_answers(store: &(impl AuditStore + AuthorityJournal + SealedKeys)) {
    store.probe().await.unwrap();
    assert!(store.append(Vec::new()).await.unwrap().is_empty());
    let page = store.query(&AuditQuery::newest(1).unwrap()).await.unwrap();
    assert_eq!((page.items.len(), page.next), (0, None));
    let since = Some(OffsetDateTime::UNIX_EPOCH);
    let page = store.query(&AuditQuery { since, ..AuditQuery::newest(1).unwrap() }).await.unwrap();
    assert_eq!((page.items.len(), page.next), (0, None));
    assert_eq!((store.load().await.unwrap(), store.version().await.unwrap()), (None, JournalVersion(0)));
    assert_eq!(store.fetch(&KeyId::parse("none").unwrap()).await.unwrap(), None);
}

async fn batches_are_kept_in_order_without_gaps(store: &impl AuditStore) {
    let (mut next, mut all) = (0, Vec::new());
    for size in [1, 3, 64, 65, 200, 1] {
        let events: Vec<AuditEvent> = (next..next + size).map(|n| issued("a", n, START)).collect();
        let recorded = store.append(events.clone()).await.unwrap();
        let sequences: Vec<u64> = recorded.iter().map(|one| one.as_ref().unwrap().sequence()).collect();
        assert_eq!(sequences, (next..next + size).collect::<Vec<u64>>());
        next += size;
        all.extend(events);
    }
    let found = everything(store).await;
    assert_gapless(&found);
    assert_eq!(found.into_iter().rev().map(|stored| stored.event).collect::<Vec<_>>(), all);
}

async fn a_taken_serial_fails_its_own_event_alone(store: &impl AuditStore) {
    let append = async |serials: &[u64]| -> Vec<Result<u64, AppendError>> {
        let events = serials.iter().map(|n| issued("a", *n, START)).collect();
        let recorded = store.append(events).await.unwrap();
        recorded.into_iter().map(|one| one.map(|recorded| recorded.sequence())).collect()
    };
    let taken = Err(AppendError::SerialTaken);
    assert_eq!(append(&[7, 8, 7, 9]).await, [Ok(0), Ok(1), taken, Ok(2)], "in one batch");
    assert_eq!(append(&[8]).await, [taken], "in a later batch, alone");
    assert_eq!(append(&[10, 9, 11]).await, [Ok(3), taken, Ok(4)], "in a later batch, among others");
    let mut many: Vec<u64> = (100..300).collect();
    many[70] = 7;
    many[199] = 100;
    let results = append(&many).await;
    assert_eq!(results.iter().filter(|result| **result == taken).count(), 2);
    assert_eq!((results[69], results[70], results[71], results[199]), (Ok(74), taken, Ok(75), taken));
    let found = everything(store).await;
    assert_gapless(&found);
    assert_eq!(found.len(), 5 + 198);
    // Events without a serial are never in each other's way.
    let refusals = store.append(vec![refused("a", START), refused("a", START)]).await.unwrap();
    assert!(refusals.iter().all(Result::is_ok));
}

async fn pages_stay_stable_while_events_are_added(store: &impl AuditStore) {
    store.append((0..25).map(|n| issued("a", n, START)).collect()).await.unwrap();
    let mut query = AuditQuery::newest(10).unwrap();
    let mut seen = Vec::new();
    for round in 1.. {
        let page = store.query(&query).await.unwrap();
        seen.extend(page.items.iter().map(|stored| stored.sequence));
        store.append(vec![issued("a", 1000 + round, START)]).await.unwrap();
        match page.next {
            Some(next) => query.before = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, (0..25).rev().collect::<Vec<u64>>());
}

/// The time of the last token travels from certificate to certificate, and every process finds it.
async fn what_a_certificate_was_issued_to_is_found_by_its_serial(stores: [Arc<impl AuditStore>; 2]) {
    let [here, there] = stores;
    let token = AuditEvent {
        who: Attributed {
            auth_method: Some("jwks".into()),
            token_id: Some("c62bfcf7-e45c-4541-afd4-deca8978d1b0".into()),
            ..issued("a", 1, START).who
        },
        ..issued("a", 1, START)
    };
    here.append(vec![issued("b", 9, START), token.clone(), refused("a", START)]).await.unwrap();
    let find = async |number| {
        let query = AuditQuery { serial: Some(serial(number)), ..AuditQuery::newest(1).unwrap() };
        there.query(&query).await.unwrap().items.pop().map(|stored| stored.event)
    };
    assert_eq!(find(1).await.unwrap(), token);
    for number in 2..5 {
        let before = find(number - 1).await.unwrap();
        let last_token = before.last_token().unwrap();
        let who = Attributed {
            auth_method: Some("client-certificate".into()),
            certificate: Some(serial(number - 1).to_string()),
            last_token_micros: Some(AuditEvent::micros(last_token)),
            ..before.who
        };
        let renewed = AuditEvent { who, ..issued("a", number, START + number as i64 * 1_000_000) };
        here.append(vec![renewed.clone()]).await.unwrap();
        let found = find(number).await.unwrap();
        assert_eq!((&found, found.last_token().map(AuditEvent::micros)), (&renewed, Some(START)));
    }
    assert_eq!(find(8).await, None);
}

/// More events than fit in several segments, of identities that are frequent, rare, and gone for long.
async fn every_filter_finds_what_a_plain_scan_finds(store: &impl AuditStore) {
    let outcomes = [Outcome::Issued, Outcome::Refused, Outcome::Issued, Outcome::Failed, Outcome::Done];
    let event = |n: u64| {
        let who = match n {
            0..40 => "early",
            _ if n.is_multiple_of(1000) => "rare",
            _ if n.is_multiple_of(7) => "",
            _ => ["busy", "other"][(n % 2) as usize],
        };
        // Time goes on, but not strictly: concurrent requests, and a clock that once ran ahead.
        let jump = if n == 9_000 { 3_000_000 } else { 0 };
        let at = START + n as i64 * 1000 - (n % 5) as i64 * 3000 + jump;
        match outcomes[(n % 5) as usize] {
            Outcome::Issued if n % 5 == 2 => {
                let mut event = issued(who, n, at);
                event.who.certificate = Some(serial(n / 500).to_string());
                event
            }
            Outcome::Issued => issued(who, n, at),
            outcome => AuditEvent { outcome, ..refused(who, at) },
        }
    };
    let log: Vec<AuditEvent> = (0..20_000).map(event).collect();
    for (number, batch) in log.chunks(500).enumerate() {
        store.append(batch.to_vec()).await.unwrap();
        // What is made behind the log ends in the middle of a segment.
        while number == 26 && store.settle().await.unwrap() {}
    }
    let start = OffsetDateTime::from_unix_timestamp_nanos(i128::from(START) * 1000).unwrap();
    let identity = |who: &str| Some(format!("spiffe://cluster.local/ns/{who}/sa/default"));
    let identities = [None, identity("early"), identity("rare"), identity("busy"), identity("nobody")];
    let sinces = [None, Some(0), Some(8_500), Some(9_500), Some(19_990), Some(30_000)];
    let mut queries = Vec::new();
    for spiffe_id in &identities {
        for since in sinces.map(|since| since.map(|millis| start + Duration::milliseconds(millis))) {
            for outcome in [None, Some(Outcome::Issued), Some(Outcome::Done)] {
                for serial in [None, Some(serial(12_000)), Some(serial(1))] {
                    let spiffe_id = spiffe_id.clone();
                    let query = AuditQuery { spiffe_id, since, outcome, serial, ..AuditQuery::newest(1000).unwrap() };
                    queries.push(query);
                }
            }
            // What no column has, in the life of a certificate.
            for (shown, until) in [(16, Some(10_000)), (16, Some(8_300)), (39, None), (7, Some(60_000))] {
                let until = until.map(|millis| start + Duration::milliseconds(millis));
                let (spiffe_id, shown) = (spiffe_id.clone(), Some(serial(shown).to_string()));
                queries.push(AuditQuery { spiffe_id, since, until, shown, ..AuditQuery::newest(1000).unwrap() });
            }
        }
    }
    for query in queries {
        let scanned = log.iter().enumerate().rev().filter(|(_, event)| query.matches(event));
        let expected: Vec<u64> = scanned.map(|(sequence, _)| sequence as u64).collect();
        // Three pages are enough where there are many; the last ones prove the end where there are few.
        let expected = &expected[..expected.len().min(2500)];
        let mut found = Vec::new();
        let mut cursor = query.clone();
        for limit in [500, 1000, 1000] {
            let page = store.query(&AuditQuery { limit, ..cursor.clone() }).await.unwrap();
            found.extend(page.items.iter().map(|stored| stored.sequence));
            let Some(next) = page.next else { break };
            cursor.before = Some(next);
        }
        assert!(found == expected, "{query:?}: {} instead of {}", found.len(), expected.len());
    }
}
