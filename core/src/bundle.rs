//! The trust bundle: the roots of one trust domain, versioned on its own and never glued to a leaf.

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use crate::certificate::{CertificateError, Facts};
use crate::identity::TrustDomain;
use crate::pem::pem;

/// Why a set of certificates is not a trust bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// No roots at all. Envoy verifies nothing when handed an empty bundle, so an empty one must not exist.
    #[error("a trust bundle needs at least one root")]
    Empty,
    /// A member is not a certificate.
    #[error("root {index} of the bundle is unreadable: {cause}")]
    Unreadable {
        /// Position in the list given, from 0.
        index: usize,
        /// What is wrong with it.
        cause: CertificateError,
    },
    /// A member is not one of a CA (X-5a).
    #[error("root {0} of the bundle is not a CA certificate")]
    NotCa(usize),
}

/// The largest message with a trust bundle and its revocation lists that agents take, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;

/// How much of such a message revocation lists may take, as PEM. The rest is for roots, which must always travel.
pub const MAX_LISTS_BYTES: usize = 6 << 20;

/// Roots of one trust domain with a monotonic sequence number (B-2b); never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    sequence: u64,
    roots: Vec<CertificateDer<'static>>,
    pem: String,
}

impl TrustBundle {
    /// Checks and orders the roots; duplicates are dropped, order is by DER bytes so that equal sets are equal bundles.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn new(
        trust_domain: TrustDomain,
        sequence: u64,
        mut roots: Vec<CertificateDer<'static>>,
    ) -> Result<Self, BundleError> {
        for (index, root) in roots.iter().enumerate() {
            let facts = Facts::read(root).map_err(|cause| BundleError::Unreadable { index, cause })?;
            if !facts.may_be_anchor() {
                return Err(BundleError::NotCa(index));
            }
        }
        roots.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        roots.dedup();
        if roots.is_empty() {
            return Err(BundleError::Empty);
        }
        let pem = roots.iter().map(|root| pem(root)).collect();
        Ok(Self { trust_domain, sequence, roots, pem })
    }

    /// The trust domain whose members these roots certify.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The sequence number; it grows whenever the contents change.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The roots, at least one.
    #[must_use]
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// All roots as one PEM text.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }
}

/// What peers are verified with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    /// The roots.
    pub bundle: TrustBundle,
    /// One list for every authority below and including the roots, or none at all: Envoy, given a list for one CA of
    /// a chain, refuses every chain that has a CA without one.
    pub revocation_lists: Vec<CertificateRevocationListDer<'static>>,
}

impl From<TrustBundle> for Validation {
    fn from(bundle: TrustBundle) -> Self {
        Self { bundle, revocation_lists: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    fn certificate(ca: bool) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        if ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn an_empty_or_broken_bundle_cannot_exist() {
        let domain = TrustDomain::parse("td").unwrap();
        assert_eq!(TrustBundle::new(domain.clone(), 1, vec![]), Err(BundleError::Empty));
        assert_eq!(TrustBundle::new(domain.clone(), 1, vec![certificate(false)]), Err(BundleError::NotCa(0)));
        let garbage = CertificateDer::from(vec![1, 2, 3]);
        assert!(matches!(
            TrustBundle::new(domain, 1, vec![certificate(true), garbage]),
            Err(BundleError::Unreadable { index: 1, .. })
        ));
    }

    #[test]
    fn equal_sets_of_roots_are_equal_bundles_whatever_their_order() {
        let domain = TrustDomain::parse("td").unwrap();
        let (a, b) = (certificate(true), certificate(true));
        let one = TrustBundle::new(domain.clone(), 1, vec![a.clone(), b.clone()]).unwrap();
        let other = TrustBundle::new(domain, 1, vec![b.clone(), a, b]).unwrap();
        assert_eq!(one, other);
        assert_eq!(one.roots().len(), 2);
        assert_eq!(one.pem().matches("BEGIN CERTIFICATE").count(), 2);
    }
}
