//! Chains of certificates, which have a leaf.

use rustls_pki_types::CertificateDer;

use crate::pem::pem;

/// A leaf and the certificates between it and its root, in issuing order; the root itself is never part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateChain {
    leaf: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
}

impl CertificateChain {
    /// Joins a leaf and its intermediates.
    #[must_use]
    pub fn new(leaf: CertificateDer<'static>, intermediates: Vec<CertificateDer<'static>>) -> Self {
        Self { leaf, intermediates }
    }

    /// The leaf.
    #[must_use]
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.leaf
    }

    /// The intermediates, nearest to the leaf first.
    #[must_use]
    pub fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.intermediates
    }

    /// Leaf and intermediates in order.
    pub fn iter(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        std::iter::once(&self.leaf).chain(&self.intermediates)
    }

    /// The whole chain as PEM, leaf first.
    #[must_use]
    pub fn pem(&self) -> String {
        self.iter().map(|der| pem(der)).collect()
    }
}
