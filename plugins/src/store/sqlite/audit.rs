//! The audit log: appending with as few turns to SQLite as possible, and writing nothing but the log.

use std::sync::LazyLock;

use async_trait::async_trait;
use signet_core::audit::{AuditEvent, AuditQuery, Page, StoredEvent};
use signet_core::certificate::Serial;
use signet_core::record_before_release::Recorded;
use signet_core::rotation::Fence;
use signet_core::seams::store::{AppendError, AuditStore, NewRecord, StoreError};
use sqlx::sqlite::SqliteConnection;

use super::error::{is_guarded, is_taken, is_unique_taken, store_error};
use super::fence::{self, GUARD};
use super::holders::Statement;
use super::search::Reader;
use super::{Session, SqliteStore, holder_projection, open, pod_certificates, progress};
use crate::store::holders::column;
use crate::store::journal::Known;
use crate::store::rows::{Head, NewRow};
use crate::store::search::search;

/// Rows per INSERT statement at most. More save no CPU (measured), and each count is a prepared statement.
const CHUNK: usize = 64;

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

/// A whole transaction per number of rows that releases certificates: one turn to SQLite instead of four.
/// A conflict ends the transaction; otherwise SQLite would copy each page for the case that one statement is undone.
static WHOLES: LazyLock<Vec<String>> = LazyLock::new(|| (1..=CHUNK).map(whole_text).collect());

fn whole_text(rows: usize) -> String {
    let log = insert_text(rows);
    format!("BEGIN IMMEDIATE; {GUARD}; {log}; COMMIT").replace("INSERT INTO", "INSERT OR ROLLBACK INTO")
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
            .bind(row.serial.as_ref().map(Serial::as_bytes))
            .bind(row.leaf_hash.as_slice())
            .bind(row.body.as_slice());
    }
    (query, head)
}

/// Inserts up to [`CHUNK`] rows at the head of the log and returns the new head.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    rows: &[&NewRow],
    head: Head,
) -> Result<Head, sqlx::Error> {
    let Some(text) = rows.len().checked_sub(1).and_then(|index| INSERTS.get(index)) else { return Ok(head) };
    let (query, head) = bind(sqlx::query(text.as_str()), rows.iter().copied(), head);
    query.execute(connection).await.map(|_| head)
}

/// Appends a usual batch in one turn: up to [`CHUNK`] rows at the remembered head, without a taken serial, all of which the
/// remembered fence admits. Gives the new head, or `None` when the batch, the log or the journal turns out to be unusual;
/// then nothing was changed.
async fn append_at_once(
    connection: &mut SqliteConnection,
    rows: &[NewRow],
    head: Head,
    known: &Known,
) -> Result<Option<Head>, sqlx::Error> {
    let guarded = rows.iter().any(|row| row.event.released().is_some());
    let texts = if guarded { &*WHOLES } else { &*INSERTS };
    let Some(text) = rows.len().checked_sub(1).and_then(|index| texts.get(index)) else { return Ok(None) };
    if !rows.iter().all(|row| known.fence.admits_event(&row.event)) {
        return Ok(None);
    }
    let query = sqlx::query(text.as_str());
    let (query, head) = bind(if guarded { query.bind(known.version) } else { query }, rows, head);
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
    let known = if releases { fence::read(connection).await? } else { session.fence.take().unwrap_or_default() };
    let results = append_within(connection, &rows.iter().collect::<Vec<_>>(), &known.fence).await?;
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    let (positions, head) = results;
    (session.head, session.fence) = (Some(head), Some(known));
    Ok(positions)
}

/// Appends rows within a transaction, as far as `fence` admits them.
pub(super) async fn append_within(
    connection: &mut SqliteConnection,
    rows: &[&NewRow],
    fence: &Fence,
) -> Result<(Vec<Result<u64, AppendError>>, Head), sqlx::Error> {
    let head = read_head(connection).await?;
    let admitted: Vec<bool> = rows.iter().map(|row| fence.admits_event(&row.event)).collect();
    let to_insert: Vec<&NewRow> = rows.iter().zip(&admitted).filter(|(_, may)| **may).map(|(row, _)| *row).collect();
    let (positions, head) = insert_all(connection, &to_insert, head).await?;
    let mut positions = positions.into_iter();
    let mut result = |may: bool| match may {
        true => positions.next().flatten().ok_or(AppendError::SerialTaken),
        false => Err(AppendError::Fenced),
    };
    Ok((admitted.into_iter().map(&mut result).collect(), head))
}

/// Appends rows in one transaction. Gives the position of each row that was inserted.
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
            while self.progress.to_enter() > holder_projection::MOST_WAITING {
                self.enter_piece(self.writer().await?).await?;
            }
            let mut writer = self.writer().await?;
            let positions = append(&mut writer.session, &rows).await.map_err(|error| store_error(DOING, &error))?;
            let serials: Vec<Option<Serial>> = rows.iter().map(|row| row.serial).collect();
            for (position, row) in positions.iter().zip(rows) {
                if let Ok(position) = position {
                    writer.session.recent.note(*position, row.event);
                }
            }
            self.progress.appended(writer.session.head.map_or(0, |head| head.next));
            writer.keep().await?;
            Ok(positions.into_iter().zip(serials).collect())
        };
        let positions: Vec<(Result<u64, AppendError>, _)> = Box::pin(self.within(DOING, write)).await?;
        // COMMIT has returned: the records are durable.
        Ok(positions.into_iter().map(|(position, serial)| position.map(|it| Recorded::durable(it, serial))).collect())
    }

    async fn append_keeping(&self, records: Vec<NewRecord>) -> Result<Vec<Result<Recorded, AppendError>>, StoreError> {
        const DOING: &str = "appending to the audit log with certificates";
        let rows: Vec<_> = records.into_iter().map(|(event, kept)| (NewRow::new(event), kept)).collect();
        let write = async {
            while self.progress.to_enter() > holder_projection::MOST_WAITING {
                self.enter_piece(self.writer().await?).await?;
            }
            let mut writer = self.writer().await?;
            let appended = pod_certificates::append_keeping(&mut writer.session, &rows).await;
            let positions = appended.map_err(|error| store_error(DOING, &error))?;
            let serials: Vec<Option<Serial>> = rows.iter().map(|(row, _)| row.serial).collect();
            for (position, (row, _)) in positions.iter().zip(rows) {
                if let Ok(position) = position {
                    writer.session.recent.note(*position, row.event);
                }
            }
            self.progress.appended(writer.session.head.map_or(0, |head| head.next));
            writer.keep().await?;
            Ok(positions.into_iter().zip(serials).collect())
        };
        let positions: Vec<(Result<u64, AppendError>, _)> = Box::pin(self.within(DOING, write)).await?;
        // COMMIT has returned: the records are durable, and what is kept with them.
        Ok(positions.into_iter().map(|(position, serial)| position.map(|it| Recorded::durable(it, serial))).collect())
    }

    async fn settle(&self) -> Result<bool, StoreError> {
        if self.guard.is_some() { progress::settle(self).await } else { Ok(false) }
    }

    async fn query(&self, query: &AuditQuery) -> Result<Page<StoredEvent>, StoreError> {
        const DOING: &str = "reading the audit log";
        let read = async {
            let acquired = self.readers.acquire().await;
            let mut connection = acquired.map_err(|error| store_error(DOING, &error))?;
            search(&mut Reader(&mut connection), query).await
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
