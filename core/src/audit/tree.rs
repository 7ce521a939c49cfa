//! RFC 6962 hashing of log entries. Each stored event keeps its leaf hash, so that a Merkle tree can be built over
//! them and bodies can be pruned without losing the hashes.

/// The hash of one log entry.
pub type LeafHash = [u8; 32];

/// The Merkle leaf hash of an encoded event: `SHA-256(0x00 || body)` (RFC 6962 section 2.1).
#[must_use]
pub fn leaf_hash(body: &[u8]) -> LeafHash {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(&[0]);
    context.update(body);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_leaf_has_the_hash_of_rfc_6962() {
        let hex: String = leaf_hash(b"").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
    }
}
