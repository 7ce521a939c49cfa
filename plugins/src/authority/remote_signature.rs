//! Signatures that are made elsewhere, in their own time: rcgen builds what is to be signed around an empty signature, the
//! key signs it, and the two are joined. rcgen itself signs only at once, which a key in an HSM or a KMS cannot.

use rcgen::{PublicKeyData, SignatureAlgorithm};
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::custody::SigningKey;
use x509_parser::asn1_rs::{Any, FromDer, Header};

use super::certificates::{PreparedIssuer, failed};
use crate::custody::public_key::{PublicKey, signature_algorithm};

/// A BIT STRING without bits (X.690 section 8.6.2.3): what rcgen writes for the empty signature.
const NO_SIGNATURE: &[u8] = &[0x03, 0x01, 0x00];

/// The public half of a key of core, as rcgen wants to see the key of an issuer.
pub(super) struct Unsigned {
    spki_der: Vec<u8>,
    bits: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
}

impl Unsigned {
    /// Stands for `key`; `None` when that is of a kind that Signet does not sign with.
    pub(super) fn of(key: &dyn SigningKey) -> Option<Self> {
        let bits = PublicKey::parse(key.spki_der())?.into_bits().to_vec();
        Some(Self { spki_der: key.spki_der().to_vec(), bits, algorithm: signature_algorithm(key.key_type()) })
    }
}

impl PublicKeyData for Unsigned {
    fn subject_public_key_info(&self) -> Vec<u8> {
        self.spki_der.clone()
    }

    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl rcgen::SigningKey for Unsigned {
    fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Vec::new())
    }
}

/// Signs a certificate or a list that was built with [`Unsigned`] in the place of `key`.
///
/// # Errors
/// [`SignError::Unavailable`] when the key does not sign; [`SignError::Failed`] for anything else, which is a bug.
pub(super) async fn complete(unsigned: &[u8], key: &dyn SigningKey) -> Result<Vec<u8>, SignError> {
    let (content, tbs) = take_apart(unsigned).ok_or_else(|| failed("bug: what was built is not to be signed"))?;
    complete_parts(content, tbs, key).await
}

/// The same in the name of `issuer`, which takes the place of the stand-in that it was built with.
///
/// # Errors
/// As [`complete`].
pub(super) async fn complete_as(unsigned: &[u8], issuer: &PreparedIssuer) -> Result<Vec<u8>, SignError> {
    let renamed = take_apart(unsigned).and_then(|(content, tbs)| with_issuer(content, tbs, &issuer.subject));
    let (content, tbs) = renamed.ok_or_else(|| failed("bug: what was built is not to be signed"))?;
    complete_parts(&content, content.get(..tbs).unwrap_or_default(), &*issuer.key).await
}

/// `content`, which begins with `tbs`, with another name as its issuer, and how long the new `tbs` is. In certificates and
/// in lists the issuer is the second SEQUENCE, behind the algorithm (RFC 5280 sections 4.1 and 5.1).
pub(super) fn with_issuer(content: &[u8], tbs: &[u8], name: &[u8]) -> Option<(Vec<u8>, usize)> {
    const SEQUENCE: u8 = 0x30;
    let (inside, _) = Header::from_der(tbs).ok()?;
    let (mut rest, mut sequences) = (inside, 0);
    while sequences < 2 {
        let before = rest;
        (rest, _) = Any::from_der(rest).ok()?;
        sequences += u8::from(before.first() == Some(&SEQUENCE));
        if sequences == 2 {
            let head = inside.get(..inside.len().checked_sub(before.len())?)?;
            let parts = [head, name, rest].concat();
            let mut renamed = vec![SEQUENCE];
            write_length(&mut renamed, parts.len());
            renamed.extend(parts);
            let length = renamed.len();
            renamed.extend(content.get(tbs.len()..)?);
            return Some((renamed, length));
        }
    }
    None
}

/// Signs `tbs`, with which `content` begins; behind it follows the signature's algorithm.
///
/// # Errors
/// [`SignError::Unavailable`] when the key does not sign.
pub(super) async fn complete_parts(content: &[u8], tbs: &[u8], key: &dyn SigningKey) -> Result<Vec<u8>, SignError> {
    let signature = key.sign(tbs).await.map_err(SignError::Unavailable)?;
    let mut signed = Vec::with_capacity(content.len().saturating_add(signature.len()).saturating_add(16));
    let bits = signature.len().saturating_add(1);
    let mut tail = vec![0x03];
    write_length(&mut tail, bits);
    // No bits are left over in the last byte.
    tail.push(0);
    tail.extend(signature);
    signed.push(0x30);
    write_length(&mut signed, content.len().saturating_add(tail.len()));
    signed.extend_from_slice(content);
    signed.extend(tail);
    Ok(signed)
}

