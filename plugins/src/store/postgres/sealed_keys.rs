//! Which keys were removed; none are kept in PostgreSQL yet.

use sqlx::postgres::PgConnection;

/// Whether a document with this text names a key that was removed.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn names_removed(_connection: &mut PgConnection, _body: &str) -> Result<bool, sqlx::Error> {
    Ok(false)
}
