//! Questions to the audit log: filters, and pages that stay stable while events are added.

use time::OffsetDateTime;

use super::event::Outcome;
use super::stored::UnreadEvent;
use crate::certificate::Serial;

/// The largest page.
pub const MAX_PAGE: u32 = 1000;

/// A filter that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The page size is zero or above [`MAX_PAGE`].
    #[error("a page holds 1 to {MAX_PAGE} events, not {0}")]
    PageSize(u32),
}

/// Which events to return; all filters must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditQuery {
    /// Exactly this SPIFFE ID.
    pub spiffe_id: Option<String>,
    /// At or after this time.
    pub since: Option<OffsetDateTime>,
    /// Only what was recorded before the first event that is later than this. Events of other replicas may be earlier than
    /// those before them, so whoever asks leaves room.
    pub until: Option<OffsetDateTime>,
    /// Only this outcome.
    pub outcome: Option<Outcome>,
    /// Only the certificate with this serial.
    pub serial: Option<Serial>,
    /// Only what was asked for with the client certificate of this serial number (hexadecimal, in small letters). Bodies are
    /// looked through for it; one that cannot be read and does not hold it is not told of.
    pub shown: Option<String>,
    /// Only events before this sequence number: the cursor of the page before.
    pub before: Option<u64>,
    /// How many events at most, those that cannot be read included.
    pub limit: u32,
}

impl AuditQuery {
    /// A query without filters for the newest `limit` events.
    ///
    /// # Errors
    /// [`QueryError::PageSize`].
    pub fn newest(limit: u32) -> Result<Self, QueryError> {
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(QueryError::PageSize(limit));
        }
        let (since, until, outcome, serial, shown, before) = (None, None, None, None, None, None);
        Ok(Self { spiffe_id: None, since, until, outcome, serial, shown, before, limit })
    }
}

/// One page of results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The results, newest first.
    pub items: Vec<T>,
    /// Events between them that may be results but cannot be read, newest first. Whoever concludes something from what is
    /// not among the results looks here, too.
    pub unread: Vec<UnreadEvent>,
    /// What to pass as `before` for the next page; `None` when this is the last one.
    pub next: Option<u64>,
}
