//! Claims on requests for the certificates of pods.

use async_trait::async_trait;
use signet_core::audit::AuditEvent;
use signet_core::record_before_release::ClaimName;
use signet_core::seams::pod_certificates::{Claim, PodCertificateStore};
use signet_core::seams::store::StoreError;
use time::OffsetDateTime;

use super::MemoryStore;
use crate::store::pod_certificates::{ClaimEntry, claim_of};

#[async_trait]
impl PodCertificateStore for MemoryStore {
    async fn claim(
        &self,
        name: &ClaimName,
        _cluster: &str,
        now: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<Claim, StoreError> {
        let claims = &mut self.content().claims;
        let claim = ClaimEntry::new(name, now, until);
        match claims.get(&name.uid).filter(|before| !before.yields_to(&claim)) {
            Some(before) => claim_of(before.row()),
            None => {
                claims.insert(name.uid.clone(), claim);
                Ok(Claim::Claimed)
            }
        }
    }

    async fn finish(&self, uid: &str, at: OffsetDateTime) -> Result<(), StoreError> {
        if let Some(claim) = self.content().claims.get_mut(uid) {
            claim.finish(at);
        }
        Ok(())
    }

    async fn forget_claims(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        let (before, mut forgotten) = (AuditEvent::micros(before), 0);
        self.content().claims.retain(|_, claim| {
            let forget = claim.claimed_at < before && forgotten < u64::from(limit);
            forgotten += u64::from(forget);
            !forget
        });
        Ok(forgotten)
    }
}
