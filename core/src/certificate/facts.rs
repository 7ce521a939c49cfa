//! What a certificate says, as far as Signet's rules look at it.

use std::net::IpAddr;

use time::OffsetDateTime;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::CertificateError;
use crate::digest::{bits_identifier, hex};
use crate::profile::usage::{CRL_SIGN, KEY_CERT_SIGN};

/// What a certificate says, as far as Signet's rules look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Serial number, big-endian, without leading zeroes.
    pub serial: Vec<u8>,
    /// URI subject alternative names in order.
    pub uris: Vec<String>,
    /// DNS subject alternative names in order.
    pub dns: Vec<String>,
    /// IP subject alternative names in order.
    pub ips: Vec<IpAddr>,
    /// Number of subject alternative names of any other kind.
    pub other_names: usize,
    /// Whether the SAN extension is critical.
    pub san_critical: bool,
    /// Whether the subject is empty.
    pub subject_empty: bool,
    /// Whether no attribute of the subject has a value.
    pub subject_names_nobody: bool,
    /// Start of validity.
    pub not_before: OffsetDateTime,
    /// End of validity.
    pub not_after: OffsetDateTime,
    /// Basic constraints cA.
    pub is_ca: bool,
    /// Key usage bits as in RFC 5280 section 4.2.1.3 (bit 0 = digitalSignature), absent when there is no extension.
    pub key_usage: Option<u16>,
    /// Whether the key usage extension is critical.
    pub key_usage_critical: bool,
    /// `(serverAuth, clientAuth, any other)`, absent when there is no extended key usage.
    pub extended_key_usage: Option<(bool, bool, bool)>,
    /// SubjectPublicKeyInfo in DER.
    pub spki_der: Vec<u8>,
    /// Issuer name in DER.
    pub issuer_der: Vec<u8>,
    /// Subject name in DER.
    pub subject_der: Vec<u8>,
    /// Subject key identifier.
    pub subject_key_id: Option<Vec<u8>>,
    /// Authority key identifier.
    pub authority_key_id: Option<Vec<u8>>,
    /// Number of critical extensions of kinds not listed here.
    pub unknown_critical: usize,
    /// Whether it is of version 1, which has no extensions.
    pub is_version_1: bool,
}

