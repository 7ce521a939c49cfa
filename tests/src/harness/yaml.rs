//! Reads and changes the YAML files that programs generate or that we ship, so that tests change exactly what they mean.

use std::path::Path;

use serde_json::Value;

use crate::failure::{Failure, Outcome};

/// Reads a YAML file into a value.
///
/// # Errors
/// [`Failure::Io`] and [`Failure::Shape`].
pub fn read(path: &Path) -> Outcome<Value> {
    let text = std::fs::read_to_string(path).map_err(Failure::io(format!("read {}", path.display())))?;
    serde_saphyr::from_str(&text)
        .map_err(|error| Failure::Shape { path: path.to_owned(), problem: format!("not YAML: {error}") })
}

/// Writes a value as JSON, which every YAML reader reads.
///
/// # Errors
/// [`Failure::Io`].
pub fn write(path: &Path, value: &Value) -> Outcome {
    let text = serde_json::to_string_pretty(value).map_err(Failure::while_doing("encode a configuration"))?;
    std::fs::write(path, text).map_err(Failure::io(format!("write {}", path.display())))
}

/// Replaces the value at a JSON pointer, which must exist: a moved field is noticed instead of ignored.
///
/// # Errors
/// [`Failure::Unexpected`].
pub fn replace(document: &mut Value, pointer: &str, value: impl Into<Value>) -> Outcome {
    let slot =
        document.pointer_mut(pointer).ok_or_else(|| Failure::unexpected(format!("no {pointer} in the document")))?;
    *slot = value.into();
    Ok(())
}

/// Sets `section.key…`, making sections on the way.
///
/// # Errors
/// [`Failure::Unexpected`] when something on the way is not a section.
pub fn set(document: &mut Value, path: &str, value: impl Into<Value>) -> Outcome {
    let mut here = document;
    for key in path.split('.') {
        if here.is_null() {
            *here = Value::Object(serde_json::Map::new());
        }
        here = here
            .as_object_mut()
            .ok_or_else(|| Failure::unexpected(format!("{path}: {key} is not inside a section")))?
            .entry(key)
            .or_insert(Value::Null);
    }
    *here = value.into();
    Ok(())
}

/// Takes a field out, where it is.
///
/// # Errors
/// [`Failure::Unexpected`] when something on the way is not a section.
pub fn unset(document: &mut Value, path: &str) -> Outcome {
    let (section, field) = path.rsplit_once('.').unwrap_or(("", path));
    let pointer = section.split('.').filter(|part| !part.is_empty()).map(|part| format!("/{part}")).collect::<String>();
    let within = document.pointer_mut(&pointer).and_then(Value::as_object_mut);
    let within = within.ok_or_else(|| Failure::unexpected(format!("{section} is not a section")))?;
    within.remove(field);
    Ok(())
}

/// The text at a JSON pointer.
///
/// # Errors
/// [`Failure::Unexpected`].
pub fn text<'v>(document: &'v Value, pointer: &str) -> Outcome<&'v str> {
    document
        .pointer(pointer)
        .and_then(Value::as_str)
        .ok_or_else(|| Failure::unexpected(format!("no text at {pointer} in {document}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn set_makes_sections_and_replace_does_not() {
        let mut document = serde_json::json!({"a": {"b": 1}});
        set(&mut document, "a.c.d", "x").unwrap();
        replace(&mut document, "/a/b", 2).unwrap();
        assert_eq!(document, serde_json::json!({"a": {"b": 2, "c": {"d": "x"}}}));
        assert!(replace(&mut document, "/a/z", 2).is_err());
        assert!(set(&mut document, "a.b.c", 2).is_err());
    }
}
