//! Floods of refusals, failing storage, and what is on record afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;

use signet_core::audit::{Attributed, AuditEvent, AuditQuery, Outcome};
use signet_core::caller::{Claimed, Peer};
use signet_core::clock::ManualClock;
use signet_core::identity::{TrustDomain, WorkloadId};
use signet_core::seams::authenticator::{AuthenticationError, Denial};
use signet_core::seams::store::AuditStore;
use signet_runtime::metrics::Metrics;
use tokio::task::JoinSet;

use super::table::OWN_ROWS;
use super::*;
use crate::audit_log::{AuditMetrics, audit_log};
use crate::world_tests::{FlakyStore, NOW};

const MOMENT: Duration = Duration::from_millis(1);
const CERTIFICATE: (EventKind, &str) = (EventKind::Certificate, "CreateCertificate");

/// Refusals with their record in memory; the clock of records goes with tokio's.
struct Record {
    refusals: Refusals,
    shared: Arc<Shared>,
    clock: ManualClock,
    began: Instant,
    store: Arc<FlakyStore>,
    stop: CancellationToken,
    teller: JoinSet<()>,
    _writer: JoinSet<()>,
}

impl Record {
    fn new() -> Self {
        let clock = ManualClock::at(NOW);
        let shared: SharedClock = Arc::new(clock.clone());
        let metrics = AuditMetrics::new(&Metrics::new()).unwrap();
        let store = Arc::new(FlakyStore::default());
        let (audit, writer) = audit_log(Arc::clone(&store) as _, metrics);
        let (refusals, refused) = refusals(shared);
        let (stop, mut teller, mut tasks) = (CancellationToken::new(), JoinSet::new(), JoinSet::new());
        tasks.spawn(async move { writer.run(CancellationToken::new()).await.unwrap() });
        let (shared, stopped) = (Arc::clone(&refused.shared), stop.clone());
        teller.spawn(async move { refused.run(audit, stopped).await.unwrap() });
        Self { refusals, shared, clock, began: Instant::now(), store, stop, teller, _writer: tasks }
    }

    /// Waits, and gives what is on record then, oldest first.
    async fn after(&self, time: Duration) -> Vec<AuditEvent> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_secs(1).min(end - Instant::now())).await;
            self.clock.set(NOW + self.began.elapsed());
        }
        self.events().await
    }

    async fn events(&self) -> Vec<AuditEvent> {
        let page = self.store.query(&AuditQuery::newest(1000).unwrap()).await.unwrap();
        page.items.into_iter().rev().map(|stored| stored.event).collect()
    }

    /// The end: nobody is left to note anything.
    async fn close(self) -> (Arc<FlakyStore>, Duration) {
        let Self { refusals, store, stop, mut teller, .. } = self;
        let began = Instant::now();
        stop.cancel();
        drop(refusals);
        teller.join_next().await.unwrap().unwrap();
        (store, began.elapsed())
    }
}

fn peer(number: u32, port: u16) -> Peer {
    Peer(Some(SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + number), port))))
}

/// A refusal of somebody at 10.x.y.z who proved nothing.
fn stranger(number: u32, port: u16, reason: Denial) -> RefusedCall {
    let error = AuthenticationError::denied(reason, "why");
    let who = Attributed { peer: Some(peer(number, port).to_string()), ..Attributed::default() };
    let refusal =
        RefusedCall::of_request(CERTIFICATE, (Outcome::Refused, error.label()), Some(&error), peer(number, port), who);
    RefusedCall { detail: error.to_string(), request_id: format!("r{port}"), ..refusal }
}

