//! Signs leaves that policy has decided.

use async_trait::async_trait;

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

    /// Whether whoever signs revokes leaves when it is shown them
    /// ([`revoke`](super::upstream_authority::UpstreamAuthority::revoke)), so that they are kept.
    fn revokes_leaves(&self) -> bool {
        false
    }

    /// Whether there is a use in asking now: nothing is put on record for a backend that is known to be away.
    ///
    /// # Errors
    /// [`SignError::Unavailable`] says what is wrong.
    fn ready(&self) -> Result<(), SignError> {
        Ok(())
    }

    /// Signs the decision and returns the leaf with the intermediates up to, and without, the root.
    ///
    /// # Errors
    /// [`SignError`]; nothing was issued then.
    async fn sign(&self, request: &SigningRequest) -> Result<CertificateChain, SignError>;
}
