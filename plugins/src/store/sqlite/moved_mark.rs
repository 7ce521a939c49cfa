//! The mark in a database that was moved elsewhere: whoever opens it is told, and nothing is ever issued from it again.

use std::path::Path;

use signet_core::clock::rfc3339;
use signet_core::seams::store::StoreError;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection};
use time::OffsetDateTime;

use super::error::{is_missing_table, store_error};
use crate::store::columns::columns;

/// Where a database was moved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Mark {
    /// The URL of the other database.
    pub(in crate::store) target: String,
    /// Which one it is.
    pub(in crate::store) target_id: Vec<u8>,
    /// Microseconds since 1970.
    pub(in crate::store) at_micros: i64,
}

columns!(Mark { target, target_id, at_micros } from SqliteRow);

/// The mark, if there is one.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn mark(connection: &mut SqliteConnection) -> Result<Option<Mark>, sqlx::Error> {
    let read = sqlx::query_as("SELECT target, target_id, at_micros FROM moved WHERE id = 1");
    match read.fetch_optional(connection).await {
        Err(error) if is_missing_table(&error) => Ok(None),
        other => other,
    }
}

impl Mark {
    /// Leaves it: the row, and triggers on everything that a CA writes. Whatever program comes to write there, whatever it
    /// remembers of the journal, its transaction fails. When this has returned, it is on disk.
    ///
    /// # Errors
    /// [`sqlx::Error`].
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "there is nowhere to move to"))]
    pub(in crate::store) async fn leave(
        &self,
        connection: &mut SqliteConnection,
        tables: &[&str],
    ) -> Result<(), sqlx::Error> {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let row = sqlx::query("INSERT INTO moved (id, target, target_id, at_micros) VALUES (1, ?, ?, ?)");
        row.bind(&self.target).bind(&self.target_id).bind(self.at_micros).execute(&mut *transaction).await?;
        let words = self.words().replace('\'', "''");
        for table in tables.iter().chain(&["storage_probe"]) {
            for act in ["INSERT", "UPDATE", "DELETE"] {
                let trigger = format!(
                    "CREATE TRIGGER moved_{table}_{act} BEFORE {act} ON {table} \
                     BEGIN SELECT RAISE(ABORT, '{words}'); END"
                );
                sqlx::query(AssertSqlSafe(trigger)).execute(&mut *transaction).await?;
            }
        }
        transaction.commit().await
    }

    /// What is said of a storage with this mark.
    pub(in crate::store) fn words(&self) -> String {
        let at = OffsetDateTime::from_unix_timestamp(self.at_micros.div_euclid(1_000_000));
        let at = at.map_or_else(|_| "-".to_owned(), rfc3339);
        format!("this storage was moved to {} on {at}; nothing is issued from here any more", self.target)
    }
}

/// Refuses a database that was moved; within the transaction that opens it for writing.
///
/// # Errors
/// [`StoreError::Unavailable`] that says where it is now.
pub(super) async fn refuse_moved(connection: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let found = mark(connection).await;
    let found = found.map_err(|error| store_error(&format!("reading {}", path.display()), &error))?;
    found.map_or(Ok(()), |mark| {
        Err(StoreError::Unavailable(format!(
            "{}: {}; set `storage` to that, and keep this file for its record only",
            path.display(),
            mark.words()
        )))
    })
}
