//! Public keys between their two spellings: SubjectPublicKeyInfo in DER, and the parts that rcgen asks for.

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, PublicKeyData, SignatureAlgorithm};
use signet_core::key_type::KeyType;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The signature algorithm of a key: ECDSA with the hash of the curve's size, RSA as PKCS#1 v1.5 with SHA-256.
pub(crate) fn signature_algorithm(key_type: KeyType) -> &'static SignatureAlgorithm {
    match key_type {
        KeyType::EcP256 => &PKCS_ECDSA_P256_SHA256,
        KeyType::EcP384 => &PKCS_ECDSA_P384_SHA384,
        KeyType::Rsa2048 | KeyType::Rsa4096 => &PKCS_RSA_SHA256,
    }
}

/// A public key as rcgen writes it into a certificate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublicKey<'a> {
    algorithm: &'static SignatureAlgorithm,
    bits: &'a [u8],
}

impl<'a> PublicKey<'a> {
    /// Joins an algorithm and the content of the BIT STRING: a point, or an RSAPublicKey.
    pub(crate) fn new(key_type: KeyType, bits: &'a [u8]) -> Self {
        Self { algorithm: signature_algorithm(key_type), bits }
    }

    /// Reads a SubjectPublicKeyInfo on P-256, on P-384 or of RSA; `None` for any other.
    ///
    /// rcgen has a function for this, but it encodes and parses every algorithm it knows on each call, and this is
    /// called once per issued certificate.
    pub(crate) fn parse(spki_der: &'a [u8]) -> Option<Self> {
        let (rest, spki) = SubjectPublicKeyInfo::from_der(spki_der).ok()?;
        let oid = &spki.algorithm.algorithm;
        let algorithm = if *oid == OID_PKCS1_RSAENCRYPTION {
            &PKCS_RSA_SHA256
        } else if *oid == OID_KEY_TYPE_EC_PUBLIC_KEY {
            let curve = spki.algorithm.parameters.as_ref()?.as_oid().ok()?;
            match curve {
                curve if curve == OID_EC_P256 => &PKCS_ECDSA_P256_SHA256,
                curve if curve == OID_NIST_EC_P384 => &PKCS_ECDSA_P384_SHA384,
                _ => return None,
            }
        } else {
            return None;
        };
        // The bits are the tail of the DER, so they can be borrowed from it for as long as the DER lives.
        let bits = spki_der.len().checked_sub(rest.len() + spki.subject_public_key.as_ref().len())?;
        rest.is_empty().then(|| spki_der.get(bits..)).flatten().map(|bits| Self { algorithm, bits })
    }

    /// The content of the BIT STRING.
    pub(crate) fn into_bits(self) -> &'a [u8] {
        self.bits
    }

    /// The key as SubjectPublicKeyInfo in DER.
    pub(crate) fn to_spki_der(self) -> Vec<u8> {
        self.subject_public_key_info()
    }
}

impl PublicKeyData for PublicKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.bits
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;
    use rcgen::KeyPair;

    #[test]
    fn keys_of_both_curves_round_trip_and_others_are_not_read() {
        for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384] {
            let der = KeyPair::generate_for(algorithm).unwrap().subject_public_key_info();
            let key = PublicKey::parse(&der).unwrap();
            assert_eq!((key.algorithm, key.to_spki_der()), (algorithm, der.clone()));
            assert!(PublicKey::parse(&[der, vec![0]].concat()).is_none());
        }
        let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().subject_public_key_info();
        assert!(PublicKey::parse(&ed25519).is_none());
    }

    proptest! {
        #[test]
        fn reading_a_public_key_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            prop_assert!(PublicKey::parse(&bytes).is_none_or(|key| key.bits.len() <= bytes.len()));
        }
    }
}
