//! Holders follow the log: what its events say about them is entered behind it, in its order, each event once, in pieces
//! that nobody waits for long.

use signet_core::audit::AuditEvent;
use signet_core::seams::store::StoreError;
use sqlx::sqlite::SqliteConnection;

use super::error::store_error;
use super::holders::renew;
use super::{Session, SqliteStore, Writer};
use crate::store::holder_projection::{CertificateRow, Entered};
use crate::store::holders::column;

/// Events that one transaction enters at most. What is appended meanwhile waits for it.
pub(super) const PIECE: u64 = 256;

/// Events that wait to be entered before a piece of them is, when nobody asks for holders: a page of holders is then written
/// once for several of them.
pub(super) const WAITING: u64 = 2048;

/// Events that may wait at most; an append that finds more enters a piece first, whoever waits.
pub(super) const MOST_WAITING: u64 = 4 * WAITING;

const BOUNDS: &str = "SELECT below, (SELECT coalesce(max(seq) + 1, 0) FROM audit_event) FROM holder_fold WHERE id = 1";

/// The kind and outcome are those of a certificate that was issued to a workload.
const READ: &str = "SELECT seq, at_micros, serial, leaf_hash, body FROM audit_event \
    WHERE seq >= ? AND seq < ? AND kind = 0 AND outcome = 0 ORDER BY seq";

const MOVE: &str = "UPDATE holder_fold SET below = ? WHERE id = 1";

/// A certificate that nobody can tell the issuing CA of may be of each.
const UNREAD_USAGE: &str = "UPDATE authority_usage SET last_not_after = ?1 WHERE last_not_after < ?1";

/// Up to which position events are entered, and where the log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Events below it are entered.
    pub(super) below: u64,
    /// The position after the last event.
    pub(super) head: u64,
}

impl Bounds {
    /// Reads both, of one moment.
    ///
    /// # Errors
    /// [`sqlx::Error`].
    pub(super) async fn read(connection: &mut SqliteConnection) -> Result<Self, sqlx::Error> {
        let (below, head): (i64, i64) = sqlx::query_as(BOUNDS).fetch_one(connection).await?;
        Ok(Self { below: below.unsigned_abs(), head: head.unsigned_abs() })
    }

    /// Whether everything is entered.
    pub(super) fn is_whole(self) -> bool {
        self.below >= self.head
    }
}

/// Enters the next events, [`PIECE`] at most, within a transaction that may write. Gives how far that is.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn enter(session: &mut Session) -> Result<Bounds, sqlx::Error> {
    let connection = &mut session.connection;
    let bounds = Bounds::read(connection).await?;
    let below = bounds.head.min(bounds.below.saturating_add(PIECE));
    if bounds.is_whole() {
        return Ok(bounds);
    }
    let entered = match session.recent.take(bounds.below, below) {
        Some(entered) => entered,
        None => read(connection, bounds.below, below).await?,
    };
    renew_all(connection, &entered).await?;
    sqlx::query(MOVE).bind(column(below)).execute(connection).await?;
    Ok(Bounds { below, ..bounds })
}

/// Enters whatever is not entered yet, within a transaction that may write.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn enter_all(session: &mut Session) -> Result<(), sqlx::Error> {
    while !enter(session).await?.is_whole() {}
    Ok(())
}

/// The events about certificates in a range of the log.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn read(
    connection: &mut SqliteConnection,
    from: u64,
    below: u64,
) -> Result<Vec<Entered>, sqlx::Error> {
    let read = sqlx::query_as(READ).bind(column(from)).bind(column(below));
    let rows: Vec<CertificateRow> = read.fetch_all(connection).await?;
    Ok(rows.into_iter().map(CertificateRow::entered).collect())
}

/// Enters what events say, in their order.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn renew_all(connection: &mut SqliteConnection, entered: &[Entered]) -> Result<(), sqlx::Error> {
    let events: Vec<&AuditEvent> = entered.iter().map(Entered::event).collect();
    renew(connection, &events).await?;
    if let Some(end) = entered.iter().filter_map(Entered::unread_end).max() {
        sqlx::query(UNREAD_USAGE).bind(end).execute(connection).await?;
    }
    Ok(())
}

impl SqliteStore {
    /// Makes sure that holders say all that is on record at the time of the call.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn catch_up(&self) -> Result<(), StoreError> {
        let failed = |error: sqlx::Error| store_error("entering holders of the record", &error);
        self.readable().await?;
        let mut reader = self.readers.acquire().await.map_err(failed)?;
        let mut bounds = Bounds::read(&mut reader).await.map_err(failed)?;
        drop(reader);
        let end = bounds.head;
        while bounds.below < end {
            bounds = self.enter_piece(self.writer().await?).await?;
        }
        Ok(())
    }

    /// Enters a piece of what waits, in a transaction of its own.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn enter_piece(&self, mut writer: Writer<'_>) -> Result<Bounds, StoreError> {
        let session = &mut writer.session;
        let work = async {
            sqlx::query("BEGIN IMMEDIATE").execute(&mut session.connection).await?;
            let bounds = enter(session).await?;
            sqlx::query("COMMIT").execute(&mut session.connection).await?;
            Ok(bounds)
        };
        let bounds = work.await.map_err(|error| store_error("entering holders of the record", &error))?;
        writer.keep().await?;
        self.progress.entered(bounds.below);
        Ok(bounds)
    }
}
