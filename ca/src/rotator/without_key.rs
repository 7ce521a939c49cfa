//! A CA whose configuration names nobody who has the key that signs: it serves what it knows, signs nothing, and says why.

use std::fmt;
use std::sync::PoisonError;

use async_trait::async_trait;
use signet_core::authority::IssuingCa;
use signet_core::certificate::CertificateChain;
use signet_core::policy::{CsrUse, IssuerLimits, SigningRequest};
use signet_core::rotation::Authorities;
use signet_core::seams::certificate_authority::{CertificateAuthority, SignError};
use signet_core::source::ReplicaSource;
use signet_core::verify::Signer;
use time::OffsetDateTime;

use super::Executor;
use crate::describe;

/// An issuing CA whose key is kept by a backend that is not configured.
pub(super) struct WithoutKey {
    limits: IssuerLimits,
    why: String,
}

impl WithoutKey {
    /// `issuing`, with which nothing is signed for this reason.
    pub(super) fn new(issuing: &IssuingCa, why: String) -> Self {
        let (not_before, not_after) = (issuing.not_before, issuing.not_after);
        let limits = IssuerLimits { authority: issuing.id.clone(), not_before, not_after, takes: CsrUse::Key };
        Self { limits, why }
    }
}

#[async_trait]
impl CertificateAuthority for WithoutKey {
    fn limits(&self) -> &IssuerLimits {
        &self.limits
    }

    fn signer(&self) -> Signer {
        Signer::Elsewhere
    }

    fn ready(&self) -> Result<(), SignError> {
        Err(SignError::Unavailable(self.why.clone()))
    }

    async fn sign(&self, _request: &SigningRequest) -> Result<CertificateChain, SignError> {
        self.ready().and(Err(SignError::WrongIssuer))
    }
}

impl fmt::Debug for WithoutKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithoutKey").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Executor {
    /// Notes whether somebody is configured who can sign leaves now, or certify a CA of ours under the root in use at once.
    pub(super) fn note_signer(&self, source: &mut ReplicaSource, authorities: &Authorities, now: OffsetDateTime) {
        let signs = authorities.active_issuer(now).filter(|one| one.key.is_none() && now < one.not_after);
        let lacking = signs.filter(|_| !self.provisioner.upstream.signs_leaves());
        let goes_on = |source: &ReplicaSource| {
            let offered = source.offer.as_ref().map(|offer| &offer.signer);
            offered.is_some() && offered == authorities.active().map(|root| &root.id)
        };
        source.lacks_signer = lacking.is_some() && !goes_on(source);
        let text = lacking.map(|one| describe::lacks_signer(&one.id, source.is_superseded()));
        let mut noted = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = text.as_ref().filter(|_| source.lacks_signer && noted.is_none()) {
            tracing::error!("{text}");
        }
        *noted = text;
    }

    /// Why nobody can sign, when that is for want of somebody who has the key.
    pub(super) fn lacking(&self) -> Option<String> {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
