//! Publishes what signs now, from the journal: the keys are opened, the ways to the roots verified.

use std::sync::Arc;

use signet_core::authority::{AuthorityId, IssuingCa, Root};
use signet_core::bundle::TrustBundle;
use signet_core::clock::rfc3339;
use signet_core::rotation::Authorities;
use signet_core::seams::certificate_authority::{CertificateAuthority, SignError};
use signet_core::seams::custody::{CustodyError, KeyCustody};
use signet_core::verify::VerifiedPath;
use time::OffsetDateTime;

use super::without_key::WithoutKey;
use super::{OpenIssuer, Rotator, StepError};
use crate::signing_state::{ServingIssuer, SigningState};

impl Rotator {
    /// Publishes the journal as it is.
    ///
    /// # Errors
    /// [`StepError`]; what was published before goes on.
    pub(super) async fn publish_journal(&self) -> Result<(), StepError> {
        match self.executor.journal.load().await? {
            Some((_, authorities)) => self.publish(authorities).await,
            None => Ok(()),
        }
    }

    /// Publishes what follows from `authorities`, if that is not what is published already.
    ///
    /// # Errors
    /// [`StepError`]; what was published before goes on.
    pub(super) async fn publish(&self, authorities: Authorities) -> Result<(), StepError> {
        let now = self.executor.clock.now();
        let unchanged = |state: &Arc<SigningState>| {
            let issuer = authorities.active_issuer(now).map(|issuing| &issuing.id);
            let serving = authorities.serving_issuers(now);
            state.authorities == authorities
                && issuer == Some(&state.authority.limits().authority)
                && serving.first().is_some_and(|(root, issuing)| named(root, issuing) == state.serving.wanted)
        };
        if self.output.borrow().as_ref().is_some_and(unchanged) {
            return Ok(());
        }
        let validation = authorities.validation(&self.trust_domain)?;
        let (Some(root), Some(issuing)) = (authorities.active(), authorities.active_issuer(now)) else { return Ok(()) };
        let (root, issuing) = (&root.ca, &issuing.ca);
        let (authority, path) = match self.open(root, issuing, &validation.bundle).await {
            // What else follows from the journal is published all the same.
            Err(StepError::Sign(SignError::Unusable(text))) if issuing.key.is_none() => {
                let why = self.executor.lacking().unwrap_or(text);
                let without: Arc<dyn CertificateAuthority> = Arc::new(WithoutKey::new(issuing, why));
                (without, verified_path(&root.id, issuing, &validation.bundle)?)
            }
            opened => opened?,
        };
        let serving = self.serving(&authorities, &validation.bundle, (root, issuing, &authority, &path), now).await?;
        self.metrics.expiry.authorities(root.not_after.unix_timestamp(), issuing.not_after.unix_timestamp());
        tracing::info!(authority.id = %issuing.id, not_after = rfc3339(issuing.not_after), bundle.sequence = validation.bundle.sequence(), "issuing CA in use");
        self.output.send_replace(Some(Arc::new(SigningState { authority, path, serving, validation, authorities })));
        Ok(())
    }

    /// The first of the issuing CAs that may sign the serving certificate whose key can be had; the one that `signs` for
    /// workloads at last. With storage away nothing is known, so that nothing moves.
    async fn serving(
        &self,
        authorities: &Authorities,
        bundle: &TrustBundle,
        signs: (&Root, &IssuingCa, &Arc<dyn CertificateAuthority>, &VerifiedPath),
        now: OffsetDateTime,
    ) -> Result<ServingIssuer, StepError> {
        let (root, issuing, authority, path) = signs;
        let active = named(root, issuing);
        let candidates = authorities.serving_issuers(now);
        let wanted = candidates.first().map_or_else(|| active.clone(), |(root, issuing)| named(root, issuing));
        for (root, issuing) in candidates {
            let is = named(root, issuing);
            if is == active {
                break;
            }
            match self.open(root, issuing, bundle).await {
                Ok((authority, path)) => return Ok(ServingIssuer { authority, path, is, wanted }),
                Err(StepError::Custody(CustodyError::Store(text))) => return Err(CustodyError::Store(text).into()),
                Err(error) => {
                    tracing::warn!(authority.id = %issuing.id, %error, "the serving certificate cannot stay under the former root: clients that know no other one cannot connect");
                }
            }
        }
        Ok(ServingIssuer { authority: Arc::clone(authority), path: path.clone(), is: active, wanted })
    }

    async fn open(
        &self,
        root: &Root,
        issuing: &IssuingCa,
        bundle: &TrustBundle,
    ) -> Result<(Arc<dyn CertificateAuthority>, VerifiedPath), StepError> {
        let authority = signer(&*self.executor.provisioner.custody, &*self.open_issuer, issuing).await?;
        Ok((authority, verified_path(&root.id, issuing, bundle)?))
    }
}

/// What signs with an issuing CA.
pub(super) async fn signer(
    custody: &dyn KeyCustody,
    open: &OpenIssuer,
    issuing: &IssuingCa,
) -> Result<Arc<dyn CertificateAuthority>, StepError> {
    let key = match &issuing.key {
        Some(key) => Some(custody.open(key).await?),
        None => None,
    };
    Ok(open(key, issuing)?)
}

fn named(root: &Root, issuing: &IssuingCa) -> (AuthorityId, AuthorityId) {
    (root.id.clone(), issuing.id.clone())
}

/// The verified way from leaves to the root. An operator's root that signs leaves itself has nothing in between.
pub(super) fn verified_path(
    root: &AuthorityId,
    issuing: &IssuingCa,
    bundle: &TrustBundle,
) -> Result<VerifiedPath, StepError> {
    let mut between = Vec::new();
    if issuing.id != *root {
        between.push(issuing.certificate.clone());
    }
    between.extend(issuing.intermediates.iter().cloned());
    Ok(VerifiedPath::check(&between, &issuing.certificate, bundle)?)
}
