//! Holders that learn of bundles from where they are published in their cluster.

use std::collections::BTreeSet;

use signet_core::audit::AuditEvent;
use signet_core::holder::HolderKey;
use signet_core::seams::store::StoreError;
use time::OffsetDateTime;

use super::PostgresStore;
use super::error::store_error;
use super::holder_projection;
use super::loaded_holders::{Loaded, plain};
use super::pool::Use;
use crate::store::holders::column;

const DOING: &str = "noting where bundles are published";

/// Holders that one transaction changes at most. What is appended meanwhile waits for it.
const PIECE: i64 = 512;

/// Some of those that lack a bundle.
const LACK: &str = "SELECT spiffe_id, instance FROM holder WHERE cluster = $1 AND sequence < $2 \
    AND starts_with(instance, $3) LIMIT $4";

impl PostgresStore {
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
        let failed = |error: sqlx::Error| store_error(DOING, &error);
        let (cluster, at) = (plain(cluster), AuditEvent::micros(at));
        let of = (&*cluster, HolderKey::kubelets(signer));
        self.catch_up().await?;
        let mut news: u64 = 0;
        loop {
            // Most of the time it is no news, which is found out without the lock.
            let mut lease = self.lease(Use::Reading).await?;
            let lack = sqlx::query_as(LACK).bind(&cluster).bind(column(sequence)).bind(&of.1).bind(PIECE);
            let names: Vec<(String, String)> = lack.fetch_all(&mut *lease).await.map_err(failed)?;
            lease.keep();
            if names.is_empty() {
                return Ok(news);
            }
            let keys: BTreeSet<HolderKey> =
                names.into_iter().map(|(spiffe_id, instance)| HolderKey { spiffe_id, instance }).collect();
            let mut locked = self.locked(DOING).await?;
            let bounds = holder_projection::enter_all(locked.connection()).await.map_err(failed)?;
            let mut loaded = Loaded::read(locked.connection(), &keys).await.map_err(failed)?;
            news = news.saturating_add(loaded.publish(&of, sequence, at));
            loaded.write(locked.connection(), bounds).await.map_err(failed)?;
            locked.commit(DOING).await?;
        }
    }
}
