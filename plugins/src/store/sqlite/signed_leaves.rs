//! Leaves that are kept because their backend can revoke them.

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;
use signet_core::certificate::Serial;
use signet_core::seams::signed_leaves::SignedLeafStore;
use signet_core::seams::store::StoreError;
use sqlx::sqlite::SqliteConnection;
use time::OffsetDateTime;

use super::SqliteStore;
use super::error::store_error;
use crate::store::signed_leaves::{FIND, FORGET, LeafRow};

/// Keeps a leaf, within the transaction of its record.
pub(super) async fn insert(connection: &mut SqliteConnection, leaf: &LeafRow<'_>) -> Result<(), sqlx::Error> {
    let insert = sqlx::query("INSERT INTO signed_leaf (serial, not_after, der) VALUES (?, ?, ?)");
    insert.bind(leaf.serial).bind(leaf.not_after).bind(leaf.der).execute(connection).await.map(drop)
}

#[async_trait]
impl SignedLeafStore for SqliteStore {
    async fn signed_leaf(&self, serial: Serial) -> Result<Option<CertificateDer<'static>>, StoreError> {
        const DOING: &str = "reading a leaf of the backend";
        let find = sqlx::query_scalar(FIND).bind(serial.as_bytes());
        let find = async { find.fetch_optional(&self.readers).await.map_err(|error| store_error(DOING, &error)) };
        let der: Option<Vec<u8>> = self.within(DOING, Box::pin(find)).await?;
        Ok(der.map(CertificateDer::from))
    }

    async fn forget_signed(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        const DOING: &str = "forgetting leaves of the backend";
        let write = async {
            let mut writer = self.writer().await?;
            let forget = sqlx::query(FORGET).bind(before.unix_timestamp()).bind(i64::from(limit));
            let done = forget.execute(&mut writer.session.connection).await;
            let done = done.map_err(|error| store_error(DOING, &error))?;
            writer.keep().await?;
            Ok(done.rows_affected())
        };
        self.within(DOING, Box::pin(write)).await
    }
}
