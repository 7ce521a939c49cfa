//! Certificate signing requests: proof of possession is checked, and nothing but the public key is ever taken over.
//!
//! The names a request asks for are kept only so that policy can refuse a request that asks for too much.

use std::fmt;
use std::net::IpAddr;

use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::{PemObject, SectionKind};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION, OID_X509_ORGANIZATION_NAME};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The longest PEM request that is looked at, in bytes. An RSA-8192 request with a SPIFFE ID is under 6 KiB.
pub const MAX_CSR_BYTES: usize = 32 * 1024;

/// Why a certificate signing request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrError {
    /// Longer than [`MAX_CSR_BYTES`].
    #[error("the CSR is {0} bytes long, longer than {MAX_CSR_BYTES}")]
    TooLong(usize),
    /// Not one PEM block of the right label.
    #[error("the CSR is not one PEM block labelled CERTIFICATE REQUEST")]
    NotPem,
    /// The DER does not parse as PKCS#10 (RFC 2986).
    #[error("the CSR does not parse as PKCS#10")]
    NotPkcs10,
    /// The self-signature does not verify with the key inside (RFC 2986 section 4.2).
    #[error("the CSR's self-signature does not verify: the sender has not shown that it holds the key")]
    BadSignature,
    /// A key type, curve or size outside the accepted ones.
    #[error("the CSR's key is {0}; use ECDSA P-256 or P-384, or RSA of 2048 to 8192 bits")]
    WeakKey(String),
}

impl CsrError {
    /// A short constant for metrics and records.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::TooLong(_) => "csr_too_long",
            Self::NotPem => "csr_not_pem",
            Self::NotPkcs10 => "csr_not_pkcs10",
            Self::BadSignature => "csr_bad_signature",
            Self::WeakKey(_) => "csr_weak_key",
        }
    }
}

/// The family of a requested key, which decides the key usages of the leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFamily {
    /// ECDSA on P-256 or P-384.
    Ec,
    /// RSA.
    Rsa,
}

/// A public key whose holder has proved possession.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenKey {
    spki_der: Vec<u8>,
    family: KeyFamily,
}

impl ProvenKey {
    /// The SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }

    /// The family of the key.
    #[must_use]
    pub fn family(&self) -> KeyFamily {
        self.family
    }

    /// For keys that this process made itself, such as that of its serving certificate.
    ///
    /// # Errors
    /// [`CsrError::NotPkcs10`] when `spki_der` is not a SubjectPublicKeyInfo, [`CsrError::WeakKey`] below the floor.
    pub fn own(spki_der: Vec<u8>) -> Result<Self, CsrError> {
        let (rest, spki) = SubjectPublicKeyInfo::from_der(&spki_der).map_err(|_| CsrError::NotPkcs10)?;
        // The parser passes over what follows the key within its structure, and what it then calls the raw key is cut
        // off there.
        if !rest.is_empty() || spki.raw.len() != spki_der.len() {
            return Err(CsrError::NotPkcs10);
        }
        let family = check_key(&spki)?;
        Ok(Self { spki_der, family })
    }
}

/// What a request asks for beside its key. Never copied into a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestedNames {
    /// URI subject alternative names.
    pub uris: Vec<String>,
    /// Everything else that names or empowers the subject, in words for an error message.
    pub others: Vec<String>,
}

/// A parsed request whose self-signature verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    key: ProvenKey,
    names: RequestedNames,
}

