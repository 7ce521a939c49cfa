//! What is told at once, what is counted, and what storage that fails takes from the record.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use signet_core::audit::{AuditEvent, AuditQuery};
use signet_core::clock::{Clock as _, ManualClock};
use signet_core::seams::store::AuditStore;
use signet_runtime::metrics::Metrics;
use tokio::task::JoinSet;

use super::table::{AT_ONCE, WINDOW};
use super::*;
use crate::audit_log::{AuditMetrics, audit_log};
use crate::world_tests::{FlakyStore, NOW};

/// What nobody records.
pub(crate) struct Unheard(std::sync::Mutex<mpsc::Receiver<(Notice, OffsetDateTime)>>);

impl Unheard {
    /// Everything that was told since.
    pub(crate) fn all(&self) -> Vec<Notice> {
        let mut queue = self.0.lock().unwrap();
        std::iter::from_fn(|| queue.try_recv().ok()).map(|(notice, _)| notice).collect()
    }
}

/// Notices that nobody records.
pub(crate) fn unheard() -> (Notices, Unheard) {
    let (notices, NoticeWriter { queue, .. }) = notices(Arc::new(ManualClock::at(NOW)));
    (notices, Unheard(std::sync::Mutex::new(queue)))
}

struct Record {
    notices: Notices,
    clock: ManualClock,
    store: Arc<FlakyStore>,
    stop: CancellationToken,
    teller: JoinSet<()>,
    _writer: JoinSet<()>,
}

impl Record {
    fn new() -> Self {
        let clock = ManualClock::at(NOW);
        let store = Arc::new(FlakyStore::default());
        let (audit, writer) = audit_log(Arc::clone(&store) as _, AuditMetrics::new(&Metrics::new()).unwrap());
        let (notices, told) = notices(Arc::new(clock.clone()));
        let (stop, mut teller, mut tasks) = (CancellationToken::new(), JoinSet::new(), JoinSet::new());
        tasks.spawn(async move { writer.run(CancellationToken::new()).await.unwrap() });
        let stopped = stop.clone();
        teller.spawn(async move { told.run(audit, stopped).await.unwrap() });
        Self { notices, clock, store, stop, teller, _writer: tasks }
    }

    fn tell(&self, outcome: Outcome, reason: &'static str, detail: &str) {
        let (kind, subject, detail) = (EventKind::Backend, "the backend".to_owned(), detail.to_owned());
        self.notices.tell(Notice { kind, subject, cluster: None, outcome, reason, detail });
    }

    /// Waits, and gives what is on record then, oldest first: outcome, reason, and of how many.
    async fn after(&self, time: Duration) -> Vec<(Outcome, String, u64)> {
        self.clock.set(self.clock.now() + time);
        tokio::time::sleep(time).await;
        self.found().await
    }

    async fn found(&self) -> Vec<(Outcome, String, u64)> {
        self.events()
            .await
            .into_iter()
            .map(|event| (event.outcome, event.reason.clone().unwrap(), event.count()))
            .collect()
    }

    async fn events(&self) -> Vec<AuditEvent> {
        let page = self.store.query(&AuditQuery::newest(1000).unwrap()).await.unwrap();
        page.items.into_iter().rev().map(|stored| stored.event).collect()
    }
}

const MOMENT: Duration = Duration::from_millis(5);

fn one(outcome: Outcome, reason: &str, count: u64) -> (Outcome, String, u64) {
    (outcome, reason.to_owned(), count)
}

#[tokio::test(start_paused = true)]
async fn each_change_is_told_at_once_and_what_repeats_once_an_hour_with_how_often() {
    let record = Record::new();
    record.tell(Outcome::Refused, "login_refused", "no");
    assert_eq!(record.after(MOMENT).await, [one(Outcome::Refused, "login_refused", 1)]);
    for _ in 0..500 {
        record.tell(Outcome::Refused, "login_refused", "no");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    assert_eq!(record.found().await.len(), 1, "a loop of failures is told once");
    let all = record.after(WINDOW).await;
    assert_eq!(all[1..], [one(Outcome::Refused, "login_refused", 500)]);
    // Another text is news, and what was counted is told before what comes after it.
    record.tell(Outcome::Refused, "login_refused", "no");
    record.tell(Outcome::Refused, "login_refused", "never");
    record.after(MOMENT).await;
    record.tell(Outcome::Refused, "login_refused", "never");
    record.after(MOMENT).await;
    record.tell(Outcome::Done, "login", "yes");
    let all = record.after(MOMENT).await;
    let expected = [
        one(Outcome::Refused, "login_refused", 2),
        one(Outcome::Refused, "login_refused", 1),
        one(Outcome::Done, "login", 1),
    ];
    assert_eq!(all[2..], expected);
    // Two that went well are two.
    record.tell(Outcome::Done, "login", "yes");
    assert_eq!(record.after(MOMENT).await[5..], [one(Outcome::Done, "login", 1)]);
}

#[tokio::test(start_paused = true)]
async fn what_changes_all_the_time_is_told_a_few_times_and_then_counted_and_another_subject_all_the_same() {
    let record = Record::new();
    for _ in 0..200 {
        record.tell(Outcome::Done, "login", "yes");
        tokio::time::sleep(Duration::from_secs(1)).await;
        record.tell(Outcome::Refused, "login_refused", "no");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let all = record.found().await;
    assert_eq!(all.len(), AT_ONCE as usize, "{all:?}");
    let (kind, subject) = (EventKind::Configuration, "file".to_owned());
    let (outcome, reason, detail) = (Outcome::Refused, "configuration_refused", "x".repeat(5000));
    record.notices.tell(Notice { kind, subject, cluster: Some("a".to_owned()), outcome, reason, detail });
    let all = record.after(MOMENT).await;
    assert_eq!(all.len(), AT_ONCE as usize + 1, "{all:?}");
    let event = record.events().await.pop().unwrap();
    assert_eq!((event.who.cluster.as_deref(), event.detail.map(|text| text.len())), (Some("a"), Some(2000)));
    let all = record.after(WINDOW).await;
    assert_eq!(all.iter().map(|(_, _, count)| count).sum::<u64>(), 401, "nothing is left out: {all:?}");
    assert_eq!(all.len(), AT_ONCE as usize + 3, "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn what_storage_does_not_take_is_recorded_later_in_its_order_and_the_end_of_the_process_leaves_nothing() {
    let record = Record::new();
    record.store.down.store(true, Ordering::SeqCst);
    record.tell(Outcome::Refused, "login_refused", "no");
    tokio::time::sleep(MOMENT).await;
    record.tell(Outcome::Done, "login", "yes");
    tokio::time::sleep(AGAIN).await;
    assert_eq!(record.found().await, []);
    record.store.down.store(false, Ordering::SeqCst);
    let all = record.after(AGAIN).await;
    assert_eq!(all, [one(Outcome::Refused, "login_refused", 1), one(Outcome::Done, "login", 1)]);
    assert_eq!(record.events().await[0].at_micros, AuditEvent::micros(NOW), "when it was");
    // Counted until the end comes.
    record.tell(Outcome::Failed, "login_failed", "away");
    record.after(MOMENT).await;
    record.tell(Outcome::Failed, "login_failed", "away");
    record.tell(Outcome::Failed, "login_failed", "away");
    let Record { store, stop, mut teller, .. } = record;
    stop.cancel();
    teller.join_next().await.unwrap().unwrap();
    let page = store.query(&AuditQuery::newest(10).unwrap()).await.unwrap();
    assert_eq!(page.items[0].event.count(), 2);
}
