//! A storage that is being moved here: its copy is refused until it is complete.

use signet_core::seams::store::StoreError;
use sqlx::postgres::{PgConnection, PgRow};

use super::PostgresAccess;
use super::error::store_error;
use crate::store::columns::columns;

/// What there is of a storage that was moved here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copy {
    /// The URL of the file that it comes from.
    pub(super) origin: String,
    /// Which database that was.
    pub(super) origin_id: Vec<u8>,
    /// Whether it may be used.
    pub(super) complete: bool,
}

columns!(Copy { origin, origin_id, complete } from PgRow);

/// The copy, if there is one.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn copy(connection: &mut PgConnection) -> Result<Option<Copy>, sqlx::Error> {
    // Not asked for where it is missing: the error would end the transaction.
    let exists: bool =
        sqlx::query_scalar("SELECT to_regclass('moved') IS NOT NULL").fetch_one(&mut *connection).await?;
    if !exists {
        return Ok(None);
    }
    sqlx::query_as("SELECT origin, origin_id, complete FROM moved WHERE id = 1").fetch_optional(connection).await
}

/// Refuses a database with a copy that is not complete.
///
/// # Errors
/// [`StoreError::Unavailable`] that says what completes it.
pub(super) async fn refuse_incomplete(
    connection: &mut PgConnection,
    access: &PostgresAccess,
) -> Result<(), StoreError> {
    let found = copy(connection).await.map_err(|error| store_error(&format!("reading {access}"), &error))?;
    match found {
        Some(Copy { origin, complete: false, .. }) => Err(StoreError::Unavailable(format!(
            "{access} holds a copy of {origin} that is not complete, and no CA may use it; run the same `signet-ca migrate` \
             again, which completes it"
        ))),
        _ => Ok(()),
    }
}
