//! The sealed keys.

use async_trait::async_trait;
use signet_core::seams::custody::KeyId;
use signet_core::seams::store::{SealedKeys, StoreError};

use super::SqliteStore;
use super::error::store_error;

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
}
