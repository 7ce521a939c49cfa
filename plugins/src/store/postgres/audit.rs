//! The audit log: appending, usually in one turn to the server, and the probe.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use signet_core::audit::{AuditEvent, AuditQuery, LeafHash, Page, StoredEvent};
use signet_core::certificate::Serial;
use signet_core::record_before_release::Recorded;
use signet_core::rotation::Fence;
use signet_core::seams::store::{AppendError, AuditStore, NewRecord, StoreError};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Postgres, Row as _};

use super::error::{is_lost, is_other_journal, is_shorter_log, is_taken, store_error};
use super::holder_projection::{MOST_WAITING, WAITING};
use super::locked::Locked;
use super::pool::Use;
use super::search::Reader;
use super::{PostgresStore, fence, open};
use crate::store::holders::column;
use crate::store::rows::{Head, NewRow};
use crate::store::search::search;

const APPENDING: &str = "appending to the audit log";

/// How often a batch is tried whose connection was lost and that was not kept.
const ATTEMPTS: usize = 3;

/// For how long at least it is known what was committed, and what was given up.
const LOOKED_UP_WITHIN: Duration = Duration::from_secs(600);

const AT_ONCE: &str = "SELECT append_events_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

const INSERT: &str = "INSERT INTO audit_event \
    (at_micros, kind, outcome, identity_key, serial, leaf_hash, body, seq, high_micros) \
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bytea[], $7::bytea[], \
    $8::bigint[], $9::bigint[])";

type Statement<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

/// Binds what rows hold wherever they are put, as arrays; `identities` with or without the segment.
fn bind<'q>(query: Statement<'q>, rows: &[&NewRow], identities: Vec<Option<i64>>) -> Statement<'q> {
    let all = |value: fn(&NewRow) -> i64| rows.iter().map(|row| value(row)).collect::<Vec<i64>>();
    let serials: Vec<Option<&[u8]>> = rows.iter().map(|row| serial_of(row)).collect();
    query
        .bind(all(|row| row.event.at_micros))
        .bind(all(|row| column(row.event.kind.number())))
        .bind(all(|row| column(row.event.outcome.number())))
        .bind(identities)
        .bind(serials)
        .bind(rows.iter().map(|row| row.leaf_hash.as_slice()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.body.as_slice()).collect::<Vec<_>>())
}

fn serial_of(row: &NewRow) -> Option<&[u8]> {
    row.serial.as_ref().map(Serial::as_bytes)
}

/// Which rows may be inserted: those whose serial is neither in the log nor of an earlier one of them. Exact under the lock.
async fn free(locked: &mut Locked<'_>, rows: &[&NewRow]) -> Result<Vec<bool>, sqlx::Error> {
    let serials: Vec<&[u8]> = rows.iter().filter_map(|row| serial_of(row)).collect();
    let find = "SELECT serial FROM audit_event WHERE serial = ANY($1)";
    let taken: Vec<Vec<u8>> = sqlx::query_scalar(find).bind(&serials).fetch_all(locked.connection()).await?;
    let mut taken: HashSet<&[u8]> = taken.iter().map(Vec::as_slice).collect();
    Ok(rows.iter().map(|row| serial_of(row).is_none_or(|serial| taken.insert(serial))).collect())
}

/// Inserts rows at `head`, and gives the new head.
async fn insert(locked: &mut Locked<'_>, rows: &[&NewRow], mut head: Head) -> Result<Head, sqlx::Error> {
    if rows.is_empty() {
        return Ok(head);
    }
    let first = head.next;
    let identities = (first..).zip(rows).map(|(sequence, row)| row.identity_key(sequence)).collect();
    let sequences: Vec<i64> = (first..).zip(rows).map(|(sequence, _)| column(sequence)).collect();
    let mut highest = Vec::with_capacity(rows.len());
    for row in rows {
        head = head.after(row.event.at_micros);
        highest.push(head.high_micros);
    }
    let query = bind(sqlx::query(INSERT), rows, identities).bind(sequences).bind(highest);
    query.execute(locked.connection()).await?;
    Ok(head)
}

/// What became of rows that were appended within a transaction.
pub(super) struct Appended {
    /// The position of each one that was inserted.
    pub(super) positions: Vec<Result<u64, AppendError>>,
    head: Head,
    last: Option<LeafHash>,
}

