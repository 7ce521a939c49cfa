//! Certificate signing requests: proof of possession is checked, and nothing but the public key is ever taken over.
//!
//! The names a request asks for are kept only so that policy can refuse a request that asks for too much.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use rustls_pki_types::pem::{PemObject, SectionKind};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION, OID_X509_ORGANIZATION_NAME};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::signature::{self, SignatureError};

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
    #[error("the CSR is not one PEM block labelled CERTIFICATE REQUEST or NEW CERTIFICATE REQUEST")]
    NotPem,
    /// The DER does not parse as PKCS#10 (RFC 2986).
    #[error("the CSR does not parse as PKCS#10")]
    NotPkcs10,
    /// The self-signature does not verify with the key inside (RFC 2986 section 4.2).
    #[error("the CSR's self-signature does not verify: the sender has not shown that it holds the key")]
    BadSignature,
    /// The self-signature is of a kind that is not verified here, which says nothing about the sender.
    #[error("the CSR's self-signature cannot be verified: it is made with {0}, which is not supported; use SHA-256")]
    UnsupportedSignature(String),
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
            Self::UnsupportedSignature(_) => "csr_unsupported_signature",
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
    /// The PKCS#10 request that proved it, DER; empty when something else did.
    request: Vec<u8>,
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

    /// The PKCS#10 request that proved possession, DER, for backends that want to see it themselves; `None` when something
    /// else proved it.
    #[must_use]
    pub fn request(&self) -> Option<&[u8]> {
        (!self.request.is_empty()).then_some(self.request.as_slice())
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
        Ok(Self { spki_der, family, request: Vec::new() })
    }
}

/// What a request asks for beside its key. Never copied into a certificate. Attributes other than `extensionRequest` (RFC
/// 2985 section 5.4.2) are not looked at, such as the ones that Windows adds about itself.
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
        Self::of(single_block(pem)?)
    }

    /// The same of its DER.
    ///
    /// # Errors
    /// See [`CsrError`]; total on any input.
    pub fn parse_der(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > MAX_CSR_BYTES {
            return Err(CsrError::TooLong(der.len()));
        }
        Self::of(der.to_vec())
    }

    fn of(der: Vec<u8>) -> Result<Self, CsrError> {
        let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|_| CsrError::NotPkcs10)?;
        if !rest.is_empty() {
            return Err(CsrError::NotPkcs10);
        }
        let spki = &request.certification_request_info.subject_pki;
        // The key is judged before the signature: a verification with an absurd key is work an attacker chooses.
        let mut key = ProvenKey::own(spki.raw.to_vec())?;
        signature::verify_request(&request).map_err(|error| match error {
            SignatureError::Unsupported(kind) => CsrError::UnsupportedSignature(shown(kind)),
            SignatureError::False => CsrError::BadSignature,
        })?;
        let names = requested_names(&request)?;
        key.request = der;
        Ok(Self { key, names })
    }

    /// A key in DER with a signature by it over `message`, in the place of a whole request: what kubelets sent at first.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), but there is no PKCS#10 and no name in it.
    pub fn proven(spki_der: &[u8], message: &[u8], proof: &[u8]) -> Result<Self, CsrError> {
        if spki_der.len() > MAX_CSR_BYTES {
            return Err(CsrError::TooLong(spki_der.len()));
        }
        let key = ProvenKey::own(spki_der.to_vec())?;
        signature::verify_proof(&key.spki_der, message, proof).map_err(|error| match error {
            SignatureError::Unsupported(kind) => CsrError::UnsupportedSignature(shown(kind)),
            SignatureError::False => CsrError::BadSignature,
        })?;
        Ok(Self { key, names: RequestedNames::default() })
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

/// The content of the one block. Text around it is passed over (RFC 7468 section 2), and a byte-order mark in front.
fn single_block(pem: &str) -> Result<Vec<u8>, CsrError> {
    // The reader passes over a block that begins in the line that ends another one.
    if pem.matches("-----BEGIN ").count() != 1 {
        return Err(CsrError::NotPem);
    }
    let text = usual_label(pem.trim_start_matches('\u{feff}'));
    let mut blocks = <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes());
    match (blocks.next(), blocks.next()) {
        (Some(Ok((SectionKind::Csr, der))), None) => Ok(der),
        _ => Err(CsrError::NotPem),
    }
}

/// The text with the label that a reader knows instead of the one that keytool, certreq and `openssl req -newhdr` write
/// (RFC 7468 section 7).
fn usual_label(pem: &str) -> Cow<'_, str> {
    const OTHER: &str = " NEW CERTIFICATE REQUEST-----";
    if pem.contains(OTHER) { Cow::Owned(pem.replace(OTHER, " CERTIFICATE REQUEST-----")) } else { Cow::Borrowed(pem) }
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
                Some(other) => Err(CsrError::WeakKey(format!("on the curve {}", named(other)))),
                None => Err(CsrError::WeakKey("on an unnamed curve".to_owned())),
            }
        }
        _ => Err(CsrError::WeakKey(format!("of type {}", named(&algorithm.to_id_string())))),
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
        if let ParsedCriAttribute::ExtensionRequest(request) = attribute.parsed_attribute() {
            for extension in &request.extensions {
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

/// The name of a curve or a kind of key that requests are made with, for messages; its object identifier if it has none
/// here.
fn named(identifier: &str) -> String {
    let name = match identifier {
        "1.3.132.0.35" => "P-521",
        "1.3.132.0.33" => "P-224",
        "1.3.132.0.10" => "secp256k1",
        "1.2.840.113549.1.1.10" => "RSASSA-PSS",
        "1.3.101.112" => "Ed25519",
        "1.3.101.113" => "Ed448",
        other => return shown(other),
    };
    name.to_owned()
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
#[path = "csr_tests.rs"]
mod tests;