/// The content of the outer SEQUENCE up to the signature, and its first element: what is signed (RFC 5280 sections 4.1.1.3
/// and 5.1.1.3).
pub(super) fn take_apart(unsigned: &[u8]) -> Option<(&[u8], &[u8])> {
    let (content, header) = Header::from_der(unsigned).ok()?;
    let whole = header.length().definite().is_ok_and(|length| length == content.len());
    let content = content.strip_suffix(NO_SIGNATURE).filter(|_| whole)?;
    let (rest, _) = Any::from_der(content).ok()?;
    let tbs = content.get(..content.len().checked_sub(rest.len())?)?;
    Some((content, tbs))
}

/// Writes a length in the definite form (X.690 section 8.1.3), as short as it can be (section 10.1).
pub(super) fn write_length(to: &mut Vec<u8>, length: usize) {
    let bytes = length.to_be_bytes();
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1);
    let significant = bytes.get(first..).unwrap_or_default();
    match significant {
        [short] if *short < 0x80 => {}
        // Eight bytes at most.
        long => to.push(0x80 | u8::try_from(long.len()).unwrap_or(8)),
    }
    to.extend_from_slice(significant);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use async_trait::async_trait;
    use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256};
    use signet_core::key_type::KeyType;
    use x509_parser::prelude::X509Certificate;

    use super::*;
    use crate::custody::LocalKey;

    fn params(name_length: usize) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.serial_number = Some(7.into());
        params.distinguished_name.push(DnType::CommonName, "x".repeat(name_length));
        params
    }

    #[tokio::test]
    async fn what_is_joined_is_byte_for_byte_what_rcgen_signs_at_once() {
        // Signatures of RSA with PKCS#1 are the same each time. Names of these lengths bring lengths of one to three bytes.
        let (key, pkcs8) = LocalKey::generate(KeyType::Rsa2048).await.unwrap();
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8.expose().into(), &PKCS_RSA_SHA256).unwrap();
        for name_length in [1, 60, 200, 300, 70_000] {
            let params = params(name_length);
            let at_once = params.self_signed(&pair).unwrap();
            let unsigned = params.self_signed(&Unsigned::of(&key).unwrap()).unwrap();
            assert_eq!(complete(unsigned.der(), &key).await.unwrap(), at_once.der().to_vec(), "{name_length}");
        }
    }

    #[tokio::test]
    async fn every_key_type_makes_certificates_that_verify() {
        for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
            let (key, _) = LocalKey::generate(key_type).await.unwrap();
            let unsigned = params(9).self_signed(&Unsigned::of(&key).unwrap()).unwrap();
            let signed = complete(unsigned.der(), &key).await.unwrap();
            let (rest, certificate) = X509Certificate::from_der(&signed).unwrap();
            assert!(rest.is_empty());
            certificate.verify_signature(None).unwrap();
        }
    }

    /// A key elsewhere: it needs a turn of the runtime, and may be away.
    struct Remote(LocalKey, bool);

    #[async_trait]
    impl SigningKey for Remote {
        fn key_type(&self) -> KeyType {
            self.0.key_type()
        }

        fn spki_der(&self) -> &[u8] {
            self.0.spki_der()
        }

        async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
            tokio::task::yield_now().await;
            if self.1 { self.0.sign(message).await } else { Err("the HSM does not answer".to_owned()) }
        }
    }

    #[tokio::test]
    async fn a_key_that_is_away_is_told_as_what_may_pass() {
        let (key, _) = LocalKey::generate(KeyType::EcP256).await.unwrap();
        let unsigned = params(9).self_signed(&Unsigned::of(&key).unwrap()).unwrap();
        let away = Remote(key, false);
        let told = complete(unsigned.der(), &away).await;
        assert_eq!(told, Err(SignError::Unavailable("the HSM does not answer".to_owned())));
        assert!(complete(unsigned.der(), &Remote(away.0, true)).await.is_ok());
    }

    #[tokio::test]
    async fn anything_but_a_structure_without_a_signature_is_not_signed() {
        let (key, _) = LocalKey::generate(KeyType::EcP256).await.unwrap();
        let unsigned = params(9).self_signed(&Unsigned::of(&key).unwrap()).unwrap().der().to_vec();
        let signed = complete(&unsigned, &key).await.unwrap();
        let cut = unsigned.split_last().unwrap().1;
        for wrong in [
            &[][..],
            b"\x30",
            b"\x30\x00",
            b"\x30\x03\x03\x01\x00",
            cut,
            &signed,
            &[unsigned.clone(), vec![0]].concat(),
        ] {
            assert!(matches!(complete(wrong, &key).await, Err(SignError::Failed(_))), "{wrong:?}");
        }
    }
}
