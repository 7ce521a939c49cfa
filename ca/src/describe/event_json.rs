//! Events of the record as JSON, wherever programs read them: in answers of commands, in exports, in lines of a file.

use serde_json::{Map, Value};
use signet_core::audit::{StoredEvent, UnreadEvent};
use signet_core::clock::rfc3339;

/// What an event may lack, and what of whom it is about.
const LACKING: [&str; 4] = ["reason", "detail", "what", "repeated"];
const UNKNOWN: [&str; 15] = [
    "spiffe_id",
    "namespace",
    "service_account",
    "service_account_uid",
    "pod",
    "pod_uid",
    "node",
    "node_uid",
    "cluster",
    "auth_method",
    "peer",
    "instance",
    "token_id",
    "certificate",
    "last_token",
];

/// An event for programs: all of its fields, with each time in RFC 3339 and null for what is not known.
pub(crate) fn event(stored: &StoredEvent) -> Result<Value, serde_json::Error> {
    let mut value = with_times(serde_json::to_value(stored)?);
    let Some(fields) = value.as_object_mut() else { return Ok(value) };
    complete(fields, LACKING.map(|name| (name, Value::Null)));
    complete(fields, [("unknown_fields", Value::Object(Map::new()))]);
    if let Some(who) = fields.get_mut("who").and_then(Value::as_object_mut) {
        complete(who, UNKNOWN.map(|name| (name, Value::Null)));
    }
    if let Some(what) = fields.get_mut("what").and_then(Value::as_object_mut) {
        complete(what, [("other_names", Value::Array(Vec::new())), ("acknowledges", Value::Bool(false))]);
        complete(what, [("fingerprint", Value::Null)]);
        // A backend that signs leaves itself has not said it yet.
        if let Some(serial) = what.get_mut("serial").filter(|serial| serial.as_str() == Some("")) {
            *serial = Value::Null;
        }
    }
    Ok(value)
}

/// Adds what is not written down because it is not so.
fn complete<const N: usize>(fields: &mut Map<String, Value>, absent: [(&str, Value); N]) {
    for (name, value) in absent {
        fields.entry(name).or_insert(value);
    }
}

/// What is known for programs of an event that cannot be read.
pub(crate) fn unread(event: &UnreadEvent) -> Result<Value, serde_json::Error> {
    Ok(with_times(serde_json::to_value(event)?))
}

/// Storage counts time in numbers.
fn with_times(value: Value) -> Value {
    let Value::Object(fields) = value else { return value };
    let told = fields.into_iter().map(|(name, value)| match (name.as_str(), value.as_i64()) {
        ("at_micros", Some(micros)) => ("at".to_owned(), Value::from(text(micros.div_euclid(1_000_000)))),
        ("since_micros", Some(micros)) => ("since".to_owned(), Value::from(text(micros.div_euclid(1_000_000)))),
        ("last_token_micros", Some(micros)) => {
            ("last_token".to_owned(), Value::from(text(micros.div_euclid(1_000_000))))
        }
        ("not_before" | "not_after", Some(seconds)) => (name, Value::from(text(seconds))),
        _ => (name, with_times(value)),
    });
    Value::Object(told.collect::<Map<_, _>>())
}

/// A time in seconds since 1970; one that cannot be said is a dash.
fn text(seconds: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(seconds).map_or_else(|_| "-".to_owned(), rfc3339)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use std::collections::BTreeSet;

    use signet_core::audit::{Attributed, AuditEvent, Certified, EventKind, Outcome, Repeated, UnknownFields};

    use super::*;

    fn keys(value: &Value) -> BTreeSet<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn the_schema_has_every_field_and_word_and_no_other() {
        let schema: Value = serde_json::from_str(include_str!("../../../docs/audit-event.schema.json")).unwrap();
        let schema = &schema["$defs"];
        let what = Certified {
            serial: "01".repeat(16),
            key_hash: "ab".into(),
            other_names: vec!["ca.example".into()],
            not_before: 1,
            not_after: 2,
            authority: "cd".into(),
            bundle_sequence: 1,
            acknowledges: true,
            fingerprint: Some("ef".into()),
        };
        let whole = AuditEvent {
            at_micros: 1,
            request_id: "r".into(),
            kind: EventKind::Certificate,
            outcome: Outcome::Issued,
            reason: Some("a".into()),
            detail: Some("b".into()),
            who: Attributed { last_token_micros: Some(1), node: Some("n".into()), ..Attributed::default() },
            what: Some(what),
            repeated: Some(Repeated { count: 2, since_micros: 1 }),
        };
        let least = AuditEvent { reason: None, detail: None, who: Attributed::default(), ..whole.clone() };
        for one in [whole, least] {
            let stored = StoredEvent { sequence: 1, event: one, unknown_fields: UnknownFields::new() };
            let shown = event(&stored).unwrap();
            let parts = [("event", &shown), ("who", &shown["who"]), ("what", &shown["what"])];
            for (name, part) in parts.into_iter().chain([("repeated", &shown["repeated"])]) {
                let required: BTreeSet<&str> =
                    schema[name]["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
                assert_eq!(keys(part), keys(&schema[name]["properties"]), "{name}");
                assert_eq!(keys(part), required, "{name}");
            }
        }
        let words = |name: &str| schema[name]["anyOf"][0]["enum"].clone();
        assert_eq!(words("kind"), serde_json::to_value(EventKind::ALL).unwrap());
        assert_eq!(words("outcome"), serde_json::to_value(Outcome::ALL).unwrap());
    }
}
