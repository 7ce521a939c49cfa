//! Proofs of the bundle sequences that were given out: an HMAC-SHA-256 under a key that is derived from the
//! key-encryption key. That key is not in storage, so that proofs can be told from lies whatever storage has forgotten.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use signet_core::seams::bundle_proofs::SequenceProofs;

use super::keyring::Keyring;

/// Longer than any proof.
const LONGEST: usize = 128;

/// Proofs `v1.KEY-ID.SEQUENCE.MAC`, for one trust domain.
pub struct BundleProofs {
    trust_domain: String,
    keys: Arc<Keyring>,
}

impl BundleProofs {
    /// Proofs with the newest of these keys, known again with any of them. Two CAs of different trust domains do not know each other's, although they share a key.
    #[must_use]
    pub fn new(trust_domain: &str, keys: Arc<Keyring>) -> Self {
        Self { trust_domain: trust_domain.to_owned(), keys }
    }

    fn message(&self, sequence: u64) -> Vec<u8> {
        // The number has one length, so that no other pair gives the same bytes.
        [b"signet bundle sequence v1\0".as_slice(), &sequence.to_be_bytes(), self.trust_domain.as_bytes()].concat()
    }
}

impl SequenceProofs for BundleProofs {
    fn prove(&self, sequence: u64) -> Option<String> {
        let keys = self.keys.known();
        let key = keys.newest();
        let mac = hmac::sign(key.proofs(), &self.message(sequence));
        Some(format!("v1.{}.{sequence}.{}", key.id(), URL_SAFE_NO_PAD.encode(mac.as_ref())))
    }

    fn verify(&self, proof: &str) -> Option<u64> {
        if proof.len() > LONGEST {
            return None;
        }
        let mut parts = proof.splitn(4, '.');
        let (version, id, sequence, mac) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // Nothing is read anew for what a stranger may have made up.
        let keys = self.keys.known();
        let key = keys.all().find(|key| key.id().to_string() == id).filter(|_| version == "v1")?;
        let sequence = sequence.parse().ok()?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        // In constant time.
        hmac::verify(key.proofs(), &self.message(sequence), &mac).ok()?;
        Some(sequence)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use crate::custody::keyring::{SealingKeys, TestSource};
    use crate::custody::sealing::KeyEncryptionKey;
    use proptest::prelude::*;

    fn line(byte: u8) -> String {
        base64::engine::general_purpose::STANDARD.encode([byte; 32])
    }

    /// The key of this byte alone.
    fn key(byte: u8) -> Arc<Keyring> {
        keys(&[byte])
    }

    /// These keys, the newest first.
    fn keys(bytes: &[u8]) -> Arc<Keyring> {
        let text = bytes.iter().map(|byte| line(*byte)).collect::<Vec<_>>().join("\n");
        let known = SealingKeys::from_file_bytes(text.as_bytes()).unwrap();
        Arc::new(Keyring::new(TestSource::default(), known))
    }

    fn id(byte: u8) -> String {
        KeyEncryptionKey::from_file_bytes(line(byte).as_bytes()).unwrap().id().to_string()
    }

    #[test]
    fn a_proof_of_before_another_key_was_taken_holds_as_long_as_the_former_one_is_kept() {
        let before = BundleProofs::new("td", key(1)).prove(7).unwrap();
        let changed = BundleProofs::new("td", keys(&[2, 1]));
        assert_eq!(changed.verify(&before), Some(7));
        let after = changed.prove(7).unwrap();
        assert!(after.contains(&id(2)) && changed.verify(&after) == Some(7), "{after}");
        assert_eq!(BundleProofs::new("td", key(2)).verify(&before), None);
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
            let named = foreign.replace(&id(2), &id(1));
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
        assert_eq!(id(1), "0cc8ed710e2d0f65");
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
