//! Proofs of the bundle sequences that were given out: an HMAC-SHA-256 under a key that is derived from the
//! key-encryption key. That key is not in storage, so that proofs can be told from lies whatever storage has forgotten.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use signet_core::seams::proof::SequenceProofs;

use super::sealing::KeyEncryptionKey;

/// Longer than any proof.
const LONGEST: usize = 128;

/// Proofs `v1.KEY-ID.SEQUENCE.MAC`, for one trust domain.
pub struct BundleProofs {
    trust_domain: String,
    key: Arc<KeyEncryptionKey>,
}

impl BundleProofs {
    /// Proofs with this key. Two CAs of different trust domains do not know each other's, although they share the key.
    #[must_use]
    pub fn new(trust_domain: &str, key: Arc<KeyEncryptionKey>) -> Self {
        Self { trust_domain: trust_domain.to_owned(), key }
    }

    fn message(&self, sequence: u64) -> Vec<u8> {
        // The number has one length, so that no other pair gives the same bytes.
        [b"signet bundle sequence v1\0".as_slice(), &sequence.to_be_bytes(), self.trust_domain.as_bytes()].concat()
    }
}

impl SequenceProofs for BundleProofs {
    fn prove(&self, sequence: u64) -> Option<String> {
        let mac = hmac::sign(self.key.proofs(), &self.message(sequence));
        Some(format!("v1.{}.{sequence}.{}", self.key.id(), URL_SAFE_NO_PAD.encode(mac.as_ref())))
    }

    fn verify(&self, proof: &str) -> Option<u64> {
        if proof.len() > LONGEST {
            return None;
        }
        let mut parts = proof.splitn(4, '.');
        let (version, id, sequence, mac) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if version != "v1" || id != self.key.id().to_string() {
            return None;
        }
        let sequence = sequence.parse().ok()?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        // In constant time.
        hmac::verify(self.key.proofs(), &self.message(sequence), &mac).ok()?;
        Some(sequence)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn key(byte: u8) -> Arc<KeyEncryptionKey> {
        let text = base64::engine::general_purpose::STANDARD.encode([byte; 32]);
        Arc::new(KeyEncryptionKey::from_file_bytes(text.as_bytes()).unwrap())
    }

    #[test]
    fn a_proof_holds_for_its_sequence_its_key_and_its_trust_domain_alone() {
        let own = BundleProofs::new("td", key(1));
        for sequence in [0, 1, 7, u64::from(u32::MAX), u64::MAX] {
            let proof = own.prove(sequence).unwrap();
            assert_eq!(own.verify(&proof), Some(sequence));
            assert_eq!(
                own.prove(sequence).unwrap(),
                proof,
                "it travels with the bundle, which must not seem to change"
            );
            assert!(proof.len() <= LONGEST && proof.bytes().all(|byte| byte.is_ascii_graphic()));
            assert_eq!(BundleProofs::new("td", key(2)).verify(&proof), None);
            assert_eq!(BundleProofs::new("other", key(1)).verify(&proof), None);
            // Also with the name of the right key on it.
            let foreign = BundleProofs::new("td", key(2)).prove(sequence).unwrap();
            let named = foreign.replace(&key(2).id().to_string(), &key(1).id().to_string());
            assert_eq!(own.verify(&named), None);
        }
        let proof = own.prove(7).unwrap();
        for bad in
            [proof.replace(".7.", ".8."), proof.replace(".7.", ".07."), format!("{proof}A"), proof[1..].to_owned()]
        {
            // The same number in other digits is the same number.
            assert_eq!(own.verify(&bad), bad.contains(".07.").then_some(7), "{bad}");
        }
        for end in 0..proof.len() {
            assert_eq!(own.verify(&proof[..end]), None);
        }
    }

    #[test]
    fn what_is_derived_from_a_key_is_known_for_good() {
        // Agents and sealed keys hold these: another program must come to the same.
        assert_eq!(key(1).id().to_string(), "0cc8ed710e2d0f65");
        assert_eq!(
            BundleProofs::new("td", key(1)).prove(7).unwrap(),
            "v1.0cc8ed710e2d0f65.7.gBCa4jb3b0ww1-wC5dY7_j77zLWTTQLFdj-udp7zRRQ"
        );
    }

    proptest! {
        #[test]
        fn verifying_is_total(text in ".{0,200}") {
            prop_assert_eq!(BundleProofs::new("td", key(1)).verify(&text), None);
        }
    }
}
