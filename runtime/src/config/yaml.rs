//! YAML text to a JSON value, more strictly than YAML itself: text keys only, one document, no surprises.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// Where and why a text is not acceptable YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxFault {
    pub(super) line: u64,
    pub(super) column: u64,
    pub(super) message: String,
}

/// The line of each field, by its dotted path.
pub(super) type Lines = BTreeMap<String, u64>;

/// Reads one YAML document, and where in it each field stands. An empty document is `Null`.
pub(super) fn parse(text: &str) -> Result<(Value, Lines), SyntaxFault> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        // `id: no` is a text: the old yes/no booleans have surprised too many.
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Node>(text, options).map(|node| (node.value, node.lines)).map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
        let message = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
        SyntaxFault { line, column, message: without_location(&message) }
    })
}

/// The library ends or starts its messages with the place, which our own message already begins with.
fn without_location(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    let text = match first.rfind(" at line ") {
        Some(at) => first.split_at(at).0,
        None => first,
    };
    text.trim_start_matches("error: ").trim_end_matches('.').to_owned()
}

struct Node {
    value: Value,
    /// Of the fields below it, relative to it: `.key` or `[index]` begins each path.
    lines: Lines,
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        Self { value, lines: Lines::new() }
    }
}

impl Node {
    /// Notes where a part of this value stands, and the parts of that.
    fn place(&mut self, part: &str, line: u64, below: Lines) {
        self.lines.extend(below.into_iter().map(|(path, line)| (format!("{part}{path}"), line)));
        self.lines.insert(part.to_owned(), line);
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, true or false, a list or a section")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Value::Bool(value).into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Value::from(value).into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Value::from(value).into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        Number::from_f64(value)
            .map(|number| Value::Number(number).into())
            .ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Value::from(value).into())
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Value::Null.into())
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Value::Null.into())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let (mut node, mut list) = (Node::from(Value::Null), Vec::new());
        while let Some(item) = items.next_element::<Spanned<Node>>()? {
            node.place(&format!("[{}]", list.len()), item.referenced.line(), item.value.lines);
            list.push(item.value.value);
        }
        node.value = Value::Array(list);
        Ok(node)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let (mut node, mut map) = (Node::from(Value::Null), Map::new());
        while let Some(Spanned { value: Key(key), referenced, .. }) = entries.next_key()? {
            let below: Node = entries.next_value()?;
            node.place(&format!(".{key}"), referenced.line(), below.lines);
            map.insert(key, below.value);
        }
        node.value = Value::Object(map);
        Ok(node)
    }
}

/// A key of a section. Refused while it is read, so that the error carries its place.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Node::deserialize(deserializer)?.value {
            Value::String(key) => Ok(Self(key)),
            other => Err(D::Error::custom(format!("key {other} is not text; put it in quotes"))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_keep_their_type_and_only_true_and_false_are_booleans() {
        let text = "a: 1\nb: -2\nc: 1.5\nd: no\ne: true\nf:\ng: [x, 'y']\nh: {i: \"1\"}\n";
        assert_eq!(
            parse(text).unwrap().0,
            json!({"a": 1, "b": -2, "c": 1.5, "d": "no", "e": true, "f": null, "g": ["x", "y"], "h": {"i": "1"}})
        );
        for empty in ["", "# nothing\n", "---\n"] {
            assert_eq!(parse(empty).unwrap().0, Value::Null, "{empty:?}");
        }
    }

    #[test]
    fn each_field_and_list_entry_has_its_line() {
        let text = "# first\na: 1\n\nb:\n  c:\n    - d: {e: 1}\n      f: 2\n    - g: 3\nh: [1,\n  2]\n";
        let lines = parse(text).unwrap().1;
        let found: Vec<(&str, u64)> = lines.iter().map(|(path, line)| (path.as_str(), *line)).collect();
        let expected = [
            (".a", 2),
            (".b", 4),
            (".b.c", 5),
            (".b.c[0]", 6),
            (".b.c[0].d", 6),
            (".b.c[0].d.e", 6),
            (".b.c[0].f", 7),
            (".b.c[1]", 8),
            (".b.c[1].g", 8),
            (".h", 9),
            (".h[0]", 9),
            (".h[1]", 10),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn unacceptable_yaml_is_located() {
        for (text, line, part) in [
            ("a: 1\nb: 2\na: 3\n", 3, "uplicate"),
            ("a: 1\n7: 2\n", 2, "key 7 is not text"),
            ("a: 1\n? [x]\n: 2\n", 2, "not text"),
            ("a: 1\n---\nb: 2\n", 3, "document"),
            ("a: 1\nb: [1, 2\nc: 3\n", 3, ""),
            ("a: \"open\n", 2, ""),
            ("a: !secret x\n", 1, "tag"),
            ("a: .nan\n", 1, ""),
            ("a: *nowhere\n", 1, ""),
        ] {
            let fault = parse(text).unwrap_err();
            assert_eq!(fault.line, line, "{text:?}: {fault:?}");
            assert!(fault.message.contains(part), "{text:?}: {fault:?}");
            assert!(!fault.message.contains('\n') && !fault.message.contains(" line "), "{fault:?}");
        }
    }
}
