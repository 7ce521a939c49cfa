//! Kinds of values a field can hold: each knows its name in the reference, how to read it and how to refuse it.

use std::{fmt::Display, net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use serde_json::{Value, json};

use super::units;

/// The longest path of a Unix socket: `sun_path` holds 108 bytes with its closing zero.
const MAX_SOCKET_PATH: usize = 107;

/// What a reader found wrong: where below the field (`[2]` for a list element, else empty), and what.
pub(super) type Fault = (String, String);

type Read<T> = Box<dyn Fn(&Value) -> Result<T, Vec<Fault>>>;

/// A kind of value. Made by the functions of this module, refined with [`Kind::check`].
pub struct Kind<T> {
    name: String,
    /// What an editor may know of it beforehand, as JSON Schema; the reader knows more.
    schema: Value,
    read: Read<T>,
}

impl<T: 'static> Kind<T> {
    /// A kind called `name` in the reference, read from the raw value; an error says what is wrong with it.
    pub fn new(name: impl Into<String>, read: impl Fn(&Value) -> Result<T, String> + 'static) -> Self {
        let read: Read<T> = Box::new(move |value| read(value).map_err(|text| vec![(String::new(), text)]));
        Self { name: name.into(), schema: json!({ "type": "string", "minLength": 1 }), read }
    }

    /// The same kind, with a JSON Schema of its own; without one it is text.
    #[must_use]
    pub fn with_schema(self, schema: Value) -> Self {
        Self { schema, ..self }
    }

    /// The same kind with a further rule; the error of `check` becomes the problem's text.
    #[must_use]
    pub fn check<E: Display>(self, check: impl Fn(&T) -> Result<(), E> + 'static) -> Self {
        let read = self.read;
        Self {
            name: self.name,
            schema: self.schema,
            read: Box::new(move |value| {
                let typed = read(value)?;
                match check(&typed) {
                    Ok(()) => Ok(typed),
                    Err(text) => Err(vec![(String::new(), text.to_string())]),
                }
            }),
        }
    }

    /// The name in the reference, such as `duration`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The schema of the value.
    pub(super) fn schema(&self) -> Value {
        self.schema.clone()
    }

    pub(super) fn read(&self, value: &Value) -> Result<T, Vec<Fault>> {
        (self.read)(value)
    }
}

/// Text, not empty.
#[must_use]
pub fn text() -> Kind<String> {
    Kind::new("text", |value| text_of(value).map(str::to_owned))
}

/// Text that `parse` turns into a type of the caller, whose error text is shown. `name` is for the reference.
pub fn parsed<T: 'static, E: Display>(name: &str, parse: impl Fn(&str) -> Result<T, E> + 'static) -> Kind<T> {
    Kind::new(name, move |value| {
        let text = text_of(value)?;
        parse(text).map_err(|error| format!("{}: {error}", shown(value)))
    })
}

/// `true` or `false`.
#[must_use]
pub fn boolean() -> Kind<bool> {
    Kind::new("true or false", |value| {
        value.as_bool().ok_or_else(|| format!("{} is not a boolean; write true or false", shown(value)))
    })
    .with_schema(json!({ "type": "boolean" }))
}

/// A whole number within `range`.
pub fn integer<T>(range: RangeInclusive<T>) -> Kind<T>
where
    T: TryFrom<u64> + PartialOrd + Display + Copy + Into<serde_json::Number> + 'static,
{
    let schema = json!({ "type": "integer", "minimum": (*range.start()).into(), "maximum": (*range.end()).into() });
    Kind::new(format!("number {} to {}", range.start(), range.end()), move |value| {
        let number = value.as_u64().and_then(|number| T::try_from(number).ok()).filter(|number| range.contains(number));
        number
            .ok_or_else(|| format!("{} is not a whole number from {} to {}", shown(value), range.start(), range.end()))
    })
    .with_schema(schema)
}

/// A number, whole or with a fraction, within `range`.
#[must_use]
pub fn number(range: RangeInclusive<f64>) -> Kind<f64> {
    let schema = json!({ "type": "number", "minimum": range.start(), "maximum": range.end() });
    Kind::new(format!("number {} to {}", range.start(), range.end()), move |value| {
        let number = value.as_f64().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("{} is not a number from {} to {}", shown(value), range.start(), range.end()))
    })
    .with_schema(schema)
}

