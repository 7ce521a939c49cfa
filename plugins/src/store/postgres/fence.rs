//! The fence: what the journal lets out, looked at in the transaction of each batch that releases certificates.

use sqlx::postgres::PgConnection;

use crate::store::journal::{KEEP_FENCE, Known, READ_FENCE};

/// Reads the fence within a transaction that has the lock.
///
/// # Errors
/// [`sqlx::Error`]; `Decode` when the journal or the fence is not what was once written.
pub(super) async fn read(connection: &mut PgConnection) -> Result<Known, sqlx::Error> {
    let found: Option<(i64, Option<String>)> = sqlx::query_as(READ_FENCE).fetch_optional(&mut *connection).await?;
    match found {
        None => Ok(Known::default()),
        Some((version, Some(body))) => Known::kept(version, &body),
        Some((version, None)) => {
            let body = sqlx::query_scalar("SELECT body FROM authority_journal WHERE id = 1");
            let body: String = body.fetch_one(connection).await?;
            Known::made_anew(version, &body)
        }
    }
}

/// Keeps the fence of this version, within the transaction that makes it.
pub(super) async fn keep(connection: &mut PgConnection, version: i64, body: &str) -> Result<(), sqlx::Error> {
    sqlx::query(KEEP_FENCE).bind(version).bind(body).execute(connection).await.map(drop)
}
