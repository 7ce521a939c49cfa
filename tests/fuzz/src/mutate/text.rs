//! Changes to text: words, numbers and lines.

use super::{Material, NUMBERS, replaced};
use crate::random::Random;

/// One small change to the text.
#[must_use]
pub fn change(random: &mut Random, input: &[u8], material: &Material<'_>) -> Option<Vec<u8>> {
    let place = random.below(input.len() + 1);
    match random.below(6) {
        0 => Some(replaced(input, place..place, random.choose(material.words)?.as_bytes())),
        1 => {
            let word = piece(random, input, |byte| byte.is_ascii_alphanumeric() || b"-_./".contains(byte))?;
            Some(replaced(input, word, random.choose(material.words)?.as_bytes()))
        }
        2 => {
            let number = piece(random, input, u8::is_ascii_digit)?;
            Some(replaced(input, number, random.choose(&NUMBERS)?.to_string().as_bytes()))
        }
        3 => lines(random, input, material.other),
        4 => {
            let odd =
                ["\u{0}", "\u{feff}", "\u{2028}", "\u{7f}", "é", "\"", "'", "\t", "\r\n", " ", ":", "#", "%", "\\"];
            Some(replaced(input, place..place, random.choose(&odd)?.as_bytes()))
        }
        _ => {
            let (open, close) = *random.choose(&[("{", "}"), ("[", "]"), ("\"", "\""), ("(", ")"), ("- ", "")])?;
            let times = *random.choose(&[1, 2, 130, 2000])?;
            let range = random.range(input.len());
            let inner = input.get(range.clone())?;
            let nested = [open.repeat(times).as_bytes(), inner, close.repeat(times).as_bytes()].concat();
            Some(replaced(input, range, &nested))
        }
    }
}

/// A run of bytes of one kind, chosen by a place in the input.
fn piece(random: &mut Random, input: &[u8], belongs: impl Fn(&u8) -> bool) -> Option<std::ops::Range<usize>> {
    let from = random.below(input.len());
    let start = from + input.get(from..)?.iter().position(&belongs)?;
    let length = input.get(start..)?.iter().take_while(|byte| belongs(byte)).count();
    Some(start..start + length)
}

fn lines(random: &mut Random, input: &[u8], other: &[u8]) -> Option<Vec<u8>> {
    let mut lines: Vec<&[u8]> = input.split_inclusive(|byte| *byte == b'\n').collect();
    let (from, to) = (random.below(lines.len()), random.below(lines.len() + 1));
    match random.below(4) {
        0 => {
            lines.get(from)?;
            lines.remove(from);
        }
        1 => {
            let line = *lines.get(from)?;
            lines.insert(to, line);
        }
        2 if to < lines.len() && from < lines.len() => lines.swap(from, to),
        _ => {
            let foreign: Vec<&[u8]> = other.split_inclusive(|byte| *byte == b'\n').collect();
            lines.insert(to, *random.choose(&foreign)?);
        }
    }
    Some(lines.concat())
}
