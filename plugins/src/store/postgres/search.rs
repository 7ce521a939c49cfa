//! Paging through the audit log.

use std::ops::{Range, RangeInclusive};

use signet_core::audit::{AuditEvent, AuditQuery, Page, StoredEvent, shown_certificate};
use sqlx::postgres::PgConnection;
use sqlx::{Postgres, QueryBuilder};

use crate::store::holders::column;
use crate::store::rows::{LogRow, SEGMENT, identity_hash, identity_keys, page};

/// How many closed segments a statement looks into at most.
const MAX_SEGMENTS: u64 = 64;

const COLUMNS: &str = "SELECT seq, at_micros, kind, outcome, leaf_hash, body FROM audit_event WHERE ";

/// By what events are found.
#[derive(Clone, Copy)]
enum By {
    Serial,
    /// By an identity or an outcome, or both.
    Entries,
    Position,
}

/// Finds one page. Every statement reads a bounded part of an index, newest first; what an index cannot say exactly is
/// filtered here, and reading goes on until the page is full. The log only grows, so no transaction is needed.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn search(
    connection: &mut PgConnection,
    query: &AuditQuery,
) -> Result<Page<StoredEvent>, sqlx::Error> {
    let Bounds { lower, mut upper, closed } = bounds(connection, query).await?;
    let by = match query {
        AuditQuery { serial: Some(_), .. } => By::Serial,
        AuditQuery { spiffe_id: None, outcome: None, .. } | AuditQuery { shown: Some(_), .. } => By::Position,
        _ => By::Entries,
    };
    let wanted = usize::try_from(query.limit).unwrap_or(usize::MAX).saturating_add(1);
    let mut items = Vec::new();
    let mut window = 1;
    while lower < upper && items.len() < wanted {
        let missing = i64::try_from(wanted.saturating_sub(items.len())).unwrap_or(i64::MAX);
        // What has entries is seen in windows of whole segments, and the rest of the log at once.
        let (from, mut statement) = match by {
            By::Entries if upper <= closed => {
                let last = upper.saturating_sub(1) / SEGMENT;
                let first = last.saturating_sub(window - 1);
                window = (window * 2).min(MAX_SEGMENTS);
                let from = lower.max(first.saturating_mul(SEGMENT));
                (from, by_entries(query, first..=last, from..upper, missing))
            }
            By::Entries => {
                let from = lower.max(closed);
                (from, by_reading(query, by, from..upper, missing))
            }
            By::Serial | By::Position => (lower, by_reading(query, by, lower..upper, missing)),
        };
        let rows: Vec<LogRow> = statement.build_query_as().fetch_all(&mut *connection).await?;
        // A full statement may have left rows in its window; one that is not has seen all of it.
        let exhausted = i64::try_from(rows.len()).unwrap_or(i64::MAX) < missing;
        upper = match rows.last() {
            Some(last) if !exhausted => last.seq.unsigned_abs(),
            _ => from,
        };
        items.extend(rows.into_iter().filter_map(|row| row.found(query)));
    }
    Ok(page(items, query.limit))
}

/// Where events can be that match: from `lower` to before `upper`; before `closed`, segments have entries.
struct Bounds {
    lower: u64,
    upper: u64,
    closed: u64,
}

/// `before` and `until` bound it above, `since` below.
async fn bounds(connection: &mut PgConnection, query: &AuditQuery) -> Result<Bounds, sqlx::Error> {
    // Entries first: they are of events that are there.
    let ends = "SELECT coalesce((SELECT segments FROM closed_segment WHERE id = 1), 0), \
        coalesce((SELECT max(seq) + 1 FROM audit_event), 0)";
    let (segments, head): (i64, i64) = sqlx::query_as(ends).fetch_one(&mut *connection).await?;
    let lower = match query.since {
        None => 0,
        Some(since) => first_at(connection, head, AuditEvent::micros(since)).await?,
    };
    let end = match query.until {
        None => head.unsigned_abs(),
        Some(until) => first_at(connection, head, AuditEvent::micros(until).saturating_add(1)).await?,
    };
    let upper = query.before.map_or(end, |before| before.min(end));
    Ok(Bounds { lower, upper, closed: segments.unsigned_abs().saturating_mul(SEGMENT) })
}