/// A refusal of a token that has ended, of a pod of a service account.
fn expired(account: &str, pod: &str, port: u16) -> RefusedCall {
    let text = |text: &str| Some(text.to_owned());
    let claimed = Claimed {
        cluster: "Kubernetes".into(),
        identity: Some(WorkloadId::new(TrustDomain::parse("cluster.local").unwrap(), "shop", account).unwrap()),
        service_account_uid: text("sa-uid"),
        pod: text(pod),
        pod_uid: Some(format!("{pod}-uid")),
        node: text("node-1"),
        node_uid: text("node-uid"),
        ..Claimed::default()
    };
    let error = AuthenticationError::denied(Denial::TokenExpired, "long ago").claiming(claimed);
    let refusal = RefusedCall::of_request(
        CERTIFICATE,
        (Outcome::Refused, error.label()),
        Some(&error),
        peer(1, port),
        Attributed::default(),
    );
    RefusedCall { detail: error.to_string(), ..refusal }
}

/// A refusal of an authenticated caller.
fn caller(account: &str, outcome: Outcome, reason: &'static str) -> RefusedCall {
    let spiffe_id = Some(format!("spiffe://cluster.local/ns/shop/sa/{account}"));
    let auth_method = Some("jwks".to_owned());
    let who = Attributed { spiffe_id, auth_method, ..Attributed::default() };
    RefusedCall::of_request(CERTIFICATE, (outcome, reason), None, peer(1, 1), who)
}

fn total<'a>(events: impl IntoIterator<Item = &'a AuditEvent>) -> u64 {
    events.into_iter().map(AuditEvent::count).sum()
}

#[tokio::test(start_paused = true)]
async fn the_first_of_a_kind_is_on_record_as_it_was_and_the_rest_once_a_minute_with_its_number() {
    let record = Record::new();
    assert_eq!(record.refusals.note(stranger(1, 100, Denial::KeyUnknown)), "r100");
    for port in 101..1100 {
        // By this each of them is found.
        assert_eq!(record.refusals.note(stranger(1, port, Denial::KeyUnknown)), "r101");
    }
    record.refusals.note(stranger(1, 5, Denial::TokenMissing));
    record.refusals.note(stranger(2, 100, Denial::KeyUnknown));
    let first = record.after(MOMENT).await;
    assert_eq!(first.len(), 3, "{first:#?}");
    assert!(first.iter().all(|event| event.repeated.is_none()));
    let one = first.iter().find(|event| event.who.peer.as_deref() == Some("10.0.0.1:100")).unwrap();
    let expected = AuditEvent {
        at_micros: AuditEvent::micros(NOW),
        request_id: "r100".into(),
        kind: EventKind::Certificate,
        outcome: Outcome::Refused,
        reason: Some("key_unknown".into()),
        detail: Some("key_unknown: why".into()),
        who: Attributed { peer: Some("10.0.0.1:100".into()), ..Attributed::default() },
        what: None,
        repeated: None,
    };
    assert_eq!(*one, expected);
    assert_eq!(record.after(QUIET / 2).await.len(), 3);
    let later = record.after(QUIET).await;
    assert_eq!(later.len(), 4);
    let reported = &later[3];
    assert_eq!((reported.count(), reported.since()), (999, NOW));
    // The clock of this test goes in steps of a second.
    assert!(reported.at() >= NOW + QUIET - Duration::from_secs(1), "{}", reported.at());
    // The ports differ, the address does not.
    assert_eq!((reported.who.peer.as_deref(), reported.request_id.as_str()), (Some("10.0.0.1"), "r101"));
    assert_eq!(record.after(QUIET * 3).await.len(), 4, "what is reported is not reported again");
    assert_eq!(record.shared.table().len(), 0, "nor remembered");
    // Somebody who comes again later is a first one again.
    record.refusals.note(stranger(1, 7, Denial::KeyUnknown));
    let again = record.after(MOMENT).await;
    assert_eq!((again.len(), again[4].repeated), (5, None));
}

#[tokio::test(start_paused = true)]
async fn a_flood_that_lasts_is_told_every_minute_and_adds_up() {
    let record = Record::new();
    for second in 0..300 {
        for _ in 0..10 {
            record.refusals.note(stranger(1, second, Denial::SignatureInvalid));
        }
        record.after(Duration::from_secs(1)).await;
    }
    let reported = record.after(QUIET).await;
    assert!((5..=7).contains(&reported.len()), "{}", reported.len());
    assert_eq!(total(&reported), 3000);
    let since: Vec<_> = reported.iter().map(AuditEvent::since).collect();
    assert!(since.is_sorted() && since.windows(2).all(|pair| pair[0] < pair[1] || pair[0] == NOW), "{since:?}");
}

