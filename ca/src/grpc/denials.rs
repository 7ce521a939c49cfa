//! Callers that were denied the operators' service: each call is counted, and on record in a bounded number. The refusal
//! itself waits for nothing: what is to be recorded is noted in memory of a fixed size, and one task writes it.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use signet_core::audit::{Attributed, AuditEvent, EventKind, Outcome};
use signet_core::clock::{SharedClock, rfc3339};
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::audit_log::AuditLog;
use crate::metrics::CaMetrics;

/// One record for a caller and a call in this time.
const QUIET: Duration = Duration::from_secs(60);

/// Callers and calls of each kind that have a record of their own; the rest shares one, so that a flood of one kind
/// hides nobody of another.
const OWN_RECORDS: usize = 64;

/// How long the last records may take when the process ends.
const LAST: Duration = Duration::from_secs(1);

/// Why somebody is no operator. The names are labels of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// On the socket: neither root nor the CA's own user.
    OtherUser,
    /// Over TLS: without a certificate.
    NoCertificate,
    /// Over TLS: a SPIFFE ID that is none of `admins`.
    NotListed,
    /// Over TLS: an administrator whose certificate has ended, is revoked, or chains to no sound root.
    CertificateNotValid,
    /// On no known edge, which cannot be.
    NoEdge,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 5] =
        [Self::OtherUser, Self::NoCertificate, Self::NotListed, Self::CertificateNotValid, Self::NoEdge];

    /// The name in metrics and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtherUser => "other_user",
            Self::NoCertificate => "no_certificate",
            Self::NotListed => "not_listed",
            Self::CertificateNotValid => "certificate_not_valid",
            Self::NoEdge => "no_edge",
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::OtherUser => "neither root nor the CA's own user",
            Self::NoCertificate => "no client certificate",
            Self::NotListed => "none of the configured administrators (admins)",
            Self::CertificateNotValid => "an administrator, but the certificate does not hold any more",
            Self::NoEdge => "on no known edge",
        }
    }
}

/// Who was denied, as far as the kernel or the handshake knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Who {
    /// A user on this host; without a number when the kernel told none.
    User(Option<u32>),
    /// A SPIFFE ID.
    Workload(String),
    /// An address; ports change with every connection.
    Address(Option<IpAddr>),
    /// Those of a kind that came when there were too many of it.
    Others,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(Some(uid)) => write!(f, "uid {uid}"),
            Self::User(None) => f.write_str("an unknown user"),
            Self::Workload(id) => f.write_str(id),
            Self::Address(Some(address)) => write!(f, "{address}"),
            Self::Address(None) => f.write_str("an unknown address"),
            Self::Others => f.write_str("various callers"),
        }
    }
}

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Who.
    pub who: Who,
    /// The network address, for one who comes over TLS.
    pub peer: Option<SocketAddr>,
    /// Why.
    pub cause: Cause,
}

/// What waits to be told about one caller and call.
struct Entry {
    newest: Denied,
    /// Refusals that are on no record yet, and when the first of them was.
    untold: u64,
    since: OffsetDateTime,
    told_at: Option<Instant>,
}

