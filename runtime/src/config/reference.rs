//! The reference table of a configuration, made by letting its reading function describe itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    Problems, Section,
    section::{self, Sink},
};

/// What the reference says about one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDoc {
    /// The dotted path; `[]` stands for the elements of a list, as in `clusters[].id`.
    pub path: String,
    /// What to write, such as `duration`.
    pub kind: String,
    /// The default as written in the file, `required`, or empty.
    pub default: String,
    /// Where the field applies, such as `kind: jwks`; `None` means always.
    pub condition: Option<String>,
    /// What it means.
    pub text: String,
}

/// Every field of a configuration, in reading order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    fields: Vec<FieldDoc>,
}

impl Reference {
    /// Describes what `read` reads: all alternatives, one element of each list, every optional section.
    ///
    /// # Errors
    /// [`Problems`] when a default is not acceptable to its own field, which is a bug of the reading function.
    pub fn of<T>(read: impl FnOnce(&mut Section<'_>) -> Option<T>) -> Result<Self, Problems> {
        let mut sink = Sink { problems: Vec::new(), docs: Some(Vec::new()) };
        section::run("", &Map::new(), &mut sink, None, read);
        if !sink.problems.is_empty() {
            return Err(Problems::new("defaults", &BTreeMap::new(), sink.problems));
        }
        let mut fields: Vec<FieldDoc> = Vec::new();
        for doc in sink.docs.unwrap_or_default() {
            let same = fields.iter_mut().find(|known| known.path == doc.path && known.text == doc.text);
            match same {
                // Two variants share the field.
                Some(known) => {
                    known.condition = match (known.condition.take(), doc.condition) {
                        (Some(one), Some(two)) if one != two => Some(format!("{one} or {two}")),
                        (Some(one), Some(_)) => Some(one),
                        _ => None,
                    };
                }
                None => fields.push(doc),
            }
        }
        Ok(Self { fields })
    }

    /// The fields, in reading order.
    #[must_use]
    pub fn fields(&self) -> &[FieldDoc] {
        &self.fields
    }

    /// The fields as a Markdown table, with a closing newline.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut table = String::from("| key | value | default | meaning |\n|---|---|---|---|\n");
        for field in &self.fields {
            let default = match field.default.as_str() {
                "" => String::new(),
                "required" => "required".to_owned(),
                written => format!("`{}`", cell(written)),
            };
            let condition = field.condition.as_ref().map(|when| format!("With `{}`: ", cell(when))).unwrap_or_default();
            let text = cell(&field.text);
            table.push_str(&format!("| `{}` | {} | {default} | {condition}{text} |\n", field.path, cell(&field.kind)));
        }
        table
    }
}

/// A default as it stands in a YAML file: text without quotes, the rest as JSON, which YAML reads too.
pub(super) fn as_written(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
