//! Verifies signatures of certificates, requests and revocation lists, and tells what cannot be verified here from what is
//! false: a signature that nobody here can check says nothing about whose it is.

use ring::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use x509_parser::asn1_rs::{BitString, Oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
    OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA1WITHRSA, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA,
    OID_PKCS1_SHA512WITHRSA, OID_SHA1_WITH_RSA, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384,
    OID_SIG_ECDSA_WITH_SHA512, OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::verify::verify_signature;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

/// Sizes of RSA keys, in bits, whose signatures are verified; with SHA-1 smaller ones too, as nothing relies on those.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
const RSA_SHA1_BITS: std::ops::RangeInclusive<usize> = 1024..=8192;

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// Nothing is known about it: the algorithm, or the signer's key, is of a kind that is not verified here.
    #[error("it is made with {0}, which is not supported here")]
    Unsupported(String),
    /// It is not the signer's over this content.
    #[error("it does not verify")]
    False,
}

/// Whether `signature` is the one over `message` by the key `signer`.
///
/// # Errors
/// [`SignatureError`]; total on any input.
pub fn verify(
    signer: &SubjectPublicKeyInfo<'_>,
    algorithm: &AlgorithmIdentifier<'_>,
    signature: &BitString<'_>,
    message: &[u8],
) -> Result<(), SignatureError> {
    if let Some(kind) = unsupported(signer, algorithm) {
        return Err(SignatureError::Unsupported(kind));
    }
    verify_signature(signer, algorithm, signature, message).map_err(|error| match error {
        X509Error::SignatureUnsupportedAlgorithm => SignatureError::Unsupported(described(signer, algorithm)),
        _ => SignatureError::False,
    })
}

/// Whether `certificate` is signed by the key `signer`.
///
/// # Errors
/// [`SignatureError`].
pub fn verify_certificate(
    certificate: &X509Certificate<'_>,
    signer: &SubjectPublicKeyInfo<'_>,
) -> Result<(), SignatureError> {
    let message = certificate.tbs_certificate.as_ref();
    verify(signer, &certificate.signature_algorithm, &certificate.signature_value, message)
}

/// Whether `list` is signed by the key `signer`.
///
/// # Errors
/// [`SignatureError`].
pub fn verify_list(
    list: &CertificateRevocationList<'_>,
    signer: &SubjectPublicKeyInfo<'_>,
) -> Result<(), SignatureError> {
    verify(signer, &list.signature_algorithm, &list.signature_value, list.tbs_cert_list.as_ref())
}

/// Whether `request` is signed by the key that it is for, which proves possession of it.
///
/// # Errors
/// [`SignatureError`].
pub fn verify_request(request: &X509CertificationRequest<'_>) -> Result<(), SignatureError> {
    let info = &request.certification_request_info;
    verify(&info.subject_pki, &request.signature_algorithm, &request.signature_value, info.raw)
}

/// Whether `proof` is the signature by the key `spki_der` over `message`, with SHA-256: ECDSA, or RSA-PSS with a salt as long
/// as the digest.
///
/// # Errors
/// [`SignatureError`]; total on any input. An RSA-PSS signature with a salt of another length counts as one that cannot be
/// verified here.
pub fn verify_proof(spki_der: &[u8], message: &[u8], proof: &[u8]) -> Result<(), SignatureError> {
    let (_, spki) = SubjectPublicKeyInfo::from_der(spki_der).map_err(|_| SignatureError::False)?;
    let curve = spki.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let verified = match spki.parsed() {
        Ok(PublicKey::RSA(_)) => {
            let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &spki.subject_public_key.data);
            // Go's default is the longest salt that fits, of which a verifier learns only from the signature.
            return key.verify(message, proof).map_err(|_| {
                SignatureError::Unsupported(
                    "RSA-PSS, by another key or with a salt that is not as long as its digest".into(),
                )
            });
        }
        Ok(PublicKey::EC(_)) if curve == Some(OID_EC_P256) => {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &spki.subject_public_key.data).verify(message, proof)
        }
        Ok(PublicKey::EC(_)) if curve == Some(OID_NIST_EC_P384) => {
            UnparsedPublicKey::new(&ECDSA_P384_SHA256_ASN1, &spki.subject_public_key.data).verify(message, proof)
        }
        _ => return Err(SignatureError::Unsupported(key(&spki))),
    };
    verified.map_err(|_| SignatureError::False)
}

