//! Holders that learn of bundles from where they are published in their cluster.

use signet_core::audit::AuditEvent;
use signet_core::holder::HolderKey;
use signet_core::seams::store::StoreError;
use time::OffsetDateTime;

use super::error::store_error;
use super::{Session, SqliteStore, holder_marks, holder_projection};
use crate::store::holders::{Raises, column};

/// Whether anybody lacks a bundle who learns from where it is published: cluster, sequence, and how their names begin.
const UNPUBLISHED: &str = "SELECT EXISTS (SELECT 1 FROM holder WHERE cluster = ?1 AND sequence < ?2 \
    AND substr(instance, 1, length(?3)) = ?3)";

/// What those had before, once each.
const PUBLISHED_FROM: &str = "SELECT DISTINCT iif(sequence = 0, coalesce(first_bundle, 0), sequence) FROM holder \
    WHERE cluster = ?1 AND sequence < ?2 AND substr(instance, 1, length(?3)) = ?3";

const PUBLISH: &str = "UPDATE holder SET sequence = ?2 WHERE cluster = ?1 AND sequence < ?2 \
    AND substr(instance, 1, length(?3)) = ?3";

/// Notes what has reached whoever learns from where bundles are published, in one transaction in which nothing waits to be
/// entered.
async fn publish(
    session: &mut Session,
    (cluster, kubelets): (&str, &str),
    sequence: i64,
    at: i64,
) -> Result<u64, sqlx::Error> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut session.connection).await?;
    holder_projection::enter_all(session).await?;
    let connection = &mut session.connection;
    let from = sqlx::query_scalar(PUBLISHED_FROM).bind(cluster).bind(sequence).bind(kubelets);
    let from: Vec<i64> = from.fetch_all(&mut *connection).await?;
    let mut raises = Raises::default();
    for before in from {
        raises.add(before, sequence, at);
    }
    let done = sqlx::query(PUBLISH).bind(cluster).bind(sequence).bind(kubelets).execute(&mut *connection).await?;
    holder_marks::enter(connection, &raises).await?;
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(done.rows_affected())
}

impl SqliteStore {
    /// See [`HolderStore::published_to`](signet_core::seams::store::HolderStore::published_to).
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn publish_to(
        &self,
        cluster: &str,
        signer: &str,
        sequence: u64,
        at: OffsetDateTime,
    ) -> Result<u64, StoreError> {
        const DOING: &str = "noting where bundles are published";
        let (at, kubelets) = (AuditEvent::micros(at), HolderKey::kubelets(signer));
        let write = async {
            self.catch_up().await?;
            // Most of the time it is no news, which is found out without the write lock.
            let look = sqlx::query_scalar(UNPUBLISHED).bind(cluster).bind(column(sequence)).bind(&kubelets);
            let any: bool = look.fetch_one(&self.readers).await.map_err(|error| store_error(DOING, &error))?;
            if !any {
                return Ok(0);
            }
            let mut writer = self.writer().await?;
            let news = publish(&mut writer.session, (cluster, &kubelets), column(sequence), at).await;
            let news = news.map_err(|error| store_error(DOING, &error))?;
            writer.keep().await?;
            Ok(news)
        };
        self.within(DOING, Box::pin(write)).await
    }
}
