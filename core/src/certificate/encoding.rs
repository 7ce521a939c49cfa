//! Whether a certificate or a list is written as everybody can read it: strictly in DER, and made of what RFC 5280 says.
//!
//! Proxies read with BoringSSL, which refuses a whole trust bundle for one certificate that it cannot read, while other
//! readers are more lenient. So this is asked where certificates of others come in.

use std::collections::BTreeSet;

use crate::der::{self, Element, Flaw, Reader, tag};

/// `version [0]`, the unique identifiers and `extensions [3]` (RFC 5280 section 4.1).
const VERSION: u8 = 0xa0;
const UNIQUE_IDENTIFIERS: [u8; 2] = [0x81, 0x82];
const EXTENSIONS: u8 = 0xa3;

/// What the identifiers of RFC 5280's own extensions begin with (id-ce).
const ID_CE: &[u8] = &[0x55, 0x1d];

/// Checks that the bytes are one certificate in DER.
///
/// # Errors
/// The first [`Flaw`]; total on any input.
pub fn check_encoding(certificate: &[u8]) -> Result<(), Flaw> {
    der::check(certificate)?;
    let mut whole = Reader::new(certificate).expect(tag::SEQUENCE)?.elements();
    check_content(whole.expect(tag::SEQUENCE)?.elements())?;
    check_algorithm(whole.expect(tag::SEQUENCE)?)?;
    whole.expect(tag::BIT_STRING)?;
    whole.end()
}

/// Checks that the bytes of a revocation list are DER; what they say is for whoever reads it.
///
/// # Errors
/// The first [`Flaw`]; total on any input.
pub fn check_list_encoding(list: &[u8]) -> Result<(), Flaw> {
    der::check(list)
}

fn check_content(mut content: Reader<'_>) -> Result<(), Flaw> {
    let version = match content.optional(VERSION)? {
        None => 0,
        Some(field) => {
            let mut inside = field.elements();
            let number = inside.expect(tag::INTEGER)?;
            inside.end()?;
            match number.content {
                [version @ 0..=2] => *version,
                _ => return number.flaw("there is no such version of certificates"),
            }
        }
    };
    content.expect(tag::INTEGER)?;
    check_algorithm(content.expect(tag::SEQUENCE)?)?;
    check_name(content.expect(tag::SEQUENCE)?)?;
    let mut validity = content.expect(tag::SEQUENCE)?.elements();
    for _ in 0..2 {
        let time = if validity.has(tag::UTC_TIME) { tag::UTC_TIME } else { tag::GENERALIZED_TIME };
        validity.expect(time)?;
    }
    validity.end()?;
    check_name(content.expect(tag::SEQUENCE)?)?;
    let mut key = content.expect(tag::SEQUENCE)?.elements();
    check_algorithm(key.expect(tag::SEQUENCE)?)?;
    key.expect(tag::BIT_STRING)?;
    key.end()?;
    for identifier in UNIQUE_IDENTIFIERS {
        match content.optional(identifier)? {
            Some(found) if version == 0 => return found.flaw("it has a field that version 1 does not have"),
            Some(found) => found.check_bits()?,
            None => {}
        }
    }
    match content.optional(EXTENSIONS)? {
        Some(found) if version < 2 => return found.flaw("it has extensions, which only version 3 has"),
        Some(found) => check_extensions(found)?,
        None => {}
    }
    content.end()
}

fn check_algorithm(algorithm: Element<'_>) -> Result<(), Flaw> {
    let mut fields = algorithm.elements();
    fields.expect(tag::OBJECT_IDENTIFIER)?;
    if !fields.is_at_end() {
        fields.next()?;
    }
    fields.end()
}

fn check_name(name: Element<'_>) -> Result<(), Flaw> {
    let mut parts = name.elements();
    while !parts.is_at_end() {
        let part = parts.expect(tag::SET)?;
        let mut attributes = part.elements();
        if attributes.is_at_end() {
            return part.flaw("a part of a name is empty");
        }
        while !attributes.is_at_end() {
            let mut attribute = attributes.expect(tag::SEQUENCE)?.elements();
            attribute.expect(tag::OBJECT_IDENTIFIER)?;
            attribute.next()?;
            attribute.end()?;
        }
    }
    Ok(())
}

fn check_extensions(field: Element<'_>) -> Result<(), Flaw> {
    let mut inside = field.elements();
    let mut extensions = inside.expect(tag::SEQUENCE)?.elements();
    inside.end()?;
    let mut seen = BTreeSet::new();
    while !extensions.is_at_end() {
        let extension = extensions.expect(tag::SEQUENCE)?;
        let mut fields = extension.elements();
        let kind = fields.expect(tag::OBJECT_IDENTIFIER)?.content;
        fields.optional(tag::BOOLEAN)?;
        let value = fields.expect(tag::OCTET_STRING)?;
        fields.end()?;
        if !seen.insert(kind) {
            // RFC 5280 section 4.2; verifiers differ in which one they take, or refuse whatever is below.
            return extension.flaw("it has the same extension twice");
        }
        if kind.starts_with(ID_CE)
            && let Err(flaw) = der::check(value.content)
        {
            return extension.flaw(flaw.what);
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "encoding_tests.rs"]
mod tests;
