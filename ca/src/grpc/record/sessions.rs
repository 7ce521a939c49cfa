//! That somebody reads the record is on record, once for each session: whoever asks again while it lasts adds nothing, so that
//! reading does not feed the log. Callers on the socket could read the storage itself, of which nothing would be on record.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use signet_core::audit::{AuditEvent, EventKind, Outcome};
use signet_core::clock::SharedClock;
use signet_core::time_math;
use time::OffsetDateTime;

use crate::audit_log::AuditLog;
use crate::operations::{Operator, attributed};

/// For how long nothing may be asked before the next call begins another session.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// How long a session lasts at most: whoever watches for days is on record each day.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How long a call waits for its record.
const DEADLINE: Duration = Duration::from_secs(5);

/// What is read. The names are the reasons of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reading {
    /// Pages of events, and single ones.
    List,
    /// Proofs.
    Prove,
    /// Everything as it is stored.
    Verify,
    /// Counts.
    Stats,
    /// What is recorded from now on.
    Tail,
    /// Everything up to now.
    Export,
}

impl Reading {
    fn as_str(self) -> &'static str {
        match self {
            Self::List => "audit list",
            Self::Prove => "audit prove",
            Self::Verify => "audit verify",
            Self::Stats => "audit stats",
            Self::Tail => "audit tail",
            Self::Export => "audit export",
        }
    }
}

/// When a session began, and when it was last used.
#[derive(Debug, Clone, Copy)]
struct Session {
    begun: OffsetDateTime,
    used: OffsetDateTime,
}

impl Session {
    fn lasts(&self, now: OffsetDateTime) -> bool {
        time_math::until(self.used, now) < IDLE && time_math::until(self.begun, now) < LONGEST
    }
}

/// The sessions of this process. There are as many as there are callers who may read, times the kinds of reading.
pub(super) struct Sessions {
    audit: AuditLog,
    clock: SharedClock,
    open: Mutex<BTreeMap<(String, Reading), Session>>,
}

impl Sessions {
    /// None yet.
    pub(super) fn new(audit: AuditLog, clock: SharedClock) -> Self {
        Self { audit, clock, open: Mutex::default() }
    }

    /// Puts on record that `operator` reads, unless its session lasts. A record that cannot be written keeps nobody from reading:
    /// that is how one finds out why. The next call tries again.
    pub(super) async fn note(&self, operator: &Operator, reading: Reading) {
        let now = self.clock.now();
        let key = (operator.name.clone(), reading);
        {
            let mut open = self.open();
            if let Some(session) = open.get_mut(&key).filter(|session| session.lasts(now)) {
                session.used = now;
                return;
            }
            open.retain(|_, session| session.lasts(now));
            open.insert(key.clone(), Session { begun: now, used: now });
        }
        let event = AuditEvent {
            at_micros: AuditEvent::micros(now),
            request_id: String::new(),
            kind: EventKind::Admin,
            outcome: Outcome::Done,
            reason: Some(reading.as_str().to_owned()),
            detail: Some(format!("{}: {}: reads the record", operator.name, reading.as_str())),
            who: attributed(operator),
            what: None,
            repeated: None,
        };
        let problem = match tokio::time::timeout(DEADLINE, self.audit.record(event)).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the record was not written in time".to_owned(),
        };
        tracing::warn!(
            who = operator.name,
            reading = reading.as_str(),
            problem,
            "that the record is read is not on record"
        );
        self.open().remove(&key);
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<(String, Reading), Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
