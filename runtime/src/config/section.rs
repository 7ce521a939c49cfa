//! One level of a configuration file being read: takes fields out, notes what is wrong, and at its end reports
//! the keys nobody asked for.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    Problem,
    kind::{Kind, shown},
    reference::{Choice, FieldDoc, Presence},
};

type ReadVariant<'v, T> = Box<dyn Fn(&mut Section<'_>) -> Option<T> + 'v>;

/// How the problem of a key begins that nobody has read.
pub(super) const UNKNOWN: &str = "is not a known key";

/// One alternative of [`Section::one_of`].
pub struct Variant<'v, T> {
    name: &'static str,
    text: &'static str,
    read: ReadVariant<'v, T>,
}

impl<'v, T> Variant<'v, T> {
    /// The alternative called `name`, explained by `text`, whose further fields `read` takes from the same section.
    pub fn new(name: &'static str, text: &'static str, read: impl Fn(&mut Section<'_>) -> Option<T> + 'v) -> Self {
        Self { name, text, read: Box::new(read) }
    }
}

/// What reading collects besides the values.
pub(super) struct Sink {
    pub(super) problems: Vec<Problem>,
    /// Present when the fields are described instead of read.
    pub(super) docs: Option<Vec<FieldDoc>>,
}

/// A section of the file (a map of keys to values), read field by field.
///
/// Every reader gives `None` after it noted a problem, so a reading function first reads **all** its fields and only
/// then unwraps them with `?`. Rules over several fields are checked in between, with [`Section::problem`].
pub struct Section<'a> {
    path: String,
    values: &'a Map<String, Value>,
    sink: &'a mut Sink,
    /// Keys that were asked for; with a text where the key belongs to an alternative that was not chosen.
    known: BTreeMap<String, Option<String>>,
    effective: Map<String, Value>,
    /// The choices under which the fields apply, for the reference.
    conditions: Vec<Choice>,
}

/// What is said of a field apart from its meaning.
struct About {
    kind: String,
    schema: Value,
    presence: Presence,
}

impl About {
    fn of<T: 'static>(kind: &Kind<T>, presence: Presence) -> Self {
        Self { kind: kind.name().to_owned(), schema: kind.schema(), presence }
    }

    fn shape(kind: &str, schema: Value) -> Self {
        Self { kind: kind.to_owned(), schema, presence: Presence::Optional }
    }
}

