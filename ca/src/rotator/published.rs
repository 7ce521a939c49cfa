//! Holders that learn of roots from where these are published in their cluster: pods whose certificates kubelets keep. They say
//! nothing themselves; what is published for long enough has reached them.

use signet_core::publication::{self, CLUSTER_TRUST_BUNDLE, Publication};
use signet_core::seams::store::StoreError;
use signet_core::time_math;
use time::OffsetDateTime;

use super::Rotator;
use super::observation::Observation;
use crate::clusters::KubeletRefresh;

/// The newest bundle that was published in every place at this time.
fn published_at(publication: &Publication, at: OffsetDateTime) -> Option<u64> {
    publication.reached.iter().rev().find(|(_, reached)| **reached <= at).map(|(sequence, _)| *sequence)
}

impl Rotator {
    /// Notes in storage, for every replica, which bundles have reached those holders, when somebody lacks the one that is waited
    /// for; and in the observation.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn count_published(&self, observation: &mut Observation) -> Result<(), StoreError> {
        let (now, awaited) = (observation.now, observation.authorities.awaited_sequence());
        let coverage = &observation.coverage;
        // By a clock that has jumped, it may be too soon.
        if !observation.clock_is_steady || coverage.covered(awaited) == coverage.live() {
            return Ok(());
        }
        let mut news = 0;
        for publication in self.publications.publications().await?.all() {
            let place = publication.publisher.strip_prefix(CLUSTER_TRUST_BUNDLE);
            let Some((cluster, object)) = place.and_then(|place| place.rsplit_once('/')) else { continue };
            // Of the signer that signs for pods there now; what is published of others is nobody's here.
            let Some(KubeletRefresh { signer, wait }) = self.clusters.kubelet_refresh(cluster) else { continue };
            if !object.starts_with(&publication::cluster_trust_bundle(&signer, "")) {
                continue;
            }
            let refreshed = time_math::before(now, wait);
            if let Some(sequence) = published_at(publication, refreshed) {
                news += self.executor.holders.published_to(cluster, &signer, sequence, now).await?;
            }
        }
        if news > 0 {
            tracing::info!(holders = news, bundle_sequence = awaited, "a published trust bundle has reached pods");
            observation.coverage = self.executor.holders.coverage(now).await?;
            observation.lag = self.executor.holders.lag(now, awaited).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "published_tests.rs"]
mod tests;
