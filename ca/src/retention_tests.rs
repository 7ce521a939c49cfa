//! What is forgotten, and when.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;

use signet_core::audit::{Attributed, AuditQuery, Certified, EventKind, MAX_PAGE, Outcome};
use signet_core::clock::{Clock as _, ManualClock};
use signet_core::seams::store::AuditStore;
use signet_plugins::store::memory::MemoryStore;

use super::*;

const DAY: Duration = Duration::from_hours(24);
const START: i64 = 1_700_000_000;

fn at(days: f64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(START + (days * 86_400.0) as i64).unwrap()
}

/// An event of this day; one with a life is a certificate.
fn event(day: f64, kind: EventKind, outcome: Outcome, life: Option<f64>, serial: u64) -> AuditEvent {
    let seconds = |days: f64| START + (days * 86_400.0) as i64;
    let what = |life: f64| Certified {
        serial: format!("{serial:032x}"),
        key_hash: "ab".repeat(32),
        other_names: Vec::new(),
        not_before: seconds(day),
        not_after: seconds(day + life),
        authority: "cd".repeat(20),
        bundle_sequence: 1,
        acknowledges: false,
        fingerprint: None,
    };
    AuditEvent {
        at_micros: seconds(day) * 1_000_000,
        request_id: format!("r-{serial}"),
        kind,
        outcome,
        reason: None,
        detail: None,
        who: Attributed::default(),
        what: life.map(what),
        repeated: None,
    }
}

struct World {
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    forgetter: Forgetter,
}

impl World {
    async fn new(retention: Retention, events: Vec<AuditEvent>) -> Self {
        let store = Arc::new(MemoryStore::new());
        assert!(store.append(events).await.unwrap().iter().all(Result::is_ok));
        let clock = Arc::new(ManualClock::at(at(0.0)));
        let metrics = Metrics::new();
        let forgetter =
            Forgetter::new(Arc::clone(&store) as _, retention, DAY, &metrics, Arc::clone(&clock) as _, None).unwrap();
        Self { store, clock, forgetter }
    }

    /// The events that have their words after a round on this day, by position.
    async fn left(&self, day: f64) -> Vec<u64> {
        self.clock.set(at(day));
        self.forgetter.round(&CancellationToken::new()).await.unwrap();
        let page = self.store.query(&AuditQuery::newest(MAX_PAGE).unwrap()).await.unwrap();
        page.items.iter().rev().map(|one| one.sequence).collect()
    }

    fn counted(&self) -> [u64; 3] {
        Class::ALL.map(|class| self.forgetter.forgotten.with_label_values(&[class.as_str()]).get())
    }
}

fn kept(certificates: u32, refusals: u32) -> Retention {
    Retention { certificates: Some(DAY * certificates), refusals: Some(DAY * refusals), operations: None }
}

#[tokio::test(start_paused = true)]
async fn each_class_is_kept_as_long_as_is_said_and_a_certificate_until_nobody_needs_it() {
    use EventKind::{Authority, Certificate};
    use Outcome::{Done, Intended, Refused};
    let world = World::new(
        kept(3, 1),
        vec![
            event(0.0, Authority, Done, None, 0),
            event(0.1, Certificate, Intended, Some(1.0), 1),
            // Needed for longer than it is to be kept: 30 days of its own and one of what may have been got with it.
            event(0.2, Certificate, Intended, Some(30.0), 2),
            event(0.3, Certificate, Refused, None, 3),
            event(0.4, Certificate, Intended, Some(1.0), 4),
            event(2.0, Certificate, Refused, None, 5),
            event(2.1, Certificate, Intended, Some(1.0), 6),
        ],
    )
    .await;
    for (day, left) in [
        (1.2, &[0, 1, 2, 3, 4, 5, 6][..]),
        (1.35, &[0, 1, 2, 4, 5, 6]),
        (3.15, &[0, 2, 4, 6]),
        (3.45, &[0, 2, 6]),
        (5.2, &[0, 2]),
        (31.1, &[0, 2]),
        (31.3, &[0]),
        (9999.0, &[0]),
    ] {
        assert_eq!(world.left(day).await, left, "on day {day}");
    }
    assert_eq!(world.counted(), [4, 2, 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_to_be_kept_for_ever_is_and_a_long_log_is_looked_through_to_its_end() {
    let refused = |n: u64| event(n as f64 / 1000.0, EventKind::Certificate, Outcome::Refused, None, n);
    let world = World::new(Retention::default(), (0..1000).map(refused).collect()).await;
    assert_eq!(world.left(9999.0).await.len(), 1000);
    let world = World::new(kept(1, 1), (0..1000).map(refused).collect()).await;
    assert_eq!(world.left(1.8995).await, (900..1000).collect::<Vec<_>>());
    assert_eq!(world.left(2.5).await, [] as [u64; 0]);
    assert_eq!(world.counted(), [0, 1000, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_clock_that_was_wrong_keeps_nobody_elses_words() {
    let refused = |day: f64, n: u64| event(day, EventKind::Certificate, Outcome::Refused, None, n);
    let world = World::new(kept(1, 1), vec![refused(0.0, 0), refused(500.0, 1), refused(0.1, 2)]).await;
    assert_eq!(world.left(2.0).await, [1]);
    assert_eq!(world.left(500.5).await, [1]);
    assert_eq!(world.left(501.5).await, [] as [u64; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_was_put_off_and_is_to_be_kept_for_longer_since_is_kept() {
    let certificate = event(0.0, EventKind::Certificate, Outcome::Intended, Some(5.0), 1);
    let mut world = World::new(kept(1, 1), vec![certificate]).await;
    assert_eq!(world.left(2.0).await, [0]);
    world.forgetter.retention = kept(10, 1);
    assert_eq!(world.left(7.0).await, [0]);
    assert_eq!(world.left(17.5).await, [] as [u64; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_other_processes_may_issue_counts_for_this_one() {
    let certificate = event(0.0, EventKind::Certificate, Outcome::Intended, Some(1.0), 1);
    let world = World::new(kept(1, 1), vec![certificate]).await;
    world.store.longest_life(DAY * 30, world.clock.now()).await.unwrap();
    assert_eq!(world.left(2.5).await, [0], "one of 30 days may have been got with it");
    assert_eq!(world.left(31.5).await, [] as [u64; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_written_where_auditors_look_is_kept_and_that_is_said() {
    let refused = |n: u64| event(n as f64 / 100.0, EventKind::Certificate, Outcome::Refused, None, n);
    let put_off = event(0.001, EventKind::Certificate, Outcome::Intended, Some(5.0), 7);
    let events = std::iter::once(put_off).chain((1..600).map(refused)).collect();
    let mut world = World::new(kept(1, 1), events).await;
    let (written, receiver) = watch::channel(0);
    world.forgetter.written = Some(receiver);
    let held = async |world: &World, day: f64| {
        world.clock.set(at(day));
        world.forgetter.round(&CancellationToken::new()).await.unwrap()
    };
    assert_eq!(held(&world, 4.0).await, Some(1));
    assert_eq!(world.left(4.0).await.len(), 600);
    // What is due again is kept as well.
    assert_eq!(held(&world, 20.0).await, Some(1));
    assert_eq!(world.left(20.0).await.len(), 600);
    written.send_replace(290);
    assert_eq!(held(&world, 20.1).await, Some(290));
    assert_eq!(world.left(20.1).await, (290..600).collect::<Vec<_>>());
    written.send_replace(600);
    assert_eq!(held(&world, 20.2).await, None);
    assert_eq!(world.left(20.2).await, [] as [u64; 0]);
}
