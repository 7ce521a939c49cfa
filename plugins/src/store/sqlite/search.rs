//! Pages of the audit log: found by the entries that are made behind it, and in the part that has none yet, by the columns.

use signet_core::audit::{AuditEvent, AuditQuery, Page, StoredEvent, shown_certificate};
use signet_core::seams::store::StoreError;
use sqlx::sqlite::SqliteConnection;
use sqlx::{QueryBuilder, Sqlite};

use super::entries;
use super::error::store_error;
use crate::store::holders::column;
use crate::store::rows::{LogRow, SEGMENT, identity_hash, identity_keys, page};

/// How many segments a query for one identity looks into at once, at most.
const MAX_SEGMENTS: u64 = 64;

/// Finds one page. Every statement reads a bounded part of an index, newest first; what an index cannot say exactly is
/// filtered here, and reading goes on until the page is full. The log only grows, so no transaction is needed.
pub(super) async fn search(
    connection: &mut SqliteConnection,
    query: &AuditQuery,
) -> Result<Page<StoredEvent>, StoreError> {
    let failed = |error: sqlx::Error| store_error("reading the audit log", &error);
    let (lower, mut upper) = bounds(connection, query).await.map_err(failed)?;
    let wanted = usize::try_from(query.limit).unwrap_or(usize::MAX).saturating_add(1);
    // Read after the end of the log: what has no entry is at or above it.
    let found = entries::below(connection).await.map_err(failed)?;
    let mut items = Vec::new();
    let mut window = 1;
    while lower < upper && items.len() < wanted {
        let missing = i64::try_from(wanted.saturating_sub(items.len())).unwrap_or(i64::MAX);
        // Only a query by identity proceeds in windows of whole segments; the others see the rest of the log at once.
        let has_entries = query.serial.is_none() && query.shown.is_none();
        let by_identity = query.spiffe_id.as_deref().filter(|_| has_entries);
        let by_entries = has_entries && (by_identity.is_some() || query.outcome.is_some());
        let is_open = by_entries && upper > found;
        let first_segment = (upper.saturating_sub(1) / SEGMENT).saturating_sub(window - 1);
        let from = match by_identity {
            _ if is_open => lower.max(found),
            Some(_) => lower.max(first_segment.saturating_mul(SEGMENT)),
            None => lower,
        };
        let part = if is_open || query.shown.is_some() { Part::Open } else { Part::Closed };
        let mut statement = page_statement(query, by_identity, from..upper, part, missing);
        let rows = statement.build_query_as().persistent(by_identity.is_none()).fetch_all(&mut *connection);
        let rows: Vec<LogRow> = rows.await.map_err(failed)?;
        // A full statement may have left rows in its window; one that is not has seen all of it.
        let exhausted = i64::try_from(rows.len()).unwrap_or(i64::MAX) < missing;
        upper = match rows.last() {
            Some(last) if !exhausted => last.seq.unsigned_abs(),
            _ => from,
        };
        if !is_open {
            window = (window * 2).min(MAX_SEGMENTS);
        }
        items.extend(rows.into_iter().filter_map(|row| row.found(query)));
    }
    Ok(page(items, query.limit))
}

/// The half-open range of positions that can match: `before` and `until` bound it above, `since` below.
async fn bounds(connection: &mut SqliteConnection, query: &AuditQuery) -> Result<(u64, u64), sqlx::Error> {
    let head: i64 =
        sqlx::query_scalar("SELECT coalesce(max(seq) + 1, 0) FROM audit_event").fetch_one(&mut *connection).await?;
    let lower = match query.since {
        None => 0,
        Some(since) => first_at(connection, head, AuditEvent::micros(since)).await?,
    };
    let end = match query.until {
        None => head.unsigned_abs(),
        Some(until) => first_at(connection, head, AuditEvent::micros(until).saturating_add(1)).await?,
    };
    Ok((lower, query.before.map_or(end, |before| before.min(end))))
}

/// The position of the first event that is not before this time, by bisection; `head` when there is none.
async fn first_at(connection: &mut SqliteConnection, head: i64, micros: i64) -> Result<u64, sqlx::Error> {
    let bisect = "WITH RECURSIVE bisect (lo, hi) AS (
        SELECT 0, ?1 UNION ALL
        SELECT iif((SELECT high_micros FROM audit_event WHERE seq = (lo + hi) / 2) < ?2, (lo + hi) / 2 + 1, lo),
               iif((SELECT high_micros FROM audit_event WHERE seq = (lo + hi) / 2) < ?2, hi, (lo + hi) / 2)
        FROM bisect WHERE lo < hi)
        SELECT lo FROM bisect WHERE lo >= hi";
    let first: i64 = sqlx::query_scalar(bisect).bind(head).bind(micros).fetch_one(connection).await?;
    Ok(first.unsigned_abs())
}

/// A part of the log: whether its events have the entries that they are found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// They have.
    Closed,
    /// They have not: the newest ones.
    Open,
}

/// The statement for rows within `range`, newest first. Positions are found before any body is read.
pub(super) fn page_statement(
    query: &AuditQuery,
    by_identity: Option<&str>,
    range: std::ops::Range<u64>,
    part: Part,
    limit: i64,
) -> QueryBuilder<Sqlite> {
    let from = match (part, query.serial, by_identity, query.outcome) {
        (Part::Closed, None, Some(_), _) => "audit_by_identity",
        // The time is in the log.
        (Part::Closed, None, None, Some(_)) if query.since.is_some() => {
            "audit_by_outcome AS found CROSS JOIN audit_event USING (outcome, seq)"
        }
        (Part::Closed, None, None, Some(_)) => "audit_by_outcome",
        _ => "audit_event",
    };
    let mut text = QueryBuilder::new(
        "SELECT seq, at_micros, kind, outcome, leaf_hash, body FROM audit_event WHERE seq IN (SELECT seq FROM ",
    );
    text.push(from).push(" WHERE seq >= ").push_bind(column(range.start));
    text.push(" AND seq < ").push_bind(column(range.end));
    if let Some(serial) = &query.serial {
        text.push(" AND serial = ").push_bind(serial.as_bytes().to_vec());
    } else if let Some(spiffe_id) = by_identity {
        let hash = identity_hash(spiffe_id);
        let segments = range.start / SEGMENT..=range.end.saturating_sub(1) / SEGMENT;
        let keys = segments.flat_map(|segment| identity_keys(segment, hash, query.outcome));
        let keys: Vec<String> = keys.map(|key| key.to_string()).collect();
        // Numbers of our own making, and too many to bind; the text is not worth keeping prepared.
        text.push(" AND identity_key IN (").push(keys.join(",")).push(")");
    } else {
        if let Some(outcome) = query.outcome {
            text.push(" AND outcome = ").push_bind(column(outcome.number()));
        }
        if let Some(since) = query.since {
            text.push(" AND at_micros >= ").push_bind(AuditEvent::micros(since));
        }
        if let Some(shown) = &query.shown {
            text.push(" AND instr(body, ").push_bind(shown_certificate(shown)).push(") > 0");
        }
    }
    text.push(" ORDER BY seq DESC LIMIT ").push_bind(limit).push(") ORDER BY seq DESC");
    text
}
