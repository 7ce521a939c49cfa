//! Changes to PEM text: the DER inside a block, its label, or whole blocks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signet_core::pem::pem_block;

use super::{Material, der, replaced};
use crate::random::Random;

const LABELS: [&str; 8] = [
    "CERTIFICATE",
    "CERTIFICATE REQUEST",
    "NEW CERTIFICATE REQUEST",
    "X509 CRL",
    "PRIVATE KEY",
    "EC PRIVATE KEY",
    "TO BE SIGNED",
    "TRUSTED CERTIFICATE",
];

/// A block within text.
struct Block {
    range: std::ops::Range<usize>,
    label: String,
    der: Vec<u8>,
}

/// One small change to one PEM block.
#[must_use]
pub fn change(random: &mut Random, input: &[u8], material: &Material<'_>) -> Option<Vec<u8>> {
    let found = blocks(input);
    let block = random.choose(&found)?;
    let foreign = blocks(material.other);
    let other = random.choose(&foreign);
    let written = match random.below(10) {
        0 => String::new(),
        1 => pem_block(&block.label, &block.der).repeat(if random.once_in(6) { 70 } else { 2 }),
        2 => pem_block(random.choose(&LABELS)?, &block.der),
        3 => {
            let other = other?;
            pem_block(&other.label, &other.der)
        }
        _ => {
            let other = other.map_or(&[][..], |other| other.der.as_slice());
            pem_block(&block.label, &der::change(random, &block.der, &Material { words: material.words, other })?)
        }
    };
    Some(replaced(input, block.range.clone(), written.as_bytes()))
}

fn blocks(input: &[u8]) -> Vec<Block> {
    let Ok(text) = std::str::from_utf8(input) else { return Vec::new() };
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(block) = text.get(from..).and_then(|rest| next(rest, from)) {
        from = block.range.end;
        found.push(block);
    }
    found
}

fn next(rest: &str, offset: usize) -> Option<Block> {
    let start = rest.find("-----BEGIN ")?;
    let (label, body) = rest.get(start + 11..)?.split_once("-----\n")?;
    let end_line = format!("-----END {label}-----\n");
    let length = body.find(&end_line)?;
    let der = STANDARD.decode(body.get(..length)?.replace('\n', "")).ok()?;
    let end = rest.len() - body.len() + length + end_line.len();
    Some(Block { range: offset + start..offset + end, label: label.to_owned(), der })
}
