//! Private keys as operators have them in PEM files (PKCS#1, SEC1, PKCS#8), brought into the one form that custody keeps:
//! PKCS#8 with the public key inside. Whether the key is of a supported kind is for custody to say.

use rsa::pkcs1;
use rsa::pkcs8::spki::AlgorithmIdentifierRef;
use rsa::pkcs8::{ObjectIdentifier, PrivateKeyInfo, SecretDocument};
use sec1::{EcParameters, EcPrivateKey};
use signet_core::pem::{PemError, read_blocks};
use signet_core::secret::Secret;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// Why a key file is of no use. Says nothing about the key itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PrivateKeyError {
    /// The key is protected by a passphrase.
    #[error("holds an encrypted key; write it without a passphrase (`openssl pkey -in KEY -out PLAIN`)")]
    Encrypted,
    /// There is no key in it.
    #[error("holds no PEM block `PRIVATE KEY`, `RSA PRIVATE KEY` or `EC PRIVATE KEY`")]
    NoKey,
    /// There is more than one, so which one is meant is a guess.
    #[error("holds more than one private key; keep the one of the CA")]
    SeveralKeys,
    /// The PEM block is broken.
    #[error("is damaged: {0}")]
    Damaged(PemError),
    /// Another algorithm, curve or size, or a damaged encoding.
    #[error("is damaged or of an unsupported kind; use ECDSA P-256 or P-384, or RSA of 2048 to 4096 bits")]
    Unsupported,
}

/// Reads the one private key of a PEM file and returns it as PKCS#8 (RFC 5208).
///
/// Java and others leave the public key out of an elliptic-curve key (it is optional in RFC 5915); it is then taken from
/// `spki_der`, the SubjectPublicKeyInfo of the key's certificate. That the two belong together is checked by whoever
/// opens the key.
pub(crate) fn pkcs8_from_pem(pem: &Secret, spki_der: &[u8]) -> Result<Secret, PrivateKeyError> {
    let blocks = read_blocks(pem.expose()).map_err(|error| match error {
        PemError::NoBlock => PrivateKeyError::NoKey,
        // RFC 1421's header.
        PemError::Encrypted(_) => PrivateKeyError::Encrypted,
        error => PrivateKeyError::Damaged(error),
    })?;
    // RFC 5958 section 4.
    if blocks.iter().any(|block| block.label == "ENCRYPTED PRIVATE KEY") {
        return Err(PrivateKeyError::Encrypted);
    }
    // Others stand beside keys: OpenSSL writes the parameters of a curve before its key.
    let mut keys = blocks.iter().filter(|block| block.label.ends_with("PRIVATE KEY"));
    let key = keys.next().ok_or(PrivateKeyError::NoKey)?;
    if keys.next().is_some() {
        return Err(PrivateKeyError::SeveralKeys);
    }
    let pkcs8 = match key.label.as_str() {
        "RSA PRIVATE KEY" => pkcs8(pkcs1::ALGORITHM_ID, &key.der),
        "EC PRIVATE KEY" => ec(&key.der, None, spki_der),
        "PRIVATE KEY" => rewritten(&key.der, spki_der),
        _ => None,
    };
    pkcs8.map(|der| Secret::new(std::mem::take(&mut *der.to_bytes()))).ok_or(PrivateKeyError::Unsupported)
}

/// A PKCS#8 key in our form; what is neither RSA nor ECDSA goes through as it is and fails where keys are opened.
fn rewritten(der: &[u8], spki_der: &[u8]) -> Option<SecretDocument> {
    let info = PrivateKeyInfo::try_from(der).ok()?;
    if info.algorithm.oid == EC_PUBLIC_KEY {
        return ec(info.private_key, Some(info.algorithm.parameters_oid().ok()?), spki_der);
    }
    SecretDocument::try_from(der).ok()
}

/// An `ECPrivateKey` (RFC 5915) as PKCS#8 with the public key.
fn ec(der: &[u8], curve: Option<ObjectIdentifier>, spki_der: &[u8]) -> Option<SecretDocument> {
    let key = EcPrivateKey::try_from(der).ok()?;
    let (_, spki) = SubjectPublicKeyInfo::from_der(spki_der).ok()?;
    let curve = curve.or(key.parameters.and_then(EcParameters::named_curve))?;
    let width: usize = match curve {
        P256 => 32,
        P384 => 48,
        _ => return None,
    };
    // Old writers cut leading zeroes of the scalar, which RFC 5915 does not allow and ring does not read.
    let mut scalar = Zeroizing::new(vec![0; width]);
    scalar.get_mut(width.checked_sub(key.private_key.len())?..)?.copy_from_slice(key.private_key);
    let public_key = key.public_key.or(Some(&spki.subject_public_key.data));
    let key = EcPrivateKey { private_key: &scalar, parameters: None, public_key };
    let algorithm = AlgorithmIdentifierRef { oid: EC_PUBLIC_KEY, parameters: Some((&curve).into()) };
    pkcs8(algorithm, SecretDocument::encode_msg(&key).ok()?.as_bytes())
}

fn pkcs8(algorithm: AlgorithmIdentifierRef<'_>, key: &[u8]) -> Option<SecretDocument> {
    PrivateKeyInfo::new(algorithm, key).try_into().ok()
}

#[cfg(test)]
#[path = "private_key_tests.rs"]
mod tests;
