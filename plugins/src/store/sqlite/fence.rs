//! The fence: what the journal lets out, looked at in the transaction of each batch that releases certificates.

use signet_core::rotation::Fence;
use signet_core::seams::store::StoreError;
use sqlx::sqlite::SqliteConnection;

use crate::store::rows::decode_authorities;

/// Fails, with a constraint that no row can fulfil, unless the journal has this version still: see
/// [`is_guarded`](super::error::is_guarded). One row is read, and none written.
pub(super) const GUARD: &str = "INSERT INTO authority_fence (id, version, body) \
    SELECT id, NULL, NULL FROM authority_journal WHERE id = 1 AND version <> ?";

const KEEP: &str = "INSERT INTO authority_fence (id, version, body) VALUES (1, ?, ?) \
    ON CONFLICT (id) DO UPDATE SET version = excluded.version, body = excluded.body";

/// The fence of one version of the journal.
#[derive(Default)]
pub(super) struct Known {
    /// 0 when there is no journal.
    pub(super) version: i64,
    pub(super) fence: Fence,
}

impl Known {
    /// Reads the fence within a transaction.
    ///
    /// # Errors
    /// [`sqlx::Error`]; `Decode` when the journal or the fence is not what was once written.
    pub(super) async fn read(connection: &mut SqliteConnection) -> Result<Self, sqlx::Error> {
        let read = "SELECT j.version, f.body FROM authority_journal AS j \
            LEFT JOIN authority_fence AS f ON f.id = j.id AND f.version = j.version WHERE j.id = 1";
        let found: Option<(i64, Option<String>)> = sqlx::query_as(read).fetch_optional(&mut *connection).await?;
        match found {
            None => Ok(Self::default()),
            Some((version, Some(body))) => {
                let fence = serde_json::from_str(&body).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
                Ok(Self { version, fence })
            }
            Some((version, None)) => Self::made_anew(connection, version).await,
        }
    }

    /// The journal comes from a program that knew of no fence.
    async fn made_anew(connection: &mut SqliteConnection, version: i64) -> Result<Self, sqlx::Error> {
        let body = sqlx::query_scalar("SELECT body FROM authority_journal WHERE id = 1");
        let body: String = body.fetch_one(&mut *connection).await?;
        let authorities = decode_authorities(version, &body).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        let fence = Fence::of(&authorities);
        let body = encode(&fence).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        keep(connection, version, &body).await?;
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
pub(super) async fn keep(connection: &mut SqliteConnection, version: i64, body: &str) -> Result<(), sqlx::Error> {
    sqlx::query(KEEP).bind(version).bind(body).execute(connection).await.map(|_| ())
}
