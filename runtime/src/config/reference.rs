//! The reference table of a configuration, made by letting its reading function describe itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    Problems, Section,
    section::{self, Sink},
};

/// What the reference says about one field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldDoc {
    /// The dotted path; `[]` stands for the elements of a list, as in `clusters[].id`.
    pub path: String,
    /// What to write, such as `duration`.
    pub kind: String,
    /// What to write, as JSON Schema.
    pub schema: Value,
    /// Whether it has to be there.
    pub presence: Presence,
    /// The choices under which the field applies; none means always.
    pub conditions: Vec<Choice>,
    /// What it means.
    pub text: String,
}

/// Whether a field has to be there.
#[derive(Debug, Clone, PartialEq)]
pub enum Presence {
    /// It has to.
    Required,
    /// It may be left out.
    Optional,
    /// It may be left out, which is as if this were written.
    Default(Value),
}

/// One word of a field that chooses between shapes of its section, such as `kind: jwks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The path of the field that chooses.
    pub path: String,
    /// What is written there.
    pub word: String,
}

impl Choice {
    fn as_written(&self) -> String {
        let name = self.path.rsplit('.').next().unwrap_or(&self.path);
        format!("{name}: {}", self.word)
    }
}

/// Every field of a configuration, in reading order.
#[derive(Debug, Clone, PartialEq)]
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
        section::run("", &Map::new(), &mut sink, Vec::new(), read);
        if !sink.problems.is_empty() {
            return Err(Problems::new("defaults", &BTreeMap::new(), sink.problems));
        }
        Ok(Self { fields: sink.docs.unwrap_or_default() })
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
        for (index, field) in self.fields.iter().enumerate() {
            let same = |other: &&FieldDoc| other.path == field.path && other.text == field.text;
            if self.fields.iter().take(index).any(|other| same(&other)) {
                continue;
            }
            let default = match &field.presence {
                Presence::Optional => String::new(),
                Presence::Required => "required".to_owned(),
                Presence::Default(value) => format!("`{}`", cell(&as_written(value))),
            };
            // Several variants may share the field.
            let mut whens: Vec<String> = Vec::new();
            for field in self.fields.iter().skip(index).filter(same) {
                let when = field.conditions.iter().map(Choice::as_written).collect::<Vec<_>>().join(", ");
                if !whens.contains(&when) {
                    whens.push(when);
                }
            }
            let condition = match whens.iter().any(String::is_empty) {
                true => String::new(),
                false => format!("With `{}`: ", cell(&whens.join(" or "))),
            };
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
