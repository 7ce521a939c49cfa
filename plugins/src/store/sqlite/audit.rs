//! The audit log: appending with as few turns to SQLite as possible, and paging through it.

use std::sync::LazyLock;

use async_trait::async_trait;
use signet_core::audit::{AuditEvent, AuditQuery, Page, StoredEvent};
use signet_core::release::Recorded;
use signet_core::rotation::Fence;
use signet_core::seams::store::{AppendError, AuditStore, StoreError};
use sqlx::sqlite::SqliteConnection;
use sqlx::{QueryBuilder, Sqlite};

use super::error::{is_guarded, is_taken, is_unique_taken, store_error};
use super::fence::{GUARD, Known};
use super::holders::{self, Statement, USAGE, upsert_text};
use super::{Session, SqliteStore, open};
use crate::store::holders::{Renewals, column};
use crate::store::rows::{Head, LogRow, NewRow, SEGMENT, identity_hash, identity_keys, page};

/// Rows per INSERT statement at most. More save no CPU (measured), and each count is a prepared statement.
const CHUNK: usize = 64;

/// How many segments a query for one identity looks into at once, at most.
const MAX_SEGMENTS: u64 = 64;

/// One INSERT statement per number of rows, so that any batch up to [`CHUNK`] is one turn and all are prepared once.
static INSERTS: LazyLock<Vec<String>> = LazyLock::new(|| (1..=CHUNK).map(insert_text).collect());

fn insert_text(rows: usize) -> String {
    let mut text = String::from(
        "INSERT INTO audit_event (seq, at_micros, high_micros, kind, outcome, identity_key, serial, leaf_hash, body) \
         VALUES ",
    );
    let row = format!("({})", ["?"; 9].join(","));
    text.push_str(&vec![row; rows].join(","));
    text
}

/// A whole transaction per number of rows that says something about holders: one turn to SQLite instead of six.
/// A conflict ends the transaction; otherwise SQLite would copy each page for the case that one statement is undone.
static WHOLES: LazyLock<Vec<String>> = LazyLock::new(|| (1..=CHUNK).map(whole_text).collect());

fn whole_text(rows: usize) -> String {
    let (log, holders, usage) = (insert_text(rows), upsert_text(rows), USAGE);
    format!("BEGIN IMMEDIATE; {GUARD}; {log}; {holders}; {usage}; COMMIT")
        .replace("INSERT INTO", "INSERT OR ROLLBACK INTO")
}

/// Binds the columns of rows at the head of the log and gives the new head.
fn bind<'q>(
    mut query: Statement<'q>,
    rows: impl IntoIterator<Item = &'q NewRow>,
    mut head: Head,
) -> (Statement<'q>, Head) {
    for row in rows {
        let sequence = head.next;
        head = head.after(row.event.at_micros);
        query = query
            .bind(column(sequence))
            .bind(row.event.at_micros)
            .bind(head.high_micros)
            .bind(column(row.event.kind.number()))
            .bind(column(row.event.outcome.number()))
            .bind(row.identity_key(sequence))
            .bind(row.serial.as_ref().map(|serial| serial.as_bytes().as_slice()))
            .bind(row.leaf_hash.as_slice())
            .bind(row.body.as_slice());
    }
    (query, head)
}

/// Inserts up to [`CHUNK`] rows at the head of the log and returns the new head.
async fn insert(connection: &mut SqliteConnection, rows: &[&NewRow], head: Head) -> Result<Head, sqlx::Error> {
    let Some(text) = rows.len().checked_sub(1).and_then(|index| INSERTS.get(index)) else { return Ok(head) };
    let (query, head) = bind(sqlx::query(text.as_str()), rows.iter().copied(), head);
    query.execute(connection).await.map(|_| head)
}