/// Reads the top level; gives the typed value, the effective values and the problems.
pub(super) fn read_root<T>(
    values: &Map<String, Value>,
    read: impl FnOnce(&mut Section<'_>) -> Option<T>,
) -> (Option<T>, Map<String, Value>, Vec<Problem>) {
    let mut sink = Sink { problems: Vec::new(), docs: None };
    let (typed, effective) = run("", values, &mut sink, Vec::new(), read);
    (typed, effective, sink.problems)
}

/// Runs a reading function over one section and closes it.
pub(super) fn run<T>(
    path: &str,
    values: &Map<String, Value>,
    sink: &mut Sink,
    conditions: Vec<Choice>,
    read: impl FnOnce(&mut Section<'_>) -> Option<T>,
) -> (Option<T>, Map<String, Value>) {
    let mut section =
        Section { path: path.to_owned(), values, sink, known: BTreeMap::new(), effective: Map::new(), conditions };
    let typed = read(&mut section);
    section.report_unknown_keys();
    (typed, section.effective)
}

impl Section<'_> {
    /// A field that must be given.
    pub fn required<T: 'static>(&mut self, name: &str, kind: Kind<T>, text: &str) -> Option<T> {
        self.describe(name, &About::of(&kind, Presence::Required), text);
        match self.take(name) {
            Some(value) => self.typed(name, &kind, value),
            None => {
                self.missing(name, text);
                None
            }
        }
    }

    /// A field that may be left out: the outer `None` says that it is wrong, the inner one that it is not there.
    pub fn optional<T: 'static>(&mut self, name: &str, kind: Kind<T>, text: &str) -> Option<Option<T>> {
        self.describe(name, &About::of(&kind, Presence::Optional), text);
        match self.take(name) {
            Some(value) => self.typed(name, &kind, value).map(Some),
            None => Some(None),
        }
    }

    /// A field with a default, which is written as it would be in the file.
    pub fn defaulted<T: 'static>(
        &mut self,
        name: &str,
        default: impl Into<Value>,
        kind: Kind<T>,
        text: &str,
    ) -> Option<T> {
        let default = default.into();
        self.describe(name, &About::of(&kind, Presence::Default(default.clone())), text);
        let value = self.take(name).unwrap_or(default);
        self.typed(name, &kind, value)
    }

    /// A section that is always there: when the file leaves it out, its fields have their defaults.
    pub fn section<T>(
        &mut self,
        name: &str,
        text: &str,
        read: impl FnOnce(&mut Section<'_>) -> Option<T>,
    ) -> Option<T> {
        self.describe(name, &About::shape("section", json!({ "type": "object" })), text);
        let values = match self.take(name) {
            Some(value) => self.as_section(name, value)?,
            None => Map::new(),
        };
        self.nested(name, &values, read)
    }

    /// A section that means "off" when it is left out; `name: {}` turns it on with its defaults.
    pub fn optional_section<T>(
        &mut self,
        name: &str,
        text: &str,
        read: impl FnOnce(&mut Section<'_>) -> Option<T>,
    ) -> Option<Option<T>> {
        self.describe(name, &About::shape("optional section", json!({ "type": "object" })), text);
        match self.take(name) {
            Some(value) => {
                let values = self.as_section(name, value)?;
                self.nested(name, &values, read).map(Some)
            }
            None => {
                if self.sink.docs.is_some() {
                    self.nested(name, &Map::new(), read);
                }
                Some(None)
            }
        }
    }

    /// A list of sections, empty when left out.
    pub fn list<T>(
        &mut self,
        name: &str,
        text: &str,
        mut read: impl FnMut(&mut Section<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.describe(name, &About::shape("list of sections", json!({ "type": "array" })), text);
        let items = match self.take(name) {
            Some(Value::Array(items)) => items,
            Some(other) => {
                self.problem(name, format!("{} is not a list; start each entry with a dash", shown(&other)));
                return None;
            }
            None => Vec::new(),
        };
        if self.sink.docs.is_some() {
            self.nested(&format!("{name}[]"), &Map::new(), &mut read);
            return Some(Vec::new());
        }
        let mut typed = Some(Vec::with_capacity(items.len()));
        let mut effective = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let key = format!("{name}[{index}]");
            let element = self.as_section(&key, item).and_then(|values| self.nested(&key, &values, &mut read));
            effective.extend(self.effective.remove(&key));
            match (element, &mut typed) {
                (Some(element), Some(list)) => list.push(element),
                _ => typed = None,
            }
        }
        self.effective.insert(name.to_owned(), Value::Array(effective));
        typed
    }

    /// A field that chooses one of several shapes of this section, such as `kind: jwks`. The chosen variant reads its
    /// fields from this same section; a key that belongs only to another variant is refused with that reason.
    pub fn one_of<T>(
        &mut self,
        name: &str,
        default: Option<&str>,
        variants: &[Variant<'_, T>],
        text: &str,
    ) -> Option<T> {
        let words: Vec<&str> = variants.iter().map(|variant| variant.name).collect();
        let names = words.join(", ");
        let meanings = variants.iter().map(|variant| format!("`{}`: {}", variant.name, variant.text));
        let explained = format!("{text}. {}", meanings.collect::<Vec<_>>().join("; "));
        let presence = default.map_or(Presence::Required, |word| Presence::Default(word.into()));
        let about = About { presence, ..About::shape(&format!("one of {names}"), json!({ "enum": words })) };
        self.describe(name, &about, &explained);
        if self.sink.docs.is_some() {
            for variant in variants {
                self.alternative(name, variant);
            }
            return None;
        }
        let Some(value) = self.take(name).or_else(|| default.map(Value::from)) else {
            self.missing(name, &format!("write one of {names}"));
            self.tolerate_rest();
            return None;
        };
        let Some(chosen) = variants.iter().find(|variant| Some(variant.name) == value.as_str()) else {
            self.problem(name, format!("{} is not one of {names}", shown(&value)));
            self.tolerate_rest();
            return None;
        };
        self.effective.insert(name.to_owned(), value);
        let typed = (chosen.read)(self);
        for other in variants.iter().filter(|variant| variant.name != chosen.name) {
            for key in keys_of(other) {
                self.known.entry(key).or_insert_with(|| Some(format!("only used with {name}: {}", other.name)));
            }
        }
        typed
    }

    /// Notes a problem with the field `name` of this section (empty: with the section itself).
    pub fn problem(&mut self, name: &str, text: impl Into<String>) {
        let path = self.path_of(name);
        self.sink.problems.push(Problem::new(path, text));
    }

    /// Shows `value` for the field `name` in the effective configuration, for a field whose default is computed.
    pub fn note_effective(&mut self, name: &str, value: impl Into<Value>) {
        self.effective.insert(name.to_owned(), value.into());
    }

    /// Whether the fields are being described for the reference, not read: rules on what a file must hold do not
    /// apply then.
    #[must_use]
    pub fn is_described(&self) -> bool {
        self.sink.docs.is_some()
    }

    /// The dotted path of this section, empty for the top level.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    fn path_of(&self, name: &str) -> String {
        match (self.path.as_str(), name) {
            ("", name) => name.to_owned(),
            (path, "") => path.to_owned(),
            (path, name) => format!("{path}.{name}"),
        }
    }

    /// The raw value of a field; an empty one (`key:`) counts as left out.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.known.insert(name.to_owned(), None);
        self.values.get(name).filter(|value| !value.is_null()).cloned()
    }

    fn typed<T: 'static>(&mut self, name: &str, kind: &Kind<T>, value: Value) -> Option<T> {
        match kind.read(&value) {
            Ok(typed) => {
                self.effective.insert(name.to_owned(), value);
                Some(typed)
            }
            Err(faults) => {
                for (at, text) in faults {
                    self.problem(&format!("{name}{at}"), text);
                }
                None
            }
        }
    }

    fn as_section(&mut self, name: &str, value: Value) -> Option<Map<String, Value>> {
        match value {
            Value::Object(values) => Some(values),
            Value::Null => Some(Map::new()),
            other => {
                self.problem(name, format!("{} is not a section; write `key: value` lines below it", shown(&other)));
                None
            }
        }
    }

    fn nested<T>(
        &mut self,
        name: &str,
        values: &Map<String, Value>,
        read: impl FnOnce(&mut Section<'_>) -> Option<T>,
    ) -> Option<T> {
        let path = self.path_of(name);
        let (typed, effective) = run(&path, values, self.sink, self.conditions.clone(), read);
        self.effective.insert(name.to_owned(), Value::Object(effective));
        typed
    }

    /// Describes the fields of one variant.
    fn alternative<T>(&mut self, name: &str, variant: &Variant<'_, T>) {
        let mut conditions = self.conditions.clone();
        conditions.push(Choice { path: self.path_of(name), word: variant.name.to_owned() });
        run(&self.path, self.values, self.sink, conditions, |section| (variant.read)(section));
    }

    /// With the shape unknown, nothing can be said about the other keys; the one problem noted is enough.
    fn tolerate_rest(&mut self) {
        for key in self.values.keys() {
            self.known.entry(key.clone()).or_insert(None);
        }
    }

    fn describe(&mut self, name: &str, about: &About, text: &str) {
        let path = self.path_of(name);
        let conditions = self.conditions.clone();
        if let Some(docs) = &mut self.sink.docs {
            docs.push(FieldDoc {
                path,
                kind: about.kind.clone(),
                schema: about.schema.clone(),
                presence: about.presence.clone(),
                conditions,
                text: text.to_owned(),
            });
        }
    }

    fn missing(&mut self, name: &str, text: &str) {
        if self.sink.docs.is_none() {
            self.problem(name, format!("is missing: {text}"));
        }
    }

    fn report_unknown_keys(&mut self) {
        for key in self.values.keys() {
            match self.known.get(key) {
                Some(None) => {}
                Some(Some(elsewhere)) => {
                    let text = elsewhere.clone();
                    self.problem(key, text);
                }
                None => {
                    let meant = self.known.iter().filter(|(_, elsewhere)| elsewhere.is_none()).map(|(name, _)| name);
                    let text = match closest(key, meant.filter(|name| !self.values.contains_key(*name))) {
                        Some(name) => format!("{UNKNOWN}; did you mean {name}?"),
                        None => UNKNOWN.to_owned(),
                    };
                    let path = self.path_of(key);
                    self.sink.problems.push(Problem { unknown_key: true, ..Problem::new(path, text) });
                }
            }
        }
    }
}

/// The keys a variant would read, found by letting it describe itself.
fn keys_of<T>(variant: &Variant<'_, T>) -> Vec<String> {
    let mut sink = Sink { problems: Vec::new(), docs: Some(Vec::new()) };
    run("", &Map::new(), &mut sink, Vec::new(), |section| (variant.read)(section));
    let docs = sink.docs.unwrap_or_default();
    docs.into_iter().map(|doc| doc.path).filter(|path| !path.contains('.')).collect()
}

/// The name a slip of the pen away from `key`: about a third of its letters may differ.
fn closest<'n>(key: &str, names: impl Iterator<Item = &'n String>) -> Option<&'n String> {
    names
        .map(|name| (strsim::damerau_levenshtein(key, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len().min(key.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
