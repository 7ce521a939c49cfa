//! The sealed keys, and which of them nobody needs.

use std::time::Duration;

use async_trait::async_trait;
use signet_core::authority::KeyId;
use signet_core::seams::store::{SealedKeys, StoreError};
use signet_core::time_math;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;

use super::PostgresStore;
use super::error::store_error;
use super::pool::Use;

/// How long it is known that a key was removed.
const REMEMBERED: Duration = Duration::from_secs(365 * 86_400);

/// Whether a document with this text names, other than the one that is there, a key that was removed: names stand in it as
/// JSON strings. Within a transaction that has the lock.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn names_removed(connection: &mut PgConnection, body: &str) -> Result<bool, sqlx::Error> {
    let names = "SELECT EXISTS (SELECT 1 FROM removed_key AS r WHERE strpos($1, '\"' || r.id || '\"') > 0 \
        AND NOT EXISTS (SELECT 1 FROM authority_journal AS j WHERE strpos(j.body, '\"' || r.id || '\"') > 0))";
    sqlx::query_scalar(names).bind(body).fetch_one(connection).await
}

/// The version of the history that was read ($2 is 0: all of it), the keys that no document names, of those that may be
/// removed, and how many are known to be unused. One statement, so that all is of one moment.
const UNNAMED: &str = "SELECT (SELECT coalesce(max(version), 0) FROM authority_journal_history), \
    ARRAY(SELECT id FROM sealed_key AS k WHERE NOT starts_with(id, $1) \
        AND NOT EXISTS (SELECT 1 FROM authority_journal AS j WHERE strpos(j.body, '\"' || k.id || '\"') > 0) \
        AND NOT EXISTS (SELECT 1 FROM authority_journal_history AS h WHERE h.version > $2 \
            AND strpos(h.body, '\"' || k.id || '\"') > 0)), \
    (SELECT count(*) FROM sealed_key WHERE unused_since IS NOT NULL)";

type Unnamed = (i64, Vec<String>, i64);

async fn unnamed(connection: &mut PgConnection, after: i64) -> Result<Unnamed, sqlx::Error> {
    sqlx::query_as(UNNAMED).bind(KeyId::IMPORTED).bind(after).fetch_one(connection).await
}

#[async_trait]
impl SealedKeys for PostgresStore {
    async fn insert(&self, id: &KeyId, sealed: &[u8]) -> Result<bool, StoreError> {
        const DOING: &str = "writing a sealed key";
        let write = async {
            let failed = |error: sqlx::Error| store_error(DOING, &error);
            let mut locked = self.locked(DOING).await?;
            let insert = "INSERT INTO sealed_key (id, sealed) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING";
            let insert = sqlx::query(insert).bind(id.as_str()).bind(sealed);
            let done = insert.execute(locked.connection()).await.map_err(failed)?;
            let back = sqlx::query("DELETE FROM removed_key WHERE id = $1").bind(id.as_str());
            back.execute(locked.connection()).await.map_err(failed)?;
            locked.commit(DOING).await?;
            Ok(done.rows_affected() == 1)
        };
        self.within(DOING, Box::pin(write)).await
    }

    async fn fetch(&self, id: &KeyId) -> Result<Option<Vec<u8>>, StoreError> {
        const DOING: &str = "reading a sealed key";
        let read = async {
            let mut lease = self.lease(Use::Reading).await?;
            let read = sqlx::query_scalar("SELECT sealed FROM sealed_key WHERE id = $1").bind(id.as_str());
            let found = read.fetch_optional(&mut *lease).await.map_err(|error| store_error(DOING, &error))?;
            lease.keep();
            Ok(found)
        };
        self.within(DOING, read).await
    }

