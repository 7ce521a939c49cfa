//! PEM as people have it in files (RFC 7468, and what OpenSSL reads beside it): every block is read, or the file is refused
//! with the line that stands in the way. A block that is passed over would be a root that nobody trusts any more.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use zeroize::Zeroizing;

use super::trusted;

/// As OpenSSL reads it: what the last character holds beyond the last byte is not looked at.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// Some editors begin UTF-8 with it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The longest label of a block; the longest that anybody knows has 27 characters.
const MAX_LABEL: usize = 40;

/// What stands in the way of reading a text as PEM. Lines are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// It is something else: DER, or text in UTF-16.
    #[error("it is no text: it holds bytes of value 0, as DER or UTF-16 does; write it as PEM in ASCII")]
    NotText,
    /// There is text, but no block in it.
    #[error("it holds text, but no PEM block")]
    NoBlock,
    /// Something like the begin or the end of a block.
    #[error(
        "line {0} looks like the begin or the end of a PEM block, but is none: `-----BEGIN CERTIFICATE-----` must stand \
         alone in its line and at its start"
    )]
    Mark(usize),
    /// A block does not end, or not as it begins.
    #[error("the PEM block that begins in line {0} has no end")]
    NoEnd(usize),
    /// A block is not base64.
    #[error("the PEM block that begins in line {0} is damaged: it is not base64")]
    NotBase64(usize),
    /// A block needs a passphrase.
    #[error("the PEM block that begins in line {0} is encrypted")]
    Encrypted(usize),
    /// A block of something else.
    #[error("line {line} begins a PEM block `{label}`, which does not belong into this file; remove it")]
    Foreign {
        /// Where.
        line: usize,
        /// What.
        label: String,
    },
    /// OpenSSL's own settings restrict a certificate.
    #[error(
        "the certificate that begins in line {0} is not trusted for TLS servers and clients by its own settings (`TRUSTED \
         CERTIFICATE`); put it as plain `CERTIFICATE`, or remove it"
    )]
    NotTrusted(usize),
}

/// A PEM block.
#[derive(Debug)]
pub struct Block {
    /// What it says to be.
    pub label: String,
    /// The line that it begins in, from 1.
    pub line: usize,
    /// The content; it may be a key.
    pub der: Zeroizing<Vec<u8>>,
}

/// A certificate or a list, and the line that its block begins in.
pub type InLine<T> = (usize, T);

/// The certificates of a text that holds nothing but certificates, and comments between them. None are in an empty one.
///
/// OpenSSL's other labels are known (`X509 CERTIFICATE`, and `TRUSTED CERTIFICATE` without its trailer).
///
/// # Errors
/// [`PemError`]; total on any input.
pub fn read_certificates(text: &[u8]) -> Result<Vec<InLine<CertificateDer<'static>>>, PemError> {
    let certificate = |block: Block| {
        let line = block.line;
        match block.label.as_str() {
            "CERTIFICATE" | "X509 CERTIFICATE" => Ok((line, block.der.to_vec().into())),
            "TRUSTED CERTIFICATE" => {
                let certificate = trusted::certificate(&block.der).ok_or(PemError::NotTrusted(line))?;
                Ok((line, certificate.to_vec().into()))
            }
            _ => Err(PemError::Foreign { line, label: block.label }),
        }
    };
    read_blocks(text)?.into_iter().map(certificate).collect()
}

/// The revocation lists of a text that holds nothing but lists, and comments between them. None are in an empty one.
///
/// # Errors
/// [`PemError`]; total on any input.
pub fn read_revocation_lists(text: &[u8]) -> Result<Vec<InLine<CertificateRevocationListDer<'static>>>, PemError> {
    let list = |block: Block| match block.label.as_str() {
        "X509 CRL" => Ok((block.line, block.der.to_vec().into())),
        _ => Err(PemError::Foreign { line: block.line, label: block.label }),
    };
    read_blocks(text)?.into_iter().map(list).collect()
}

