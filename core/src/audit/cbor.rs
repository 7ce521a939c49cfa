//! The part of CBOR (RFC 8949) that records are written in, in its deterministic form (section 4.2.1) and no other: one
//! value has one encoding, so a hash over the bytes is a hash over the value.
//!
//! Own code, because what is wanted of it is what a general codec does not promise: it refuses everything that it would
//! not have written itself, and keeps what it does not understand. Integers, byte strings, text, arrays, maps, booleans
//! and null are all there is; tags, floating point numbers and lengths that are not known beforehand are refused.

use std::fmt;

/// Values within values at most. Records need four; the rest is room for what newer programs add.
const MAX_DEPTH: u32 = 16;

// Major types, RFC 8949 section 3.1.
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const SIMPLE: u8 = 7;
// Simple values, section 3.3.
const FALSE: u64 = 20;
const TRUE: u64 = 21;
const NULL: u64 = 22;

/// One value, borrowed from the bytes it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A number that is not negative.
    Unsigned(u64),
    /// The number `-1 - n`.
    Negative(u64),
    /// A byte string.
    Bytes(&'a [u8]),
    /// UTF-8.
    Text(&'a str),
    /// Values in order.
    Array(Vec<Value<'a>>),
    /// Pairs, in the order of the encodings of their keys.
    Map(Vec<(Value<'a>, Value<'a>)>),
    /// True or false.
    Bool(bool),
    /// Nothing.
    Null,
}

/// Diagnostic notation, RFC 8949 section 8.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(number) => write!(f, "{number}"),
            // -1 - n, which has the bits of n inverted.
            Self::Negative(number) => write!(f, "{}", !i128::from(*number)),
            Self::Bytes(bytes) => write!(f, "h'{}'", crate::digest::hex(bytes)),
            // JSON's escapes are those of the notation.
            Self::Text(text) => write!(f, "{}", serde_json::Value::from(*text)),
            Self::Array(values) => {
                f.write_str("[")?;
                for (at, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Self::Map(pairs) => {
                f.write_str("{")?;
                for (at, (key, value)) in pairs.iter().enumerate() {
                    write!(f, "{}{key}: {value}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
            Self::Bool(value) => write!(f, "{value}"),
            Self::Null => f.write_str("null"),
        }
    }
}

/// Why bytes are not exactly one value in its deterministic form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CborError {
    /// They end in the middle of a value.
    #[error("the bytes end within a value")]
    Short,
    /// They go on after it.
    #[error("there are bytes after the value")]
    Trailing,
    /// Tags, floating point numbers, lengths that are not known beforehand, and what CBOR has not defined yet.
    #[error("a value has a type that records do not have")]
    Type,
    /// A number or length is written longer than it need be.
    #[error("a number is not in its shortest form")]
    NotShortest,
    /// Keys of a map are not in order, or one is there twice.
    #[error("the keys of a map are not in order")]
    Order,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    NotUtf8,
    /// Values within values within values.
    #[error("values are nested deeper than {MAX_DEPTH} levels")]
    Deep,
}

/// Reads exactly one value. Memory and time are proportional to the number of bytes.
///
/// # Errors
/// [`CborError`].
pub(super) fn read(bytes: &[u8]) -> Result<Value<'_>, CborError> {
    let mut reader = Reader { rest: bytes };
    let value = reader.value(MAX_DEPTH)?;
    if reader.rest.is_empty() { Ok(value) } else { Err(CborError::Trailing) }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], CborError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(CborError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The head of a value: its major type, and its argument in the shortest form (section 3).
    fn head(&mut self) -> Result<(u8, u64), CborError> {
        let first = self.take(1)?.first().copied().ok_or(CborError::Short)?;
        let (major, info) = (first >> 5, first & 0x1f);
        let (size, least) = match info {
            0..24 => return Ok((major, u64::from(info))),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            _ => return Err(CborError::Type),
        };
        let argument = self.take(size)?.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte));
        // Longer forms of this type are simple values without a meaning, and floating point numbers.
        match major {
            SIMPLE => Err(CborError::Type),
            _ if argument < least => Err(CborError::NotShortest),
            _ => Ok((major, argument)),
        }
    }

    fn value(&mut self, depth: u32) -> Result<Value<'a>, CborError> {
        let inner = depth.checked_sub(1).ok_or(CborError::Deep)?;
        let (major, argument) = self.head()?;
        let length = || usize::try_from(argument).map_err(|_| CborError::Short);
        Ok(match (major, argument) {
            (UNSIGNED, number) => Value::Unsigned(number),
            (NEGATIVE, number) => Value::Negative(number),
            (BYTES, _) => Value::Bytes(self.take(length()?)?),
            (TEXT, _) => Value::Text(std::str::from_utf8(self.take(length()?)?).map_err(|_| CborError::NotUtf8)?),
            // No room is made for what is only announced.
            (ARRAY, count) => {
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value(inner)?);
                }
                Value::Array(values)
            }
            (MAP, count) => {
                let (mut pairs, mut last): (Vec<_>, &[u8]) = (Vec::new(), &[]);
                for _ in 0..count {
                    let before = self.rest;
                    let key = self.value(inner)?;
                    let encoded = before.get(..before.len() - self.rest.len()).unwrap_or_default();
                    if encoded <= last {
                        return Err(CborError::Order);
                    }
                    last = encoded;
                    pairs.push((key, self.value(inner)?));
                }
                Value::Map(pairs)
            }
            (SIMPLE, FALSE) => Value::Bool(false),
            (SIMPLE, TRUE) => Value::Bool(true),
            (SIMPLE, NULL) => Value::Null,
            _ => return Err(CborError::Type),
        })
    }
}