type Table = HashMap<(Who, &'static str), Entry>;

/// What goes on record.
struct Told {
    call: &'static str,
    denied: Denied,
    times: u64,
    since: OffsetDateTime,
}

#[derive(Default)]
struct Waiting {
    users: Table,
    workloads: Table,
    strangers: Table,
}

impl Waiting {
    fn table(&mut self, cause: Cause) -> &mut Table {
        match cause {
            Cause::OtherUser => &mut self.users,
            Cause::NotListed | Cause::CertificateNotValid => &mut self.workloads,
            Cause::NoCertificate | Cause::NoEdge => &mut self.strangers,
        }
    }

    /// Adds refusals; `true` when they may be told at once.
    fn add(&mut self, mut denied: Denied, call: &'static str, times: u64, since: OffsetDateTime) -> bool {
        let table = self.table(denied.cause);
        let mut key = (denied.who.clone(), call);
        if !table.contains_key(&key) && table.len() >= OWN_RECORDS {
            key = (Who::Others, "several calls");
            denied.who = Who::Others;
        }
        match table.get_mut(&key) {
            Some(entry) => {
                entry.since = if entry.untold == 0 { since } else { entry.since.min(since) };
                entry.untold = entry.untold.saturating_add(times);
                entry.newest = denied;
                false
            }
            None => {
                table.insert(key, Entry { newest: denied, untold: times, since, told_at: None });
                true
            }
        }
    }

    /// What is to be told at `now`, with `all` even what has been told of a moment ago; and when to come again.
    fn due(&mut self, now: Instant, all: bool) -> (Vec<Told>, Option<Instant>) {
        let (mut told, mut next) = (Vec::new(), None::<Instant>);
        for table in [&mut self.users, &mut self.workloads, &mut self.strangers] {
            table.retain(|(_, call), entry| {
                let due = entry.told_at.is_none_or(|at| at + QUIET <= now);
                if !due && !all {
                    next = next.into_iter().chain(entry.told_at.map(|at| at + QUIET)).min();
                    return true;
                }
                if entry.untold == 0 {
                    return false;
                }
                let (times, denied) = (std::mem::take(&mut entry.untold), entry.newest.clone());
                entry.told_at = Some(now);
                told.push(Told { call, denied, times, since: entry.since });
                next = next.into_iter().chain([now + QUIET]).min();
                true
            });
        }
        (told, next)
    }
}

/// Counts denied calls and has them recorded; clones share one memory.
#[derive(Clone)]
pub struct Denials {
    waiting: Arc<Mutex<Waiting>>,
    arrived: Arc<Notify>,
    clock: SharedClock,
    metrics: Arc<CaMetrics>,
}

impl Denials {
    /// Nobody was denied yet.
    #[must_use]
    pub fn new(clock: SharedClock, metrics: Arc<CaMetrics>) -> Self {
        Self { waiting: Arc::default(), arrived: Arc::default(), clock, metrics }
    }

    /// Notes a denied `call`, one of a fixed set of names. Takes no time.
    pub fn note(&self, denied: Denied, call: &'static str) {
        self.metrics.admin_denied(denied.cause);
        if self.lock().add(denied, call, 1, self.clock.now()) {
            self.arrived.notify_one();
        }
    }

    /// Records what was noted until `stop`: the first refusal of a caller and call at once, those of the next minute
    /// together when it is over.
    ///
    /// # Errors
    /// None: what storage does not take is told with the next record of the same caller and call.
    pub async fn record(self, audit: AuditLog, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        loop {
            let (due, next) = self.lock().due(Instant::now(), false);
            for told in due {
                // Whether the one that is given up here is on record nobody knows; those after it are told below.
                if stop.is_cancelled() {
                    self.lock().add(told.denied, told.call, told.times, told.since);
                } else {
                    stop.run_until_cancelled(self.tell(&audit, told)).await;
                }
            }
            let later = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.arrived.notified() => {}
                () = later => {}
            }
        }
        let (rest, _) = self.lock().due(Instant::now(), true);
        let last = async {
            for told in rest {
                self.tell(&audit, told).await;
            }
        };
        drop(tokio::time::timeout(LAST, last).await);
        Ok(())
    }

    async fn tell(&self, audit: &AuditLog, told: Told) {
        let Told { call, denied, times, since } = told;
        let from = if times == 1 { String::new() } else { format!(", {times} times since {}", rfc3339(since)) };
        let text = format!("{}: denied {call}: {}{from}", denied.who, denied.cause.in_words());
        let peer = denied.peer.map(|peer| peer.to_string());
        tracing::warn!(caller = %denied.who, call, cause = denied.cause.as_str(), times, peer.addr = peer, "a caller was denied the operators' service");
        let spiffe_id = match &denied.who {
            Who::Workload(id) => Some(id.clone()),
            _ => None,
        };
        let peer = peer.or_else(|| Some(denied.who.to_string()));
        let event = AuditEvent {
            at_micros: AuditEvent::micros(self.clock.now()),
            request_id: String::new(),
            kind: EventKind::Admin,
            outcome: Outcome::Refused,
            reason: Some(denied.cause.as_str().to_owned()),
            detail: Some(text.chars().take(1000).collect()),
            who: Attributed { spiffe_id, peer, ..Attributed::default() },
            what: None,
        };
        if let Err(error) = audit.record(event).await {
            tracing::debug!(%error, "a denied call could not be recorded; it is told later");
            self.lock().add(denied, call, times, since);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "denials_tests.rs"]
mod tests;
