//! Leaves that are kept because their backend can revoke them.

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;
use signet_core::certificate::Serial;
use signet_core::seams::signed_leaves::SignedLeafStore;
use signet_core::seams::store::StoreError;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;

use super::PostgresStore;
use super::error::store_error;
use super::pool::Use;
use crate::store::signed_leaves::{FIND, FORGET, LeafRow};

/// Keeps leaves, within the transaction of their records.
pub(super) async fn insert(connection: &mut PgConnection, leaves: &[LeafRow<'_>]) -> Result<(), sqlx::Error> {
    if leaves.is_empty() {
        return Ok(());
    }
    let text =
        "INSERT INTO signed_leaf (serial, not_after, der) SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bytea[])";
    let insert = sqlx::query(text)
        .bind(leaves.iter().map(|leaf| leaf.serial).collect::<Vec<_>>())
        .bind(leaves.iter().map(|leaf| leaf.not_after).collect::<Vec<_>>())
        .bind(leaves.iter().map(|leaf| leaf.der).collect::<Vec<_>>());
    insert.execute(connection).await.map(drop)
}

#[async_trait]
impl SignedLeafStore for PostgresStore {
    async fn signed_leaf(&self, serial: Serial) -> Result<Option<CertificateDer<'static>>, StoreError> {
        const DOING: &str = "reading a leaf of the backend";
        let find = async {
            let mut lease = self.lease(Use::Reading).await?;
            let found = sqlx::query_scalar(FIND).bind(serial.as_bytes()).fetch_optional(&mut *lease).await;
            let found: Option<Vec<u8>> = found.map_err(|error| store_error(DOING, &error))?;
            lease.keep();
            Ok(found)
        };
        let der = self.within(DOING, Box::pin(find)).await?;
        Ok(der.map(CertificateDer::from))
    }

    async fn forget_signed(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        const DOING: &str = "forgetting leaves of the backend";
        let write = async {
            let mut lease = self.lease(Use::Writing).await?;
            self.seen.look(&mut lease).await?;
            let forget = sqlx::query(FORGET).bind(before.unix_timestamp()).bind(i64::from(limit));
            let done = forget.execute(&mut *lease).await.map_err(|error| store_error(DOING, &error))?;
            lease.keep();
            Ok(done.rows_affected())
        };
        self.within(DOING, Box::pin(write)).await
    }
}
