//! How the words of events are forgotten: statements that are the same for every database, and rows as what they say.

use std::collections::BTreeSet;
use std::time::Duration;

use signet_core::audit::{AuditEvent, AuditQuery, EventKind, Outcome};
use signet_core::seams::retention::{Aging, NAMES_AT_ONCE};
use signet_core::seams::store::{AuditStore, StoreError};
use signet_core::time_math;
use time::OffsetDateTime;

use super::columns::columns;
use super::rows::{LogRow, SEGMENT, identity_hash, identity_keys};

/// Up to where a class was looked through.
pub(super) const CURSOR: &str = "SELECT below FROM retention_cursor WHERE class = $1";

/// Moves that on: class, from where, to where.
pub(super) const MOVE: &str = "UPDATE retention_cursor SET below = $3 WHERE class = $1 AND below = $2";

/// The same for the first time: class, to where.
pub(super) const BEGIN: &str =
    "INSERT INTO retention_cursor (class, below) VALUES ($1, $2) ON CONFLICT (class) DO NOTHING";

/// Events from a position on, as many as are wanted.
pub(super) const AGING: &str =
    "SELECT seq, at_micros, kind, outcome, body FROM audit_event WHERE seq >= $1 ORDER BY seq LIMIT $2";

/// Events of a class that are due: class, time, how many.
pub(super) const DUE: &str = "SELECT seq, at_micros, kind, outcome, body FROM audit_event WHERE seq IN \
    (SELECT seq FROM retention_put_off WHERE class = $1 AND due_micros <= $2 ORDER BY due_micros, seq LIMIT $3) ORDER BY seq";

/// Puts an event off: position, class, time.
pub(super) const PUT_OFF: &str = "INSERT INTO retention_put_off (seq, class, due_micros) VALUES ($1, $2, $3) \
    ON CONFLICT (seq) DO UPDATE SET due_micros = excluded.due_micros";

/// How many events of a part of the log have been forgotten: from where, below where.
pub(super) const NUMBER: &str = "SELECT count(*) FROM audit_event WHERE seq >= $1 AND seq < $2 AND body IS NULL";

/// Names after one, in their order, as many as are wanted.
pub(super) const NAMES: &str = "SELECT spiffe_id FROM audit_identity WHERE spiffe_id > $1 ORDER BY spiffe_id LIMIT $2";

/// The last of names that were looked at, where there may be more.
pub(super) fn last_name(names: Vec<String>) -> Option<String> {
    let is_full = names.len() >= usize::try_from(NAMES_AT_ONCE).unwrap_or(usize::MAX);
    names.into_iter().next_back().filter(|_| is_full)
}

/// Whom these events are about.
pub(super) fn identities(rows: &[LogRow]) -> BTreeSet<String> {
    rows.iter().filter_map(|row| row.read()?.ok()?.0.who.spiffe_id).collect()
}

/// Those of these SPIFFE IDs that no question finds anything of.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn without_events<'i>(
    store: &impl AuditStore,
    identities: &'i BTreeSet<String>,
) -> Result<Vec<&'i String>, StoreError> {
    let mut gone = Vec::new();
    for spiffe_id in identities {
        let Ok(newest) = AuditQuery::newest(1) else { continue };
        let page = store.query(&AuditQuery { spiffe_id: Some(spiffe_id.clone()), ..newest }).await?;
        // One that says where to go on may find something there.
        if page.items.is_empty() && page.unread.is_empty() && page.next.is_none() {
            gone.push(spiffe_id);
        }
    }
    Ok(gone)
}

/// What stands in the log for a SPIFFE ID from `head` on, as far as it can have grown meanwhile.
pub(super) fn keys_since(spiffe_id: &str, head: u64) -> Vec<i64> {
    let (segment, hash) = (head / SEGMENT, identity_hash(spiffe_id));
    (segment..=segment.saturating_add(1)).flat_map(|segment| identity_keys(segment, hash)).collect()
}

/// The longest life, and until when it counts if nobody says so again.
pub(super) const LONGEST: &str = "SELECT seconds, until_micros FROM longest_life WHERE id = 1";

/// Says how long certificates may live: seconds, until when that counts, and now. A longer one that counts stays.
pub(super) const SAY_LONGEST: &str = "INSERT INTO longest_life (id, seconds, until_micros) VALUES (1, $1, $2) \
    ON CONFLICT (id) DO UPDATE SET seconds = excluded.seconds, until_micros = excluded.until_micros \
    WHERE longest_life.seconds <= excluded.seconds OR longest_life.until_micros <= $3";

/// How much longer what was said counts than it must, so that it is not said anew each time.
const SLACK: Duration = Duration::from_hours(1);

pub(super) struct AgingRow {
    seq: i64,
    at_micros: i64,
    kind: i64,
    outcome: i64,
    body: Option<Vec<u8>>,
}

columns!(AgingRow { seq, at_micros, kind, outcome, body } from
    #[cfg(feature = "postgres")] sqlx::postgres::PgRow,
    #[cfg(feature = "sqlite")] sqlx::sqlite::SqliteRow);

impl AgingRow {
    pub(super) fn aging(self) -> Aging {
        Aging {
            sequence: self.seq.unsigned_abs(),
            at_micros: self.at_micros,
            kind: EventKind::numbered(self.kind.unsigned_abs()),
            outcome: Outcome::numbered(self.outcome.unsigned_abs()),
            body: self.body,
        }
    }
}

/// What is said of the longest life, and whether that must be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    /// How long certificates of this process may live, in seconds.
    pub(super) seconds: i64,
    /// Until when that counts if nobody says so again.
    pub(super) until_micros: i64,
    /// The moment.
    pub(super) now_micros: i64,
}

impl Life {
    pub(super) fn of(configured: Duration, now: OffsetDateTime) -> Self {
        let until = time_math::after(time_math::after(now, configured), SLACK);
        Self {
            seconds: i64::try_from(configured.as_secs()).unwrap_or(i64::MAX),
            until_micros: AuditEvent::micros(until),
            now_micros: AuditEvent::micros(now),
        }
    }

    /// Whether `kept` says it already.
    pub(super) fn is_said(&self, kept: Option<(i64, i64)>) -> bool {
        let slack = i64::try_from(SLACK.as_micros()).unwrap_or_default();
        kept.is_some_and(|(seconds, until)| match seconds.cmp(&self.seconds) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => until >= self.until_micros.saturating_sub(slack),
            std::cmp::Ordering::Greater => until > self.now_micros,
        })
    }

    /// The longest life, as of `kept` after it was said.
    pub(super) fn longest(&self, kept: Option<(i64, i64)>) -> Duration {
        let seconds = kept.map_or(self.seconds, |(seconds, _)| seconds.max(self.seconds));
        Duration::from_secs(seconds.unsigned_abs())
    }
}