/// Every block of a text. Text before, between and behind blocks is passed over, unless it looks like a part of one.
///
/// # Errors
/// [`PemError`]; total on any input.
pub fn read_blocks(text: &[u8]) -> Result<Vec<Block>, PemError> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if text.contains(&0) {
        return Err(PemError::NotText);
    }
    let mut blocks = Vec::new();
    let mut open: Option<Open<'_>> = None;
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let number = index.saturating_add(1);
        let line = line.trim_ascii_end();
        open = match open {
            None => match label(line, b"-----BEGIN ") {
                Some(label) => Some(Open { label, line: number, body: Vec::new(), in_headers: false }),
                None if is_mark(line) => return Err(PemError::Mark(number)),
                None => None,
            },
            Some(block) if label(line, b"-----END ") == Some(block.label) => {
                blocks.push(block.close()?);
                None
            }
            // Files put together without a line end between them.
            Some(block) if let Some(label) = joined(line, block.label) => {
                blocks.push(block.close()?);
                Some(Open { label, line: number, body: Vec::new(), in_headers: false })
            }
            Some(block) if is_mark(line) => return Err(PemError::NoEnd(block.line)),
            Some(mut block) => {
                block.take(line)?;
                Some(block)
            }
        };
    }
    match open {
        Some(block) => Err(PemError::NoEnd(block.line)),
        None if blocks.is_empty() && !text.trim_ascii().is_empty() => Err(PemError::NoBlock),
        None => Ok(blocks),
    }
}

/// The label of a line that begins or ends a block.
fn label<'a>(line: &'a [u8], begin: &[u8]) -> Option<&'a str> {
    let label = std::str::from_utf8(line.strip_prefix(begin)?.strip_suffix(b"-----")?).ok()?;
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'-' || byte == b' ';
    ((1..=MAX_LABEL).contains(&label.len()) && label.bytes().all(allowed)).then_some(label)
}

/// The label of the block that begins in the very line that ends the one of `label`.
fn joined<'a>(line: &'a [u8], ends: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(b"-----END ")?.strip_prefix(ends.as_bytes())?.strip_prefix(b"-----")?;
    label(rest, b"-----BEGIN ")
}

/// Whether a line looks like the begin or the end of a block, as far as somebody who has lost a dash, indented it or put a
/// comment sign before it may have meant one.
fn is_mark(line: &[u8]) -> bool {
    let upper = line.to_ascii_uppercase();
    let dashed = [&b"-BEGIN "[..], b"- BEGIN ", b"-END ", b"- END "];
    let named = [&b"BEGIN CERTIFICATE"[..], b"BEGIN X509 ", b"BEGIN TRUSTED CERTIFICATE", b"END CERTIFICATE"];
    dashed.iter().any(|part| holds(&upper, part)) || named.iter().any(|part| holds(line, part))
}

fn holds(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}

/// A block whose end is not yet seen.
struct Open<'a> {
    label: &'a str,
    line: usize,
    body: Vec<&'a [u8]>,
    /// Whether these lines are headers (RFC 1421 section 4.6), which an empty line ends.
    in_headers: bool,
}

impl<'a> Open<'a> {
    fn take(&mut self, line: &'a [u8]) -> Result<(), PemError> {
        self.in_headers |= self.body.is_empty() && line.contains(&b':');
        if !self.in_headers {
            self.body.push(line);
            return Ok(());
        }
        self.in_headers = !line.is_empty();
        let is_encrypted = line.starts_with(b"Proc-Type:") && holds(line, b"ENCRYPTED");
        if is_encrypted { Err(PemError::Encrypted(self.line)) } else { Ok(()) }
    }

    fn close(self) -> Result<Block, PemError> {
        // Both sized beforehand: growing would leave copies of a key behind that nobody wipes.
        let size = self.body.iter().fold(0_usize, |size, line| size.saturating_add(line.len()));
        let mut text = Zeroizing::new(Vec::with_capacity(size));
        let mut der = Zeroizing::new(Vec::with_capacity(size));
        text.extend(self.body.iter().flat_map(|line| line.iter()).filter(|byte| !byte.is_ascii_whitespace()));
        let decoded = BASE64.decode_vec(&*text, &mut der);
        if decoded.is_err() || der.is_empty() {
            return Err(PemError::NotBase64(self.line));
        }
        Ok(Block { label: self.label.to_owned(), line: self.line, der })
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