impl Appended {
    /// Remembers it, once it is committed.
    pub(super) fn committed(&self, store: &PostgresStore) {
        store.seen.note_log(self.head.next, self.last);
    }
}

/// Appends rows within a transaction, as far as `fence` admits them and their serials are free.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn append_within(
    locked: &mut Locked<'_>,
    rows: &[&NewRow],
    fence: &Fence,
) -> Result<Appended, sqlx::Error> {
    let admitted: Vec<bool> = rows.iter().map(|row| fence.admits_event(&row.event)).collect();
    let candidates: Vec<&NewRow> = rows.iter().zip(&admitted).filter(|(_, may)| **may).map(|(row, _)| *row).collect();
    let free = free(locked, &candidates).await?;
    let kept: Vec<&NewRow> = candidates.iter().zip(&free).filter(|(_, free)| **free).map(|(row, _)| *row).collect();
    let mut next = locked.head.next;
    let head = insert(locked, &kept, locked.head).await?;
    let mut free = free.into_iter();
    let mut position = |may: bool| match may.then(|| free.next().unwrap_or_default()) {
        None => Err(AppendError::Fenced),
        Some(false) => Err(AppendError::SerialTaken),
        Some(true) => {
            next = next.saturating_add(1);
            Ok(next.saturating_sub(1))
        }
    };
    let positions = admitted.into_iter().map(&mut position).collect();
    Ok(Appended { positions, head, last: kept.last().map(|row| row.leaf_hash) })
}

/// The position that the function gives.
fn first_of(answer: &[PgRow]) -> Result<i64, sqlx::Error> {
    answer.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)
}

impl PostgresStore {
    /// Appends a usual batch in one turn: without a taken serial, all of which the remembered fence admits. Gives the position
    /// of the first row, or `None` when the batch or the journal turns out to be unusual; then nothing was changed.
    async fn append_at_once(&self, rows: &[NewRow]) -> Result<Option<u64>, StoreError> {
        let releases = rows.iter().any(|row| row.event.released().is_some());
        let known = self.fence.load_full();
        let version = match known {
            Some(known) if rows.iter().all(|row| known.fence.admits_event(&row.event)) => Some(known.version),
            _ => None,
        };
        if releases && version.is_none() {
            return Ok(None);
        }
        let rows: Vec<&NewRow> = rows.iter().collect();
        for _ in 0..ATTEMPTS {
            let (batch, mut lease) = (self.batches.next(), self.lease(Use::Writing).await?);
            let query = sqlx::query(AT_ONCE).bind(batch.as_bytes()).bind(version.filter(|_| releases));
            let identities = rows.iter().map(|row| row.identity_key(0)).collect();
            let query = bind(query.bind(column(self.seen.next())), &rows, identities);
            // All rows, although there is one: the row itself comes before the commit, the end of the answer after it.
            let answer = query.fetch_all(&mut *lease).await;
            let first = match answer.and_then(|all| first_of(&all)) {
                Ok(first) => {
                    lease.keep();
                    first.unsigned_abs()
                }
                Err(error) if is_taken(&error) || is_other_journal(&error) => {
                    lease.keep();
                    return Ok(None);
                }
                Err(error) if is_shorter_log(&error) => {
                    return Err(self.seen.lose(&format!("{APPENDING}: {error}")));
                }
                Err(error) if is_lost(&error) => {
                    drop(lease);
                    tracing::debug!(%error, "the connection was lost during an append");
                    match self.looked_up(batch).await? {
                        Some(first) => first,
                        None => continue,
                    }
                }
                Err(error) => return Err(store_error(APPENDING, &error)),
            };
            let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
            self.seen.note_log(first.saturating_add(count), rows.last().map(|row| row.leaf_hash));
            return Ok(Some(first));
        }
        Err(StoreError::Unavailable(format!("{APPENDING}: the connection to the server was lost again and again")))
    }

