//! The fence: what the journal lets out, looked at in the transaction of each batch that releases certificates.

use sqlx::sqlite::SqliteConnection;

use crate::store::journal::{KEEP_FENCE, Known, READ_FENCE, encode_fence};

/// Fails, with a constraint that no row can fulfil, unless the journal has this version still: see
/// [`is_guarded`](super::error::is_guarded). One row is read, and none written.
pub(super) const GUARD: &str = "INSERT INTO authority_fence (id, version, body) \
    SELECT id, NULL, NULL FROM authority_journal WHERE id = 1 AND version <> ?";

/// Reads the fence within a transaction that may write.
///
/// # Errors
/// [`sqlx::Error`]; `Decode` when the journal or the fence is not what was once written.
pub(super) async fn read(connection: &mut SqliteConnection) -> Result<Known, sqlx::Error> {
    let found: Option<(i64, Option<String>)> = sqlx::query_as(READ_FENCE).fetch_optional(&mut *connection).await?;
    match found {
        None => Ok(Known::default()),
        Some((version, Some(body))) => Known::kept(version, &body),
        Some((version, None)) => {
            let body = sqlx::query_scalar("SELECT body FROM authority_journal WHERE id = 1");
            let body: String = body.fetch_one(&mut *connection).await?;
            let known = Known::made_anew(version, &body)?;
            let body = encode_fence(&known.fence).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            keep(connection, version, &body).await?;
            Ok(known)
        }
    }
}

/// Keeps the fence of this version, within the transaction that makes it.
pub(super) async fn keep(connection: &mut SqliteConnection, version: i64, body: &str) -> Result<(), sqlx::Error> {
    sqlx::query(KEEP_FENCE).bind(version).bind(body).execute(connection).await.map(drop)
}
