//! The sealed keys, and which of them nobody needs.

use std::time::Duration;

use async_trait::async_trait;
use signet_core::authority::KeyId;
use signet_core::seams::store::{SealedKeys, StoreError};
use signet_core::time_math;
use sqlx::sqlite::SqliteConnection;
use time::OffsetDateTime;

use super::SqliteStore;
use super::error::store_error;

/// How long it is known that a key was removed.
const REMEMBERED: Duration = Duration::from_secs(365 * 86_400);

/// Whether a document with this text names, other than the one that is there, a key that was removed: names stand in it as
/// JSON strings.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn names_removed(connection: &mut SqliteConnection, body: &str) -> Result<bool, sqlx::Error> {
    let names = "SELECT EXISTS (SELECT 1 FROM removed_key AS r WHERE instr(?, '\"' || r.id || '\"') \
        AND NOT EXISTS (SELECT 1 FROM authority_journal AS j WHERE instr(j.body, '\"' || r.id || '\"')))";
    sqlx::query_scalar(names).bind(body).fetch_one(connection).await
}

/// The keys that no document names, of those that may be removed.
const UNNAMED: &str = "SELECT id FROM sealed_key AS k WHERE id NOT GLOB ?1 || '*' \
    AND NOT EXISTS (SELECT 1 FROM authority_journal AS j WHERE instr(j.body, '\"' || k.id || '\"')) \
    AND NOT EXISTS (SELECT 1 FROM authority_journal_history AS h WHERE h.version > ?2 \
        AND instr(h.body, '\"' || k.id || '\"'))";

#[async_trait]
impl SealedKeys for SqliteStore {
    async fn insert(&self, id: &KeyId, sealed: &[u8]) -> Result<bool, StoreError> {
        const DOING: &str = "writing a sealed key";
        let write = async {
            let mut writer = self.writer().await?;
            let connection = &mut writer.session.connection;
            let failed = |error: sqlx::Error| store_error(DOING, &error);
            sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(failed)?;
            let insert = "INSERT INTO sealed_key (id, sealed) VALUES (?, ?) ON CONFLICT (id) DO NOTHING";
            let insert = sqlx::query(insert).bind(id.as_str()).bind(sealed);
            let done = insert.execute(&mut *connection).await.map_err(failed)?;
            let back = sqlx::query("DELETE FROM removed_key WHERE id = ?").bind(id.as_str());
            back.execute(&mut *connection).await.map_err(failed)?;
            sqlx::query("COMMIT").execute(&mut *connection).await.map_err(failed)?;
            writer.keep().await?;
            Ok(done.rows_affected() == 1)
        };
        self.within(DOING, write).await
    }

    async fn fetch(&self, id: &KeyId) -> Result<Option<Vec<u8>>, StoreError> {
        const DOING: &str = "reading a sealed key";
        let read = sqlx::query_scalar("SELECT sealed FROM sealed_key WHERE id = ?").bind(id.as_str());
        let read = async { read.fetch_optional(&self.readers).await.map_err(|error| store_error(DOING, &error)) };
        self.within(DOING, read).await
    }

    async fn all(&self) -> Result<Vec<(KeyId, Vec<u8>)>, StoreError> {
        const DOING: &str = "reading the sealed keys";
        let read = sqlx::query_as("SELECT id, sealed FROM sealed_key ORDER BY id");
        let read = async {
            self.readable().await?;
            read.fetch_all(&self.readers).await.map_err(|error| store_error(DOING, &error))
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
            let mut writer = self.writer().await?;
            let replace = sqlx::query("UPDATE sealed_key SET sealed = ? WHERE id = ? AND sealed = ?");
            let replace = replace.bind(sealed).bind(id.as_str()).bind(before);
            let done = replace.execute(&mut writer.session.connection).await;
            let done = done.map_err(|error| store_error(DOING, &error))?;
            writer.keep().await?;
            Ok(done.rows_affected() == 1)
        };
        self.within(DOING, write).await
    }

    async fn forget_unused(&self, now: OffsetDateTime, unused_for: Duration) -> Result<Vec<KeyId>, StoreError> {
        const DOING: &str = "looking for keys that nobody needs";
        let failed = |error: sqlx::Error| store_error(DOING, &error);
        let read = async {
            self.readable().await?;
            let mut reader = self.readers.begin().await.map_err(failed)?;
            let version = sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM authority_journal_history");
            let version: i64 = version.fetch_one(&mut *reader).await.map_err(failed)?;
            // All of the history, which may be long, and so is not read under the write lock.
            let unnamed = sqlx::query_scalar(UNNAMED).bind(KeyId::IMPORTED).bind(0_i64);
            let unnamed: Vec<String> = unnamed.fetch_all(&mut *reader).await.map_err(failed)?;
            let marked = "SELECT count(*) FROM sealed_key WHERE unused_since IS NOT NULL";
            let marked: i64 = sqlx::query_scalar(marked).fetch_one(&mut *reader).await.map_err(failed)?;
            Ok((version, unnamed, marked))
        };
        let (version, before, marked) = self.within(DOING, read).await?;
        if before.is_empty() && marked == 0 {
            return Ok(Vec::new());
        }
        let write = async {
            let mut writer = self.writer().await?;
            let connection = &mut writer.session.connection;
            sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(failed)?;
            // Once more, with what has come since.
            let unnamed = sqlx::query_scalar(UNNAMED).bind(KeyId::IMPORTED).bind(version);
            let unnamed: Vec<String> = unnamed.fetch_all(&mut *connection).await.map_err(failed)?;
            let still: Vec<&String> = unnamed.iter().filter(|id| before.contains(id)).collect();
            let removed = sweep(connection, &still, now, unused_for).await.map_err(failed)?;
            sqlx::query("COMMIT").execute(&mut *connection).await.map_err(failed)?;
            writer.keep().await?;
            Ok(removed.iter().filter_map(|id| KeyId::parse(id)).collect())
        };
        self.within(DOING, Box::pin(write)).await
    }
}

/// Notes which keys are unused, and removes those that have been for long enough.
async fn sweep(
    connection: &mut SqliteConnection,
    unused: &[&String],
    now: OffsetDateTime,
    unused_for: Duration,
) -> Result<Vec<String>, sqlx::Error> {
    let (at, limit) = (now.unix_timestamp(), time_math::before(now, unused_for).unix_timestamp());
    let names = serde_json::to_string(unused).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    let used = "UPDATE sealed_key SET unused_since = NULL \
        WHERE unused_since IS NOT NULL AND id NOT IN (SELECT value FROM json_each(?))";
    sqlx::query(used).bind(&names).execute(&mut *connection).await?;
    // A time to come is of a clock that was ahead.
    let mark = "UPDATE sealed_key SET unused_since = ?2 WHERE id IN (SELECT value FROM json_each(?1)) \
        AND (unused_since IS NULL OR unused_since > ?2)";
    sqlx::query(mark).bind(&names).bind(at).execute(&mut *connection).await?;
    let remove = "DELETE FROM sealed_key WHERE unused_since <= ? RETURNING id";
    let removed: Vec<String> = sqlx::query_scalar(remove).bind(limit).fetch_all(&mut *connection).await?;
    for id in &removed {
        let note = "INSERT INTO removed_key (id, at) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET at = excluded.at";
        sqlx::query(note).bind(id).bind(at).execute(&mut *connection).await?;
    }
    let old = time_math::before(now, REMEMBERED).unix_timestamp();
    sqlx::query("DELETE FROM removed_key WHERE at < ?").bind(old).execute(connection).await?;
    Ok(removed)
}