/// A duration above zero, such as `24h` or `1h30m`.
#[must_use]
pub fn duration() -> Kind<Duration> {
    duration_or_zero().check(|duration| if duration.is_zero() { Err("must be longer than zero") } else { Ok(()) })
}

/// A duration; `0s` is allowed and its meaning belongs in the field's text.
#[must_use]
pub fn duration_or_zero() -> Kind<Duration> {
    Kind::new("duration", |value| {
        let read = value.as_str().map(units::parse_duration);
        read.transpose().ok().flatten().ok_or_else(|| {
            let why = match value.as_str().map(units::parse_duration) {
                Some(Err(units::UnitError::TooLarge)) => " of at most 100 years",
                _ => "",
            };
            format!("{} is not a duration{why}; write a number with a unit, like 24h", shown(value))
        })
    })
    .with_schema(json!({ "type": "string", "pattern": units::DURATION_PATTERN, "minLength": 2 }))
}

/// A duration within `range`.
#[must_use]
pub fn duration_within(range: RangeInclusive<Duration>) -> Kind<Duration> {
    duration_or_zero().check(move |duration| {
        if range.contains(duration) {
            return Ok(());
        }
        let [given, low, high] = [*duration, *range.start(), *range.end()].map(units::format_duration);
        Err(format!("{given} is out of range; choose from {low} to {high}"))
    })
}

/// A size in bytes, such as `64KiB`.
#[must_use]
pub fn size() -> Kind<u64> {
    Kind::new("size", |value| {
        value
            .as_str()
            .and_then(|text| units::parse_size(text).ok())
            .ok_or_else(|| format!("{} is not a size; write a number with a unit, like 64KiB", shown(value)))
    })
    .with_schema(json!({ "type": "string", "pattern": units::SIZE_PATTERN }))
}

/// An IP address with a port.
#[must_use]
pub fn socket_address() -> Kind<SocketAddr> {
    Kind::new("address", |value| {
        value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
            format!("{} is not an address; write an IP address and a port, like 127.0.0.1:15012", shown(value))
        })
    })
}

/// A Unix socket written as `unix:///absolute/path`; gives the path.
#[must_use]
pub fn unix_address() -> Kind<PathBuf> {
    Kind::new("unix address", |value| {
        let path = value.as_str().and_then(|text| text.strip_prefix("unix://")).filter(|path| path.starts_with('/'));
        let path = path.ok_or_else(|| {
            format!(
                "{} is not a Unix socket; write its absolute path, like unix:///run/signet/agent.sock",
                shown(value)
            )
        })?;
        if path.len() > MAX_SOCKET_PATH {
            return Err(format!("{} is too long for a socket; at most {MAX_SOCKET_PATH} bytes", shown(value)));
        }
        Ok(PathBuf::from(path))
    })
    .with_schema(json!({ "type": "string", "pattern": "^unix:///" }))
}

/// A path, absolute or relative to the directory the program was started in.
#[must_use]
pub fn path() -> Kind<PathBuf> {
    Kind::new("path", |value| text_of(value).map(PathBuf::from))
}

/// A path that starts with `/`.
#[must_use]
pub fn absolute_path() -> Kind<PathBuf> {
    path().check(|path| if path.is_absolute() { Ok(()) } else { Err(format!("{path:?} is not an absolute path")) })
}

/// One of the given words.
pub fn choice<T: Clone + 'static>(choices: &[(&str, T)]) -> Kind<T> {
    let choices: Vec<(String, T)> = choices.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let words: Vec<&str> = choices.iter().map(|(name, _)| name.as_str()).collect();
    let (names, schema) = (words.join(", "), json!({ "enum": words }));
    Kind::new(format!("one of {names}"), move |value| {
        let chosen = choices.iter().find(|(name, _)| Some(name.as_str()) == value.as_str());
        chosen.map(|(_, typed)| typed.clone()).ok_or_else(|| format!("{} is not one of {names}", shown(value)))
    })
    .with_schema(schema)
}

