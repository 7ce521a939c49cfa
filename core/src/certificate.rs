//! Certificates as Signet reads them back: what a DER certificate says, and chains that cannot be empty.

use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

/// A DER certificate could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The bytes are not exactly one X.509 certificate (RFC 5280 section 4.1).
    #[error("not exactly one X.509 certificate")]
    NotX509,
    /// An extension that Signet relies on does not parse.
    #[error("a certificate extension does not parse")]
    BadExtension,
    /// A chain needs at least a leaf.
    #[error("the certificate chain is empty")]
    EmptyChain,
}

/// A certificate serial number: 16 bytes, positive, never zero (RFC 5280 section 4.1.2.2).
///
/// It begins with the microsecond of its making, so that the index that keeps serials unique grows at its end (in a random
/// order each would write a page of its own), and ends in 72 random bits, more than the 64 that the CA/Browser Forum asks for
/// (Baseline Requirements, section 7.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial([u8; 16]);

impl Serial {
    /// Makes a serial at the time `now` from fresh random bytes. The two top bits are `01`: positive, constant length,
    /// never zero; 34 bits of seconds since 1970, 20 bits of microseconds and 72 random bits follow.
    #[must_use]
    pub fn new(now: OffsetDateTime, random: [u8; 16]) -> Self {
        const RANDOM_BITS: u32 = 72;
        let seconds = u128::from(now.unix_timestamp().unsigned_abs()) & ((1 << 34) - 1);
        let time = (seconds << 20) | u128::from(now.microsecond());
        let random = u128::from_be_bytes(random) & ((1 << RANDOM_BITS) - 1);
        Self(((1 << 126) | (time << RANDOM_BITS) | random).to_be_bytes())
    }

    /// The big-endian bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Parses 32 hexadecimal digits, with or without colons between bytes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let digits = std::str::from_utf8(&digits).ok().filter(|digits| digits.len() == 32)?;
        u128::from_str_radix(digits, 16).ok().map(|value| Self(value.to_be_bytes()))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

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

/// Bytes as lower-case hexadecimal digits, as records and names of authorities show them.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for digit in bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
        text.extend(char::from_digit(u32::from(digit), 16));
    }
    text
}

/// The subject of a certificate for people, escaped; the first URI when there is none.
#[must_use]
pub fn subject(der: &[u8]) -> String {
    let name = X509Certificate::from_der(der).map(|(_, certificate)| certificate.subject().to_string());
    let uri = || Facts::read(der).ok().and_then(|facts| facts.uris.into_iter().next());
    let text = name.ok().filter(|name| !name.is_empty()).or_else(uri).unwrap_or_else(|| "no subject".to_owned());
    text.escape_debug().to_string()
}

/// SHA-256 over a SubjectPublicKeyInfo, as records name keys.
#[must_use]
pub fn key_hash(spki_der: &[u8]) -> [u8; 32] {
    sha256(spki_der)
}

/// SHA-256 over anything, such as a whole certificate: what is commonly called its fingerprint.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    hash
}

/// The key identifier of a key in certificates that Signet makes: the first 20 bytes of SHA-256 over its
/// SubjectPublicKeyInfo (RFC 7093 section 2, method 4).
#[must_use]
pub fn key_identifier(spki_der: &[u8]) -> [u8; 20] {
    let hash = key_hash(spki_der);
    let mut identifier = [0; 20];
    identifier.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    identifier
}

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

    /// Takes a list whose first element is the leaf.
    ///
    /// # Errors
    /// [`CertificateError::EmptyChain`] when the list is empty.
    pub fn from_list(list: Vec<CertificateDer<'static>>) -> Result<Self, CertificateError> {
        let mut list = list.into_iter();
        let leaf = list.next().ok_or(CertificateError::EmptyChain)?;
        Ok(Self { leaf, intermediates: list.collect() })
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

/// One certificate as PEM: lines of 64 characters (RFC 7468 section 2) and exactly one newline at the end, which is
/// what both of Istio's clients expect of a reply element.
#[must_use]
pub fn pem(der: &[u8]) -> String {
    pem_block("CERTIFICATE", der)
}

/// Any DER structure as PEM under its label (RFC 7468 sections 4 to 13), in the same form.
#[must_use]
pub fn pem_block(label: &str, der: &[u8]) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = String::with_capacity(body.len() + body.len() / 64 + 64);
    for part in ["-----BEGIN ", label, "-----\n"] {
        text.push_str(part);
    }
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    for part in ["-----END ", label, "-----\n"] {
        text.push_str(part);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;
    use proptest::prelude::*;
    use rustls_pki_types::pem::PemObject;

    #[test]
    fn serials_are_positive_sixteen_bytes_in_order_of_time_and_round_trip_as_text() {
        let late = OffsetDateTime::UNIX_EPOCH + std::time::Duration::from_secs((1 << 34) - 1);
        for random in [[0; 16], [0xff; 16], [0x80; 16]] {
            let (early, late) = (Serial::new(OffsetDateTime::UNIX_EPOCH, random), Serial::new(late, [0; 16]));
            assert!(early < late);
            let next = Serial::new(OffsetDateTime::UNIX_EPOCH + std::time::Duration::from_micros(1), [0; 16]);
            assert!(early < next && next < late, "by the microsecond");
            for serial in [early, late] {
                let [first, ..] = serial.as_bytes();
                assert!((0x40..0x80).contains(first));
                assert_eq!(Serial::parse(&serial.to_string()), Some(serial));
            }
        }
        assert_ne!(Serial::new(late, [1; 16]), Serial::new(late, [2; 16]));
        assert_eq!(Serial::parse("12"), None);
        assert_eq!(Serial::parse(&"g".repeat(32)), None);
    }

    #[test]
    fn every_byte_is_two_lower_case_digits() {
        assert_eq!((hex(&[]), hex(&[0, 0x0a, 0xf0, 0xff])), (String::new(), "000af0ff".to_owned()));
    }

    proptest! {
        #[test]
        fn reading_a_certificate_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(Facts::read(&bytes));
        }

        #[test]
        fn pem_round_trips_and_ends_in_one_newline(bytes in proptest::collection::vec(any::<u8>(), 1..400)) {
            let text = pem(&bytes);
            prop_assert!(text.ends_with("-----END CERTIFICATE-----\n"));
            prop_assert!(text.lines().all(|line| line.len() <= 64));
            let back = CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
            prop_assert_eq!(back.as_ref(), bytes.as_slice());
        }
    }
}
