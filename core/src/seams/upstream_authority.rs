//! Provides roots, and certifies the issuing CAs that sign leaves.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::certificate_authority::{CertificateAuthority, SignError};
use super::custody::SigningKey;
use crate::authority::{IssuingCa, Root};
use crate::revocation::{RevocationList, Revoked};
use crate::source::{Offer, RevokedBy};

/// What a revocation list says.
#[derive(Debug, Clone, Copy)]
pub struct ListContent<'a> {
    /// The list's number (RFC 5280 section 5.2.3).
    pub number: u64,
    /// Revoked certificates of this issuer.
    pub revoked: &'a [&'a Revoked],
    /// When it is made.
    pub this_update: OffsetDateTime,
    /// When the next one is made at the latest.
    pub next_update: OffsetDateTime,
}

/// An issuing CA's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// What lies between it and the root, nearest first.
    pub intermediates: Vec<CertificateDer<'static>>,
}

impl From<CertificateDer<'static>> for Certified {
    /// Right below the root.
    fn from(certificate: CertificateDer<'static>) -> Self {
        Self { certificate, intermediates: Vec::new() }
    }
}

/// Provides roots and certifies issuing CAs under them. An implementation holds what it needs for that (such as a
/// [`KeyCustody`](super::custody::KeyCustody) and the trust domain); which root exists and which one signs is the
/// journal's word, so the root is passed in.
#[async_trait]
pub trait UpstreamAuthority: Send + Sync {
    /// Makes the root of a new generation, with a new key that is kept durably before this returns, or learns the
    /// root from the backend.
    ///
    /// # Errors
    /// [`SignError`].
    async fn prepare_root(&self, generation: u64, now: OffsetDateTime) -> Result<Root, SignError>;

    /// What the backend is and wants by itself: `None` when it makes roots and issuing CAs on demand. Such a backend is
    /// adopted, not commanded: its roots are published first, and what it offers signs once they are covered.
    ///
    /// # Errors
    /// [`SignError`]; what was offered before goes on.
    async fn offer(&self) -> Result<Option<Offer>, SignError>;

    /// Certifies `key` as an issuing CA under `root` for `ttl` from `now`, clamped to the end of what is above it.
    ///
    /// # Errors
    /// [`SignError`].
    async fn certify(
        &self,
        root: &Root,
        key: &dyn SigningKey,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<Certified, SignError>;

    /// What signs leaves with an issuing CA whose key is the backend's: one that it has offered, now or before.
    ///
    /// # Errors
    /// [`SignError::Unusable`]: it is not a backend that signs leaves.
    fn signer(self: Arc<Self>, issuing: &IssuingCa) -> Result<Arc<dyn CertificateAuthority>, SignError> {
        Err(SignError::Unusable(format!(
            "no backend of this configuration signs leaves with issuing CA {}",
            issuing.id
        )))
    }

    /// Whether it signs leaves itself, so that [`signer`](Self::signer) gives something.
    fn signs_leaves(&self) -> bool {
        false
    }

    /// Whether the key of this issuing CA is one of its own that it signs leaves with; `None` while it has not been seen what
    /// keys it has.
    fn has(&self, _issuing: &IssuingCa) -> Option<bool> {
        Some(false)
    }

    /// Who revokes what it has certified.
    fn revoked_by(&self) -> RevokedBy;

    /// Who revokes leaves that a backend has signed with this issuing CA.
    fn leaves_revoked_by(&self, _issuing: &IssuingCa) -> RevokedBy {
        self.revoked_by()
    }

    /// The revocation lists that it publishes when it is asked, as they were read last.
    fn lists(&self) -> Vec<RevocationList> {
        Vec::new()
    }

    /// Those of a backend that was left and has signed leaves.
    fn former_lists(&self) -> Vec<RevocationList> {
        Vec::new()
    }

    /// Revokes a certificate that it has made, when that is [`RevokedBy::Upstream`]. One that is revoked already stays so and is
    /// no failure: this is asked for until it has succeeded, and perhaps once more.
    ///
    /// # Errors
    /// [`SignError`].
    async fn revoke(&self, _certificate: &CertificateDer<'static>) -> Result<(), SignError> {
        Err(SignError::Unusable("the configured backend revokes nothing: authority.backend has changed".to_owned()))
    }
    /// The same with a leaf that was signed with this issuing CA.
    ///
    /// # Errors
    /// [`SignError`].
    async fn revoke_leaf(&self, leaf: &CertificateDer<'static>, _issuing: &IssuingCa) -> Result<(), SignError> {
        self.revoke(leaf).await
    }
}