/// The position of the first event that is not before this time, by bisection; `head` when there is none.
async fn first_at(connection: &mut PgConnection, head: i64, micros: i64) -> Result<u64, sqlx::Error> {
    // A subquery, which is an index lookup, and never a join that reads the whole log.
    let bisect = "WITH RECURSIVE bisect (lo, hi) AS ( \
        SELECT 0::bigint, $1::bigint UNION ALL \
        SELECT CASE WHEN high < $2 THEN mid + 1 ELSE lo END, CASE WHEN high < $2 THEN hi ELSE mid END FROM ( \
            SELECT lo, hi, (lo + hi) / 2 AS mid, \
                (SELECT high_micros FROM audit_event WHERE seq = (lo + hi) / 2) AS high \
            FROM bisect WHERE lo < hi) AS halves) \
        SELECT lo FROM bisect WHERE lo >= hi";
    let first: i64 = sqlx::query_scalar(bisect).bind(head).bind(micros).fetch_one(connection).await?;
    Ok(first.unsigned_abs())
}

/// The keys of the identity within these segments.
fn keys(query: &AuditQuery, spiffe_id: &str, segments: RangeInclusive<u64>) -> Vec<i64> {
    let hash = identity_hash(spiffe_id);
    segments.flat_map(|segment| identity_keys(segment, hash, query.outcome)).collect()
}

/// The statement for rows within `range` that entries of closed segments name, newest first.
fn by_entries(
    query: &AuditQuery,
    segments: RangeInclusive<u64>,
    range: Range<u64>,
    limit: i64,
) -> QueryBuilder<Postgres> {
    let mut text = QueryBuilder::new(COLUMNS);
    text.push("seq = ANY(ARRAY(SELECT s.start + o.at FROM ");
    let length = column(SEGMENT);
    if let Some(spiffe_id) = query.spiffe_id.as_deref() {
        text.push("(SELECT (identity_key >> 35) * ").push_bind(length);
        text.push(" AS start, offsets FROM closed_identity WHERE identity_key = ANY(");
        text.push_bind(keys(query, spiffe_id, segments)).push("))");
    } else {
        text.push("(SELECT segment * ").push_bind(length);
        text.push(" AS start, offsets FROM closed_outcome WHERE outcome = ");
        text.push_bind(query.outcome.map(|outcome| column(outcome.number()))).push(" AND segment BETWEEN ");
        text.push_bind(column(*segments.start())).push(" AND ").push_bind(column(*segments.end())).push(")");
    }
    text.push(" AS s CROSS JOIN LATERAL unnest(s.offsets) AS o (at) WHERE s.start + o.at >= ");
    text.push_bind(column(range.start)).push(" AND s.start + o.at < ").push_bind(column(range.end));
    text.push(" ORDER BY 1 DESC LIMIT ").push_bind(limit).push(")) ORDER BY seq DESC");
    text
}

/// The statement for rows within `range`, newest first, that reads them as they are.
fn by_reading(query: &AuditQuery, by: By, range: Range<u64>, limit: i64) -> QueryBuilder<Postgres> {
    let mut text = QueryBuilder::new(COLUMNS);
    text.push("seq >= ").push_bind(column(range.start)).push(" AND seq < ").push_bind(column(range.end));
    match (by, &query.serial, &query.spiffe_id) {
        (By::Serial, Some(serial), _) => {
            text.push(" AND serial = ").push_bind(serial.as_bytes().to_vec());
        }
        (By::Entries, _, Some(spiffe_id)) => {
            let segments = range.start / SEGMENT..=range.end.saturating_sub(1) / SEGMENT;
            text.push(" AND identity_key = ANY(").push_bind(keys(query, spiffe_id, segments)).push(")");
        }
        _ => {
            if let Some(outcome) = query.outcome {
                text.push(" AND outcome = ").push_bind(column(outcome.number()));
            }
            if let Some(since) = query.since {
                text.push(" AND at_micros >= ").push_bind(AuditEvent::micros(since));
            }
            if let Some(shown) = &query.shown {
                text.push(" AND position(").push_bind(shown_certificate(shown)).push(" IN body) > 0");
            }
        }
    }
    text.push(" ORDER BY seq DESC LIMIT ").push_bind(limit);
    text
}
