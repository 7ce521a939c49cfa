//! A PEM reader of its own, to compare with: RFC 7468 as leniently as section 2 allows, by lines, and nothing else.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The content of every block with this label. A block that is not closed or not base64 is none.
pub(super) fn blocks(input: &[u8], label: &str) -> Vec<Vec<u8>> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let mut found = Vec::new();
    // A block that begins within another one goes on with what that one holds.
    let (mut open, mut body) = (false, Vec::new());
    for line in input.split(|byte| matches!(byte, b'\n' | b'\r')) {
        if line.starts_with(b"-----BEGIN ") {
            open = line.trim_ascii_end() == begin.as_bytes();
        } else if open && line.starts_with(end.as_bytes()) {
            found.extend(LENIENT.decode(&body).ok());
            (open, body) = (false, Vec::new());
        } else {
            body.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
            if !open {
                body.clear();
            }
        }
    }
    found
}
