//! Changes to ASN.1 values in DER: parts are altered, and the lengths around them follow.

use super::{Material, NUMBERS};
use crate::random::Random;

/// Deeper than any real structure.
const DEEPEST: usize = 40;

/// One tag with what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Bytes(Vec<u8>),
    Parts(Vec<Part>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    tag: u8,
    content: Content,
}

/// One small change to a DER value.
#[must_use]
pub fn change(random: &mut Random, input: &[u8], material: &Material<'_>) -> Option<Vec<u8>> {
    let mut parts = parse(input, 0)?;
    let mut places = count(&parts);
    // Two changes at times: one alone often only moves a signature's contents.
    for _ in 0..=random.below(2) {
        let mut wanted = random.below(places);
        let foreign = parse(material.other, 0).unwrap_or_default();
        alter(&mut parts, &mut wanted, random, &foreign, material);
        places = count(&parts);
    }
    Some(encode(&parts))
}

/// All values that follow each other in `input`, with nothing left over.
fn parse(mut input: &[u8], depth: usize) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    while let [tag, rest @ ..] = input {
        // Tags of several bytes do not occur in what is read here.
        if tag & 0x1f == 0x1f || depth > DEEPEST {
            return None;
        }
        let (length, rest) = length(rest)?;
        let (content, after) = rest.split_at_checked(length)?;
        let inner = if tag & 0x20 != 0 {
            parse(content, depth + 1)
        } else if *tag == 4 && !content.is_empty() {
            // Extensions hide structures in octet strings.
            parse(content, depth + 1)
        } else {
            None
        };
        let content = inner.map_or_else(|| Content::Bytes(content.to_vec()), Content::Parts);
        parts.push(Part { tag: *tag, content });
        input = after;
    }
    Some(parts)
}

fn length(input: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = input.split_first()?;
    match usize::from(*first) {
        short @ 0..=127 => Some((short, rest)),
        long => {
            let (bytes, rest) =
                rest.split_at_checked(long & 127).filter(|(bytes, _)| (1..=4).contains(&bytes.len()))?;
            Some((bytes.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)), rest))
        }
    }
}

fn encode(parts: &[Part]) -> Vec<u8> {
    let mut output = Vec::new();
    for part in parts {
        let content = match &part.content {
            Content::Bytes(bytes) => bytes.clone(),
            Content::Parts(parts) => encode(parts),
        };
        output.extend(header(part.tag, content.len()));
        output.extend(content);
    }
    output
}

/// Tag and length of a value.
#[must_use]
pub fn header(tag: u8, length: usize) -> Vec<u8> {
    let bytes = length.to_be_bytes();
    let short: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    match (u8::try_from(length), u8::try_from(short.len())) {
        (Ok(length @ 0..=127), _) => vec![tag, length],
        (_, Ok(size)) => [vec![tag, 0x80 | size], short].concat(),
        _ => vec![tag],
    }
}

fn count(parts: &[Part]) -> usize {
    let inner = |part: &Part| match &part.content {
        Content::Parts(parts) => count(parts),
        Content::Bytes(_) => 0,
    };
    parts.iter().map(|part| 1 + inner(part)).sum()
}

fn alter(
    parts: &mut Vec<Part>,
    wanted: &mut usize,
    random: &mut Random,
    foreign: &[Part],
    material: &Material<'_>,
) -> bool {
    for index in 0..parts.len() {
        if *wanted == 0 {
            at(parts, index, random, foreign, material);
            return true;
        }
        *wanted -= 1;
        if let Some(Part { content: Content::Parts(inner), .. }) = parts.get_mut(index)
            && alter(inner, wanted, random, foreign, material)
        {
            return true;
        }
    }
    false
}

fn at(parts: &mut Vec<Part>, index: usize, random: &mut Random, foreign: &[Part], material: &Material<'_>) {
    let Some(part) = parts.get_mut(index) else { return };
    match (random.below(8), &mut part.content) {
        (0, _) => drop(parts.remove(index)),
        (1, _) => {
            let copy = part.clone();
            let times = if random.once_in(10) { 200 } else { 1 };
            parts.extend(std::iter::repeat_n(copy, times));
        }
        (2, _) => part.tag = u8::try_from(random.below(256)).unwrap_or(0),
        (3, _) => {
            let times = if random.once_in(10) { 200 } else { 1 };
            for _ in 0..times {
                part.content = Content::Parts(vec![part.clone()]);
            }
        }
        (4, content) => {
            if let Some(other) = any(foreign, random) {
                *content = other.content.clone();
            }
        }
        (5, content @ Content::Bytes(_)) => {
            let number = random.choose(&NUMBERS).copied().unwrap_or(0).to_be_bytes();
            *content = Content::Bytes(number.into_iter().skip_while(|byte| *byte == 0).collect());
        }
        (_, Content::Bytes(bytes)) => {
            if let Some(changed) = super::bytes::change(random, bytes, material) {
                *bytes = changed;
            }
        }
        (_, Content::Parts(inner)) => {
            let (from, to) = (random.below(inner.len()), random.below(inner.len()));
            if from < inner.len() && to < inner.len() {
                inner.swap(from, to);
            }
        }
    }
}

fn any<'p>(parts: &'p [Part], random: &mut Random) -> Option<&'p Part> {
    let part = random.choose(parts)?;
    match &part.content {
        Content::Parts(inner) if !random.once_in(4) => any(inner, random).or(Some(part)),
        _ => Some(part),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::world;

    #[test]
    fn a_certificate_comes_back_as_it_was() {
        let der = world::root();
        assert_eq!(encode(&parse(&der, 0).unwrap()), der.as_ref());
        assert!(count(&parse(&der, 0).unwrap()) > 40, "extensions are taken apart too");
    }

    #[test]
    fn lengths_follow_what_is_changed() {
        let (mut random, der) = (Random::new(1), world::root());
        let material = Material { words: &[], other: &der };
        for _ in 0..500 {
            let changed = change(&mut random, &der, &material).unwrap();
            // A changed tag may make a tag of several bytes, which is not taken apart again.
            let whole = length(changed.get(1..).unwrap_or_default()).is_some_and(|(length, rest)| rest.len() >= length);
            assert!(changed.is_empty() || whole || changed.first() != Some(&0x30), "{changed:?}");
        }
    }
}
