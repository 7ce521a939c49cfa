//! The words by which events are found: made behind the log, a piece of it at a time, so that no append pays for them. What
//! comes after the last piece is searched as it is.

use std::ops::Range;
use std::sync::PoisonError;

use signet_core::seams::store::StoreError;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::PostgresStore;
use super::error::store_error;
use super::pool::Use;
use crate::store::holders::column;
use crate::store::retention::NUMBER;
use crate::store::rows::{LOG_COLUMNS, LogRow};
use crate::store::search::Ends;
use crate::store::terms::{PIECE, Piece, keys_of, next};

/// How many pieces are made in one go at most.
const AT_ONCE: usize = 32;

const DOING: &str = "keeping what events are found by";

/// Both of one moment: what has words is there.
const ENDS: &str =
    "SELECT start, below, coalesce((SELECT max(seq) + 1 FROM audit_event), 0) FROM audit_closed WHERE id = 1";

/// What has words, unless somebody else is making more.
const LOCK: &str = "SELECT start, below FROM audit_closed WHERE id = 1 FOR UPDATE SKIP LOCKED";

const WORDS: &str =
    "INSERT INTO audit_term (key, piece, entries) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[])";

const IDENTITIES: &str =
    "INSERT INTO audit_identity (spiffe_id) SELECT * FROM unnest($1::text[]) ON CONFLICT (spiffe_id) DO NOTHING";

/// Where the log ends, and which part of it has words.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn ends(connection: &mut PgConnection) -> Result<Ends, sqlx::Error> {
    let (start, below, head): (i64, i64, i64) = sqlx::query_as(ENDS).fetch_one(connection).await?;
    Ok(Ends { head: head.unsigned_abs(), closed: start.unsigned_abs()..below.unsigned_abs() })
}

/// Makes and keeps the words of one piece; `false` when none is full, or somebody else is at it. Full pieces never change, so
/// this needs no lock but the one of whoever does the same.
async fn close_one(connection: &mut PgConnection) -> Result<(bool, Range<u64>), sqlx::Error> {
    let Ends { head, closed } = ends(connection).await?;
    let Some((number, after)) = next(&closed, head) else { return Ok((false, closed)) };
    let Piece { rows, identities, forgotten } = read(connection, number).await?;
    let start = number.saturating_mul(PIECE);

    let mut transaction = connection.begin().await?;
    let locked: Option<(i64, i64)> = sqlx::query_as(LOCK).fetch_optional(&mut *transaction).await?;
    // What was forgotten since it was read must not be found by its words.
    let now = sqlx::query_scalar(NUMBER).bind(column(start)).bind(column(start.saturating_add(PIECE)));
    let now: i64 = now.fetch_one(&mut *transaction).await?;
    if locked != Some((column(closed.start), column(closed.end))) || now != forgotten {
        transaction.rollback().await?;
        return Ok((false, closed));
    }
    write(&mut transaction, rows).await?;
    // In their order, so that two who enter the same wait for each other, and never both.
    let identities: Vec<String> = identities.into_iter().collect();
    sqlx::query(IDENTITIES).bind(identities).execute(&mut *transaction).await?;
    let moved = sqlx::query("UPDATE audit_closed SET start = $1, below = $2 WHERE id = 1");
    moved.bind(column(after.start)).bind(column(after.end)).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok((true, after))
}

/// The words of a piece, of the events as they are.
async fn read(connection: &mut PgConnection, number: u64) -> Result<Piece, sqlx::Error> {
    let text = format!("SELECT {LOG_COLUMNS} FROM audit_event WHERE seq >= $1 AND seq < $2 ORDER BY seq");
    let start = number.saturating_mul(PIECE);
    let read = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(column(start)).bind(column(start.saturating_add(PIECE)));
    let rows: Vec<LogRow> = read.fetch_all(connection).await?;
    Ok(Piece::new(number, &rows))
}

async fn write(connection: &mut PgConnection, rows: Vec<(i64, i64, Vec<u8>)>) -> Result<(), sqlx::Error> {
    let (mut keys, mut pieces, mut entries) = (Vec::new(), Vec::new(), Vec::new());
    for (key, piece, bytes) in rows {
        keys.push(key);
        pieces.push(piece);
        entries.push(bytes);
    }
    sqlx::query(WORDS).bind(keys).bind(pieces).bind(entries).execute(connection).await.map(drop)
}

/// Makes the words of a piece anew, some of whose events have been forgotten, within a transaction that keeps others away.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn make_anew(connection: &mut PgConnection, number: u64) -> Result<(), sqlx::Error> {
    let piece = read(connection, number).await?;
    let keys = keys_of(number);
    let remove = sqlx::query("DELETE FROM audit_term WHERE key >= $1 AND key < $2 AND piece = $3");
    remove.bind(keys.start).bind(keys.end).bind(column(number)).execute(&mut *connection).await?;
    write(connection, piece.rows).await
}

impl PostgresStore {
    /// Makes the words of pieces that are full and have none, some at a time.
    ///
    /// # Errors
    /// [`StoreError`]; pieces that were done stay so.
    pub(super) async fn close_pieces(&self) -> Result<(), StoreError> {
        for _ in 0..AT_ONCE {
            if !self.close_piece().await? {
                break;
            }
        }
        Ok(())
    }

    async fn close_piece(&self) -> Result<bool, StoreError> {
        let mut lease = self.lease(Use::Writing).await?;
        let (done, closed) = close_one(&mut lease).await.map_err(|error| store_error(DOING, &error))?;
        lease.keep();
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = closed;
        Ok(done)
    }

    /// Makes the words of one piece, when it is known that one is full; `false` when none is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn close_due(&self) -> Result<bool, StoreError> {
        let is_due = {
            let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
            next(&closed, self.seen.next()).is_some()
        };
        if is_due { self.within(DOING, Box::pin(self.close_piece())).await } else { Ok(false) }
    }
}
