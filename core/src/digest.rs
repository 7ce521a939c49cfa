//! Digests, which name keys and certificates, and bytes as hexadecimal digits.

/// Bytes as lower-case hexadecimal digits, as records and names of authorities show them.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for digit in bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
        text.extend(char::from_digit(u32::from(digit), 16));
    }
    text
}

/// The bytes that lower-case hexadecimal digits name; `None` for any other text, and for none.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if text.is_empty() || !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?)).collect()
}

/// SHA-256 over a SubjectPublicKeyInfo, as records name keys.
#[must_use]
pub fn key_hash(spki_der: &[u8]) -> [u8; 32] {
    sha256(spki_der)
}

/// SHA-256 over anything, such as a whole certificate: what is commonly called its fingerprint.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    hash
}

/// The key identifier of a key in certificates that Signet makes: the first 20 bytes of SHA-256 over its
/// SubjectPublicKeyInfo (RFC 7093 section 2, method 4).
#[must_use]
pub fn key_identifier(spki_der: &[u8]) -> [u8; 20] {
    let hash = key_hash(spki_der);
    let mut identifier = [0; 20];
    identifier.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    identifier
}

/// The key identifier that most tools write: SHA-1 over the bits of the public key (RFC 5280 section 4.2.1.2, method 1). It
/// tells keys apart and protects nothing.
#[must_use]
pub fn bits_identifier(bits: &[u8]) -> [u8; 20] {
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, bits);
    let mut identifier = [0; 20];
    identifier.copy_from_slice(digest.as_ref());
    identifier
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_two_lower_case_digits() {
        assert_eq!((hex(&[]), hex(&[0, 0x0a, 0xf0, 0xff])), (String::new(), "000af0ff".to_owned()));
    }

    #[test]
    fn only_pairs_of_lower_case_digits_are_read_as_bytes() {
        assert_eq!(from_hex("000af0ff"), Some(vec![0, 0x0a, 0xf0, 0xff]));
        for text in ["", "0", "0A", "+1", "g0", "00 ", "0é"] {
            assert_eq!(from_hex(text), None, "{text:?}");
        }
    }
}