/// A list of values of one kind; a wrong element is reported with its index.
#[must_use]
pub fn list_of<T: 'static>(kind: Kind<T>) -> Kind<Vec<T>> {
    Kind {
        name: format!("list of {}", kind.name),
        schema: json!({ "type": "array", "items": kind.schema }),
        read: Box::new(move |value| {
            let Value::Array(items) = value else {
                return Err(vec![(String::new(), format!("{} is not a list; write it as [a, b]", shown(value)))]);
            };
            let mut typed = Vec::with_capacity(items.len());
            let mut faults = Vec::new();
            for (index, item) in items.iter().enumerate() {
                match kind.read(item) {
                    Ok(item) => typed.push(item),
                    Err(found) => faults.extend(found.into_iter().map(|(at, text)| (format!("[{index}]{at}"), text))),
                }
            }
            if faults.is_empty() { Ok(typed) } else { Err(faults) }
        }),
    }
}

/// One value of a kind or a list of several, none of them twice.
#[must_use]
pub fn one_or_several<T: PartialEq + 'static>(kind: Kind<T>) -> Kind<Vec<T>> {
    let (name, schema) = (format!("{} or list of {}", kind.name, kind.name), kind.schema.clone());
    let several = json!({ "type": "array", "items": schema, "minItems": 1, "uniqueItems": true });
    let list = list_of(kind);
    Kind {
        name,
        schema: json!({ "anyOf": [schema, several] }),
        read: Box::new(move |value| {
            if !value.is_array() {
                return list.read(&json!([value])).map_err(|faults| {
                    faults.into_iter().map(|(at, text)| (at.trim_start_matches("[0]").to_owned(), text)).collect()
                });
            }
            let typed = list.read(value)?;
            if typed.is_empty() {
                return Err(vec![(String::new(), "is an empty list; give at least one".to_owned())]);
            }
            let twice =
                typed.iter().enumerate().filter(|(index, one)| typed.iter().take(*index).any(|other| other == *one));
            let faults: Vec<Fault> =
                twice.map(|(index, _)| (format!("[{index}]"), "is given twice; leave one out".to_owned())).collect();
            if faults.is_empty() { Ok(typed) } else { Err(faults) }
        }),
    }
}

fn text_of(value: &Value) -> Result<&str, String> {
    match value {
        Value::String(text) if text.is_empty() => Err("is empty".to_owned()),
        Value::String(text) => Ok(text),
        Value::Number(_) | Value::Bool(_) => Err(format!("{} is not text; put it in quotes", shown(value))),
        _ => Err(format!("{} is not text", shown(value))),
    }
}

