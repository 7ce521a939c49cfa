//! The key-encryption key and the format of a sealed blob. Where blobs and the key's file are kept is not decided here.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{hkdf, hmac};
use signet_core::authority::KeyId;
use signet_core::secret::Secret;
use zeroize::Zeroizing;

/// The first byte of every blob. Another format gets another number, so that old blobs stay readable.
///
/// The name of the key follows, and is authenticated with the rest.
const VERSION: u8 = 2;

/// Blobs of before, which do not say which key they need.
const UNNAMED: u8 = 1;
const KEY_BYTES: usize = 32;

/// What is derived from a key (HKDF-SHA-256, RFC 5869) is of no use for finding the key, nor for each other's purpose.
const DERIVED: &[u8] = b"signet key-encryption key";
const ID_BYTES: usize = 8;

struct IdLength;

impl hkdf::KeyType for IdLength {
    fn len(&self) -> usize {
        ID_BYTES
    }
}

/// Names a key-encryption key: derived from it, and no secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SealingKeyId([u8; ID_BYTES]);

impl fmt::Display for SealingKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SealingKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key-encryption key could not be taken or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyEncryptionKeyError {
    /// The file does not hold standard base64 text.
    #[error("it is not a line of standard base64 (make one with `openssl rand -base64 32`)")]
    NotBase64,
    /// The file holds another number of bytes.
    #[error("the key-encryption key has {0} bytes, but it must have exactly 32")]
    WrongLength(usize),
    /// The operating system gave no randomness.
    #[error("making a key-encryption key failed: the system's random generator failed")]
    NoRandomness,
}

/// Encrypts private keys before they reach storage: AES-256-GCM (NIST SP 800-38D).
///
/// Nonces are random and 96 bits long. A custody seals a few keys a year, far from the 2^32 that random nonces allow.
pub struct KeyEncryptionKey {
    seal: LessSafeKey,
    id: SealingKeyId,
    proofs: hmac::Key,
}

impl KeyEncryptionKey {
    /// Takes the content of a key file: exactly 32 bytes as standard base64; a newline at the end is fine.
    /// Reading the file and checking its mode is the caller's job.
    ///
    /// # Errors
    /// [`KeyEncryptionKeyError::NotBase64`] or [`KeyEncryptionKeyError::WrongLength`].
    pub fn from_file_bytes(content: &[u8]) -> Result<Self, KeyEncryptionKeyError> {
        let line = content.strip_suffix(b"\n").map_or(content, |line| line.strip_suffix(b"\r").unwrap_or(line));
        let bytes = Zeroizing::new(STANDARD.decode(line).map_err(|_| KeyEncryptionKeyError::NotBase64)?);
        // ring accepts exactly the key length of the algorithm.
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| KeyEncryptionKeyError::WrongLength(bytes.len()))?;
        let keys = hkdf::Salt::new(hkdf::HKDF_SHA256, DERIVED).extract(&bytes);
        let mut id = [0; ID_BYTES];
        // The length is one that HKDF gives, so that this does not fail.
        let named = keys.expand(&[b"id"], IdLength).and_then(|okm| okm.fill(&mut id));
        let proofs = keys.expand(&[b"bundle sequence"], hmac::HMAC_SHA256);
        let (Ok(()), Ok(proofs)) = (named, proofs) else { return Err(KeyEncryptionKeyError::WrongLength(bytes.len())) };
        Ok(Self { seal: LessSafeKey::new(key), id: SealingKeyId(id), proofs: proofs.into() })
    }

    /// Which key this is.
    #[must_use]
    pub fn id(&self) -> SealingKeyId {
        self.id
    }

    /// Another key, derived from this one, for proofs of what was given out.
    pub(super) fn proofs(&self) -> &hmac::Key {
        &self.proofs
    }

    /// Makes the content of a new key file: one line that [`from_file_bytes`](Self::from_file_bytes) accepts.
    ///
    /// # Errors
    /// [`KeyEncryptionKeyError::NoRandomness`].
    pub fn generate() -> Result<Zeroizing<String>, KeyEncryptionKeyError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        SystemRandom::new().fill(&mut *bytes).map_err(|_| KeyEncryptionKeyError::NoRandomness)?;
        // Sized beforehand: growing would leave a copy behind that nobody wipes.
        let mut text = Zeroizing::new(String::with_capacity(64));
        STANDARD.encode_string(bytes.as_slice(), &mut text);
        text.push('\n');
        Ok(text)
    }

    /// Encrypts `plain` for the name `id`: version, name of this key, nonce, ciphertext, tag. `None` when the system has no randomness.
    pub(super) fn seal(&self, id: &KeyId, plain: &Secret) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = vec![VERSION];
        sealed.extend_from_slice(&self.id.0);
        sealed.extend_from_slice(&nonce);
        let mut text = Zeroizing::new(plain.expose().to_vec());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.seal.seal_in_place_separate_tag(nonce, self.additional_data(VERSION, id), &mut text).ok()?;
        sealed.extend_from_slice(&text);
        sealed.extend_from_slice(tag.as_ref());
        Some(sealed)
    }

    /// Decrypts what [`seal`](Self::seal) made for the same name; `None` for anything else.
    pub(super) fn open(&self, id: &KeyId, sealed: &[u8]) -> Option<Secret> {
        let (version, rest) = sealed.split_first()?;
        let rest = match *version {
            VERSION => rest.strip_prefix(&self.id.0)?,
            UNNAMED => rest,
            _ => return None,
        };
        let (nonce, text) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = Zeroizing::new(text.to_vec());
        let plain = self.seal.open_in_place(nonce, self.additional_data(*version, id), &mut text).ok()?.len();
        text.truncate(plain);
        Some(Secret::new(std::mem::take(&mut *text)))
    }

    /// Binds a blob to its name, so that whoever can write the store cannot put one key in the place of another; and to
    /// the name of the key that it needs.
    fn additional_data(&self, version: u8, id: &KeyId) -> Aad<Vec<u8>> {
        let own: &[u8] = if version == UNNAMED { &[] } else { &self.id.0 };
        Aad::from([b"signet sealed key ", [version].as_slice(), own, id.as_str().as_bytes()].concat())
    }
}

