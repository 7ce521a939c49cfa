//! The shape of a configuration as JSON Schema (draft 2020-12), for editors that complete and check while one types.
//!
//! It refuses nothing that the reader accepts but a key without a value; the reader knows rules that no schema says.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::reference::{Choice, FieldDoc, Presence, Reference};

impl Reference {
    /// The schema of the whole file; `title` is shown to people.
    #[must_use]
    pub fn to_json_schema(&self, title: &str) -> Value {
        let mut root = Node::default();
        for field in self.fields() {
            root.place(&field.path).docs.push(field);
        }
        let mut schema = root.object();
        schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        schema.insert("title".to_owned(), json!(title));
        Value::Object(schema)
    }
}

/// One key, with what was said of it (once per variant that has it), and the keys below it.
#[derive(Default)]
struct Node<'f> {
    docs: Vec<&'f FieldDoc>,
    keys: BTreeMap<String, Self>,
}

impl<'f> Node<'f> {
    fn place(&mut self, path: &str) -> &mut Self {
        path.split('.').fold(self, |node, part| {
            let name = part.strip_suffix("[]").unwrap_or(part);
            node.keys.entry(name.to_owned()).or_default()
        })
    }

    /// The section whose keys these are.
    fn object(&self) -> Map<String, Value> {
        let properties: Map<String, Value> = self.keys.iter().map(|(name, key)| (name.clone(), key.schema())).collect();
        let required: Vec<&String> =
            self.keys.iter().filter(|(_, key)| key.is_always_required()).map(|(name, _)| name).collect();
        let rules: Vec<Value> = self.keys.keys().flat_map(|chooser| self.rules_of(chooser)).collect();
        let mut object = Map::new();
        object.insert("type".to_owned(), json!("object"));
        object.insert("additionalProperties".to_owned(), json!(false));
        object.insert("properties".to_owned(), Value::Object(properties));
        if !required.is_empty() {
            object.insert("required".to_owned(), json!(required));
        }
        if !rules.is_empty() {
            object.insert("allOf".to_owned(), Value::Array(rules));
        }
        object
    }

    /// What to write for this key.
    fn schema(&self) -> Value {
        let mut kinds: Vec<Value> = Vec::new();
        for doc in &self.docs {
            let kind = match doc.schema.get("type").and_then(Value::as_str) {
                Some("object") => Value::Object(self.object()),
                Some("array") if doc.schema.get("items").is_none() => {
                    json!({ "type": "array", "items": self.object() })
                }
                _ => doc.schema.clone(),
            };
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        let mut schema = match <[Value; 1]>::try_from(kinds) {
            Ok([kind]) => kind,
            Err(kinds) => json!({ "anyOf": kinds }),
        };
        if let (Some(doc), Some(schema)) = (self.docs.first(), schema.as_object_mut()) {
            schema.insert("description".to_owned(), json!(doc.text));
            if let Presence::Default(value) = &doc.presence {
                schema.insert("default".to_owned(), value.clone());
            }
        }
        schema
    }

    fn is_always_required(&self) -> bool {
        self.docs.iter().any(|doc| {
            let has_to = match doc.kind.as_str() {
                "section" => self.keys.values().any(Self::is_always_required),
                _ => doc.presence == Presence::Required,
            };
            has_to && choices(doc).next().is_none()
        })
    }

    /// What follows from the words of the field `chooser` of this section: keys that must be there, and keys that must not.
    fn rules_of(&self, chooser: &str) -> Vec<Value> {
        let Some(field) = self.keys.get(chooser).and_then(|key| key.docs.first()) else { return Vec::new() };
        let words = field.schema.get("enum").and_then(Value::as_array).into_iter().flatten();
        let words: Vec<&str> = words.filter_map(Value::as_str).collect();
        let chosen = |doc: &FieldDoc, word: Option<&str>| {
            choices(doc).any(|choice| choice.path == field.path && word.is_none_or(|word| choice.word == word))
        };
        let mut rules = Vec::new();
        for word in words {
            let (mut required, mut refused) = (Vec::new(), Map::new());
            for (name, key) in &self.keys {
                let has = |doc: &&&FieldDoc| !chosen(doc, None) || chosen(doc, Some(word));
                let mine: Vec<&&FieldDoc> = key.docs.iter().filter(has).collect();
                if mine.is_empty() {
                    refused.insert(name.clone(), json!(false));
                }
                let only_by_word = |doc: &&&FieldDoc| choices(doc).all(|choice| choice.path == field.path);
                let needs = |doc: &&&FieldDoc| doc.presence == Presence::Required && chosen(doc, Some(word));
                if mine.iter().any(|doc| needs(doc) && only_by_word(doc)) {
                    required.push(name);
                }
            }
            if required.is_empty() && refused.is_empty() {
                continue;
            }
            let there = if field.presence == Presence::Default(word.into()) { vec![] } else { vec![chooser] };
            let when = json!({ "properties": { chooser: { "const": word } }, "required": there });
            rules.push(json!({ "if": when, "then": { "required": required, "properties": refused } }));
        }
        rules
    }
}

/// The choices that are made in the section of this field itself; of the sections around it they say it of those.
fn choices(doc: &FieldDoc) -> impl Iterator<Item = &Choice> {
    let section = |path: &str| path.rsplit_once('.').map_or(String::new(), |(section, _)| section.to_owned());
    let own = section(&doc.path);
    doc.conditions.iter().filter(move |choice| section(&choice.path) == own)
}
