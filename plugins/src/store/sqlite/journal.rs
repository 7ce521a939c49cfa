//! The journal of authorities and the sealed keys: few rows, each write its own commit.

use async_trait::async_trait;
use signet_core::rotation::Authorities;
use signet_core::seams::custody::KeyId;
use signet_core::seams::store::{AuthorityJournal, JournalVersion, SealedKeys, StoreError};

use super::SqliteStore;
use super::error::store_error;
use crate::store::rows::{decode_authorities, encode_authorities};

/// Versions that are kept for people: each is a whole document, which revocation lists make large.
const HISTORY: i64 = 500;

#[async_trait]
impl AuthorityJournal for SqliteStore {
    async fn load(&self) -> Result<Option<(JournalVersion, Authorities)>, StoreError> {
        const DOING: &str = "reading the authority journal";
        let read = sqlx::query_as("SELECT version, body FROM authority_journal WHERE id = 1");
        let read = async {
            self.readable().await?;
            read.fetch_optional(&self.readers).await.map_err(|error| store_error(DOING, &error))
        };
        let found: Option<(i64, String)> = self.within(DOING, read).await?;
        let Some((version, body)) = found else { return Ok(None) };
        let authorities = decode_authorities(version, &body)?;
        Ok(Some((JournalVersion(version.unsigned_abs()), authorities)))
    }

    async fn version(&self) -> Result<JournalVersion, StoreError> {
        const DOING: &str = "reading the version of the authority journal";
        let read = sqlx::query_scalar("SELECT version FROM authority_journal WHERE id = 1");
        let read = async {
            self.readable().await?;
            read.fetch_optional(&self.readers).await.map_err(|error| store_error(DOING, &error))
        };
        let found: Option<i64> = self.within(DOING, read).await?;
        Ok(JournalVersion(found.unwrap_or_default().unsigned_abs()))
    }

    async fn replace(
        &self,
        expected: JournalVersion,
        authorities: &Authorities,
    ) -> Result<Option<JournalVersion>, StoreError> {
        const DOING: &str = "writing the authority journal";
        let body = encode_authorities(authorities)?;
        let Some(next) = expected.0.checked_add(1).and_then(|next| i64::try_from(next).ok()) else { return Ok(None) };
        let failed = |error: sqlx::Error| store_error(DOING, &error);
        let write = async {
            let mut writer = self.writer().await?;
            let connection = &mut writer.session.connection;
            sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(failed)?;
            let change = if expected.0 == 0 {
                "INSERT INTO authority_journal (id, version, body) VALUES (1, ?1, ?2) ON CONFLICT (id) DO NOTHING"
            } else {
                "UPDATE authority_journal SET version = ?1, body = ?2 WHERE id = 1 AND version = ?1 - 1"
            };
            let changed = sqlx::query(change).bind(next).bind(&body).execute(&mut *connection).await.map_err(failed)?;
            let won = changed.rows_affected() == 1;
            if won {
                let history = "INSERT INTO authority_journal_history (version, body) VALUES (?, ?)";
                sqlx::query(history).bind(next).bind(&body).execute(&mut *connection).await.map_err(failed)?;
                let old = "DELETE FROM authority_journal_history WHERE version <= ?";
                sqlx::query(old).bind(next.saturating_sub(HISTORY)).execute(&mut *connection).await.map_err(failed)?;
            }
            sqlx::query("COMMIT").execute(&mut *connection).await.map_err(failed)?;
            writer.keep().await?;
            Ok(won.then(|| JournalVersion(next.unsigned_abs())))
        };
        self.within(DOING, write).await
    }
}

#[async_trait]
impl SealedKeys for SqliteStore {
    async fn insert(&self, id: &KeyId, sealed: &[u8]) -> Result<bool, StoreError> {
        const DOING: &str = "writing a sealed key";
        let write = async {
            let mut writer = self.writer().await?;
            let insert = "INSERT INTO sealed_key (id, sealed) VALUES (?, ?) ON CONFLICT (id) DO NOTHING";
            let insert = sqlx::query(insert).bind(id.as_str()).bind(sealed);
            let done = insert.execute(&mut writer.session.connection).await;
            let done = done.map_err(|error| store_error(DOING, &error))?;
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
}
