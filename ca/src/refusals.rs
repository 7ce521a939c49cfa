//! Refusals of every kind, on record and in the log in a bounded number: the first of a kind in full at once, those that
//! follow once a minute with how many there were. Nobody can fill a disk by being refused.
//!
//! The refusal itself waits for nothing: it is noted in memory of a fixed size, and one task writes.

mod denied;
mod refused_call;
mod table;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use signet_core::audit::EventKind;
use signet_core::clock::{SharedClock, rfc3339};
use signet_core::seams::authenticator::Denial;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::denied::{DenialCause, Denied, DeniedCaller};
pub use self::refused_call::{Class, RefusedCall};

use self::table::{Report, Table};
use crate::audit_log::AuditLog;

/// How often what one kind of refusal adds up to is reported; a crash loses at most what came in this time.
const QUIET: Duration = Duration::from_secs(60);

/// The same while the process stops, since the end of its drain cuts off whatever waits.
const QUIET_AT_END: Duration = Duration::from_secs(1);

/// How long the last records may take when the process ends.
const LAST: Duration = Duration::from_secs(2);

struct Shared {
    table: Mutex<Table>,
    arrived: Notify,
    clock: SharedClock,
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where refusals are noted; clones share one memory.
#[derive(Clone)]
pub struct Refusals {
    shared: Arc<Shared>,
    _open: Arc<DropGuard>,
}

/// The side that reports them, run as one task.
pub struct RefusalWriter {
    shared: Arc<Shared>,
    /// Nobody is left to note any.
    closed: CancellationToken,
}

/// A memory in which nobody was refused yet.
#[must_use]
pub fn refusals(clock: SharedClock) -> (Refusals, RefusalWriter) {
    let shared = Arc::new(Shared { table: Mutex::default(), arrived: Notify::new(), clock });
    let closed = CancellationToken::new();
    let open = Arc::new(closed.clone().drop_guard());
    (Refusals { shared: Arc::clone(&shared), _open: open }, RefusalWriter { shared, closed })
}

impl Refusals {
    /// Notes a refusal, to be recorded and logged. Takes no time. Says which request id its event will have: its own, or that
    /// of the first that is counted with it.
    pub fn note(&self, refusal: RefusedCall) -> String {
        let now = self.shared.clock.now();
        let noted = self.shared.table().add(refusal, now);
        if noted.is_first {
            self.shared.arrived.notify_one();
        }
        noted.request_id
    }
}

impl RefusalWriter {
    /// Reports refusals until nobody is left to note any: requests may be refused until the last edge has ended. After
    /// `stop` it does so more often.
    ///
    /// # Errors
    /// None: what storage does not take is reported with the next record of its kind.
    pub async fn run(self, audit: AuditLog, stop: CancellationToken) -> Result<(), Infallible> {
        loop {
            let (closed, stopping) = (self.closed.is_cancelled(), stop.is_cancelled());
            let quiet = match (closed, stopping) {
                (true, _) => Duration::ZERO,
                (false, true) => QUIET_AT_END,
                (false, false) => QUIET,
            };
            let (pending, next) = self.shared.table().take_pending(Instant::now(), quiet);
            // Side by side, so that they share a commit. Storage that hangs holds up nothing but this.
            let reporting = join_all(pending.into_iter().map(|report| self.report(&audit, report)));
            let too_late = async {
                self.closed.cancelled().await;
                tokio::time::sleep(LAST).await;
            };
            tokio::select! {
                _ = reporting => {}
                () = too_late => return Ok(()),
            }
            if closed {
                return Ok(());
            }
            let later = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.shared.arrived.notified() => {}
                () = later => {}
                () = self.closed.cancelled() => {}
                () = stop.cancelled(), if !stopping => {}
            }
        }
    }

    async fn report(&self, audit: &AuditLog, report: Report) {
        let event = report.summary.event(report.first, report.of_others(), self.shared.clock.now());
        log(&report, event.detail.as_deref());
        match audit.record(event).await {
            Ok(_) => self.shared.table().recorded(&report),
            Err(error) => {
                tracing::debug!(%error, "a refusal could not be recorded; it is reported later");
                self.shared.table().put_back(report);
            }
        }
    }
}

fn log(report: &Report, detail: Option<&str>) {
    let Report { summary, first, .. } = report;
    let newest = &summary.newest;
    let (outcome, reason, call) = (newest.outcome.as_str(), newest.reason, newest.call);
    let (spiffe_id, peer) = (newest.who.spiffe_id.as_deref(), newest.who.peer.as_deref());
    let request_id = (!newest.request_id.is_empty()).then_some(newest.request_id.as_str());
    let times = (!first).then_some(summary.times);
    let since = (!first).then(|| rfc3339(summary.since));
    match newest.kind {
        EventKind::Admin => {
            tracing::warn!(
                call,
                reason,
                error = detail,
                times,
                since,
                spiffe_id,
                peer.addr = peer,
                "a caller was denied the operators' service"
            );
        }
        EventKind::BundleStream => {
            tracing::info!(
                outcome,
                reason,
                error = detail,
                times,
                since,
                spiffe_id,
                peer.addr = peer,
                "no bundle stream"
            );
        }
        // An alarm: somebody may have the key of a CA.
        _ if newest.reason == Denial::CertificateNotOnRecord.label() => {
            tracing::warn!(
                outcome,
                reason,
                error = detail,
                times,
                since,
                request_id,
                spiffe_id,
                certificate = newest.who.certificate.as_deref(),
                peer.addr = peer,
                "no certificate for one that is on no record, though it chains to a root of this mesh"
            );
        }
        _ => {
            tracing::info!(
                outcome,
                reason,
                error = detail,
                times,
                since,
                request_id,
                spiffe_id,
                certificate = newest.who.certificate.as_deref(),
                peer.addr = peer,
                "no certificate"
            );
        }
    }
}

#[cfg(test)]
#[path = "refusals/tests.rs"]
mod tests;
