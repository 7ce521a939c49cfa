//! Who signs leaves, and who certifies the one that does.

use std::time::Duration;

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::custody::SigningKey;
use crate::certificate::CertificateChain;
use crate::policy::{IssuerLimits, SigningRequest};
use crate::verify::Signer;

/// A signature was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The decision is bound to another authority than the one asked. A bug, or a rotation between the two.
    #[error("the decision is bound to another authority")]
    WrongIssuer,
    /// The certificate could not be built or signed.
    #[error("signing failed: {0}")]
    Failed(String),
    /// The backend cannot be reached now; retrying may help.
    #[error("the signing backend is unavailable: {0}")]
    Unavailable(String),
}

/// Signs decided leaves.
///
/// An implementation signs exactly what the request says or fails, and holds a deadline on every outside call.
#[async_trait]
pub trait CertificateAuthority: Send + Sync {
    /// What bounds the leaves of this authority.
    fn limits(&self) -> &IssuerLimits;

    /// Where the signature is made, which decides how it is checked and recorded.
    fn signer(&self) -> Signer;

    /// Signs the decision and returns the leaf with the intermediates up to, and without, the root.
    ///
    /// # Errors
    /// [`SignError`]; nothing was issued then.
    async fn sign(&self, request: &SigningRequest) -> Result<CertificateChain, SignError>;
}

/// An issuing CA that was certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedIssuer {
    /// The issuing CA's certificate, then any intermediates up to, and without, the root.
    pub chain: CertificateChain,
    /// Start of validity.
    pub not_before: OffsetDateTime,
    /// End of validity.
    pub not_after: OffsetDateTime,
}

/// Certifies issuing CAs and tells the roots they chain to.
#[async_trait]
pub trait UpstreamAuthority: Send + Sync {
    /// The root that [`certify`](Self::certify) chains to now.
    fn root(&self) -> &CertificateDer<'static>;

    /// Certifies `key` as an issuing CA for `ttl` from `now`, clamped to the root's end.
    ///
    /// # Errors
    /// [`SignError`].
    async fn certify(
        &self,
        key: &dyn SigningKey,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<CertifiedIssuer, SignError>;
}
