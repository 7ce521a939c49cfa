//! Who signs leaves, and who certifies the one that does.

use std::time::Duration;

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::custody::SigningKey;
use crate::authority::Root;
use crate::certificate::CertificateChain;
use crate::policy::{IssuerLimits, SigningRequest};
use crate::revocation::Revoked;
use crate::source::Offer;
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
    /// What the backend brings cannot be used.
    #[error("{0}")]
    Unusable(String),
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
    /// adopted, not commanded: its roots are published first, and it signs once they are covered.
    ///
    /// # Errors
    /// [`SignError`]; what was offered before goes on.
    async fn offer(&self) -> Result<Option<Offer>, SignError>;

    /// Certifies `key` as an issuing CA under `root` for `ttl` from `now`, clamped to the root's end, and returns the
    /// certificate.
    ///
    /// # Errors
    /// [`SignError`].
    async fn certify(
        &self,
        root: &Root,
        key: &dyn SigningKey,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<CertificateDer<'static>, SignError>;
}
