//! Pages of a record whose newest words are gone, and what belongs to a certificate.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use signet_core::audit::{Attributed, Certified, Class};
use signet_core::seams::retention::{Forgetting, RecordRetention};
use signet_plugins::store::memory::MemoryStore;

use super::*;

const SERIAL: &str = "01010101010101010101010101010101";
const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";

fn event(at: i64, kind: EventKind, outcome: Outcome, detail: Option<&str>) -> AuditEvent {
    let what = Certified {
        serial: SERIAL.to_owned(),
        key_hash: "ab".repeat(32),
        other_names: Vec::new(),
        not_before: 0,
        not_after: 1_900_000_000,
        authority: "cd".repeat(20),
        bundle_sequence: 1,
        acknowledges: false,
        fingerprint: None,
    };
    AuditEvent {
        at_micros: at * 1_000_000,
        request_id: "r".to_owned(),
        kind,
        outcome,
        reason: None,
        detail: detail.map(str::to_owned),
        who: Attributed { spiffe_id: Some(WEB.to_owned()), ..Attributed::default() },
        what: Some(what).filter(|_| kind == EventKind::Certificate),
        repeated: None,
    }
}

async fn store() -> MemoryStore {
    let store = MemoryStore::new();
    let revoked = format!("revoked {SERIAL}");
    let events = vec![
        // One that nobody got: no journal has to admit it.
        event(100, EventKind::Certificate, Outcome::Failed, None),
        event(200, EventKind::Admin, Outcome::Done, Some(&revoked)),
        event(300, EventKind::Admin, Outcome::Done, Some("another one")),
    ];
    assert!(store.append(events).await.unwrap().iter().all(Result::is_ok));
    store
}

#[tokio::test]
async fn what_was_done_to_a_certificate_is_beside_it_as_far_as_all_filters_hold() {
    let store = store().await;
    let serial = Serial::parse(SERIAL).unwrap();
    let at = |seconds: i64| OffsetDateTime::from_unix_timestamp(seconds).ok();
    let all = AuditQuery { serial: Some(serial), ..AuditQuery::newest(10).unwrap() };
    for (query, expected) in [
        (all.clone(), &[1][..]),
        (AuditQuery { kind: Some(EventKind::Admin), ..all.clone() }, &[1]),
        (AuditQuery { key_hash: Some("ab".repeat(32)), ..all.clone() }, &[1]),
        (AuditQuery { key_hash: Some("ac".repeat(32)), ..all.clone() }, &[]),
        (AuditQuery { kind: Some(EventKind::Certificate), ..all.clone() }, &[]),
        (AuditQuery { outcome: Some(Outcome::Failed), ..all.clone() }, &[]),
        (AuditQuery { until: at(150), ..all.clone() }, &[]),
        (AuditQuery { since: at(150), ..all.clone() }, &[1]),
        (AuditQuery { spiffe_id: Some(WEB.replace("web", "other")), ..all.clone() }, &[]),
    ] {
        let found = revocations(&store, serial, &query).await.unwrap();
        let found: Vec<u64> = found.items.iter().map(|one| one.sequence).collect();
        assert_eq!(found, expected, "{query:?}");
    }
}

#[tokio::test]
async fn a_page_is_one_of_the_record_whatever_is_left_of_its_newest_events() {
    let store = store().await;
    let events = store.events().await.unwrap();
    let below = events;
    let (class, put_off) = (Class::Operations, Vec::new());
    let step = Forgetting { class, from: 0, below, forgotten: (0..events).collect(), put_off };
    assert!(store.forget(&step).await.unwrap());
    for (token, is_one) in [(0, false), (1, true), (events - 1, true), (events, false), (u64::MAX, false)] {
        assert_eq!(check_page(&store, token).await.is_ok(), is_one, "{token}");
    }
}
