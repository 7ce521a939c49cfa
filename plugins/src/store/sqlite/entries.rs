//! The entries by which events of an identity or an outcome are found: made behind the log, many at once and in order, so
//! that an append does not pay for them.

use signet_core::seams::store::StoreError;
use sqlx::sqlite::SqliteConnection;

use super::error::store_error;
use super::{SqliteStore, Writer};
use crate::store::holders::column;

/// Events that get their entries in one transaction. Fewer than this many have none, but for what was appended while others
/// got theirs; a page is looked for in all of these.
pub(super) const PIECE: u64 = 1024;

const BELOW: &str = "SELECT below FROM audit_entries WHERE id = 1";
const BY_IDENTITY: &str = "INSERT INTO audit_by_identity (identity_key, seq) SELECT identity_key, seq FROM audit_event \
    WHERE seq >= ? AND seq < ? AND identity_key IS NOT NULL AND body IS NOT NULL ORDER BY identity_key, seq";
const BY_OUTCOME: &str = "INSERT INTO audit_by_outcome (outcome, seq) SELECT outcome, seq FROM audit_event \
    WHERE seq >= ? AND seq < ? AND body IS NOT NULL ORDER BY outcome, seq";
const MOVE: &str = "UPDATE audit_entries SET below = ? WHERE id = 1";

/// Events below this position have their entries.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn below(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let below: i64 = sqlx::query_scalar(BELOW).fetch_one(connection).await?;
    Ok(below.unsigned_abs())
}

/// Makes the entries of the next [`PIECE`] events in one transaction, if there are so many. Gives how far that is.
async fn make(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let from = below(connection).await?;
    let head: i64 =
        sqlx::query_scalar("SELECT coalesce(max(seq) + 1, 0) FROM audit_event").fetch_one(&mut *connection).await?;
    let to = from.saturating_add(PIECE);
    let is_full = to <= head.unsigned_abs();
    if is_full {
        for text in [BY_IDENTITY, BY_OUTCOME] {
            sqlx::query(text).bind(column(from)).bind(column(to)).execute(&mut *connection).await?;
        }
        sqlx::query(MOVE).bind(column(to)).execute(&mut *connection).await?;
    }
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(if is_full { to } else { from })
}

impl SqliteStore {
    /// Makes the entries of one piece of the log.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn make_entries(&self, mut writer: Writer<'_>) -> Result<(), StoreError> {
        let made = make(&mut writer.session.connection).await;
        let below = made.map_err(|error| store_error("making the entries that events are found by", &error))?;
        writer.keep().await?;
        self.progress.found(below);
        Ok(())
    }
}