impl CertificateRequest {
    /// Parses one PEM block, checks the key against the floor and then the self-signature.
    ///
    /// # Errors
    /// See [`CsrError`]; total on any input.
    pub fn parse(pem: &str) -> Result<Self, CsrError> {
        if pem.len() > MAX_CSR_BYTES {
            return Err(CsrError::TooLong(pem.len()));
        }
        let der = single_block(pem)?;
        let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|_| CsrError::NotPkcs10)?;
        if !rest.is_empty() {
            return Err(CsrError::NotPkcs10);
        }
        let spki = &request.certification_request_info.subject_pki;
        // The key is judged before the signature: a verification with an absurd key is work an attacker chooses.
        let key = ProvenKey::own(spki.raw.to_vec())?;
        request.verify_signature().map_err(|_| CsrError::BadSignature)?;
        let names = requested_names(&request)?;
        Ok(Self { key, names })
    }

    /// The key whose possession was proved.
    #[must_use]
    pub fn key(&self) -> &ProvenKey {
        &self.key
    }

    /// What else was asked for.
    #[must_use]
    pub fn names(&self) -> &RequestedNames {
        &self.names
    }

    /// Takes the key out; the rest of the request ends here.
    #[must_use]
    pub fn into_key(self) -> ProvenKey {
        self.key
    }
}

fn single_block(pem: &str) -> Result<Vec<u8>, CsrError> {
    let mut blocks = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes());
    match (blocks.next(), blocks.next()) {
        (Some(Ok((SectionKind::Csr, der))), None) => Ok(CertificateSigningRequestDer::from(der).as_ref().to_vec()),
        _ => Err(CsrError::NotPem),
    }
}

fn check_key(spki: &SubjectPublicKeyInfo<'_>) -> Result<KeyFamily, CsrError> {
    let algorithm = &spki.algorithm.algorithm;
    let parsed = spki.parsed().map_err(|_| CsrError::WeakKey("unreadable".to_owned()))?;
    match parsed {
        PublicKey::RSA(rsa) if *algorithm == OID_PKCS1_RSAENCRYPTION => {
            // RFC 3279 section 2.3.1: the parameters are NULL. Without them the key would not come back as it was sent.
            let null = spki.algorithm.parameters.as_ref().is_some_and(|parameters| parameters.as_null().is_ok());
            if !null {
                return Err(CsrError::WeakKey("RSA without its NULL parameters".to_owned()));
            }
            let modulus: &[u8] = rsa.modulus;
            let bits = modulus.iter().position(|byte| *byte != 0).map_or(0, |zeroes| {
                let head = modulus.get(zeroes).copied().unwrap_or_default();
                (modulus.len() - zeroes) * 8 - head.leading_zeros() as usize
            });
            if (2048..=8192).contains(&bits) {
                Ok(KeyFamily::Rsa)
            } else {
                Err(CsrError::WeakKey(format!("RSA-{bits}")))
            }
        }
        PublicKey::EC(_) if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY => {
            let curve = spki.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
            match curve.map(|oid| oid.to_id_string()).as_deref() {
                Some("1.2.840.10045.3.1.7" | "1.3.132.0.34") => Ok(KeyFamily::Ec),
                Some(other) => Err(CsrError::WeakKey(format!("on the curve {}", shown(other)))),
                None => Err(CsrError::WeakKey("on an unnamed curve".to_owned())),
            }
        }
        _ => Err(CsrError::WeakKey(format!("of type {}", shown(algorithm)))),
    }
}

fn requested_names(request: &X509CertificationRequest<'_>) -> Result<RequestedNames, CsrError> {
    let mut names = RequestedNames::default();
    for attribute in request.certification_request_info.subject.iter_attributes() {
        // istio-agent sends one empty Organization (`O=`); it names nobody.
        let empty = attribute.as_slice().is_empty();
        if !(*attribute.attr_type() == OID_X509_ORGANIZATION_NAME && empty) {
            names.others.push(format!("a subject attribute {}", attribute.attr_type()));
        }
    }
    for attribute in request.certification_request_info.iter_attributes() {
        if let x509_parser::cri_attributes::ParsedCriAttribute::ExtensionRequest(extensions) =
            attribute.parsed_attribute()
        {
            for extension in &extensions.extensions {
                collect(extension.parsed_extension(), &mut names)?;
            }
        }
    }
    Ok(names)
}

