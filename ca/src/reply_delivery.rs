//! What becomes of certificate replies, on the way to storage: a ticket goes with each reply from before its record is
//! handed to the log until its last byte has left, and says then how much of it did. What it says is written for many at
//! once, and only what changes something.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use signet_core::audit::AuditEvent;
use signet_core::clock::SharedClock;
use signet_core::holder::{Handover, Mark, Reply};
use signet_core::seams::store::HolderStore;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// Marks that may wait for the writer. One that finds no room is left out, which errs on the safe side: its holder is
/// behind until its next reply, or for as long as its certificate lasts.
const QUEUE: usize = 16_384;

/// Marks per write at most.
const BATCH: usize = 4096;

/// How long marks gather before they are written: so many commits per second at most. Those of new holders are written together
/// with what their records say, so that few at a time keep nobody else waiting for long.
const GATHER: Duration = Duration::from_millis(50);

/// How soon a failed write is tried again, and how often.
const RETRY: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 30;

/// Makes tickets; clones share one queue.
#[derive(Debug, Clone)]
pub struct Handovers {
    queue: mpsc::Sender<Mark>,
    left_out: Arc<AtomicU64>,
}

/// The writing side, run as one task.
pub struct HandoverWriter {
    queue: mpsc::Receiver<Mark>,
    left_out: Arc<AtomicU64>,
    store: Arc<dyn HolderStore>,
    clock: SharedClock,
    wake_up: Arc<Notify>,
}

/// Marks in front of `store`. `wake_up` is notified after each change: a step may have become due.
#[must_use]
pub fn handovers(store: Arc<dyn HolderStore>, clock: SharedClock, wake_up: Arc<Notify>) -> (Handovers, HandoverWriter) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let left_out = Arc::new(AtomicU64::new(0));
    let handovers = Handovers { queue: sender, left_out: Arc::clone(&left_out) };
    (handovers, HandoverWriter { queue: receiver, left_out, store, clock, wake_up })
}

impl Handovers {
    /// Notes that the certificate that `event` records was handed over without a bundle; its holder learns of those elsewhere.
    pub fn without_bundle(&self, event: &AuditEvent) {
        if let Some(mut ticket) = self.ticket(event) {
            if let Some(reply) = &mut ticket.reply {
                reply.sequence = 0;
            }
            ticket.whole();
        }
    }

    /// A ticket for the reply with the certificate that `event` records; none when that makes no holder.
    #[must_use]
    pub fn ticket(&self, event: &AuditEvent) -> Option<Ticket> {
        let (holder, what) = (event.holder()?, event.what.as_ref()?);
        let (serial, authority) = (what.serial.clone(), what.authority.clone());
        let reply = Reply { holder, serial, authority, sequence: what.bundle_sequence };
        Some(Ticket { reply: Some(reply), handovers: self.clone() })
    }
}

/// Goes with one reply. Dropped, it says that nothing of the reply was handed over and nothing will be: whoever gives bytes
/// of it away says so before that with [`whole`](Self::whole) or [`part`](Self::part).
#[derive(Debug)]
pub struct Ticket {
    reply: Option<Reply>,
    handovers: Handovers,
}

impl Ticket {
    /// The last byte of the reply was handed to the connection.
    pub fn whole(mut self) {
        self.say(Handover::Whole);
    }

    /// Some of it may have been. There is nothing to note: its holder may have the certificate, and has received nothing.
    pub fn part(mut self) {
        self.reply = None;
    }

    /// There is no record of it, so there is no holder either.
    pub fn unrecorded(mut self) {
        self.reply = None;
    }

    fn say(&mut self, handover: Handover) {
        let Some(reply) = self.reply.take() else { return };
        if self.handovers.queue.try_send(Mark { reply, handover }).is_err() {
            self.handovers.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.say(Handover::Nothing);
    }
}

impl HandoverWriter {
    /// Writes marks until every ticket and every maker of tickets is gone: what is answered during a stop counts too, so
    /// `_stop` is not looked at.
    ///
    /// # Errors
    /// None: what cannot be kept is left out after a while, and its holders are behind.
    pub async fn run(mut self, _stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        let mut batch = Vec::new();
        while self.queue.recv_many(&mut batch, BATCH).await > 0 {
            if !self.queue.is_closed() {
                tokio::time::sleep(GATHER).await;
            }
            while batch.len() < BATCH {
                let Ok(mark) = self.queue.try_recv() else { break };
                batch.push(mark);
            }
            self.write(&batch).await;
            batch.clear();
        }
        Ok(())
    }

    async fn write(&self, batch: &[Mark]) {
        let mut left_out = self.left_out.swap(0, Ordering::Relaxed);
        for attempt in 1..=ATTEMPTS {
            match self.store.mark(batch, self.clock.now()).await {
                Ok(changed) => {
                    if changed {
                        self.wake_up.notify_one();
                    }
                    break;
                }
                // Nobody waits for long: this is the end of the process, or a storage that nothing is issued with either.
                Err(error) if attempt == ATTEMPTS || self.queue.is_closed() => {
                    tracing::warn!(%error, replies = batch.len(), "what was handed over could not be kept");
                    left_out = left_out.saturating_add(u64::try_from(batch.len()).unwrap_or(u64::MAX));
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, replies = batch.len(), "what was handed over could not be kept; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        if left_out > 0 {
            tracing::warn!(
                replies = left_out,
                "these holders count as behind until they ask again, or until their certificates end"
            );
        }
    }
}

/// For tests that write what waits when they want to.
#[cfg(test)]
impl HandoverWriter {
    pub(crate) async fn write_waiting(&mut self) {
        let mut batch = Vec::new();
        while let Ok(mark) = self.queue.try_recv() {
            batch.push(mark);
        }
        if !batch.is_empty() {
            self.write(&batch).await;
        }
    }

    pub(crate) fn waiting(&mut self) -> Vec<Mark> {
        std::iter::from_fn(|| self.queue.try_recv().ok()).collect()
    }
}

#[cfg(test)]
#[path = "reply_delivery_tests.rs"]
pub(crate) mod tests;