impl Facts {
    /// Reads one certificate.
    ///
    /// # Errors
    /// [`CertificateError::NotX509`] for anything but one certificate without trailing bytes,
    /// [`CertificateError::BadExtension`] when a known extension does not parse. Total on any input.
    pub fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::NotX509)?;
        if !rest.is_empty() {
            return Err(CertificateError::NotX509);
        }
        let mut facts = Self {
            serial: certificate.raw_serial().iter().copied().skip_while(|byte| *byte == 0).collect(),
            uris: Vec::new(),
            dns: Vec::new(),
            ips: Vec::new(),
            other_names: 0,
            san_critical: false,
            subject_empty: certificate.subject().iter_attributes().next().is_none(),
            subject_names_nobody: certificate.subject().iter_attributes().all(|one| one.as_slice().is_empty()),
            not_before: certificate.validity().not_before.to_datetime(),
            not_after: certificate.validity().not_after.to_datetime(),
            is_ca: false,
            key_usage: None,
            key_usage_critical: false,
            extended_key_usage: None,
            spki_der: certificate.public_key().raw.to_vec(),
            issuer_der: certificate.issuer().as_raw().to_vec(),
            subject_der: certificate.subject().as_raw().to_vec(),
            subject_key_id: None,
            authority_key_id: None,
            unknown_critical: 0,
            is_version_1: certificate.version() == X509Version::V1,
        };
        for extension in certificate.extensions() {
            facts.take(extension.parsed_extension(), extension.critical)?;
        }
        Ok(facts)
    }

    fn take(&mut self, extension: &ParsedExtension<'_>, critical: bool) -> Result<(), CertificateError> {
        match extension {
            ParsedExtension::SubjectAlternativeName(san) => {
                self.san_critical = critical;
                for name in &san.general_names {
                    match name {
                        GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
                        GeneralName::DNSName(dns) => self.dns.push((*dns).to_owned()),
                        GeneralName::IPAddress(bytes) => {
                            self.ips.push(ip(bytes).ok_or(CertificateError::BadExtension)?)
                        }
                        _ => self.other_names += 1,
                    }
                }
            }
            ParsedExtension::BasicConstraints(constraints) => self.is_ca = constraints.ca,
            ParsedExtension::KeyUsage(usage) => {
                self.key_usage = Some(usage.flags);
                self.key_usage_critical = critical;
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                let other = usage.any
                    || usage.code_signing
                    || usage.email_protection
                    || usage.time_stamping
                    || usage.ocsp_signing
                    || !usage.other.is_empty();
                self.extended_key_usage = Some((usage.server_auth, usage.client_auth, other));
            }
            ParsedExtension::SubjectKeyIdentifier(id) => self.subject_key_id = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                self.authority_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            ParsedExtension::ParseError { .. } => return Err(CertificateError::BadExtension),
            _ if critical => self.unknown_critical += 1,
            _ => {}
        }
        Ok(())
    }

    /// The serial number as records name it: hexadecimal, at least 32 digits.
    #[must_use]
    pub fn serial_text(&self) -> String {
        format!("{:0>32}", hex(&self.serial))
    }

    /// The key identifier that certificates below name this one by: its own; or, where it says none, the hash of its key
    /// that most tools take (RFC 5280 section 4.2.1.2, method 1).
    #[must_use]
    pub fn key_id(&self) -> Vec<u8> {
        let hash = || {
            let key = SubjectPublicKeyInfo::from_der(&self.spki_der);
            key.map(|(_, key)| bits_identifier(&key.subject_public_key.data).to_vec()).unwrap_or_default()
        };
        self.subject_key_id.clone().unwrap_or_else(hash)
    }

    /// Whether it may stand among trust anchors: one of a CA. Of version 1, which cannot say so, a self-signed one is; how
    /// its key may be used, an anchor is not asked (RFC 5280 section 6.1.1 d).
    #[must_use]
    pub fn may_be_anchor(&self) -> bool {
        self.is_ca || self.is_version_1 && self.subject_der == self.issuer_der
    }

    /// Whether verifiers accept certificates that it signs (X-5a); the key usage counts if there is one (RFC 5280 section
    /// 6.1.4 n).
    #[must_use]
    pub fn may_sign_certificates(&self) -> bool {
        self.may_be_anchor() && (self.key_usage.is_none() || self.has_usage(KEY_CERT_SIGN))
    }

    /// Whether verifiers accept revocation lists that it signs; the key usage counts if there is one (RFC 5280 section
    /// 6.3.3 f).
    #[must_use]
    pub fn may_sign_lists(&self) -> bool {
        self.key_usage.is_none() || self.has_usage(CRL_SIGN)
    }

    /// Whether `key_usage` holds the bit `bit` (RFC 5280 numbering: 0 digitalSignature, 2 keyEncipherment,
    /// 5 keyCertSign, 6 cRLSign).
    #[must_use]
    pub fn has_usage(&self, bit: u8) -> bool {
        self.key_usage.is_some_and(|flags| flags & (1u16 << bit.min(15)) != 0)
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or(v6).ok()
}

/// The subject of a certificate for people, escaped; the first URI when there is none.
#[must_use]
pub fn subject(der: &[u8]) -> String {
    let name = X509Certificate::from_der(der).map(|(_, certificate)| certificate.subject().to_string());
    let uri = || Facts::read(der).ok().and_then(|facts| facts.uris.into_iter().next());
    let text = name.ok().filter(|name| !name.is_empty()).or_else(uri).unwrap_or_else(|| "no subject".to_owned());
    text.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reading_a_certificate_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(Facts::read(&bytes));
        }
    }
}