fn collect(extension: &ParsedExtension<'_>, names: &mut RequestedNames) -> Result<(), CsrError> {
    match extension {
        ParsedExtension::SubjectAlternativeName(san) => {
            for name in &san.general_names {
                match name {
                    GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
                    GeneralName::DNSName(dns) => names.others.push(format!("DNS name {dns:?}")),
                    GeneralName::IPAddress(bytes) => names.others.push(format!("IP address {}", ip_text(bytes))),
                    GeneralName::RFC822Name(mail) => names.others.push(format!("mail address {mail:?}")),
                    _ => names.others.push("a name of another kind".to_owned()),
                }
            }
        }
        ParsedExtension::BasicConstraints(constraints) if constraints.ca => {
            names.others.push("CA:TRUE".to_owned());
        }
        ParsedExtension::KeyUsage(usage) if usage.key_cert_sign() || usage.crl_sign() => {
            names.others.push("key usage for signing certificates or CRLs".to_owned());
        }
        ParsedExtension::ExtendedKeyUsage(usage) => {
            let foreign = usage.any || usage.code_signing || usage.email_protection || usage.time_stamping;
            if foreign || usage.ocsp_signing || !usage.other.is_empty() {
                names.others.push("extended key usage beyond server and client authentication".to_owned());
            }
        }
        ParsedExtension::NameConstraints(_) => names.others.push("name constraints".to_owned()),
        ParsedExtension::ParseError { .. } => return Err(CsrError::NotPkcs10),
        _ => {}
    }
    Ok(())
}

/// An object identifier for messages: whoever made the request chose its length, and callers are told.
fn shown(identifier: impl fmt::Display) -> String {
    const LONGEST: usize = 200;
    identifier.to_string().chars().take(LONGEST).collect()
}

