//! Changes that know nothing about the input.

use super::{Material, NUMBERS, replaced};
use crate::random::Random;

/// One small change to the bytes.
#[must_use]
pub fn change(random: &mut Random, input: &[u8], material: &Material<'_>) -> Option<Vec<u8>> {
    let range = random.range(input.len());
    let byte = u8::try_from(random.below(256)).unwrap_or(0);
    Some(match random.below(8) {
        0 => {
            let mut output = input.to_vec();
            *output.get_mut(random.below(input.len()))? ^= 1 << random.below(8);
            output
        }
        1 => {
            let mut output = input.to_vec();
            *output.get_mut(random.below(input.len()))? = byte;
            output
        }
        2 => replaced(input, range, &[]),
        3 => replaced(input, range.start..range.start, &[byte]),
        4 => {
            let copied = input.get(range.clone())?.to_vec();
            let times = if random.once_in(8) { 64 } else { 1 };
            replaced(input, range.start..range.start, &copied.repeat(times))
        }
        5 => {
            let part = random.range(material.other.len());
            replaced(input, range, material.other.get(part)?)
        }
        6 => input.get(..random.below(input.len() + 1))?.to_vec(),
        _ => {
            let number = random.choose(&NUMBERS)?.to_be_bytes();
            let size = 1 << random.below(4);
            let number = number.get(8 - size..)?;
            replaced(input, range.start..(range.start + size).min(input.len()), number)
        }
    })
}
