//! What befalls the CA without a request is on record: files that are read again and used or not, logins to a backend. Each
//! change of state is an event at once. What repeats is counted and told once an hour, and so is a thing that changes too
//! often: no loop of failures fills the record.
//!
//! Whoever has something to tell waits for nothing; one task writes.

mod table;

use std::convert::Infallible;
use std::time::Duration;

use signet_core::audit::{EventKind, Outcome};
use signet_core::clock::SharedClock;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::table::Table;
use crate::audit_log::AuditLog;

/// Notices that may wait for the writer; what comes beyond that is in the log of the process alone.
const QUEUE: usize = 256;

/// How soon it is tried again after an event could not be recorded.
const AGAIN: Duration = Duration::from_secs(10);

/// How long the last events may take when the process ends.
const LAST: Duration = Duration::from_secs(2);

/// Something that befell the CA. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What kind of event it is.
    pub kind: EventKind,
    /// What it is about, as a name that stays: what repeats is told by this.
    pub subject: String,
    /// The cluster that it is about.
    pub cluster: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// What it was, or why it did not go well, from a closed set.
    pub reason: &'static str,
    /// The same in words.
    pub detail: String,
}

/// Where notices are told; clones share one queue.
#[derive(Clone)]
pub struct Notices {
    queue: mpsc::Sender<(Notice, OffsetDateTime)>,
    clock: SharedClock,
}

/// The side that records them, run as one task.
pub struct NoticeWriter {
    queue: mpsc::Receiver<(Notice, OffsetDateTime)>,
    clock: SharedClock,
    table: Table,
}

/// Notices, and who records them.
#[must_use]
pub fn notices(clock: SharedClock) -> (Notices, NoticeWriter) {
    let (sender, queue) = mpsc::channel(QUEUE);
    (
        Notices { queue: sender, clock: SharedClock::clone(&clock) },
        NoticeWriter { queue, clock, table: Table::default() },
    )
}

impl Notices {
    /// Tells of something. Takes no time.
    pub fn tell(&self, notice: Notice) {
        if let Err(error) = self.queue.try_send((notice, self.clock.now())) {
            let (mpsc::error::TrySendError::Full((notice, _)) | mpsc::error::TrySendError::Closed((notice, _))) = error;
            let (reason, subject, detail) = (notice.reason, notice.subject, notice.detail);
            tracing::warn!(reason, subject, detail, "more happens than can be recorded; this is not on record");
        }
    }
}

impl NoticeWriter {
    /// Records what is told until `stop`, and then what waits.
    ///
    /// # Errors
    /// None: what storage does not take is tried again.
    pub async fn run(mut self, audit: AuditLog, stop: CancellationToken) -> Result<(), Infallible> {
        let mut again = None;
        loop {
            // What could not be recorded is not tried again with each notice.
            let next = again.or_else(|| self.table.next());
            let later = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                told = self.queue.recv() => match told {
                    Some((notice, at)) => self.table.add(notice, at, Instant::now()),
                    None => break,
                },
                () = later => again = None,
                () = stop.cancelled() => break,
            }
            if again.is_none() {
                let due = self.table.due(Instant::now());
                if !self.write(&audit, due).await {
                    again = Instant::now().checked_add(AGAIN);
                }
            }
        }
        while let Ok((notice, at)) = self.queue.try_recv() {
            self.table.add(notice, at, Instant::now());
        }
        let rest = self.table.all();
        if tokio::time::timeout(LAST, self.write(&audit, rest)).await.is_err() {
            tracing::warn!("storage did not take the last events in time");
        }
        Ok(())
    }

    /// Records these in their order; what storage does not take waits on, and `false` says so.
    async fn write(&mut self, audit: &AuditLog, due: Vec<table::Waiting>) -> bool {
        let mut due = due.into_iter();
        while let Some(one) = due.next() {
            let Err(error) = audit.record(one.event(self.clock.now())).await else { continue };
            tracing::warn!(%error, "what has happened could not be recorded; it is tried again");
            for left in std::iter::once(one).chain(due) {
                self.table.put_back(left);
            }
            return false;
        }
        true
    }
}

#[cfg(test)]
#[path = "notices/tests.rs"]
pub(crate) mod tests;
