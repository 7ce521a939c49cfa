//! Counts decisions of the record, a bounded piece at a time: how many events a piece looks at, how long, and how many rows it has.

use std::collections::BTreeMap;
use std::time::Duration;

use signet_core::audit::{AuditEvent, AuditQuery, MAX_PAGE};
use signet_core::seams::store::{AuditStore, StoreError};
use signet_proto::admin::v1alpha1 as wire;
use tokio::time::Instant;

/// Pages that a piece looks at.
const PAGES: usize = 10;

/// Rows after which a piece ends, those of its last page included.
const ROWS: usize = 5000;

/// How long a piece goes on before it begins no other page.
const TIME: Duration = Duration::from_secs(2);

/// What is told apart, beside outcomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct By {
    pub(crate) identity: bool,
    pub(crate) reason: bool,
    pub(crate) hour: bool,
}

/// What is counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group {
    /// The beginning of the hour, in seconds since 1970.
    pub(crate) hour: Option<i64>,
    pub(crate) identity: Option<String>,
    pub(crate) reason: Option<String>,
    /// By its number.
    pub(crate) outcome: u64,
}

impl Group {
    fn of(event: &AuditEvent, by: By) -> Self {
        let hour = event.at().unix_timestamp().div_euclid(3600).saturating_mul(3600);
        Self {
            hour: by.hour.then_some(hour),
            identity: event.who.spiffe_id.clone().filter(|_| by.identity),
            reason: event.reason.clone().filter(|_| by.reason),
            outcome: event.outcome.number(),
        }
    }
}

/// What was counted, and where the next piece begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) counts: BTreeMap<Group, u64>,
    /// The cursor of the next piece; `None` when this was the last one.
    pub(crate) next: Option<u64>,
    /// Events that may count and cannot be read.
    pub(crate) unread: u64,
}

/// Counts from the cursor of `query` on, towards the past.
///
/// # Errors
/// [`StoreError`].
pub(crate) async fn piece(store: &dyn AuditStore, query: &AuditQuery, by: By) -> Result<Piece, StoreError> {
    let (begun, mut query) = (Instant::now(), AuditQuery { limit: MAX_PAGE, ..query.clone() });
    let mut piece = Piece::default();
    for _ in 0..PAGES {
        let page = store.query(&query).await?;
        for stored in &page.items {
            let counted = piece.counts.entry(Group::of(&stored.event, by)).or_default();
            *counted = counted.saturating_add(stored.event.count());
        }
        piece.unread = piece.unread.saturating_add(page.unread.len() as u64);
        (piece.next, query.before) = (page.next, page.next);
        if page.next.is_none() || piece.counts.len() >= ROWS || begun.elapsed() >= TIME {
            break;
        }
    }
    Ok(piece)
}

/// A piece on the wire.
pub(super) fn message(piece: Piece) -> wire::CountEventsResponse {
    let row = |(group, count): (Group, u64)| wire::EventCount {
        outcome: group.outcome,
        identity: group.identity,
        reason: group.reason,
        hour: group.hour,
        count,
    };
    wire::CountEventsResponse {
        counts: piece.counts.into_iter().map(row).collect(),
        next: piece.next.unwrap_or_default(),
        unread: piece.unread,
    }
}

/// The piece in an answer.
pub(crate) fn told(answer: wire::CountEventsResponse) -> Piece {
    let row = |row: wire::EventCount| {
        (Group { hour: row.hour, identity: row.identity, reason: row.reason, outcome: row.outcome }, row.count)
    };
    Piece {
        counts: answer.counts.into_iter().map(row).collect(),
        next: Some(answer.next).filter(|next| *next > 0),
        unread: answer.unread,
    }
}