/// The kind of signature, if the verifier would call it false although it only cannot verify it.
fn unsupported(signer: &SubjectPublicKeyInfo<'_>, algorithm: &AlgorithmIdentifier<'_>) -> Option<String> {
    let is_supported = match signer.parsed() {
        Ok(PublicKey::RSA(key)) => {
            let is_sha1 = [OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA].contains(&algorithm.algorithm);
            let sizes = if is_sha1 { RSA_SHA1_BITS } else { RSA_BITS };
            sizes.contains(&bits(key.modulus)) && is_usual_pss(algorithm)
        }
        _ => true,
    };
    (!is_supported).then(|| described(signer, algorithm))
}

/// Whether a signature with RSA-PSS has the salt as long as the digest, and the digest in its mask too: nothing else is
/// verified here. Anything that is not of RSA-PSS is not looked at.
fn is_usual_pss(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    if algorithm.algorithm != OID_PKCS1_RSASSAPSS {
        return true;
    }
    let parameters = algorithm.parameters.as_ref().and_then(|any| RsaSsaPssParams::try_from(any).ok());
    parameters.is_some_and(|parameters| {
        let hash = parameters.hash_algorithm_oid();
        let same_mask = parameters.mask_gen_algorithm().is_ok_and(|mask| mask.hash == *hash);
        let salt = match hash.to_id_string().as_str() {
            "2.16.840.1.101.3.4.2.1" => 32,
            "2.16.840.1.101.3.4.2.2" => 48,
            "2.16.840.1.101.3.4.2.3" => 64,
            _ => return false,
        };
        same_mask && parameters.salt_length() == salt
    })
}

/// Algorithm and key for people, such as `ECDSA with SHA-512 and a key on P-521`.
fn described(signer: &SubjectPublicKeyInfo<'_>, algorithm: &AlgorithmIdentifier<'_>) -> String {
    let signature: &[(Oid<'static>, &str)] = &[
        (OID_PKCS1_SHA1WITHRSA, "RSA with SHA-1"),
        (OID_SHA1_WITH_RSA, "RSA with SHA-1"),
        (OID_PKCS1_SHA256WITHRSA, "RSA with SHA-256"),
        (OID_PKCS1_SHA384WITHRSA, "RSA with SHA-384"),
        (OID_PKCS1_SHA512WITHRSA, "RSA with SHA-512"),
        (OID_PKCS1_RSASSAPSS, "RSA-PSS with these parameters"),
        (OID_SIG_ECDSA_WITH_SHA256, "ECDSA with SHA-256"),
        (OID_SIG_ECDSA_WITH_SHA384, "ECDSA with SHA-384"),
        (OID_SIG_ECDSA_WITH_SHA512, "ECDSA with SHA-512"),
        (OID_SIG_ED25519, "Ed25519"),
    ];
    let known = signature.iter().find(|(oid, _)| *oid == algorithm.algorithm).map(|(_, name)| (*name).to_owned());
    let signature = known.unwrap_or_else(|| match algorithm.algorithm.to_id_string().as_str() {
        // RFC 3279 section 2.2.3.
        "1.2.840.10045.4.1" => "ECDSA with SHA-1".to_owned(),
        other => format!("the algorithm {other}"),
    });
    format!("{signature} and {}", key(signer))
}

/// A key for people.
fn key(spki: &SubjectPublicKeyInfo<'_>) -> String {
    let kind = &spki.algorithm.algorithm;
    if *kind == OID_PKCS1_RSAENCRYPTION {
        return match spki.parsed() {
            Ok(PublicKey::RSA(key)) => format!("an RSA key of {} bits", bits(key.modulus)),
            _ => "an unreadable RSA key".to_owned(),
        };
    }
    if *kind != OID_KEY_TYPE_EC_PUBLIC_KEY {
        return format!("a key of kind {}", kind.to_id_string());
    }
    let curve = spki.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let named = [(OID_EC_P256, "P-256"), (OID_NIST_EC_P384, "P-384"), (OID_NIST_EC_P521, "P-521")];
    match curve {
        None => "a key on a curve without a name".to_owned(),
        Some(curve) => match named.iter().find(|(oid, _)| *oid == curve) {
            Some((_, name)) => format!("a key on {name}"),
            None => format!("a key on the curve {}", curve.to_id_string()),
        },
    }
}

fn bits(modulus: &[u8]) -> usize {
    let zeroes = modulus.iter().take_while(|byte| **byte == 0).count();
    let significant = modulus.get(zeroes..).unwrap_or_default();
    let head = significant.first().map_or(0, |byte| byte.leading_zeros() as usize);
    significant.len().saturating_mul(8).saturating_sub(head)
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
