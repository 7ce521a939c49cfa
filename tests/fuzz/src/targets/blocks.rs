//! A PEM reader of its own, to compare with: RFC 7468 at its most lenient (section 3, `laxtextualmsg`), and what OpenSSL reads
//! beside it: headers, blocks joined in one line, other labels of certificates.

use x509_parser::prelude::{FromDer, X509Certificate};

/// The content of every block with a certificate; of one with OpenSSL's own settings, the certificate alone.
pub(super) fn certificates(input: &[u8]) -> Vec<Vec<u8>> {
    let mut found = blocks(input, "CERTIFICATE");
    found.extend(blocks(input, "X509 CERTIFICATE"));
    found.extend(blocks(input, "TRUSTED CERTIFICATE").into_iter().map(|mut der| {
        let behind = X509Certificate::from_der(&der).map_or(0, |(behind, _)| behind.len());
        der.truncate(der.len() - behind);
        der
    }));
    found
}

/// The content of every block with this label. A block that is not closed or not base64 is none.
pub(super) fn blocks(input: &[u8], label: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    // A block that begins within another one goes on with what that one holds.
    let (mut open, mut body): (Option<&[u8]>, Vec<u8>) = (None, Vec::new());
    let input = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    let mut in_headers = false;
    for line in input.split(|byte| matches!(byte, b'\n' | b'\r')) {
        if let Some(rest) = line.strip_prefix(b"-----BEGIN ") {
            open = label_of(rest);
        } else if open.is_some_and(|label| line.starts_with(&[b"-----END ", label, b"-----"].concat())) {
            let ended = open.take().unwrap_or_default();
            let wanted = ended == label.as_bytes();
            found.extend(decoded(&std::mem::take(&mut body)).filter(|_| wanted));
            let behind = line.get(ended.len() + 14..).unwrap_or_default();
            open = behind.strip_prefix(b"-----BEGIN ").and_then(label_of);
        } else if open.is_some() && (in_headers || body.is_empty() && line.contains(&b':')) {
            in_headers = !line.trim_ascii_end().is_empty();
        } else if open.is_some() {
            body.extend(line);
        }
    }
    found
}

/// The label of a block that begins, without the five dashes behind it. Ours lets spaces stand among those dashes, which
/// no writer puts there; the block is then read as what it says it is, so it is no other answer.
fn label_of(rest: &[u8]) -> Option<&[u8]> {
    let (mut rest, mut dashes) = (rest, 0);
    while let [before @ .., last @ (b'-' | b' ')] = rest {
        dashes += usize::from(*last == b'-');
        rest = before;
        if dashes == 5 {
            return Some(rest);
        }
    }
    None
}

/// Base64 (RFC 4648 section 4) with space anywhere, with or without padding; what is too short for a byte is dropped.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut output, mut bits, mut held) = (Vec::new(), 0u32, 0);
    let end = text.iter().rposition(|byte| *byte != b'=' && !is_space(*byte)).map_or(0, |last| last + 1);
    for byte in text.get(..end)?.iter().filter(|byte| !is_space(**byte)) {
        let value = ALPHABET.iter().position(|one| one == byte)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            output.extend(u8::try_from(bits >> held & 0xff));
        }
    }
    Some(output)
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}
