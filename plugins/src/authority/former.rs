//! Two backends at a time, while one is left that signs leaves itself: the one that counts from now on, and the former, which
//! goes on signing with its issuing CA until another root signs, and revokes what it has signed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;
use signet_core::authority::{IssuingCa, Root};
use signet_core::certificate::CertificateChain;
use signet_core::policy::{IssuerLimits, SigningRequest};
use signet_core::revocation::RevocationList;
use signet_core::seams::certificate_authority::{CertificateAuthority, SignError};
use signet_core::seams::custody::SigningKey;
use signet_core::seams::upstream_authority::{Certified, UpstreamAuthority};
use signet_core::source::{Offer, RevokedBy};
use signet_core::verify::Signer;
use time::OffsetDateTime;

/// Which of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Now,
    Former,
}

/// A backend, and the one before it.
///
/// All that is made anew is the first one's business. Whose key an issuing CA has is asked each time, since either may not have
/// been seen yet; nothing is sent for that.
pub struct WithFormer {
    now: Arc<dyn UpstreamAuthority>,
    former: Arc<dyn UpstreamAuthority>,
}

impl WithFormer {
    /// `now`, which comes after `former`.
    #[must_use]
    pub fn new(now: Arc<dyn UpstreamAuthority>, former: Arc<dyn UpstreamAuthority>) -> Self {
        Self { now, former }
    }

    /// Whether leaves of this issuing CA are the former backend's business, as far as can be seen.
    #[must_use]
    pub fn is_formers(&self, issuing: &IssuingCa) -> bool {
        issuing.key.is_none() && self.which(issuing) == Which::Former
    }

    fn which(&self, issuing: &IssuingCa) -> Which {
        match (self.now.has(issuing), self.former.has(issuing)) {
            (Some(true), _) => Which::Now,
            (_, Some(true)) => Which::Former,
            // One that both have lost was of a backend that goes on and has another key now, or of the former: whoever signs
            // leaves from now on has another issuing CA then, which is on its way.
            (_, Some(false)) if self.now.signs_leaves() => Which::Now,
            _ => Which::Former,
        }
    }

    fn of(&self, issuing: &IssuingCa) -> &Arc<dyn UpstreamAuthority> {
        match self.which(issuing) {
            Which::Now => &self.now,
            Which::Former => &self.former,
        }
    }
}

#[async_trait]
impl UpstreamAuthority for WithFormer {
    async fn prepare_root(&self, generation: u64, now: OffsetDateTime) -> Result<Root, SignError> {
        self.now.prepare_root(generation, now).await
    }

    async fn offer(&self) -> Result<Option<Offer>, SignError> {
        let mut offered = self.now.offer().await?;
        // A set of lists that is complete, or none, stays as its owner has made it.
        if let Some(offer) = offered.as_mut().filter(|offer| offer.lists_on_demand) {
            let is_new = |list: &RevocationList| offer.revocation_lists.iter().all(|one| one.issuer != list.issuer);
            let more: Vec<_> = self.former.lists().into_iter().filter(is_new).collect();
            offer.revocation_lists.extend(more);
        }
        Ok(offered)
    }

    async fn certify(
        &self,
        root: &Root,
        key: &dyn SigningKey,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<Certified, SignError> {
        self.now.certify(root, key, ttl, now).await
    }

    fn signer(self: Arc<Self>, issuing: &IssuingCa) -> Result<Arc<dyn CertificateAuthority>, SignError> {
        let former = Arc::clone(&self.former).signer(issuing)?;
        if !self.now.signs_leaves() {
            return Ok(former);
        }
        let now = Arc::clone(&self.now).signer(issuing)?;
        Ok(Arc::new(Either { of: self, issuing: issuing.clone(), now, former }))
    }

    fn signs_leaves(&self) -> bool {
        true
    }

    fn has(&self, issuing: &IssuingCa) -> Option<bool> {
        match (self.now.has(issuing), self.former.has(issuing)) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        }
    }

    fn revoked_by(&self) -> RevokedBy {
        self.now.revoked_by()
    }

    fn leaves_revoked_by(&self, issuing: &IssuingCa) -> RevokedBy {
        self.of(issuing).leaves_revoked_by(issuing)
    }

    fn lists(&self) -> Vec<RevocationList> {
        self.now.lists()
    }

    fn former_lists(&self) -> Vec<RevocationList> {
        self.former.lists()
    }

    /// A certificate of a CA.
    async fn revoke(&self, certificate: &CertificateDer<'static>) -> Result<(), SignError> {
        match self.now.revoked_by() {
            RevokedBy::Upstream => self.now.revoke(certificate).await,
            _ => self.former.revoke(certificate).await,
        }
    }

    async fn revoke_leaf(&self, leaf: &CertificateDer<'static>, issuing: &IssuingCa) -> Result<(), SignError> {
        self.of(issuing).revoke_leaf(leaf, issuing).await
    }
}

impl fmt::Debug for WithFormer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithFormer").finish_non_exhaustive()
    }
}

/// An issuing CA of one of two backends that both sign leaves.
struct Either {
    of: Arc<WithFormer>,
    issuing: IssuingCa,
    now: Arc<dyn CertificateAuthority>,
    former: Arc<dyn CertificateAuthority>,
}

impl Either {
    fn chosen(&self) -> &dyn CertificateAuthority {
        match self.of.which(&self.issuing) {
            Which::Now => &*self.now,
            Which::Former => &*self.former,
        }
    }
}

#[async_trait]
impl CertificateAuthority for Either {
    fn limits(&self) -> &IssuerLimits {
        self.chosen().limits()
    }

    fn signer(&self) -> Signer {
        Signer::Elsewhere
    }

    fn revokes_leaves(&self) -> bool {
        self.chosen().revokes_leaves()
    }

    fn ready(&self) -> Result<(), SignError> {
        self.chosen().ready()
    }

    async fn sign(&self, request: &SigningRequest) -> Result<CertificateChain, SignError> {
        self.chosen().sign(request).await
    }
}

#[cfg(test)]
#[path = "former_tests.rs"]
mod tests;
