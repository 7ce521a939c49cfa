//! What a root is, and what an issuing CA is.

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::{AuthorityId, KeyId, subject_key_id};
use crate::certificate::{CertificateError, Facts};
use crate::digest::{hex, key_identifier};

/// A root: a CA that others trust for its own sake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Its name, for as long as it is in the journal.
    pub id: AuthorityId,
    /// Where custody finds the private key; absent when the root is somebody else's.
    pub key: Option<KeyId>,
    /// Its certificate.
    pub certificate: CertificateDer<'static>,
    /// Start of its validity.
    pub not_before: OffsetDateTime,
    /// End of its validity.
    pub not_after: OffsetDateTime,
}

impl Root {
    /// The root that this certificate and this key make.
    ///
    /// # Errors
    /// [`CertificateError`] when the certificate cannot be read.
    pub fn new(certificate: CertificateDer<'static>, key: Option<KeyId>) -> Result<Self, CertificateError> {
        let facts = Facts::read(&certificate)?;
        let (not_before, not_after) = (facts.not_before, facts.not_after);
        Ok(Self { id: AuthorityId::of(&facts), key, certificate, not_before, not_after })
    }

    /// Whether both have one key, whatever their names are.
    #[must_use]
    pub fn shares_key(&self, other: &Self) -> bool {
        let key = |root: &Self| Facts::read(&root.certificate).map(|facts| facts.spki_der);
        self.id == other.id || key(self).is_ok_and(|own| key(other).as_ref() == Ok(&own))
    }
}

/// An issuing CA: one that signs leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuingCa {
    /// Its name, for as long as it is in the journal: records of holders and certificates have it too.
    pub id: AuthorityId,
    /// Where custody finds the private key; absent when it is a backend's, which signs leaves itself.
    pub key: Option<KeyId>,
    /// Its certificate.
    pub certificate: CertificateDer<'static>,
    /// Start of its validity; later than that of its certificate when something above it begins later.
    pub not_before: OffsetDateTime,
    /// End of its validity; earlier than that of its certificate when something above it ends earlier.
    pub not_after: OffsetDateTime,
    /// Certificates between this one and the root, nearest first; only a CA under somebody else's root has any.
    pub intermediates: Vec<CertificateDer<'static>>,
}

impl IssuingCa {
    /// Whether its key was made here, whoever has certified it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.key.as_ref().is_some_and(|key| !key.is_imported())
    }

    /// Whether its key was brought by an operator.
    #[must_use]
    pub fn is_imported(&self) -> bool {
        self.key.as_ref().is_some_and(KeyId::is_imported)
    }

    /// The issuing CA that this certificate, right below its root, and this key make; without one, its key is a backend's.
    ///
    /// # Errors
    /// [`CertificateError`] when the certificate cannot be read.
    pub fn new(certificate: CertificateDer<'static>, key: Option<KeyId>) -> Result<Self, CertificateError> {
        let facts = Facts::read(&certificate)?;
        let (not_before, not_after) = (facts.not_before, facts.not_after);
        Ok(Self { id: AuthorityId::of(&facts), key, certificate, not_before, not_after, intermediates: Vec::new() })
    }

    /// The issuing CA that this certificate and this key make below `intermediates`, the nearest first, and `root`. It holds
    /// for as long as all of them.
    ///
    /// # Errors
    /// [`CertificateError`] when a certificate cannot be read.
    pub fn below(
        certificate: CertificateDer<'static>,
        key: Option<KeyId>,
        intermediates: Vec<CertificateDer<'static>>,
        root: &Root,
    ) -> Result<Self, CertificateError> {
        let mut issuing = Self::new(certificate, key)?;
        issuing.not_before = issuing.not_before.max(root.not_before);
        issuing.not_after = issuing.not_after.min(root.not_after);
        for above in &intermediates {
            let facts = Facts::read(above)?;
            issuing.not_before = issuing.not_before.max(facts.not_before);
            issuing.not_after = issuing.not_after.min(facts.not_after);
        }
        issuing.intermediates = intermediates;
        Ok(issuing)
    }

    /// The key identifier that leaves name it by, hexadecimal. A certificate that cannot be read signs no leaves, so that
    /// what stands for it then is in none.
    #[must_use]
    pub fn key_id(&self) -> String {
        let own = subject_key_id(&self.certificate);
        if own.is_empty() { hex(&key_identifier(&self.certificate)) } else { own }
    }
}
