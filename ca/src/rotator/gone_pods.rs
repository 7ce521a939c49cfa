//! Finds the holders among those that lag whose pods are gone, so that nobody waits for them: a pod that was deleted
//! acknowledges nothing any more, and its certificate may live for days.

use std::time::Duration;

use signet_core::holder::{Gone, Holder, HolderQuery, MAX_HOLDERS};
use signet_core::seams::store::StoreError;
use signet_core::time_math;

use super::executor::Executor;
use super::observation::Observation;
use crate::clusters::Clusters;

/// For how long a holder must have been silent: its pod may be so young that the cluster has not told of it yet.
const SILENT: Duration = Duration::from_secs(120);

/// Pages of holders that are looked through at a time; the rest is looked at the next time.
const PAGES: usize = 20;

impl Executor {
    /// Leaves out of the observation, and of storage for every replica, whose pods are gone of those that are waited for.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn leave_out_gone(
        &self,
        observation: &mut Observation,
        clusters: &Clusters,
    ) -> Result<(), StoreError> {
        let (now, awaited) = (observation.now, observation.authorities.awaited_sequence());
        let coverage = &observation.coverage;
        if !observation.clock_is_steady || coverage.covered(awaited) == coverage.live() {
            return Ok(());
        }
        let silent_since = time_math::before(now, SILENT);
        let is_gone = |holder: &Holder| {
            let cluster = holder.cluster.as_deref().filter(|_| holder.pod.is_some() && holder.seen_at < silent_since);
            cluster.is_some_and(|cluster| clusters.has_lost(cluster, holder.key.pod_uid()))
        };
        let mut query =
            HolderQuery { now, behind: Some(awaited), authorities: Vec::new(), after: None, limit: MAX_HOLDERS };
        let mut news = 0;
        for _ in 0..PAGES {
            let page = self.holders.holders(&query).await?;
            query.after = page.last().map(|holder| holder.key.clone());
            let is_last = page.len() < query.page_size();
            let gone = page.into_iter().filter(is_gone).map(|holder| Gone { key: holder.key, serial: holder.serial });
            news += self.holders.gone(&gone.collect::<Vec<_>>(), silent_since, now).await?;
            if is_last {
                break;
            }
        }
        if news > 0 {
            tracing::info!(
                holders = news,
                bundle_sequence = awaited,
                "pods of holders are gone: nobody waits for these"
            );
            observation.coverage = self.holders.coverage(now).await?;
            observation.lag = self.holders.lag(now, awaited).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "gone_pods_tests.rs"]
mod tests;