/// Writes the head of a value with the shortest argument.
fn head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let bytes = argument.to_be_bytes();
    let (info, size) = match argument {
        0..24 => (bytes[7], 0),
        24..0x100 => (24, 1),
        0x100..0x1_0000 => (25, 2),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 8),
    };
    out.push((major << 5) | info);
    out.extend(bytes.iter().skip(8 - size));
}

/// A map with small numbers as keys, which must be added in ascending order.
#[derive(Debug, Default)]
pub(super) struct Fields {
    count: u64,
    pairs: Vec<u8>,
}

impl Fields {
    fn key(&mut self, key: u8) -> &mut Vec<u8> {
        self.count += 1;
        head(&mut self.pairs, UNSIGNED, key.into());
        &mut self.pairs
    }

    pub(super) fn unsigned(&mut self, key: u8, value: u64) {
        head(self.key(key), UNSIGNED, value);
    }

    pub(super) fn signed(&mut self, key: u8, value: i64) {
        // -1 - n has the bits of n inverted.
        let (major, argument) = if value < 0 { (NEGATIVE, !value) } else { (UNSIGNED, value) };
        head(self.key(key), major, argument.unsigned_abs());
    }

    pub(super) fn bytes(&mut self, key: u8, value: &[u8]) {
        let out = self.key(key);
        head(out, BYTES, length(value));
        out.extend(value);
    }

    pub(super) fn text(&mut self, key: u8, value: &str) {
        text(self.key(key), value);
    }

    pub(super) fn texts(&mut self, key: u8, values: &[String]) {
        let out = self.key(key);
        head(out, ARRAY, length(values));
        for value in values {
            text(out, value);
        }
    }

    pub(super) fn yes(&mut self, key: u8) {
        head(self.key(key), SIMPLE, TRUE);
    }

    pub(super) fn fields(&mut self, key: u8, value: &Self) {
        value.write(self.key(key));
    }

    fn write(&self, out: &mut Vec<u8>) {
        head(out, MAP, self.count);
        out.extend(&self.pairs);
    }

    /// These fields as they stand in any map.
    pub(super) fn pairs(self) -> Vec<u8> {
        self.pairs
    }

    /// The array of a version number and this map.
    pub(super) fn versioned(&self, version: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.pairs.len() + 4);
        head(&mut out, ARRAY, 2);
        head(&mut out, UNSIGNED, version);
        self.write(&mut out);
        out
    }
}

fn text(out: &mut Vec<u8>, value: &str) {
    head(out, TEXT, length(value.as_bytes()));
    out.extend(value.as_bytes());
}

fn length<T>(values: &[T]) -> u64 {
    u64::try_from(values.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "cbor_tests.rs"]
mod tests;
