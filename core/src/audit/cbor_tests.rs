//! The codec against the examples of RFC 8949, and against everything that is not in its deterministic form.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2).unwrap(), 16).unwrap()).collect()
}

/// Writes any value as the deterministic form has it: an encoder that shares nothing with the one that records use.
fn written(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Unsigned(number) => head(out, UNSIGNED, *number),
        Value::Negative(number) => head(out, NEGATIVE, *number),
        Value::Bytes(value) => {
            head(out, BYTES, value.len() as u64);
            out.extend(*value);
        }
        Value::Text(value) => {
            head(out, TEXT, value.len() as u64);
            out.extend(value.as_bytes());
        }
        Value::Array(values) => {
            head(out, ARRAY, values.len() as u64);
            values.iter().for_each(|value| written(value, out));
        }
        Value::Map(pairs) => {
            head(out, MAP, pairs.len() as u64);
            pairs.iter().for_each(|(key, value)| {
                written(key, out);
                written(value, out);
            });
        }
        Value::Bool(value) => head(out, SIMPLE, if *value { TRUE } else { FALSE }),
        Value::Null => head(out, SIMPLE, NULL),
    }
}

#[test]
fn the_examples_of_rfc_8949_read_and_write_as_they_are_printed_there() {
    for (hex, notation) in [
        ("00", "0"),
        ("17", "23"),
        ("1818", "24"),
        ("18ff", "255"),
        ("190100", "256"),
        ("1903e8", "1000"),
        ("1a000f4240", "1000000"),
        ("1b000000e8d4a51000", "1000000000000"),
        ("1bffffffffffffffff", "18446744073709551615"),
        ("3bffffffffffffffff", "-18446744073709551616"),
        ("20", "-1"),
        ("3863", "-100"),
        ("3903e7", "-1000"),
        ("f4", "false"),
        ("f5", "true"),
        ("f6", "null"),
        ("40", "h''"),
        ("4401020304", "h'01020304'"),
        ("60", r#""""#),
        ("6449455446", r#""IETF""#),
        ("62225c", r#""\"\\""#),
        ("62c3bc", "\"ü\""),
        ("80", "[]"),
        ("83010203", "[1, 2, 3]"),
        ("8301820203820405", "[1, [2, 3], [4, 5]]"),
        ("a0", "{}"),
        ("a201020304", "{1: 2, 3: 4}"),
        ("a26161016162820203", r#"{"a": 1, "b": [2, 3]}"#),
    ] {
        let bytes = bytes(hex);
        let value = read(&bytes).unwrap();
        assert_eq!(value.to_string(), notation, "{hex}");
        let mut again = Vec::new();
        written(&value, &mut again);
        assert_eq!(again, bytes, "{hex}");
    }
}

#[test]
fn what_is_not_exactly_one_deterministic_value_is_refused_for_its_reason() {
    for (hex, error) in [
        ("", CborError::Short),
        ("18", CborError::Short),
        ("1bffffff", CborError::Short),
        ("4401", CborError::Short),
        ("5bffffffffffffffff00", CborError::Short),
        ("8201", CborError::Short),
        ("9bffffffffffffffff", CborError::Short),
        ("bb7fffffffffffffff", CborError::Short),
        ("a101", CborError::Short),
        ("0000", CborError::Trailing),
        ("1817", CborError::NotShortest),
        ("1900ff", CborError::NotShortest),
        ("1a0000ffff", CborError::NotShortest),
        ("1b00000000ffffffff", CborError::NotShortest),
        ("580100", CborError::NotShortest),
        ("a2020001 00", CborError::Order),
        ("a201000100", CborError::Order),
        ("a2181800 0000", CborError::Order),
        ("a261620061 6100", CborError::Order),
        ("61ff", CborError::NotUtf8),
        ("9f00ff", CborError::Type),
        ("5f4100ff", CborError::Type),
        ("c000", CborError::Type),
        ("f93c00", CborError::Type),
        ("fb3ff199999999999a", CborError::Type),
        ("f7", CborError::Type),
        ("f0", CborError::Type),
        ("f820", CborError::Type),
        ("1c", CborError::Type),
        ("ff", CborError::Type),
    ] {
        let found = bytes(&hex.replace(' ', ""));
        assert_eq!(read(&found), Err(error), "{hex}");
    }
    let nested = |depth: usize| [vec![0x81; depth], vec![0]].concat();
    assert!(read(&nested(15)).is_ok());
    assert_eq!(read(&nested(16)), Err(CborError::Deep));
    assert_eq!(read(&nested(1_000_000)), Err(CborError::Deep));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_are_the_only_encoding_of_their_value(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(value) = read(&bytes) {
            let mut again = Vec::new();
            written(&value, &mut again);
            prop_assert_eq!(&again, &bytes, "{}", value);
        }
    }

    #[test]
    fn fields_are_read_as_they_were_written(
        unsigned: u64, signed: i64, blob in proptest::collection::vec(any::<u8>(), 0..300), text: String,
        texts in proptest::collection::vec(any::<String>(), 0..30),
    ) {
        let mut inner = Fields::default();
        inner.bytes(0, &blob);
        inner.texts(200, &texts);
        let mut fields = Fields::default();
        fields.unsigned(1, unsigned);
        fields.signed(2, signed);
        fields.text(3, &text);
        fields.yes(23);
        fields.fields(24, &inner);
        let number = |number: i64| match u64::try_from(number) {
            Ok(number) => Value::Unsigned(number),
            Err(_) => Value::Negative((-1 - i128::from(number)) as u64),
        };
        let key = Value::Unsigned;
        let texts = texts.iter().map(|text| Value::Text(text)).collect();
        let expected = Value::Array(vec![
            Value::Unsigned(7),
            Value::Map(vec![
                (key(1), Value::Unsigned(unsigned)),
                (key(2), number(signed)),
                (key(3), Value::Text(&text)),
                (key(23), Value::Bool(true)),
                (key(24), Value::Map(vec![(key(0), Value::Bytes(&blob)), (key(200), Value::Array(texts))])),
            ]),
        ]);
        let bytes = fields.versioned(7);
        prop_assert_eq!(read(&bytes), Ok(expected));
    }
}
