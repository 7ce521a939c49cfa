//! Private keys in this process: made here, parsed from PKCS#8, and used only for signing.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use rsa::pkcs8::EncodePrivateKey;
use signet_core::key_type::KeyType;
use signet_core::seams::custody::{CustodyError, SigningKey};
use signet_core::secret::Secret;
use zeroize::Zeroizing;

use super::public_key::PublicKey;

/// A private key held in the memory of this process.
pub struct LocalKey {
    key_type: KeyType,
    spki_der: Vec<u8>,
    private: Arc<Private>,
}

enum Private {
    Ec(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

impl Private {
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::Ec(key) => key.sign(&random, message).map(|signature| signature.as_ref().to_vec()).ok(),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map(|()| signature).ok()
            }
        }
    }
}

impl LocalKey {
    /// Makes a key and returns it with its PKCS#8 encoding, which the caller seals or drops.
    ///
    /// RSA takes from a tenth of a second to several seconds, so it runs on the blocking pool.
    ///
    /// # Errors
    /// [`CustodyError::Generate`] when the system has no randomness to give.
    pub async fn generate(key_type: KeyType) -> Result<(Self, Secret), CustodyError> {
        let made = tokio::task::spawn_blocking(move || {
            let pkcs8 = match key_type {
                KeyType::EcP256 => generate_ec(&ECDSA_P256_SHA256_ASN1_SIGNING),
                KeyType::EcP384 => generate_ec(&ECDSA_P384_SHA384_ASN1_SIGNING),
                KeyType::Rsa2048 => generate_rsa(2048),
                KeyType::Rsa4096 => generate_rsa(4096),
            }?;
            Some((Self::from_pkcs8(pkcs8.expose()).filter(|key| key.key_type == key_type)?, pkcs8))
        });
        // A join error is a panic in there or the runtime's end; either way there is no key.
        made.await.ok().flatten().ok_or(CustodyError::Generate(key_type))
    }

    /// Reads a PKCS#8 key (RFC 5208) of one of the four key types; `None` for anything else.
    ///
    /// Elliptic-curve keys must hold their public key and RSA keys their CRT parameters, as the ones made here do.
    /// The parts are checked against each other. RSA keys of other people have sizes between the two known ones (3072
    /// bits is usual): they sign alike and count as the smaller type.
    #[must_use]
    pub fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        let random = SystemRandom::new();
        let ec = |algorithm: &'static EcdsaSigningAlgorithm| EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &random).ok();
        let (key_type, private) = if let Some(key) = ec(&ECDSA_P256_SHA256_ASN1_SIGNING) {
            (KeyType::EcP256, Private::Ec(Box::new(key)))
        } else if let Some(key) = ec(&ECDSA_P384_SHA384_ASN1_SIGNING) {
            (KeyType::EcP384, Private::Ec(Box::new(key)))
        } else {
            let key = RsaKeyPair::from_pkcs8(pkcs8).ok()?;
            let key_type = match key.public().modulus_len() {
                256..512 => KeyType::Rsa2048,
                512 => KeyType::Rsa4096,
                _ => return None,
            };
            (key_type, Private::Rsa(Box::new(key)))
        };
        let public = match &private {
            Private::Ec(key) => key.public_key().as_ref(),
            Private::Rsa(key) => key.public_key().as_ref(),
        };
        let spki_der = PublicKey::new(key_type, public).to_spki_der();
        Some(Self { key_type, spki_der, private: Arc::new(private) })
    }
}

#[async_trait]
impl SigningKey for LocalKey {
    fn key_type(&self) -> KeyType {
        self.key_type
    }

    fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }

    /// With P-256 on the calling task: that takes tens of microseconds, less than handing it to another thread costs. The
    /// others take up to several milliseconds, so they run on the blocking pool.
    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let signature = if self.key_type == KeyType::EcP256 {
            self.private.sign(message)
        } else {
            let (private, message) = (Arc::clone(&self.private), message.to_vec());
            // A join error is a panic in there or the runtime's end; either way there is no signature.
            tokio::task::spawn_blocking(move || private.sign(&message)).await.ok().flatten()
        };
        signature.ok_or_else(|| format!("the {} key could not sign", self.key_type))
    }
}

impl fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalKey({})", self.key_type)
    }
}

fn generate_ec(algorithm: &'static EcdsaSigningAlgorithm) -> Option<Secret> {
    // ring's document cannot be wiped from outside; it is a short-lived value of this frame.
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).ok()?;
    Some(Secret::new(document.as_ref().to_vec()))
}

/// ring cannot make RSA keys, so the `rsa` crate does, and it does nothing else: its private-key operations are not in
/// constant time (RUSTSEC-2023-0071), therefore signing is ring's. Its documents and numbers wipe themselves.
fn generate_rsa(bits: usize) -> Option<Secret> {
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, bits).ok()?;
    let document = key.to_pkcs8_der().ok()?;
    let mut bytes = Zeroizing::new(document.as_bytes().to_vec());
    Some(Secret::new(std::mem::take(&mut *bytes)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use std::task::{Context, Waker};

    use super::*;
    use rcgen::PublicKeyData;
    use ring::signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
        VerificationAlgorithm,
    };

    #[tokio::test]
    async fn every_key_type_signs_what_its_public_key_verifies_and_survives_its_encoding() {
        let table: [(KeyType, &'static dyn VerificationAlgorithm); 3] = [
            (KeyType::EcP256, &ECDSA_P256_SHA256_ASN1),
            (KeyType::EcP384, &ECDSA_P384_SHA384_ASN1),
            (KeyType::Rsa2048, &RSA_PKCS1_2048_8192_SHA256),
        ];
        for (key_type, algorithm) in table {
            let (key, pkcs8) = LocalKey::generate(key_type).await.unwrap();
            assert_eq!(key.key_type(), key_type);
            let public = PublicKey::parse(key.spki_der()).unwrap();
            let verifier = UnparsedPublicKey::new(algorithm, public.der_bytes());
            assert!(verifier.verify(b"message", &key.sign(b"message").await.unwrap()).is_ok());
            assert!(verifier.verify(b"messagf", &key.sign(b"message").await.unwrap()).is_err());

            let again = LocalKey::from_pkcs8(pkcs8.expose()).unwrap();
            assert_eq!((again.key_type(), again.spki_der()), (key_type, key.spki_der()));
            assert_eq!(format!("{key:?}"), format!("LocalKey({key_type})"));
        }
    }

    #[test]
    fn a_key_that_takes_long_does_not_keep_other_tasks_from_their_thread() {
        // The one thread for what takes long is busy until it is told otherwise.
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        for (key_type, at_once) in
            [(KeyType::EcP256, true), (KeyType::EcP384, false), (KeyType::Rsa2048, false), (KeyType::Rsa4096, false)]
        {
            runtime.block_on(async {
                let (key, _) = LocalKey::generate(key_type).await.unwrap();
                let (go_on, wait) = std::sync::mpsc::channel::<()>();
                let busy = tokio::task::spawn_blocking(move || wait.recv());
                let mut signing = key.sign(b"message");
                let first = signing.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert_eq!(first.is_ready(), at_once, "{key_type}");
                go_on.send(()).unwrap();
                busy.await.unwrap().unwrap();
                if !at_once {
                    assert!(signing.await.is_ok());
                }
            });
        }
    }

    #[test]
    fn what_is_not_a_key_of_a_known_type_is_not_read() {
        let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_der();
        for bytes in [&b""[..], b"junk", &[0x30; 100], &ed25519] {
            assert!(LocalKey::from_pkcs8(bytes).is_none());
        }
    }
}
