//! Floods of denied calls, failing storage, and what is on record afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::atomic::Ordering;

use signet_core::audit::AuditQuery;
use signet_core::clock::ManualClock;
use signet_core::seams::store::AuditStore;
use signet_runtime::metrics::Metrics;
use tokio::task::JoinSet;
use tonic::Code;

use super::*;
use crate::audit_log::audit_log;
use crate::grpc::admin_stage::{Caller, NOW, OWN, Stage};
use crate::world_tests::FlakyStore;

/// Denials with their record in memory.
struct Record {
    denials: Denials,
    store: Arc<FlakyStore>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Record {
    fn new(denials: Denials) -> Self {
        let store = Arc::new(FlakyStore::default());
        let (audit, writer) = audit_log(Arc::clone(&store) as _, Arc::clone(&denials.metrics));
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(async move { writer.run(CancellationToken::new()).await.unwrap() });
        let (recording, stopped) = (denials.clone(), stop.clone());
        tasks.spawn(async move { recording.record(audit, stopped).await.unwrap() });
        Self { denials, store, stop, tasks }
    }

    fn alone() -> Self {
        let clock: SharedClock = Arc::new(ManualClock::at(NOW));
        let metrics = Arc::new(CaMetrics::new(&Metrics::new(), Arc::clone(&clock)).unwrap());
        Self::new(Denials::new(clock, metrics))
    }

    /// The texts on record after this time, oldest first.
    async fn after(&self, time: Duration) -> Vec<String> {
        tokio::time::sleep(time).await;
        let page = self.store.query(&AuditQuery::newest(1000).unwrap()).await.unwrap();
        let events = page.items.into_iter().rev().map(|stored| stored.event);
        events.map(|event| event.detail.unwrap()).collect()
    }
}

fn user(uid: u32) -> Denied {
    Denied { who: Who::User(Some(uid)), peer: None, cause: Cause::OtherUser }
}

fn stranger(number: u32) -> Denied {
    let peer = SocketAddr::from((std::net::Ipv4Addr::from(number), 7));
    Denied { who: Who::Address(Some(peer.ip())), peer: Some(peer), cause: Cause::NoCertificate }
}

const MOMENT: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_flood_of_one_caller_is_one_record_a_minute_for_each_call_with_its_number() {
    let record = Record::alone();
    for _ in 0..1000 {
        record.denials.note(user(7), "TaintAuthority");
        // The first of them has its record before the others come.
        tokio::task::yield_now().await;
    }
    record.denials.note(user(7), "Status");
    record.denials.note(user(8), "TaintAuthority");
    let why = "neither root nor the CA's own user";
    let first = record.after(MOMENT).await;
    assert_eq!(first.len(), 3, "{first:#?}");
    for text in ["uid 7: denied TaintAuthority", "uid 7: denied Status", "uid 8: denied TaintAuthority"] {
        assert!(first.contains(&format!("{text}: {why}")), "{text}: {first:#?}");
    }
    assert_eq!(record.after(QUIET / 2).await.len(), 3);
    let later = record.after(QUIET).await;
    assert!(later[3].starts_with("uid 7: denied TaintAuthority") && later[3].contains(", 999 times since 2026-"));
    assert_eq!(record.after(QUIET * 5).await.len(), 4, "what is told is not told again");
    assert!(record.denials.lock().users.is_empty(), "nor remembered");
}

#[tokio::test(start_paused = true)]
async fn a_flood_from_everywhere_is_bounded_in_memory_and_on_record_and_hides_nobody_of_another_kind() {
    let record = Record::alone();
    for number in 0..10_000 {
        record.denials.note(stranger(number), "Status");
    }
    record.denials.note(user(7), "TaintAuthority");
    assert_eq!(record.denials.lock().strangers.len(), OWN_RECORDS + 1);
    let told = record.after(MOMENT).await;
    assert_eq!(told.len(), OWN_RECORDS + 2);
    assert!(told.iter().any(|text| text.starts_with("uid 7: denied TaintAuthority")));
    let others =
        format!("various callers: denied several calls: no client certificate, {} times", 10_000 - OWN_RECORDS);
    assert!(told.iter().any(|text| text.starts_with(&others)), "{told:#?}");
}

#[tokio::test(start_paused = true)]
async fn what_storage_does_not_take_is_told_later_and_at_the_end_of_the_process() {
    let mut record = Record::alone();
    record.store.down.store(true, Ordering::SeqCst);
    record.denials.note(user(7), "TaintAuthority");
    assert!(record.after(QUIET * 2).await.is_empty());
    record.denials.note(user(7), "TaintAuthority");
    record.store.down.store(false, Ordering::SeqCst);
    let told = record.after(QUIET).await;
    assert!(told.len() == 1 && told[0].contains(", 2 times since"), "{told:#?}");
    record.denials.note(user(7), "TaintAuthority");
    record.stop.cancel();
    assert_eq!(record.after(MOMENT).await.len(), 2);
    // Storage that hangs holds up neither the end nor, below, the refusal.
    let stuck = Record::alone();
    stuck.store.stuck.store(true, Ordering::SeqCst);
    stuck.denials.note(user(7), "TaintAuthority");
    tokio::time::sleep(MOMENT).await;
    stuck.denials.note(user(8), "TaintAuthority");
    stuck.stop.cancel();
    let mut tasks = stuck.tasks;
    tokio::time::timeout(LAST * 2, tasks.join_next()).await.expect("the task has ended").unwrap().unwrap();
    record.tasks.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_denied_call_is_refused_at_once_counted_and_on_record_with_who_it_was() {
    let stage = Stage::new();
    let record = Record::new(stage.denials.clone());
    let web = stage.roots[0].leaf("spiffe://cluster.local/ns/a/sa/web", NOW, |_| {});
    let callers = [Caller::user(Some(OWN + 1)), Caller::tls(None), Caller::tls(Some(&web)), Caller::default()];
    // Storage that fails, or hangs, makes nothing else of it.
    record.store.down.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    for caller in &callers {
        for method in ["TaintAuthority", "NoSuchCall"] {
            assert_eq!(stage.call(method, &[], caller).await.0, Code::PermissionDenied);
        }
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let text = stage.metrics.render().unwrap();
    for (reason, count) in
        [("other_user", 2), ("no_certificate", 2), ("not_listed", 2), ("certificate_not_valid", 0), ("no_edge", 2)]
    {
        let line = format!("signet_ca_admin_denied_total{{reason=\"{reason}\"}} {count}");
        assert!(text.contains(&line), "{line}: {text}");
    }
    record.store.down.store(false, Ordering::SeqCst);
    tokio::time::sleep(QUIET * 2).await;
    let page = record.store.query(&AuditQuery::newest(100).unwrap()).await.unwrap();
    let events: Vec<AuditEvent> = page.items.into_iter().map(|stored| stored.event).collect();
    assert_eq!(events.len(), 8);
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