/// Which key a blob says that it needs. Whether that is so shows when it is opened.
pub(super) fn sealed_with(sealed: &[u8]) -> Option<SealingKeyId> {
    let (version, rest) = sealed.split_first()?;
    let (id, _) = rest.split_first_chunk().filter(|_| *version == VERSION)?;
    Some(SealingKeyId(*id))
}

impl fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyEncryptionKey(32 bytes)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn key() -> KeyEncryptionKey {
        KeyEncryptionKey::from_file_bytes(KeyEncryptionKey::generate().unwrap().as_bytes()).unwrap()
    }

    fn id() -> KeyId {
        KeyId::parse("root-1").unwrap()
    }

    #[test]
    fn a_key_file_is_one_line_of_base64_with_exactly_32_bytes() {
        let text = |bytes: usize| STANDARD.encode(vec![7; bytes]);
        for good in [text(32), format!("{}\n", text(32)), format!("{}\r\n", text(32))] {
            assert!(KeyEncryptionKey::from_file_bytes(good.as_bytes()).is_ok(), "{good:?}");
        }
        let table = [
            (text(31), KeyEncryptionKeyError::WrongLength(31)),
            (text(33), KeyEncryptionKeyError::WrongLength(33)),
            (text(64), KeyEncryptionKeyError::WrongLength(64)),
            (String::new(), KeyEncryptionKeyError::WrongLength(0)),
            ("a".repeat(31), KeyEncryptionKeyError::NotBase64),
            ("0123".repeat(16), KeyEncryptionKeyError::WrongLength(48)),
            (format!("{}\n\n", text(32)), KeyEncryptionKeyError::NotBase64),
            (format!(" {}", text(32)), KeyEncryptionKeyError::NotBase64),
            (text(32).replace('=', ""), KeyEncryptionKeyError::NotBase64),
        ];
        for (bad, expected) in table {
            assert_eq!(KeyEncryptionKey::from_file_bytes(bad.as_bytes()).err(), Some(expected), "{bad:?}");
        }
    }

    #[test]
    fn sealing_twice_gives_different_blobs_that_hold_nothing_of_the_plain_text() {
        let (key, plain) = (key(), Secret::new(b"the private key".to_vec()));
        let (one, two) = (key.seal(&id(), &plain).unwrap(), key.seal(&id(), &plain).unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 1 + ID_BYTES + NONCE_LEN + plain.expose().len() + 16);
        assert_eq!(sealed_with(&one), Some(key.id()));
        assert!(!one.windows(7).any(|window| window == b"private"));
        assert_eq!(key.open(&id(), &one).unwrap().expose(), plain.expose());
    }

    #[test]
    fn neither_a_flipped_bit_nor_a_missing_byte_is_accepted() {
        let key = key();
        let sealed = key.seal(&id(), &Secret::new(b"secret".to_vec())).unwrap();
        for position in 0..sealed.len() {
            for bit in 0..8 {
                let mut damaged = sealed.clone();
                damaged[position] ^= 1 << bit;
                assert!(key.open(&id(), &damaged).is_none(), "byte {position} bit {bit}");
            }
            assert!(key.open(&id(), &sealed[..position]).is_none());
        }
        assert!(key.open(&KeyId::parse("root-2").unwrap(), &sealed).is_none());
    }

    #[test]
    fn a_blob_of_before_that_names_no_key_is_still_opened() {
        // Made by the version before names: version 1, nonce of twelve times 9, for the key of 32 times 7.
        let key = KeyEncryptionKey::from_file_bytes(STANDARD.encode([7; 32]).as_bytes()).unwrap();
        let hex = "0109090909090909090909090953ede1b4ce82a817c116ae188d8fda40f1d8ab3aa5614094a0360d1d163428";
        let bytes = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
        let sealed: Vec<u8> = (0..hex.len() / 2).map(bytes).collect();
        assert_eq!(sealed_with(&sealed), None);
        assert_eq!(key.open(&id(), &sealed).unwrap().expose(), b"the private key");
        assert!(key.open(&KeyId::parse("root-2").unwrap(), &sealed).is_none());
        let other = KeyEncryptionKey::from_file_bytes(STANDARD.encode([8; 32]).as_bytes()).unwrap();
        assert!(other.open(&id(), &sealed).is_none());
    }

    #[test]
    fn debug_output_shows_no_key() {
        let text = KeyEncryptionKey::generate().unwrap();
        let key = KeyEncryptionKey::from_file_bytes(text.as_bytes()).unwrap();
        assert_eq!(format!("{key:?}"), "KeyEncryptionKey(32 bytes)");
    }

    proptest! {
        #[test]
        fn opening_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(key().open(&id(), &bytes).is_none());
        }
    }
}
