//! Certificates with OpenSSL's own settings behind them: what they are trusted for, and what not.
//!
//! ```text
//! CertAux ::= SEQUENCE {
//!     trust   SEQUENCE OF OBJECT IDENTIFIER OPTIONAL,
//!     reject  [0] IMPLICIT SEQUENCE OF OBJECT IDENTIFIER OPTIONAL,
//!     alias   UTF8String OPTIONAL,
//!     keyid   OCTET STRING OPTIONAL,
//!     other   [1] IMPLICIT SEQUENCE OF AlgorithmIdentifier OPTIONAL }
//! ```

use crate::der::{Flaw, Reader, tag};

/// The content of `anyExtendedKeyUsage`, and of `serverAuth` and `clientAuth` (RFC 5280 section 4.2.1.12).
const ANY: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
const BOTH: [&[u8]; 2] =
    [&[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01], &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02]];

const REJECT: u8 = 0xa0;

/// The certificate without what follows it; `None` when that restricts it for TLS, or is none of these settings.
pub(super) fn certificate(der: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(der);
    // What is no certificate is refused by whoever reads it.
    if reader.next().is_err() || reader.is_at_end() {
        return Some(der);
    }
    let certificate = der.get(..der.len().checked_sub(reader.rest().len())?)?;
    is_unrestricted(reader).is_ok_and(|is| is).then_some(certificate)
}

fn is_unrestricted(mut reader: Reader<'_>) -> Result<bool, Flaw> {
    let mut settings = reader.expect(tag::SEQUENCE)?.elements();
    reader.end()?;
    if let Some(trust) = settings.optional(tag::SEQUENCE)? {
        let (mut purposes, mut trusted) = (trust.elements(), Vec::new());
        while !purposes.is_at_end() {
            trusted.push(purposes.expect(tag::OBJECT_IDENTIFIER)?.content);
        }
        if !trusted.contains(&ANY) && !BOTH.iter().all(|purpose| trusted.contains(purpose)) {
            return Ok(false);
        }
    }
    Ok(settings.optional(REJECT)?.is_none())
}
