//! How pages of the audit log are read from SQLite.

use std::ops::Range;

use signet_core::audit::{AuditEvent, AuditQuery};
use signet_core::certificate::Serial;
use signet_core::seams::store::StoreError;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{FromRow, QueryBuilder, Sqlite};

use super::entries;
use super::error::store_error;
use crate::store::holders::column;
use crate::store::rows::{LOG_COLUMNS, LogRow};
use crate::store::search::{Ends, Source};
use crate::store::terms::TermRow;

fn failed(error: &sqlx::Error) -> StoreError {
    store_error("reading the audit log", error)
}

/// The position of the first event that is not before this time, by bisection; `head` when there is none.
const BISECT: &str = "WITH RECURSIVE bisect (lo, hi) AS (
    SELECT 0, ?1 UNION ALL
    SELECT iif((SELECT high_micros FROM audit_event WHERE seq = (lo + hi) / 2) < ?2, (lo + hi) / 2 + 1, lo),
           iif((SELECT high_micros FROM audit_event WHERE seq = (lo + hi) / 2) < ?2, hi, (lo + hi) / 2)
    FROM bisect WHERE lo < hi)
    SELECT lo FROM bisect WHERE lo >= hi";

/// The most that a statement returns.
fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

/// Numbers of our own making, and too many to bind.
fn list<T: ToString>(numbers: &[T]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// SPIFFE IDs from the first on and below the second.
pub(super) const IDENTITIES: &str =
    "SELECT spiffe_id FROM audit_identity WHERE spiffe_id >= ? AND spiffe_id < ? ORDER BY spiffe_id LIMIT ?";

/// Certificates with serial numbers from the first on and below the second.
pub(super) const SERIALS: &str = "SELECT seq FROM audit_event WHERE serial >= ? AND serial < ? ORDER BY serial LIMIT ?";

fn log() -> QueryBuilder<Sqlite> {
    QueryBuilder::new(format!("SELECT {LOG_COLUMNS} FROM audit_event WHERE "))
}

/// The statement for the words with these keys.
pub(super) fn words(keys: &[i64]) -> QueryBuilder<Sqlite> {
    QueryBuilder::new(format!("SELECT key, piece, entries FROM audit_term WHERE key IN ({})", list(keys)))
}

/// The statement for the events at these positions.
pub(super) fn at(positions: &[u64]) -> QueryBuilder<Sqlite> {
    let mut text = log();
    text.push("seq IN (").push(list(positions)).push(") ORDER BY seq DESC");
    text
}

/// The statement for what columns say of events within `range`.
pub(super) fn read(query: &AuditQuery, range: Range<u64>, most: usize) -> QueryBuilder<Sqlite> {
    let mut text = log();
    text.push("seq >= ").push_bind(column(range.start)).push(" AND seq < ").push_bind(column(range.end));
    if let Some(serial) = query.serial.as_ref().map(Serial::as_bytes) {
        text.push(" AND serial = ").push_bind(serial.to_vec());
    }
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
    text
}

/// A connection of readers.
pub(super) struct Reader<'a>(pub(super) &'a mut SqliteConnection);

impl Reader<'_> {
    /// All rows of a statement whose text is not worth keeping prepared.
    async fn all<T: for<'r> FromRow<'r, SqliteRow> + Send + Unpin>(
        &mut self,
        mut statement: QueryBuilder<Sqlite>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = statement.build_query_as().persistent(false).fetch_all(&mut *self.0).await;
        rows.map_err(|error| failed(&error))
    }
}

impl Source for Reader<'_> {
    async fn ends(&mut self) -> Result<Ends, StoreError> {
        entries::ends(self.0).await.map_err(|error| failed(&error))
    }

    async fn first_at(&mut self, head: u64, micros: i64) -> Result<u64, StoreError> {
        let first = sqlx::query_scalar(BISECT).bind(column(head)).bind(micros).fetch_one(&mut *self.0).await;
        first.map(i64::unsigned_abs).map_err(|error| failed(&error))
    }

    async fn identities(&mut self, prefix: &str, most: usize) -> Result<Vec<String>, StoreError> {
        let end = format!("{prefix}\u{10ffff}");
        let found =
            sqlx::query_scalar(IDENTITIES).bind(prefix).bind(end).bind(limit(most)).fetch_all(&mut *self.0).await;
        found.map_err(|error| failed(&error))
    }

    async fn serials(&mut self, from: &[u8], to: &[u8], most: usize) -> Result<Vec<u64>, StoreError> {
        let found = sqlx::query_scalar(SERIALS).bind(from).bind(to).bind(limit(most)).fetch_all(&mut *self.0).await;
        let found: Vec<i64> = found.map_err(|error| failed(&error))?;
        Ok(found.into_iter().map(i64::unsigned_abs).collect())
    }

    async fn words(&mut self, keys: &[i64]) -> Result<Vec<TermRow>, StoreError> {
        self.all(words(keys)).await
    }

    async fn at(&mut self, positions: &[u64]) -> Result<Vec<LogRow>, StoreError> {
        self.all(at(positions)).await
    }

    async fn read(&mut self, query: &AuditQuery, range: Range<u64>, most: usize) -> Result<Vec<LogRow>, StoreError> {
        self.all(read(query, range, most)).await
    }
}
