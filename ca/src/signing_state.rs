//! What signs now: one immutable snapshot serves a whole request, so that a leaf never meets another issuer's chain.

use std::fmt;
use std::sync::Arc;

use signet_core::authority::AuthorityId;
use signet_core::bundle::{TrustBundle, Validation};
use signet_core::rotation::Authorities;
use signet_core::seams::certificate_authority::CertificateAuthority;
use signet_core::verify::VerifiedPath;
use tokio::sync::watch;

/// An issuing CA whose key is at hand, for the CA's own serving certificate.
#[derive(Clone)]
pub struct ServingIssuer {
    /// Signs it.
    pub authority: Arc<dyn CertificateAuthority>,
    /// What lies between it and the root, verified once.
    pub path: VerifiedPath,
    /// Root and issuing CA.
    pub is: (AuthorityId, AuthorityId),
    /// The ones that it should be, if their key could be had.
    pub wanted: (AuthorityId, AuthorityId),
}

/// Issuer and trust bundle of one moment.
pub struct SigningState {
    /// Signs leaves.
    pub authority: Arc<dyn CertificateAuthority>,
    /// What lies between leaves and the root, verified once.
    pub path: VerifiedPath,
    /// Signs the serving certificate: as long as it can, under the root that clients have known for longest.
    pub serving: ServingIssuer,
    /// The trust bundle and the revocation lists.
    pub validation: Validation,
    /// The journal entry that everything comes from.
    pub authorities: Authorities,
}

impl fmt::Debug for SigningState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (authority, sequence) = (&self.authority.limits().authority, self.bundle().sequence());
        f.debug_struct("SigningState")
            .field("authority", authority)
            .field("sequence", &sequence)
            .finish_non_exhaustive()
    }
}

impl SigningState {
    /// The trust bundle that goes with every leaf.
    #[must_use]
    pub fn bundle(&self) -> &TrustBundle {
        &self.validation.bundle
    }
}

/// Where readers find the newest state; empty until there is one.
pub type StateReader = watch::Receiver<Option<Arc<SigningState>>>;

/// Where the rotator puts it.
pub type StateWriter = watch::Sender<Option<Arc<SigningState>>>;

/// The newest state.
#[must_use]
pub fn current(reader: &StateReader) -> Option<Arc<SigningState>> {
    reader.borrow().clone()
}
