//! Names of authorities: their ids, and the key identifiers by which certificates name their issuer.

use std::fmt;

use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::certificate::Facts;
use crate::digest::{hex, key_identifier};

/// Names an authority. A CA is its name together with its key (RFC 5280 section 6.1.1 (d) for trust anchors, section 6.3.3
/// for issuers of revocation lists): one key under two names makes two of them, and a certificate that was renewed with
/// both makes none.
///
/// It says nothing about key identifiers, which certificates carry as their issuer chose them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AuthorityId(String);

impl AuthorityId {
    /// The id of the authority with this subject name and this public key (SubjectPublicKeyInfo), both in DER.
    #[must_use]
    pub fn new(subject_der: &[u8], spki_der: &[u8]) -> Self {
        // DER says how long it is, so that no other name and key make the same bytes.
        Self(hex(&key_identifier(&[subject_der, spki_der].concat())))
    }

    /// The id of the authority that has a certificate with these facts.
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        Self::new(&facts.subject_der, &facts.spki_der)
    }

    /// The id that it had while ids covered the key alone (format 1 of the journal).
    pub(crate) fn of_key(facts: &Facts) -> Self {
        Self(hex(&key_identifier(&facts.spki_der)))
    }

    /// The hexadecimal text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AuthorityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AuthorityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key identifier of a CA certificate, hexadecimal, by which the certificates below name their issuer (RFC 5280
/// section 4.2.1.2); where it says none itself, the one that stands for it.
#[must_use]
pub fn subject_key_id(certificate: &CertificateDer<'_>) -> String {
    Facts::read(certificate).map(|facts| hex(&facts.key_id())).unwrap_or_default()
}