fn ip_text(bytes: &[u8]) -> String {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or(v6).map_or_else(|_| "of a wrong length".to_owned(), |ip| ip.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, IsCa, KeyPair, SanType};

    fn request(change: impl FnOnce(&mut CertificateParams)) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
    }

    #[test]
    fn a_request_yields_its_key_and_the_names_it_asks_for() {
        let pem = request(|params| {
            params.subject_alt_names = vec![SanType::URI("spiffe://td/ns/a/sa/b".try_into().unwrap())];
        });
        let parsed = CertificateRequest::parse(&pem).unwrap();
        assert_eq!(parsed.names().uris, ["spiffe://td/ns/a/sa/b"]);
        assert_eq!(parsed.names().others, Vec::<String>::new());
        assert_eq!(parsed.key().family(), KeyFamily::Ec);
        assert_eq!(ProvenKey::own(parsed.key().spki_der().to_vec()).unwrap(), parsed.into_key());
    }

    #[test]
    fn everything_that_names_or_empowers_the_subject_is_noticed() {
        let noticed = |change: fn(&mut CertificateParams)| {
            CertificateRequest::parse(&request(change)).unwrap().names().others.len()
        };
        assert_eq!(noticed(|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)), 1);
        assert_eq!(noticed(|params| params.subject_alt_names = vec![SanType::DnsName("a.b".try_into().unwrap())]), 1);
        assert_eq!(noticed(|params| params.subject_alt_names = vec![SanType::IpAddress([1, 2, 3, 4].into())]), 1);
        assert_eq!(
            noticed(|params| params.subject_alt_names = vec![SanType::Rfc822Name("a@b".try_into().unwrap())]),
            1
        );
        assert_eq!(noticed(|params| params.distinguished_name.push(DnType::CommonName, "root")), 1);
        assert_eq!(noticed(|params| params.distinguished_name.push(DnType::OrganizationName, "x")), 1);
        assert_eq!(noticed(|params| params.distinguished_name.push(DnType::OrganizationName, "")), 0);
        assert_eq!(noticed(|params| params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign]), 1);
        assert_eq!(noticed(|params| params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::CodeSigning]), 1);
        assert_eq!(noticed(|params| params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth]), 0);
    }

    #[test]
    fn a_changed_request_fails_its_proof_of_possession() {
        let pem = request(|params| params.distinguished_name.push(DnType::OrganizationName, "honest"));
        let der = single_block(&pem).unwrap();
        let at = der.windows(6).position(|window| window == b"honest").unwrap();
        let mut forged = der.clone();
        if let Some(byte) = forged.get_mut(at) {
            *byte ^= 1;
        }
        let pem = pem_of("CERTIFICATE REQUEST", &forged);
        assert_eq!(CertificateRequest::parse(&pem), Err(CsrError::BadSignature));
    }

    #[test]
    fn only_one_whole_pem_block_of_the_right_label_is_accepted() {
        let good = request(|_| {});
        let der = single_block(&good).unwrap();
        let truncated = der.get(..der.len() - 5).unwrap().to_vec();
        let trailing = [der.clone(), vec![0]].concat();
        let table = [
            (String::new(), CsrError::NotPem),
            ("hello".to_owned(), CsrError::NotPem),
            (format!("{good}{good}"), CsrError::NotPem),
            (pem_of("CERTIFICATE", &der), CsrError::NotPem),
            (pem_of("CERTIFICATE REQUEST", &truncated), CsrError::NotPkcs10),
            (pem_of("CERTIFICATE REQUEST", &trailing), CsrError::NotPkcs10),
            (pem_of("CERTIFICATE REQUEST", b""), CsrError::NotPkcs10),
            ("A".repeat(1 << 20), CsrError::TooLong(1 << 20)),
        ];
        for (pem, expected) in table {
            assert_eq!(CertificateRequest::parse(&pem), Err(expected));
        }
    }

    /// The certificate would carry it: as much of the structure as the parser takes for the key, with a length that
    /// reaches beyond it.
    #[test]
    fn nothing_may_follow_the_key_within_its_structure() {
        let mut spki = CertificateRequest::parse(&request(|_| {})).unwrap().key().spki_der().to_vec();
        spki.extend([0x05, 0x00]);
        spki[1] += 2;
        assert_eq!(ProvenKey::own(spki.clone()), Err(CsrError::NotPkcs10));
        let info = [&[0x02, 0x01, 0x00, 0x30, 0x00][..], &spki, &[0xa0, 0x00]].concat();
        let info = [&[0x30, u8::try_from(info.len()).unwrap()][..], &info].concat();
        // The key is judged before the signature.
        let rest =
            [&[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02, 0x03, 0x02, 0x00, 0x00][..]];
        let content = [info.as_slice(), rest[0]].concat();
        let der = [&[0x30, 0x81, u8::try_from(content.len()).unwrap()][..], &content].concat();
        assert_eq!(CertificateRequest::parse(&pem_of("CERTIFICATE REQUEST", &der)), Err(CsrError::NotPkcs10));
    }

    fn pem_of(label: &str, der: &[u8]) -> String {
        use base64::Engine;
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    proptest! {
        #[test]
        fn parsing_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(CertificateRequest::parse(&pem_of("CERTIFICATE REQUEST", &bytes)));
            drop(ProvenKey::own(bytes));
        }

        #[test]
        fn no_flipped_bit_of_the_signed_part_gets_past_the_signature(position in 0usize..200, bit in 0u8..8) {
            let mut der = single_block(&request(|_| {})).unwrap();
            let signed = X509CertificationRequest::from_der(&der).unwrap().1.certification_request_info.raw.to_vec();
            let start = der.windows(signed.len()).position(|window| window == signed).unwrap();
            let index = start + position % signed.len();
            if let Some(byte) = der.get_mut(index) { *byte ^= 1 << bit; }
            prop_assert!(CertificateRequest::parse(&pem_of("CERTIFICATE REQUEST", &der)).is_err());
        }
    }
}
