//! What a denied call leaves behind.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::atomic::Ordering;
use std::time::Duration;

use signet_core::audit::{AuditEvent, AuditQuery, EventKind, Outcome};
use signet_core::clock::ManualClock;
use signet_core::seams::store::AuditStore;
use signet_runtime::metrics::Metrics;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::*;
use crate::audit_log::audit_log;
use crate::grpc::admin::test_stage::{AUDITOR, Caller, NOW, OWN, Stage};
use crate::world_tests::FlakyStore;

#[tokio::test]
async fn an_auditor_who_asks_for_a_change_is_told_which_role_that_needs() {
    let stage = Stage::new();
    let auditor = Caller::tls(Some(&stage.roots[0].leaf(AUDITOR, NOW, |_| {})));
    let connection = &auditor.connection;
    let access = Access {
        own_uid: OWN,
        admins: vec![],
        auditors: vec![SpiffeId::parse(AUDITOR).unwrap()],
        clients: stage.clients(),
        clock: Arc::new(ManualClock::at(NOW)),
        refusals: crate::refusals::refusals(Arc::new(ManualClock::at(NOW))).0,
        metrics: Arc::new(CaMetrics::new(&Metrics::new(), Arc::new(ManualClock::at(NOW))).unwrap()),
    };
    assert_eq!(access.admit(connection, true).unwrap().name, AUDITOR);
    let denied = access.admit(connection, false).unwrap_err();
    assert_eq!(denied.cause, DenialCause::ReadsOnly);
    for call in ["TaintAuthority", "NoSuchCall"] {
        let (code, told) = stage.told(call, &auditor).await;
        assert_eq!(code, Code::PermissionDenied, "{call}");
        assert!(told.contains("needs the role of an administrator (admins)"), "{call}: {told}");
    }
    assert_eq!(stage.asked(), Vec::<String>::new());
    let text = stage.metrics.render().unwrap();
    assert!(text.contains("signet_ca_admin_denied_total{reason=\"reads_only\"} 2"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_denied_call_is_refused_at_once_counted_and_on_record_with_who_it_was() {
    let stage = Stage::new();
    let store = Arc::new(FlakyStore::default());
    let metrics = CaMetrics::new(&Metrics::new(), Arc::new(ManualClock::at(NOW))).unwrap();
    let (audit, writer) = audit_log(Arc::clone(&store) as _, metrics.audit);
    let denied = stage.denied.lock().unwrap().take().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { writer.run(CancellationToken::new()).await.unwrap() });
    tasks.spawn(async move { denied.run(audit, CancellationToken::new()).await.unwrap() });
    let web = stage.roots[0].leaf("spiffe://cluster.local/ns/a/sa/web", NOW, |_| {});
    let callers = [Caller::user(Some(OWN + 1)), Caller::tls(None), Caller::tls(Some(&web)), Caller::default()];
    // Storage that fails makes nothing else of it.
    store.down.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    for caller in &callers {
        for method in ["TaintAuthority", "NoSuchCall", "NoSuchCall"] {
            assert_eq!(stage.call(method, &[], caller).await.0, Code::PermissionDenied);
        }
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let text = stage.metrics.render().unwrap();
    for (reason, count) in
        [("other_user", 3), ("no_certificate", 3), ("not_listed", 3), ("certificate_not_valid", 0), ("no_edge", 3)]
    {
        let line = format!("signet_ca_admin_denied_total{{reason=\"{reason}\"}} {count}");
        assert!(text.contains(&line), "{line}: {text}");
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    store.down.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(120)).await;
    let page = store.query(&AuditQuery::newest(100).unwrap()).await.unwrap();
    let events: Vec<AuditEvent> = page.items.into_iter().map(|stored| stored.event).collect();
    assert_eq!(events.iter().map(AuditEvent::count).sum::<u64>(), 12);
    assert_eq!(events.len(), 12, "one in full for each caller and call, one for the repetition of each second one");
    assert!(events.iter().all(|event| (event.kind, event.outcome) == (EventKind::Admin, Outcome::Refused)));
    let find = |words: &str| {
        let found = events.iter().find(|event| event.detail.as_ref().unwrap().starts_with(words));
        found.unwrap_or_else(|| panic!("{words}: {events:#?}"))
    };
    let socket = find(&format!("uid {}: denied TaintAuthority: ", OWN + 1));
    assert_eq!((socket.who.peer.as_deref(), socket.reason.as_deref()), (Some("uid 1001"), Some("other_user")));
    let workload = find("spiffe://cluster.local/ns/a/sa/web: denied TaintAuthority: ");
    assert_eq!(workload.who.spiffe_id.as_deref(), Some("spiffe://cluster.local/ns/a/sa/web"));
    assert_eq!(workload.who.peer.as_deref(), Some("192.0.2.1:5"));
    let stranger = find("192.0.2.1: denied an unknown call: ");
    assert_eq!((&stranger.who.spiffe_id, stranger.who.peer.as_deref()), (&None, Some("192.0.2.1:5")));
}