    async fn all(&self) -> Result<Vec<(KeyId, Vec<u8>)>, StoreError> {
        const DOING: &str = "reading the sealed keys";
        let read = async {
            let mut lease = self.lease(Use::Reading).await?;
            let read = sqlx::query_as("SELECT id, sealed FROM sealed_key ORDER BY id");
            let found = read.fetch_all(&mut *lease).await.map_err(|error| store_error(DOING, &error))?;
            lease.keep();
            Ok(found)
        };
        let found: Vec<(String, Vec<u8>)> = self.within(DOING, read).await?;
        let named = |(id, sealed): (String, Vec<u8>)| {
            let damaged = || StoreError::Damaged(format!("{DOING}: {id:?} names no key"));
            KeyId::parse(&id).map(|id| (id, sealed)).ok_or_else(damaged)
        };
        found.into_iter().map(named).collect()
    }

    async fn reseal(&self, id: &KeyId, before: &[u8], sealed: &[u8]) -> Result<bool, StoreError> {
        const DOING: &str = "replacing a sealed key";
        let write = async {
            let mut locked = self.locked(DOING).await?;
            let replace = sqlx::query("UPDATE sealed_key SET sealed = $1 WHERE id = $2 AND sealed = $3");
            let replace = replace.bind(sealed).bind(id.as_str()).bind(before).execute(locked.connection()).await;
            let done = replace.map_err(|error| store_error(DOING, &error))?;
            locked.commit(DOING).await?;
            Ok(done.rows_affected() == 1)
        };
        self.within(DOING, Box::pin(write)).await
    }

    async fn forget_unused(&self, now: OffsetDateTime, unused_for: Duration) -> Result<Vec<KeyId>, StoreError> {
        const DOING: &str = "looking for keys that nobody needs";
        let failed = |error: sqlx::Error| store_error(DOING, &error);
        let read = async {
            let mut lease = self.lease(Use::Reading).await?;
            // All of the history, which may be long, and so is not read under the lock.
            let found = unnamed(&mut lease, 0).await.map_err(failed)?;
            lease.keep();
            Ok(found)
        };
        let (version, before, marked) = self.within(DOING, read).await?;
        if before.is_empty() && marked == 0 {
            return Ok(Vec::new());
        }
        let write = async {
            let mut locked = self.locked(DOING).await?;
            // Once more, with what has come since.
            let (_, unnamed, _) = unnamed(locked.connection(), version).await.map_err(failed)?;
            let still: Vec<&str> = unnamed.iter().filter(|id| before.contains(id)).map(String::as_str).collect();
            let removed = sweep(locked.connection(), &still, now, unused_for).await.map_err(failed)?;
            locked.commit(DOING).await?;
            Ok(removed.iter().filter_map(|id| KeyId::parse(id)).collect())
        };
        self.within(DOING, Box::pin(write)).await
    }
}

/// Notes which keys are unused, and removes those that have been for long enough.
async fn sweep(
    connection: &mut PgConnection,
    unused: &[&str],
    now: OffsetDateTime,
    unused_for: Duration,
) -> Result<Vec<String>, sqlx::Error> {
    let (at, limit) = (now.unix_timestamp(), time_math::before(now, unused_for).unix_timestamp());
    let used = "UPDATE sealed_key SET unused_since = NULL WHERE unused_since IS NOT NULL AND id <> ALL($1)";
    sqlx::query(used).bind(unused).execute(&mut *connection).await?;
    // A time to come is of a clock that was ahead.
    let mark = "UPDATE sealed_key SET unused_since = $2 WHERE id = ANY($1) \
        AND (unused_since IS NULL OR unused_since > $2)";
    sqlx::query(mark).bind(unused).bind(at).execute(&mut *connection).await?;
    let remove = "DELETE FROM sealed_key WHERE unused_since <= $1 RETURNING id";
    let removed: Vec<String> = sqlx::query_scalar(remove).bind(limit).fetch_all(&mut *connection).await?;
    let note = "INSERT INTO removed_key (id, at) SELECT id, $2 FROM unnest($1::text[]) AS r (id) \
        ON CONFLICT (id) DO UPDATE SET at = excluded.at";
    sqlx::query(note).bind(&removed).bind(at).execute(&mut *connection).await?;
    let old = time_math::before(now, REMEMBERED).unix_timestamp();
    sqlx::query("DELETE FROM removed_key WHERE at < $1").bind(old).execute(connection).await?;
    Ok(removed)
}
