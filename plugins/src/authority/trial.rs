//! A CA that an issuer certifies to be tried out: its key is thrown away, it lasts for a minute, and its SPIFFE ID is one that neither
//! a workload nor an issuing CA can have.

use std::sync::Arc;
#[cfg(any(feature = "kubernetes", feature = "vault"))]
use std::time::Duration;

use signet_core::authority::Root;
use signet_core::identity::TrustDomain;
use signet_core::seams::custody::SigningKey;
use signet_core::seams::upstream_authority::Certified;
#[cfg(any(feature = "kubernetes", feature = "vault"))]
use signet_core::{key_type::KeyType, seams::certificate_authority::SignError};

#[cfg(any(feature = "kubernetes", feature = "vault"))]
use super::certificates::failed;
#[cfg(any(feature = "kubernetes", feature = "vault"))]
use crate::custody::LocalKey;

/// How long it lasts.
#[cfg(any(feature = "kubernetes", feature = "vault"))]
pub(super) const LIFE: Duration = Duration::from_secs(60);

/// What was certified, judged as an issuing CA is.
pub struct Tried {
    /// The certificate, and what lies between it and the root.
    pub certified: Certified,
    /// Its key, which is nowhere else.
    pub key: Arc<dyn SigningKey>,
    /// The root.
    pub root: Root,
}

/// The SPIFFE ID of such CAs.
#[must_use]
pub fn trial_name(trust_domain: &TrustDomain) -> String {
    format!("{}/signet/trial", trust_domain.id())
}

/// A key for one.
#[cfg(any(feature = "kubernetes", feature = "vault"))]
pub(super) async fn key() -> Result<LocalKey, SignError> {
    let made = LocalKey::generate(KeyType::EcP256).await;
    made.map(|(key, _thrown_away)| key).map_err(|_| failed("making the key of a trial failed"))
}