/// The value as a message shows it: short, and with nothing that could disturb a terminal.
pub(super) fn shown(value: &Value) -> String {
    const LIMIT: usize = 40;
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a section".to_owned(),
        Value::String(text) if text.chars().count() > LIMIT => {
            format!("{:?}…", text.chars().take(LIMIT).collect::<String>())
        }
        Value::String(text) => format!("{text:?}"),
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use serde_json::json;

    use super::*;

    fn refusal<T: 'static>(kind: Kind<T>, value: Value) -> String {
        let faults = kind.read(&value).err().unwrap();
        faults.iter().map(|(at, text)| format!("{at} {text}").trim().to_owned()).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn good_values_are_read() {
        assert_eq!(text().read(&json!("a")).unwrap(), "a");
        assert!(boolean().read(&json!(true)).unwrap());
        assert_eq!(integer(1_u32..=9).read(&json!(9)).unwrap(), 9);
        assert_eq!(integer(1_usize..=9).read(&json!(1)).unwrap(), 1);
        assert!((number(0.0..=1.0).read(&json!(1)).unwrap() - 1.0).abs() < f64::EPSILON);
        assert_eq!(duration_or_zero().read(&json!("0s")).unwrap(), Duration::ZERO);
        assert_eq!(size().read(&json!("1MiB")).unwrap(), 1 << 20);
        assert_eq!(socket_address().read(&json!("[::]:15012")).unwrap().port(), 15012);
        assert_eq!(unix_address().read(&json!("unix:///run/a.sock")).unwrap(), PathBuf::from("/run/a.sock"));
        assert_eq!(choice(&[("a", 1), ("b", 2)]).read(&json!("b")).unwrap(), 2);
        assert_eq!(list_of(text()).read(&json!(["a", "b"])).unwrap(), ["a", "b"]);
        assert_eq!(parsed("port", str::parse::<u16>).read(&json!("80")).unwrap(), 80);
        assert_eq!(one_or_several(text()).read(&json!("a")).unwrap(), ["a"]);
        assert_eq!(one_or_several(text()).read(&json!(["a", "b"])).unwrap(), ["a", "b"]);
    }

    #[test]
    fn wrong_values_are_refused_with_what_to_write() {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        let cases = [
            (refusal(text(), json!(1)), "1 is not text; put it in quotes"),
            (refusal(text(), json!("")), "is empty"),
            (refusal(text(), json!({})), "a section is not text"),
            (refusal(boolean(), json!("yes")), "\"yes\" is not a boolean; write true or false"),
            (refusal(integer(1_u32..=9), json!(10)), "10 is not a whole number from 1 to 9"),
            (refusal(integer(0_u8..=255), json!(256)), "256 is not a whole number from 0 to 255"),
            (refusal(integer(0_u64..=9), json!(-1)), "-1 is not a whole number from 0 to 9"),
            (refusal(integer(0_u64..=9), json!(1.5)), "1.5 is not a whole number from 0 to 9"),
            (refusal(number(0.0..=1.0), json!(1.5)), "1.5 is not a number from 0 to 1"),
            (refusal(duration(), json!("24x")), "\"24x\" is not a duration; write a number with a unit, like 24h"),
            (refusal(duration(), json!(24)), "24 is not a duration; write a number with a unit, like 24h"),
            (refusal(duration(), json!("0s")), "must be longer than zero"),
            (
                refusal(duration_within(minutes(1)..=minutes(90)), json!("2h")),
                "2h is out of range; choose from 1m to 1h30m",
            ),
            (refusal(size(), json!(64)), "64 is not a size; write a number with a unit, like 64KiB"),
            (refusal(choice(&[("a", ()), ("b", ())]), json!("c")), "\"c\" is not one of a, b"),
            (refusal(list_of(text()), json!("a")), "\"a\" is not a list; write it as [a, b]"),
            (
                refusal(list_of(boolean()), json!([true, 1, 2])),
                "[1] 1 is not a boolean; write true or false; [2] 2 is not a boolean; write true or false",
            ),
            (refusal(one_or_several(text()), json!(5)), "5 is not text; put it in quotes"),
            (refusal(one_or_several(text()), json!({})), "a section is not text"),
            (refusal(one_or_several(text()), json!([])), "is an empty list; give at least one"),
            (refusal(one_or_several(text()), json!(["a", 5, ""])), "[1] 5 is not text; put it in quotes; [2] is empty"),
            (
                refusal(one_or_several(text()), json!(["a", "b", "a", "b"])),
                "[2] is given twice; leave one out; [3] is given twice; leave one out",
            ),
            (refusal(absolute_path(), json!("a/b")), "\"a/b\" is not an absolute path"),
            (refusal(parsed("port", str::parse::<u16>), json!("x")), "\"x\": invalid digit found in string"),
        ];
        for (given, wanted) in cases {
            assert_eq!(given, wanted);
        }
        for address in ["localhost:1", "127.0.0.1", "unix:///x"] {
            assert!(refusal(socket_address(), json!(address)).contains("like 127.0.0.1:15012"));
        }
        for address in ["/run/x", "unix://run/x", "unix:/run/x"] {
            assert!(refusal(unix_address(), json!(address)).contains("like unix:///run"));
        }
        assert!(refusal(unix_address(), json!(format!("unix:///{}", "x".repeat(107)))).contains("at most 107 bytes"));
        assert!(refusal(duration(), json!("40000d")).contains("at most 100 years"));
    }

    #[test]
    fn a_long_value_is_shortened_in_the_message() {
        let message = refusal(duration(), json!("x".repeat(5000)));
        assert!(message.len() < 150, "{message}");
    }
}