#[tokio::test(start_paused = true)]
async fn a_flood_from_everywhere_is_bounded_and_hides_nobody_of_another_class() {
    let record = Record::new();
    for number in 0..10_000 {
        let reason = if number % 2 == 0 { Denial::KeyUnknown } else { Denial::TokenMalformed };
        record.refusals.note(stranger(number, 1, reason));
    }
    assert_eq!(record.shared.table().len(), OWN_ROWS + 2);
    let denied = |class, subject: &str| RefusedCall {
        class,
        subject: subject.into(),
        kind: EventKind::Admin,
        ..stranger(1, 1, Denial::KeyUnknown)
    };
    // Two of each other class, after the flood.
    for _ in 0..2 {
        record.refusals.note(expired("cart", "cart-0", 1));
        record.refusals.note(caller("cart", Outcome::Refused, "csr_not_pem"));
        for class in [Class::LocalUsers, Class::Holders, Class::AdminStrangers] {
            record.refusals.note(denied(class, "uid 7"));
        }
    }
    let reported = record.after(MOMENT).await;
    assert_eq!(reported.len(), OWN_ROWS + 2 + 5);
    assert!(reported.iter().all(|event| event.repeated.is_none()), "each is the first of its kind");
    let all = record.after(QUIET * 2).await;
    assert_eq!(total(&all), 10_010);
    let is_of_others =
        |event: &&AuditEvent| event.detail.as_ref().unwrap().starts_with("various callers; the newest: ");
    let repeated = all.iter().filter(|event| event.repeated.is_some());
    let (others, own): (Vec<_>, Vec<_>) = repeated.partition(is_of_others);
    assert_eq!((others.len(), own.len()), (2, 5), "{others:#?}");
    assert!(own.iter().all(|event| event.who != Attributed::default()));
    for event in others {
        assert_eq!(event.who, Attributed::default(), "nothing is true of all of them");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_signature_vouches_for_is_told_per_identity_and_only_what_is_true_of_all() {
    let record = Record::new();
    for port in 0..10 {
        record.refusals.note(expired("cart", "cart-0", port));
        record.refusals.note(expired("web", if port % 2 == 0 { "web-0" } else { "web-1" }, port));
    }
    let reported = record.after(QUIET * 2).await;
    assert_eq!((reported.len(), total(&reported)), (4, 20));
    let of = |account: &str, first: bool| {
        let fits = |event: &&AuditEvent| {
            event.who.service_account.as_deref() == Some(account) && event.repeated.is_none() == first
        };
        reported.iter().find(fits).unwrap().who.clone()
    };
    for first in [true, false] {
        let cart = of("cart", first);
        assert_eq!(cart.spiffe_id.as_deref(), Some("spiffe://cluster.local/ns/shop/sa/cart"));
        assert_eq!((cart.pod.as_deref(), cart.pod_uid.as_deref()), (Some("cart-0"), Some("cart-0-uid")));
        assert_eq!((cart.node.as_deref(), cart.node_uid.as_deref()), (Some("node-1"), Some("node-uid")));
        assert_eq!((cart.service_account_uid.as_deref(), cart.auth_method), (Some("sa-uid"), None));
    }
    assert_eq!(of("web", true).pod.as_deref(), Some("web-0"));
    let both = of("web", false);
    assert_eq!((both.pod, both.pod_uid, both.node.as_deref()), (None, None, Some("node-1")));
}

#[tokio::test(start_paused = true)]
async fn callers_are_told_apart_by_identity_reason_and_outcome() {
    let record = Record::new();
    for _ in 0..5 {
        record.refusals.note(caller("cart", Outcome::Refused, "csr_not_pem"));
        record.refusals.note(caller("cart", Outcome::Failed, "timed_out"));
        record.refusals.note(caller("web", Outcome::Failed, "timed_out"));
    }
    let reported = record.after(QUIET * 2).await;
    let kinds: BTreeSet<_> =
        reported.iter().map(|event| (event.who.spiffe_id.clone(), event.outcome.as_str(), event.count())).collect();
    assert_eq!((reported.len(), kinds.len(), total(&reported)), (6, 6, 15), "{kinds:?}");
}

#[tokio::test(start_paused = true)]
async fn what_storage_does_not_take_is_told_with_the_next_record() {
    let record = Record::new();
    record.store.down.store(true, Ordering::SeqCst);
    for port in 0..10 {
        record.refusals.note(stranger(1, port, Denial::KeyUnknown));
    }
    assert!(record.after(QUIET * 3).await.is_empty());
    record.store.down.store(false, Ordering::SeqCst);
    for port in 10..15 {
        record.refusals.note(stranger(1, port, Denial::KeyUnknown));
    }
    let reported = record.after(QUIET * 2).await;
    let counts: Vec<_> =
        reported.iter().map(|event| (event.repeated.is_none(), event.count(), event.since())).collect();
    assert_eq!(counts, [(true, 1, NOW), (false, 14, NOW)], "{reported:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_clean_stop_writes_the_rest_and_goes_on_until_the_last_edge_has_ended() {
    let record = Record::new();
    for port in 0..10 {
        record.refusals.note(stranger(1, port, Denial::KeyUnknown));
    }
    assert_eq!(total(&record.after(MOMENT).await), 1);
    // A drain that may end at any moment is reported of within a second.
    record.stop.cancel();
    assert_eq!(total(&record.after(QUIET_AT_END * 2).await), 10);
    for port in 0..10 {
        record.refusals.note(stranger(1, port, Denial::KeyUnknown));
    }
    let (store, took) = record.close().await;
    assert_eq!(took, Duration::ZERO);
    let page = store.query(&AuditQuery::newest(1000).unwrap()).await.unwrap();
    assert_eq!(total(page.items.iter().map(|stored| &stored.event)), 20);
}

#[tokio::test(start_paused = true)]
async fn storage_that_hangs_holds_up_neither_a_refusal_nor_the_end() {
    let record = Record::new();
    record.store.stuck.store(true, Ordering::SeqCst);
    record.refusals.note(stranger(1, 1, Denial::KeyUnknown));
    record.after(MOMENT).await;
    let began = Instant::now();
    for number in 0..1000 {
        record.refusals.note(stranger(number, 1, Denial::KeyUnknown));
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    let (_, took) = record.close().await;
    assert!(took <= LAST + MOMENT, "{took:?}");
}

#[test]
fn a_source_of_ipv6_is_its_network() {
    let at = |text: &str| Peer(Some(SocketAddr::from((text.parse::<IpAddr>().unwrap(), 1))));
    let of = |text: &str| {
        RefusedCall::of_request(CERTIFICATE, (Outcome::Refused, "x"), None, at(text), Attributed::default()).subject
    };
    assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
    assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
}

#[tokio::test(start_paused = true)]
async fn whoever_was_refused_is_told_the_id_of_the_event_that_counts_it_whatever_storage_does_meanwhile() {
    let record = Record::new();
    let mut told: Vec<String> = Vec::new();
    // Refusals come all the time; storage fails for some minutes, and once takes its time before it does.
    for second in 0..400_u16 {
        record.store.slow.store((50..80).contains(&second), Ordering::SeqCst);
        record.store.down.store((80..90).contains(&second) || (150..300).contains(&second), Ordering::SeqCst);
        if second == 80 {
            record.store.commit.notify_one();
        }
        told.push(record.refusals.note(stranger(1, second, Denial::KeyUnknown)));
        record.after(Duration::from_secs(1)).await;
    }
    let events = record.after(QUIET * 2).await;
    assert_eq!(total(&events), 400);
    assert!(told.iter().collect::<BTreeSet<_>>().len() > 3, "{told:?}");
    for id in told {
        assert!(events.iter().any(|event| event.request_id == id), "{id}: {events:?}");
    }
}