    /// The certain way to append: takes the lock, reads what the journal lets out, and finds out which serials are taken. Gives
    /// the position of each row that was inserted.
    async fn append_surely(&self, rows: &[NewRow]) -> Result<Vec<Result<u64, AppendError>>, StoreError> {
        let failed = |error: sqlx::Error| store_error(APPENDING, &error);
        let mut locked = self.locked(APPENDING).await?;
        let known = Arc::new(fence::read(locked.connection()).await.map_err(failed)?);
        let appended =
            append_within(&mut locked, &rows.iter().collect::<Vec<_>>(), &known.fence).await.map_err(failed)?;
        locked.commit(APPENDING).await?;
        appended.committed(self);
        self.fence.store(Some(known));
        Ok(appended.positions)
    }

    async fn append_rows(&self, rows: &[NewRow]) -> Result<Vec<Result<u64, AppendError>>, StoreError> {
        if let Some(first) = self.append_at_once(rows).await? {
            return Ok((first..).zip(rows).map(|(sequence, _)| Ok(sequence)).collect());
        }
        self.append_surely(rows).await
    }
}

#[async_trait]
impl AuditStore for PostgresStore {
    async fn append(&self, events: Vec<AuditEvent>) -> Result<Vec<Result<Recorded, AppendError>>, StoreError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<NewRow> = events.into_iter().map(NewRow::new).collect();
        if let Err(error) = self.enter_due(MOST_WAITING).await {
            // It is done for whoever asks for holders, at the latest.
            tracing::debug!(%error, "holders of the record were not entered");
        }
        let positions = Box::pin(self.within(APPENDING, self.append_rows(&rows))).await?;
        // COMMIT has returned, or was found: the records are durable.
        let recorded = |(position, row): (Result<u64, AppendError>, &NewRow)| {
            position.map(|sequence| Recorded::durable(sequence, row.serial))
        };
        Ok(positions.into_iter().zip(&rows).map(recorded).collect())
    }

    async fn append_keeping(&self, records: Vec<NewRecord>) -> Result<Vec<Result<Recorded, AppendError>>, StoreError> {
        let rows: Vec<_> = records.into_iter().map(|(event, kept)| (NewRow::new(event), kept)).collect();
        if let Err(error) = self.enter_due(MOST_WAITING).await {
            tracing::debug!(%error, "holders of the record were not entered");
        }
        let positions = Box::pin(self.within(APPENDING, self.append_rows_keeping(&rows))).await?;
        // COMMIT has returned, or was found: the records are durable, and what is kept with them.
        let recorded = |(position, (row, _)): (Result<u64, AppendError>, &(NewRow, _))| {
            position.map(|sequence| Recorded::durable(sequence, row.serial))
        };
        Ok(positions.into_iter().zip(&rows).map(recorded).collect())
    }

    async fn settle(&self) -> Result<bool, StoreError> {
        Ok(self.writes && (self.enter_due(WAITING).await? || self.close_due().await?))
    }

    async fn query(&self, query: &AuditQuery) -> Result<Page<StoredEvent>, StoreError> {
        const DOING: &str = "reading the audit log";
        let read = async {
            let mut lease = self.lease(Use::Reading).await?;
            let page = search(&mut Reader(&mut lease), query).await?;
            lease.keep();
            Ok(page)
        };
        self.within(DOING, Box::pin(read)).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        const DOING: &str = "writing a probe";
        let write = async {
            let mut lease = self.lease(Use::Writing).await?;
            self.seen.look(&mut lease).await?;
            // A newer program may have migrated it meanwhile, to what this one must not run on.
            open::check_schema(&mut lease, &self.access).await?;
            let update = "UPDATE storage_probe SET writes = writes + 1 WHERE id = 1";
            sqlx::query(update).execute(&mut *lease).await.map_err(|error| store_error(DOING, &error))?;
            let old = "DELETE FROM committed_batch WHERE at < clock_timestamp() - make_interval(secs => $1)";
            let old = sqlx::query(old).bind(LOOKED_UP_WITHIN.max(self.settings.deadline * 20).as_secs_f64());
            old.execute(&mut *lease).await.map_err(|error| store_error(DOING, &error))?;
            lease.keep();
            Ok(())
        };
        self.within(DOING, Box::pin(write)).await?;
        if let Err(error) = self.within("keeping what events are found by", Box::pin(self.close_pieces())).await {
            // What lacks it is searched as it is, and the next probe goes on.
            tracing::warn!(%error, "pieces of the audit log got nothing that their events are found by");
        }
        Ok(())
    }
}
