//! The fence: what the journal lets out, looked at in the transaction of each batch that releases certificates.

use signet_core::rotation::Fence;
use signet_core::seams::store::StoreError;
use sqlx::postgres::PgConnection;

use crate::store::rows::decode_authorities;

const KEEP: &str = "INSERT INTO authority_fence (id, version, body) VALUES (1, $1, $2) \
    ON CONFLICT (id) DO UPDATE SET version = excluded.version, body = excluded.body";

/// The fence of one version of the journal.
#[derive(Default)]
pub(super) struct Known {
    /// 0 when there is no journal.
    pub(super) version: i64,
    pub(super) fence: Fence,
}

impl Known {
    /// Reads the fence within a transaction that has the lock.
    ///
    /// # Errors
    /// [`sqlx::Error`]; `Decode` when the journal or the fence is not what was once written.
    pub(super) async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let read = "SELECT j.version, f.body FROM authority_journal AS j \
            LEFT JOIN authority_fence AS f ON f.id = j.id AND f.version = j.version WHERE j.id = 1";
        let found: Option<(i64, Option<String>)> = sqlx::query_as(read).fetch_optional(&mut *connection).await?;
        let (version, fence) = match found {
            None => return Ok(Self::default()),
            Some((version, Some(body))) => {
                (version, serde_json::from_str(&body).map_err(|error| sqlx::Error::Decode(Box::new(error)))?)
            }
            // Somebody has replaced the journal by hand.
            Some((version, None)) => {
                let body = sqlx::query_scalar("SELECT body FROM authority_journal WHERE id = 1");
                let body: String = body.fetch_one(connection).await?;
                let authorities = decode_authorities(version, &body);
                (version, Fence::of(&authorities.map_err(|error| sqlx::Error::Decode(Box::new(error)))?))
            }
        };
        Ok(Self { version, fence })
    }
}

/// A fence as text.
///
/// # Errors
/// [`StoreError::Damaged`] when it has no JSON form, which is a bug.
pub(super) fn encode(fence: &Fence) -> Result<String, StoreError> {
    serde_json::to_string(fence).map_err(|error| StoreError::Damaged(format!("bug: a fence does not encode: {error}")))
}

/// Keeps the fence of this version, within the transaction that makes it.
pub(super) async fn keep(connection: &mut PgConnection, version: i64, body: &str) -> Result<(), sqlx::Error> {
    sqlx::query(KEEP).bind(version).bind(body).execute(connection).await.map(drop)
}
