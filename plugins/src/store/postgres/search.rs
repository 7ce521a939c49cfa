//! How pages of the audit log are read from PostgreSQL.

use std::ops::Range;

use signet_core::audit::{AuditEvent, AuditQuery};
use signet_core::certificate::Serial;
use signet_core::seams::store::StoreError;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Postgres, QueryBuilder};

use super::error::store_error;
use super::segments;
use crate::store::holders::column;
use crate::store::rows::{LOG_COLUMNS, LogRow};
use crate::store::search::{Ends, Source};
use crate::store::terms::TermRow;

fn failed(error: &sqlx::Error) -> StoreError {
    store_error("reading the audit log", error)
}

/// The position of the first event that is not before this time, by bisection; `head` when there is none. A subquery, which
/// is an index lookup, and never a join that reads the whole log.
const BISECT: &str = "WITH RECURSIVE bisect (lo, hi) AS ( \
    SELECT 0::bigint, $1::bigint UNION ALL \
    SELECT CASE WHEN high < $2 THEN mid + 1 ELSE lo END, CASE WHEN high < $2 THEN hi ELSE mid END FROM ( \
        SELECT lo, hi, (lo + hi) / 2 AS mid, \
            (SELECT high_micros FROM audit_event WHERE seq = (lo + hi) / 2) AS high \
        FROM bisect WHERE lo < hi) AS halves) \
    SELECT lo FROM bisect WHERE lo >= hi";

/// By the index of serial numbers, whatever is thought of how many there are.
const SERIALS: &str = "SELECT seq FROM audit_event \
    WHERE serial IS NOT NULL AND serial >= $1 AND serial < $2 ORDER BY serial LIMIT $3";

/// The most that a statement returns.
fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

/// A connection for queries.
pub(super) struct Reader<'a>(pub(super) &'a mut PgConnection);

impl Reader<'_> {
    async fn all<T: for<'r> FromRow<'r, PgRow> + Send + Unpin>(
        &mut self,
        mut statement: QueryBuilder<Postgres>,
    ) -> Result<Vec<T>, StoreError> {
        statement.build_query_as().fetch_all(&mut *self.0).await.map_err(|error| failed(&error))
    }

    fn log() -> QueryBuilder<Postgres> {
        QueryBuilder::new(format!("SELECT {LOG_COLUMNS} FROM audit_event WHERE "))
    }
}

impl Source for Reader<'_> {
    async fn ends(&mut self) -> Result<Ends, StoreError> {
        segments::ends(self.0).await.map_err(|error| failed(&error))
    }

    async fn first_at(&mut self, head: u64, micros: i64) -> Result<u64, StoreError> {
        let first = sqlx::query_scalar(BISECT).bind(column(head)).bind(micros).fetch_one(&mut *self.0).await;
        first.map(i64::unsigned_abs).map_err(|error| failed(&error))
    }

    async fn identities(&mut self, prefix: &str, most: usize) -> Result<Vec<String>, StoreError> {
        // No text of theirs can hold this character, and none of ours does.
        if prefix.contains('\0') {
            return Ok(Vec::new());
        }
        let text = "SELECT spiffe_id FROM audit_identity WHERE spiffe_id >= $1 AND spiffe_id < $2 LIMIT $3";
        let end = format!("{prefix}\u{10ffff}");
        let found = sqlx::query_scalar(text).bind(prefix).bind(end).bind(limit(most)).fetch_all(&mut *self.0).await;
        found.map_err(|error| failed(&error))
    }

    async fn serials(&mut self, from: &[u8], to: &[u8], most: usize) -> Result<Vec<u64>, StoreError> {
        let found = sqlx::query_scalar(SERIALS).bind(from).bind(to).bind(limit(most)).fetch_all(&mut *self.0).await;
        let found: Vec<i64> = found.map_err(|error| failed(&error))?;
        Ok(found.into_iter().map(i64::unsigned_abs).collect())
    }

    async fn words(&mut self, keys: &[i64]) -> Result<Vec<TermRow>, StoreError> {
        let text = "SELECT key, piece, entries FROM audit_term WHERE key = ANY($1)";
        sqlx::query_as(text).bind(keys).fetch_all(&mut *self.0).await.map_err(|error| failed(&error))
    }

    async fn at(&mut self, positions: &[u64]) -> Result<Vec<LogRow>, StoreError> {
        let mut text = Self::log();
        let positions: Vec<i64> = positions.iter().copied().map(column).collect();
        text.push("seq = ANY(").push_bind(positions).push(") ORDER BY seq DESC");
        self.all(text).await
    }

    async fn read(&mut self, query: &AuditQuery, range: Range<u64>, most: usize) -> Result<Vec<LogRow>, StoreError> {
        let mut text = Self::log();
        if let Some(serial) = query.serial.as_ref().map(Serial::as_bytes) {
            text.push("serial = ").push_bind(serial.to_vec()).push(" AND ");
        }
        text.push("seq >= ").push_bind(column(range.start)).push(" AND seq < ").push_bind(column(range.end));
        for (name, number) in
            [("kind", query.kind.map(|kind| kind.number())), ("outcome", query.outcome.map(|outcome| outcome.number()))]
        {
            if let Some(number) = number {
                text.push(format_args!(" AND {name} = ")).push_bind(column(number));
            }
        }
        if let Some(since) = query.since {
            text.push(" AND at_micros >= ").push_bind(AuditEvent::micros(since));
        }
        if let Some(until) = query.until {
            text.push(" AND at_micros <= ").push_bind(AuditEvent::micros(until));
        }
        text.push(" ORDER BY seq DESC LIMIT ").push_bind(limit(most));
        self.all(text).await
    }
}
