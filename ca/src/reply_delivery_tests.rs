//! What tickets say, and that what they say is kept, few commits at a time.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use signet_core::audit::{Attributed, Certified, EventKind, Outcome};
use signet_core::clock::ManualClock;
use time::OffsetDateTime;

use super::*;
use crate::holder_store_tests::Kept;

/// The record of a certificate with this serial.
fn record(serial: &str) -> AuditEvent {
    let what = Certified {
        serial: serial.to_owned(),
        key_hash: String::new(),
        other_names: Vec::new(),
        not_before: 0,
        not_after: 1,
        authority: String::new(),
        bundle_sequence: 7,
        acknowledges: false,
        fingerprint: None,
    };
    AuditEvent {
        at_micros: 0,
        request_id: String::new(),
        kind: EventKind::Certificate,
        outcome: Outcome::Issued,
        reason: None,
        detail: None,
        who: Attributed { spiffe_id: Some("spiffe://x/y".into()), ..Attributed::default() },
        what: Some(what),
        repeated: None,
    }
}

/// Tickets of which a test looks at what they say.
pub(crate) struct Tickets {
    handovers: Handovers,
    writer: HandoverWriter,
}

impl Tickets {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(ManualClock::at(OffsetDateTime::UNIX_EPOCH));
        let (handovers, writer) = handovers(Arc::new(Kept::default()), clock, Arc::default());
        Self { handovers, writer }
    }

    pub(crate) fn ticket(&self, serial: &str) -> Ticket {
        self.handovers.ticket(&record(serial)).unwrap()
    }

    /// What was said since the last time: serials, and how much.
    pub(crate) fn said(&mut self) -> Vec<(String, Handover)> {
        self.writer.waiting().into_iter().map(|mark| (mark.reply.serial, mark.handover)).collect()
    }
}

#[test]
fn a_ticket_says_one_thing_and_that_nothing_was_handed_over_when_it_is_dropped() {
    let mut tickets = Tickets::new();
    tickets.ticket("a").whole();
    tickets.ticket("b").part();
    tickets.ticket("c").unrecorded();
    drop(tickets.ticket("d"));
    assert_eq!(tickets.said(), [("a".to_owned(), Handover::Whole), ("d".to_owned(), Handover::Nothing)]);
    let refused = AuditEvent { outcome: Outcome::Refused, ..record("e") };
    assert!(tickets.handovers.ticket(&refused).is_none(), "no holder, no ticket");
    let mark = {
        tickets.ticket("f").whole();
        tickets.writer.waiting().remove(0)
    };
    assert_eq!((mark.reply.holder.instance.as_str(), mark.reply.sequence), ("f", 7));
}

#[tokio::test(start_paused = true)]
async fn what_is_said_is_written_for_many_at_once_until_the_last_ticket_is_gone() {
    let (store, wake_up) = (Arc::new(Kept::default()), Arc::new(Notify::new()));
    let clock = Arc::new(ManualClock::at(OffsetDateTime::UNIX_EPOCH));
    let (handovers, writer) = handovers(Arc::clone(&store) as _, clock, Arc::clone(&wake_up));
    let stop = CancellationToken::new();
    let mut task = tokio::task::JoinSet::new();
    task.spawn(writer.run(stop.clone()));
    store.failures.store(2, Ordering::SeqCst);
    let ticket = |serial: &str| handovers.ticket(&record(serial)).unwrap();
    for serial in ["1", "2", "3"] {
        ticket(serial).whole();
        tokio::time::sleep(GATHER / 4).await;
    }
    wake_up.notified().await;
    assert_eq!(store.marked.lock().unwrap().iter().map(Vec::len).collect::<Vec<_>>(), [3]);
    // What goes on during a stop is written too, and nobody looks again for what changes nothing.
    stop.cancel();
    let last = ticket("4");
    drop(ticket("5"));
    drop(handovers);
    tokio::time::sleep(GATHER * 2).await;
    assert_eq!(store.marked.lock().unwrap().len(), 2);
    assert!(futures::FutureExt::now_or_never(wake_up.notified()).is_none());
    last.whole();
    task.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(store.marked.lock().unwrap()[2][0].reply.serial, "4");
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_stays_away_neither_holds_up_the_end_nor_fills_memory() {
    let (store, wake_up) = (Arc::new(Kept::default()), Arc::new(Notify::new()));
    let clock = Arc::new(ManualClock::at(OffsetDateTime::UNIX_EPOCH));
    let (handovers, writer) = handovers(Arc::clone(&store) as _, clock, wake_up);
    store.failures.store(usize::MAX, Ordering::SeqCst);
    for number in 0..QUEUE + 5 {
        handovers.ticket(&record(&number.to_string())).unwrap().whole();
    }
    assert_eq!(handovers.left_out.load(Ordering::SeqCst), 5);
    drop(handovers);
    let begun = tokio::time::Instant::now();
    writer.run(CancellationToken::new()).await.unwrap();
    assert!(store.marked.lock().unwrap().is_empty());
    assert_eq!(begun.elapsed(), Duration::ZERO, "neither gathered for nor tried again");
}

#[tokio::test(start_paused = true)]
async fn a_write_is_bounded_however_much_waits() {
    let store = Arc::new(Kept::default());
    let clock = Arc::new(ManualClock::at(OffsetDateTime::UNIX_EPOCH));
    let (handovers, writer) = handovers(Arc::clone(&store) as _, clock, Arc::default());
    for number in 0..2 * BATCH {
        handovers.ticket(&record(&number.to_string())).unwrap().whole();
    }
    drop(handovers);
    writer.run(CancellationToken::new()).await.unwrap();
    assert_eq!(store.marked.lock().unwrap().iter().map(Vec::len).collect::<Vec<_>>(), [BATCH, BATCH]);
}
