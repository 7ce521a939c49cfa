//! The words by which events are found: made behind the log, a piece of it at a time, so that an append does not pay for them.

use std::ops::Range;

use signet_core::seams::store::StoreError;
use sqlx::sqlite::SqliteConnection;
use sqlx::{QueryBuilder, Sqlite};

use super::error::store_error;
use super::{SqliteStore, Writer};
use crate::store::holders::column;
use crate::store::retention::NUMBER;
use crate::store::rows::{LOG_COLUMNS, LogRow};
use crate::store::search::Ends;
use crate::store::terms::{PIECE, Piece, keys_of, next};

const DOING: &str = "keeping what events are found by";

const ENDS: &str =
    "SELECT start, below, coalesce((SELECT max(seq) + 1 FROM audit_event), 0) FROM audit_closed WHERE id = 1";

/// How many SPIFFE IDs are entered with one statement.
const IDENTITIES: usize = 256;

/// Where the log ends, and which part of it has words.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn ends(connection: &mut SqliteConnection) -> Result<Ends, sqlx::Error> {
    let (start, below, head): (i64, i64, i64) = sqlx::query_as(ENDS).fetch_one(connection).await?;
    Ok(Ends { head: head.unsigned_abs(), closed: start.unsigned_abs()..below.unsigned_abs() })
}

/// A piece that is made, and what has words before and with it.
struct Made {
    piece: Piece,
    piece_start: u64,
    before: Range<u64>,
    after: Range<u64>,
}

/// Makes the next piece, if one is full. Events never change, so that nobody has to wait meanwhile.
async fn make(connection: &mut SqliteConnection) -> Result<Result<Made, Range<u64>>, sqlx::Error> {
    let Ends { head, closed } = ends(connection).await?;
    let Some((number, after)) = next(&closed, head) else { return Ok(Err(closed)) };
    let piece = read(connection, number).await?;
    Ok(Ok(Made { piece, piece_start: number.saturating_mul(PIECE), before: closed, after }))
}

/// The words of a piece, of the events as they are.
async fn read(connection: &mut SqliteConnection, number: u64) -> Result<Piece, sqlx::Error> {
    let text = format!("SELECT {LOG_COLUMNS} FROM audit_event WHERE seq >= ? AND seq < ? ORDER BY seq");
    let start = number.saturating_mul(PIECE);
    let read = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(column(start)).bind(column(start.saturating_add(PIECE)));
    let rows: Vec<LogRow> = read.fetch_all(connection).await?;
    Ok(Piece::new(number, &rows))
}

async fn write(connection: &mut SqliteConnection, rows: Vec<(i64, i64, Vec<u8>)>) -> Result<(), sqlx::Error> {
    if !rows.is_empty() {
        let mut insert: QueryBuilder<Sqlite> = QueryBuilder::new("INSERT INTO audit_term (key, piece, entries) ");
        insert.push_values(rows, |mut row, (key, piece, entries)| {
            row.push_bind(key).push_bind(piece).push_bind(entries);
        });
        insert.build().persistent(false).execute(connection).await?;
    }
    Ok(())
}

/// Makes the words of a piece anew, some of whose events have been forgotten, within a transaction that may write.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn make_anew(connection: &mut SqliteConnection, number: u64) -> Result<(), sqlx::Error> {
    let piece = read(connection, number).await?;
    let keys = keys_of(number);
    let remove = sqlx::query("DELETE FROM audit_term WHERE key >= ? AND key < ? AND piece = ?");
    remove.bind(keys.start).bind(keys.end).bind(column(number)).execute(&mut *connection).await?;
    write(connection, piece.rows).await
}

/// Keeps a piece in one transaction, unless another process was faster. Gives what has words.
async fn keep(connection: &mut SqliteConnection, made: Made) -> Result<Range<u64>, sqlx::Error> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let closed = ends(connection).await?.closed;
    // What was forgotten since it was read must not be found by its words.
    let start = made.piece_start;
    let forgotten = sqlx::query_scalar(NUMBER).bind(column(start)).bind(column(start.saturating_add(PIECE)));
    let forgotten: i64 = forgotten.fetch_one(&mut *connection).await?;
    let mine = closed == made.before && forgotten == made.piece.forgotten;
    if mine {
        let Piece { rows, identities, .. } = made.piece;
        write(connection, rows).await?;
        let identities: Vec<String> = identities.into_iter().collect();
        for some in identities.chunks(IDENTITIES) {
            let mut insert: QueryBuilder<Sqlite> =
                QueryBuilder::new("INSERT OR IGNORE INTO audit_identity (spiffe_id) ");
            insert.push_values(some, |mut row, id| {
                row.push_bind(id.as_str());
            });
            insert.build().persistent(false).execute(&mut *connection).await?;
        }
        let moved = sqlx::query("UPDATE audit_closed SET start = ?, below = ? WHERE id = 1");
        moved.bind(column(made.after.start)).bind(column(made.after.end)).execute(&mut *connection).await?;
    }
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(if mine { made.after } else { closed })
}

impl SqliteStore {
    /// Makes and keeps the words of one piece of the log.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn close_piece(&self) -> Result<(), StoreError> {
        let failed = |error: sqlx::Error| store_error(DOING, &error);
        let mut reader = self.readers.acquire().await.map_err(failed)?;
        let made = make(&mut reader).await.map_err(failed)?;
        drop(reader);
        let closed = match made {
            Err(closed) => closed,
            Ok(made) => {
                let mut writer: Writer<'_> = self.writer().await?;
                let closed = keep(&mut writer.session.connection, made).await.map_err(failed)?;
                writer.keep().await?;
                closed
            }
        };
        self.progress.closed(closed);
        Ok(())
    }
}
