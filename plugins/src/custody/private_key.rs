//! Private keys as operators have them in PEM files (PKCS#1, SEC1, PKCS#8), brought into the one form that custody keeps:
//! PKCS#8 with the public key inside. Whether the key is of a supported kind is for custody to say.

use rsa::pkcs8::PrivateKeyInfo;
use rsa::pkcs8::der::asn1::{BitStringRef, ContextSpecific, ObjectIdentifier, OctetStringRef};
use rsa::pkcs8::der::{Decode, Reader, SliceReader, TagNumber};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::{Error as PemError, PemObject};
use signet_core::secret::Secret;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// Why a key file is of no use. Says nothing about the key itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
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
    #[error("is damaged: its PEM block cannot be decoded")]
    Damaged,
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
    // RFC 1421's header and RFC 5958's label; both are in plain text.
    if pem.expose().windows(9).any(|window| window == b"ENCRYPTED") {
        return Err(PrivateKeyError::Encrypted);
    }
    let mut blocks = PrivateKeyDer::pem_slice_iter(pem.expose());
    let key = match blocks.next() {
        None | Some(Err(PemError::NoItemsFound)) => return Err(PrivateKeyError::NoKey),
        Some(key) => Zeroizing::new(key.map_err(|_| PrivateKeyError::Damaged)?),
    };
    match blocks.next() {
        None => {}
        Some(Ok(key)) => {
            drop(Zeroizing::new(key));
            return Err(PrivateKeyError::SeveralKeys);
        }
        Some(Err(_)) => return Err(PrivateKeyError::Damaged),
    }
    let pkcs8 = match &*key {
        PrivateKeyDer::Pkcs1(key) => Some(pkcs8(&[oid(&RSA_ENCRYPTION), tlv(5, &[])], key.secret_pkcs1_der())),
        PrivateKeyDer::Sec1(key) => ec(key.secret_sec1_der(), None, spki_der),
        PrivateKeyDer::Pkcs8(key) => rewritten(key.secret_pkcs8_der(), spki_der),
        _ => None,
    };
    pkcs8.map(|mut der| Secret::new(std::mem::take(&mut *der))).ok_or(PrivateKeyError::Unsupported)
}

/// A PKCS#8 key in our form; what is neither RSA nor ECDSA goes through as it is and fails where keys are opened.
fn rewritten(der: &[u8], spki_der: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let info = PrivateKeyInfo::try_from(der).ok()?;
    if info.algorithm.oid == EC_PUBLIC_KEY {
        return ec(info.private_key, Some(info.algorithm.parameters_oid().ok()?), spki_der);
    }
    Some(Zeroizing::new(der.to_vec()))
}

/// An `ECPrivateKey` (RFC 5915) as PKCS#8 with the public key.
fn ec(der: &[u8], curve: Option<ObjectIdentifier>, spki_der: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut reader = SliceReader::new(der).ok()?;
    let (scalar, own_curve, public) = reader.sequence(read_ec).ok()?;
    let (_, spki) = SubjectPublicKeyInfo::from_der(spki_der).ok()?;
    // Old writers cut leading zeroes of the scalar, which RFC 5915 does not allow and ring does not read.
    let width: usize = match curve.or(own_curve)? {
        P256 => 32,
        P384 => 48,
        _ => return None,
    };
    let padding = Zeroizing::new(vec![0; width.checked_sub(scalar.len())?]);
    let point = public.unwrap_or(&spki.subject_public_key.data);
    let key = tlv(0x30, &[&tlv(2, &[&[1]]), &tlv(4, &[&padding, scalar]), &tlv(0xa1, &[&tlv(3, &[&[0], point])])]);
    Some(pkcs8(&[oid(&EC_PUBLIC_KEY), oid(&if width == 32 { P256 } else { P384 })], &key))
}

type EcParts<'a> = (&'a [u8], Option<ObjectIdentifier>, Option<&'a [u8]>);

fn read_ec<'a>(reader: &mut impl Reader<'a>) -> Result<EcParts<'a>, rsa::pkcs8::der::Error> {
    u8::decode(reader)?;
    let scalar = OctetStringRef::decode(reader)?.as_bytes();
    let curve = ContextSpecific::<ObjectIdentifier>::decode_explicit(reader, TagNumber::N0)?;
    let public = ContextSpecific::<BitStringRef<'a>>::decode_explicit(reader, TagNumber::N1)?;
    let public = public.and_then(|public| public.value.as_bytes());
    Ok((scalar, curve.map(|curve| curve.value), public))
}

fn pkcs8(algorithm: &[Zeroizing<Vec<u8>>], key: &[u8]) -> Zeroizing<Vec<u8>> {
    let algorithm: Vec<&[u8]> = algorithm.iter().map(|part| part.as_slice()).collect();
    tlv(0x30, &[&tlv(2, &[&[0]]), &tlv(0x30, &algorithm), &tlv(4, &[key])])
}

fn oid(oid: &ObjectIdentifier) -> Zeroizing<Vec<u8>> {
    tlv(6, &[oid.as_bytes()])
}

/// One DER element of `tag` with `parts` as its content (X.690 section 8.1). Sized beforehand: growing would leave a copy
/// behind that nobody wipes.
fn tlv(tag: u8, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let digits: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    let mut out = Zeroizing::new(Vec::with_capacity(length + digits.len() + 2));
    out.push(tag);
    match u8::try_from(length) {
        Ok(short @ 0..128) => out.push(short),
        _ => {
            // A length has at most eight bytes.
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or(0));
            out.extend_from_slice(&digits);
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
#[path = "private_key_tests.rs"]
mod tests;