/// Appends a usual batch in one turn: up to [`CHUNK`] rows at the remembered head, without a taken serial, of at most
/// one issuing CA, all of which the remembered fence admits. Gives the new head, or `None` when the batch, the log or the
/// journal turns out to be unusual; then nothing was changed.
async fn append_at_once(
    connection: &mut SqliteConnection,
    rows: &[NewRow],
    head: Head,
    known: &Known,
) -> Result<Option<Head>, sqlx::Error> {
    let renewals = Renewals::of(rows.iter().map(|row| &row.event));
    let guarded = !renewals.holders.is_empty();
    let texts = if guarded { &*WHOLES } else { &*INSERTS };
    let text = rows.len().checked_sub(1).and_then(|index| texts.get(index));
    let (Some(text), 0..=1) = (text, renewals.usage.len()) else { return Ok(None) };
    let may = |row: &NewRow| row.event.released().is_none() || guarded && known.fence.admits_event(&row.event);
    if !rows.iter().all(may) {
        return Ok(None);
    }
    let query = sqlx::query(text.as_str());
    let (query, head) = bind(if guarded { query.bind(known.version) } else { query }, rows, head);
    let query = renewals.bind(query, rows.len());
    match query.execute(connection).await {
        Ok(_) => Ok(Some(head)),
        Err(error) if is_taken(&error) || is_guarded(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the log ends, read within the transaction that appends.
async fn read_head(connection: &mut SqliteConnection) -> Result<Head, sqlx::Error> {
    let last = sqlx::query_as("SELECT seq, high_micros FROM audit_event ORDER BY seq DESC LIMIT 1");
    let last: Option<(i64, i64)> = last.fetch_optional(connection).await?;
    // Before the first event every time is the largest.
    let empty = Head { next: 0, high_micros: i64::MIN };
    Ok(last.map_or(empty, |(seq, high_micros)| Head { next: seq.unsigned_abs().saturating_add(1), high_micros }))
}

/// Inserts rows at `head`, within a transaction. Gives the position of each row that was inserted and the new head.
async fn insert_all(
    connection: &mut SqliteConnection,
    rows: &[&NewRow],
    mut head: Head,
) -> Result<(Vec<Option<u64>>, Head), sqlx::Error> {
    let mut positions = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(CHUNK) {
        match insert(connection, chunk, head).await {
            Ok(after) => {
                positions.extend((head.next..after.next).map(Some));
                head = after;
            }
            // The statement changed nothing; the transaction goes on, row by row.
            Err(error) if is_unique_taken(&error) => {
                for row in chunk {
                    match insert(connection, std::slice::from_ref(row), head).await {
                        Ok(after) => {
                            positions.push(Some(head.next));
                            head = after;
                        }
                        Err(error) if is_unique_taken(&error) => positions.push(None),
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok((positions, head))
}

/// The certain way to append: takes the write lock, reads where the log ends and what the journal lets out, and finds out
/// which serials are taken. Gives the position of each row that was inserted.
async fn append_locked(session: &mut Session, rows: &[NewRow]) -> Result<Vec<Result<u64, AppendError>>, sqlx::Error> {
    let connection = &mut session.connection;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let releases = rows.iter().any(|row| row.event.released().is_some());
    let known = if releases { Known::read(connection).await? } else { session.fence.take().unwrap_or_default() };
    let results = append_within(connection, rows, &known.fence).await?;
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    let (positions, head) = results;
    (session.head, session.fence) = (Some(head), Some(known));
    Ok(positions)
}

/// Appends, within a transaction, rows and what they say about holders, as far as `fence` admits them.
pub(super) async fn append_within(
    connection: &mut SqliteConnection,
    rows: &[NewRow],
    fence: &Fence,
) -> Result<(Vec<Result<u64, AppendError>>, Head), sqlx::Error> {
    let head = read_head(connection).await?;
    let admitted: Vec<bool> = rows.iter().map(|row| fence.admits_event(&row.event)).collect();
    let to_insert: Vec<&NewRow> = rows.iter().zip(&admitted).filter(|(_, may)| **may).map(|(row, _)| row).collect();
    let (positions, head) = insert_all(connection, &to_insert, head).await?;
    let kept = to_insert.iter().zip(&positions).filter(|(_, position)| position.is_some());
    let kept: Vec<&AuditEvent> = kept.map(|(row, _)| &row.event).collect();
    holders::renew(connection, &kept).await?;
    let mut positions = positions.into_iter();
    let mut result = |may: bool| match may {
        true => positions.next().flatten().ok_or(AppendError::SerialTaken),
        false => Err(AppendError::Fenced),
    };
    Ok((admitted.into_iter().map(&mut result).collect(), head))
}

/// Appends rows, and what they say about holders, in one transaction. Gives the position of each row that was inserted.
///
/// The remembered head and fence save reading them. That is right because the primary key refuses the first row when
/// another process has moved the head, since rows are never removed, and [`GUARD`] when the journal was changed.
async fn append(session: &mut Session, rows: &[NewRow]) -> Result<Vec<Result<u64, AppendError>>, sqlx::Error> {
    if let (Some(head), Some(known)) = (session.head.take(), &session.fence)
        && let Some(after) = append_at_once(&mut session.connection, rows, head, known).await?
    {
        session.head = Some(after);
        return Ok((head.next..after.next).map(Ok).collect());
    }
    append_locked(session, rows).await
}

#[async_trait]
impl AuditStore for SqliteStore {
    async fn append(&self, events: Vec<AuditEvent>) -> Result<Vec<Result<Recorded, AppendError>>, StoreError> {
        const DOING: &str = "appending to the audit log";
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<NewRow> = events.into_iter().map(NewRow::new).collect();
        let write = async {
            let mut writer = self.writer().await?;
            let positions = append(&mut writer.session, &rows).await.map_err(|error| store_error(DOING, &error))?;
            writer.keep().await?;
            Ok(positions)
        };
        let positions = Box::pin(self.within(DOING, write)).await?;
        // COMMIT has returned: the records are durable.
        let recorded = |(position, row): (Result<u64, AppendError>, &NewRow)| {
            position.map(|sequence| Recorded::durable(sequence, row.serial))
        };
        Ok(positions.into_iter().zip(&rows).map(recorded).collect())
    }

    async fn query(&self, query: &AuditQuery) -> Result<Page<StoredEvent>, StoreError> {
        const DOING: &str = "reading the audit log";
        let read = async {
            let acquired = self.readers.acquire().await;
            let mut connection = acquired.map_err(|error| store_error(DOING, &error))?;
            search(&mut connection, query).await
        };
        self.within(DOING, Box::pin(read)).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        const DOING: &str = "writing a probe";
        let write = async {
            let mut writer = self.writer().await?;
            // A newer program may have migrated it meanwhile, to what this one must not run on.
            open::check_schema(&mut writer.session.connection, &self.path).await?;
            let update = sqlx::query("UPDATE storage_probe SET writes = writes + 1 WHERE id = 1");
            let done = update.execute(&mut writer.session.connection).await;
            done.map_err(|error| store_error(DOING, &error))?;
            writer.keep().await?;
            Ok(())
        };
        self.within(DOING, write).await
    }
}

/// Finds one page. Every statement reads a bounded part of an index, newest first; what an index cannot say exactly is
/// filtered here, and reading goes on until the page is full. The log only grows, so no transaction is needed.
async fn search(connection: &mut SqliteConnection, query: &AuditQuery) -> Result<Page<StoredEvent>, StoreError> {
    let failed = |error: sqlx::Error| store_error("reading the audit log", &error);
    let (lower, mut upper) = bounds(connection, query).await.map_err(failed)?;
    let wanted = usize::try_from(query.limit).unwrap_or(usize::MAX).saturating_add(1);
    let mut items = Vec::new();
    let mut window = 1;
    while lower < upper && items.len() < wanted {
        let missing = i64::try_from(wanted.saturating_sub(items.len())).unwrap_or(i64::MAX);
        // Only a query by identity proceeds in windows of whole segments; the others see the rest of the log at once.
        let by_identity = query.spiffe_id.as_deref().filter(|_| query.serial.is_none());
        let last_segment = upper.saturating_sub(1) / SEGMENT;
        let first_segment = last_segment.saturating_sub(window - 1);
        let from = if by_identity.is_some() { lower.max(first_segment.saturating_mul(SEGMENT)) } else { lower };
        let mut statement = page_statement(query, by_identity, first_segment..=last_segment, from..upper, missing);
        let rows = statement.build_query_as().persistent(by_identity.is_none()).fetch_all(&mut *connection);
        let rows: Vec<LogRow> = rows.await.map_err(failed)?;
        // A full statement may have left rows in its window; one that is not has seen all of it.
        let exhausted = i64::try_from(rows.len()).unwrap_or(i64::MAX) < missing;
        upper = match rows.last() {
            Some(last) if !exhausted => last.seq.unsigned_abs(),
            _ => from,
        };
        window = (window * 2).min(MAX_SEGMENTS);
        items.extend(rows.into_iter().filter_map(|row| row.found(query)));
    }
    Ok(page(items, query.limit))
}

/// The half-open range of positions that can match: `before` bounds it above, `since` below by bisection.
async fn bounds(connection: &mut SqliteConnection, query: &AuditQuery) -> Result<(u64, u64), sqlx::Error> {
    let head: i64 =
        sqlx::query_scalar("SELECT coalesce(max(seq) + 1, 0) FROM audit_event").fetch_one(&mut *connection).await?;
    let lower: i64 = match query.since {
        None => 0,
        Some(since) => {
            let bisect = "WITH RECURSIVE bisect (lo, hi) AS (
                SELECT 0, ?1 UNION ALL
                SELECT iif((SELECT high_micros FROM audit_event WHERE seq = (lo + hi) / 2) < ?2, (lo + hi) / 2 + 1, lo),
                       iif((SELECT high_micros FROM audit_event WHERE seq = (lo + hi) / 2) < ?2, hi, (lo + hi) / 2)
                FROM bisect WHERE lo < hi)
                SELECT lo FROM bisect WHERE lo >= hi";
            let bisect = sqlx::query_scalar(bisect).bind(head).bind(AuditEvent::micros(since));
            bisect.fetch_one(connection).await?
        }
    };
    let upper = query.before.map_or(head.unsigned_abs(), |before| before.min(head.unsigned_abs()));
    Ok((lower.unsigned_abs(), upper))
}

/// The statement for rows within `range`, newest first. Positions are found in an index alone before any row is read.
pub(super) fn page_statement(
    query: &AuditQuery,
    by_identity: Option<&str>,
    segments: std::ops::RangeInclusive<u64>,
    range: std::ops::Range<u64>,
    limit: i64,
) -> QueryBuilder<Sqlite> {
    let mut text = QueryBuilder::new(
        "SELECT seq, at_micros, kind, outcome, leaf_hash, body FROM audit_event \
         WHERE seq IN (SELECT seq FROM audit_event WHERE seq >= ",
    );
    text.push_bind(column(range.start)).push(" AND seq < ").push_bind(column(range.end));
    if let Some(serial) = &query.serial {
        text.push(" AND serial = ").push_bind(serial.as_bytes().to_vec());
    } else if let Some(spiffe_id) = by_identity {
        let hash = identity_hash(spiffe_id);
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
    }
    text.push(" ORDER BY seq DESC LIMIT ").push_bind(limit).push(") ORDER BY seq DESC");
    text
}
