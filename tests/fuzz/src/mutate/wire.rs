//! Changes to protobuf messages: fields are altered, and the lengths around them follow.

use super::{Material, NUMBERS, bytes};
use crate::random::Random;

#[derive(Debug, Clone)]
enum Value {
    Number(u64),
    Fixed(Vec<u8>),
    Bytes(Vec<u8>),
}

/// One small change to a message.
#[must_use]
pub fn change(random: &mut Random, input: &[u8], material: &Material<'_>) -> Option<Vec<u8>> {
    let mut fields = parse(input)?;
    let index = random.below(fields.len());
    let other = random.below(fields.len());
    match random.below(7) {
        0 => drop((index < fields.len()).then(|| fields.remove(index))),
        1 => {
            let copy = fields.get(index)?.clone();
            let times = if random.once_in(8) { 300 } else { 1 };
            fields.extend(std::iter::repeat_n(copy, times));
        }
        2 => fields.swap(index, other),
        3 => fields.get_mut(index)?.0 = u64::try_from(random.below(20)).ok()?,
        4 => {
            // The message within itself, as a nested one may be.
            let (_, value) = fields.get_mut(index)?;
            let number = u64::try_from(random.below(8)).ok()?;
            let mut inner = match value {
                Value::Bytes(bytes) => bytes.clone(),
                _ => Vec::new(),
            };
            for _ in 0..*random.choose(&[1, 2, 120])? {
                inner = encode(&[(number, Value::Bytes(inner))]);
            }
            *value = Value::Bytes(inner);
        }
        _ => match &mut fields.get_mut(index)?.1 {
            Value::Number(number) => *number = random.choose(&NUMBERS)?.cast_unsigned(),
            Value::Fixed(fixed) => *fixed.first_mut()? ^= 0xff,
            Value::Bytes(inner) => {
                let deeper = if random.once_in(3) { None } else { change(random, inner, material) };
                let changed = match deeper {
                    Some(deeper) => deeper,
                    None if random.once_in(2) => random.choose(material.words)?.as_bytes().to_vec(),
                    None => bytes::change(random, inner, material)?,
                };
                *inner = changed;
            }
        },
    }
    Some(encode(&fields))
}

fn parse(mut input: &[u8]) -> Option<Vec<(u64, Value)>> {
    let mut fields = Vec::new();
    while !input.is_empty() {
        let (key, rest) = number(input)?;
        let (value, rest) = match key & 7 {
            0 => number(rest).map(|(value, rest)| (Value::Number(value), rest))?,
            1 => rest.split_at_checked(8).map(|(value, rest)| (Value::Fixed(value.to_vec()), rest))?,
            5 => rest.split_at_checked(4).map(|(value, rest)| (Value::Fixed(value.to_vec()), rest))?,
            2 => {
                let (length, rest) = number(rest)?;
                let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                (Value::Bytes(value.to_vec()), rest)
            }
            _ => return None,
        };
        fields.push((key >> 3, value));
        input = rest;
    }
    (!fields.is_empty()).then_some(fields)
}

fn number(input: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in input.iter().enumerate().take(10) {
        value |= u64::from(byte & 127).checked_shl(u32::try_from(index * 7).ok()?)?;
        if byte & 128 == 0 {
            return Some((value, input.get(index + 1..)?));
        }
    }
    None
}

fn put(mut value: u64, output: &mut Vec<u8>) {
    while value > 127 {
        output.extend(u8::try_from(value & 127).map(|byte| byte | 128));
        value >>= 7;
    }
    output.extend(u8::try_from(value));
}

fn encode(fields: &[(u64, Value)]) -> Vec<u8> {
    let mut output = Vec::new();
    for (field, value) in fields {
        let kind = match value {
            Value::Number(_) => 0,
            Value::Fixed(fixed) => {
                if fixed.len() == 8 {
                    1
                } else {
                    5
                }
            }
            Value::Bytes(_) => 2,
        };
        put(field << 3 | kind, &mut output);
        match value {
            Value::Number(number) => put(*number, &mut output),
            Value::Fixed(fixed) => output.extend(fixed),
            Value::Bytes(bytes) => {
                put(bytes.len() as u64, &mut output);
                output.extend(bytes);
            }
        }
    }
    output
}
