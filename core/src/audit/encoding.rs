//! The bytes of an event: what is stored, and what is a leaf of the tree. `docs/audit-format.md` says the same for people
//! who write readers of their own; numbers and types of fields are fixed for ever.
//!
//! Programs of several versions read one log. What a newer one adds within the format (a field, a kind, an outcome) is
//! kept and shown as unknown; nothing that was read is ever encoded and stored again.

use std::collections::BTreeMap;

use super::cbor::{self, CborError, Fields, Value};
use super::event::{AuditEvent, Certified, EventKind, Outcome, Repeated};
use super::who::Attributed;
use crate::digest::{from_hex, hex};

/// The format of events that are written. Another number means that what is known of the fields does not hold.
const FORMAT: u64 = 1;

/// Fields by the names that this version does not know, as `who.13`, with their values in diagnostic notation (RFC 8949
/// section 8).
pub type UnknownFields = BTreeMap<String, String>;

/// Bytes that are no event, as far as this version knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A format of a newer version.
    #[error("the event has format {0}, this version knows format {FORMAT}")]
    Format(u64),
    /// Neither a format number with something after it, nor what programs wrote before there was one.
    #[error("this is no encoding of an event: {0}")]
    Encoding(String),
    /// A field is missing, or has a type or value that it cannot have.
    #[error("field {0} is missing or has a value that it cannot have")]
    Field(String),
}

impl From<CborError> for DecodeError {
    fn from(error: CborError) -> Self {
        Self::Encoding(error.to_string())
    }
}

/// Number and content of text fields of `who`.
fn texts_of(who: &Attributed) -> [(u8, &Option<String>); 13] {
    [
        (1, &who.spiffe_id),
        (2, &who.namespace),
        (3, &who.service_account),
        (4, &who.service_account_uid),
        (5, &who.pod),
        (6, &who.pod_uid),
        (7, &who.node),
        (8, &who.node_uid),
        (9, &who.cluster),
        (10, &who.auth_method),
        (11, &who.peer),
        (12, &who.instance),
        (14, &who.token_id),
    ]
}

/// Those of them that are UIDs of Kubernetes.
const UIDS: [u8; 4] = [4, 6, 8, 14];

/// The number of the field of `who` that names the certificate that was shown.
const CERTIFICATE: u8 = 15;

/// What the body of an event holds for which the client certificate of this serial number was shown. Others may hold it by
/// chance.
#[must_use]
pub fn shown_certificate(serial: &str) -> Vec<u8> {
    let mut fields = Fields::default();
    put_hex(&mut fields, CERTIFICATE, serial);
    fields.pairs()
}

impl AuditEvent {
    /// The bytes that are stored and hashed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = Fields::default();
        fields.signed(1, self.at_micros);
        put_hex(&mut fields, 2, &self.request_id);
        fields.unsigned(3, self.kind.number());
        fields.unsigned(4, self.outcome.number());
        for (key, text) in [(5, &self.reason), (6, &self.detail)] {
            if let Some(text) = text {
                fields.text(key, text);
            }
        }
        fields.fields(7, &who(&self.who));
        if let Some(what) = &self.what {
            fields.fields(8, &certified(what));
        }
        if let Some(repeated) = self.repeated {
            let mut inner = Fields::default();
            inner.unsigned(1, repeated.count);
            inner.signed(2, repeated.since_micros);
            fields.fields(9, &inner);
        }
        fields.versioned(FORMAT)
    }

    /// The event of stored bytes, and what of them this version does not know. Bytes without unknown fields are exactly
    /// what [`encode`](Self::encode) gives, unless they are JSON: so programs wrote before there was this format.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(body: &[u8]) -> Result<(Self, UnknownFields), DecodeError> {
        if body.first() == Some(&b'{') {
            // Its own words would repeat what is wrong in full, however long that is.
            let wrong = |error: serde_json::Error| DecodeError::Encoding(format!("JSON at column {}", error.column()));
            let event = serde_json::from_slice(body).map_err(wrong)?;
            return Ok((event, UnknownFields::new()));
        }
        let no_event = || DecodeError::Encoding("not a format number and what has it".to_owned());
        let Value::Array(parts) = cbor::read(body)? else { return Err(no_event()) };
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(Value::Unsigned(FORMAT)), Some(value), None) => {
                let mut unknown = UnknownFields::new();
                let event = event(Part::new("", value)?, &mut unknown)?;
                Ok((event, unknown))
            }
            (Some(Value::Unsigned(format)), ..) if format != FORMAT => Err(DecodeError::Format(format)),
            _ => Err(no_event()),
        }
    }
}

fn who(who: &Attributed) -> Fields {
    let mut fields = Fields::default();
    for (key, text) in texts_of(who) {
        match text {
            Some(text) if UIDS.contains(&key) => match from_uid(text) {
                Some(uid) => fields.bytes(key, &uid),
                None => fields.text(key, text),
            },
            Some(text) => fields.text(key, text),
            None => {}
        }
    }
    if let Some(serial) = &who.certificate {
        put_hex(&mut fields, CERTIFICATE, serial);
    }
    if let Some(micros) = who.last_token_micros {
        fields.signed(16, micros);
    }
    fields
}

fn certified(what: &Certified) -> Fields {
    let mut fields = Fields::default();
    put_hex(&mut fields, 1, &what.serial);
    put_hex(&mut fields, 2, &what.key_hash);
    if !what.other_names.is_empty() {
        fields.texts(3, &what.other_names);
    }
    fields.signed(4, what.not_before);
    fields.signed(5, what.not_after);
    put_hex(&mut fields, 6, &what.authority);
    fields.unsigned(7, what.bundle_sequence);
    if what.acknowledges {
        fields.yes(8);
    }
    if let Some(fingerprint) = &what.fingerprint {
        put_hex(&mut fields, 9, fingerprint);
    }
    fields
}

/// Hexadecimal digits as the bytes that they name; any other text as it is.
fn put_hex(fields: &mut Fields, key: u8, text: &str) {
    match from_hex(text) {
        Some(bytes) => fields.bytes(key, &bytes),
        None => fields.text(key, text),
    }
}

/// The bytes of a UUID as Kubernetes writes it (RFC 9562 section 4).
fn from_uid(text: &str) -> Option<Vec<u8>> {
    let bytes = from_hex(&text.replace('-', ""))?;
    (to_uid(&bytes).as_deref() == Some(text)).then_some(bytes)
}

fn to_uid(bytes: &[u8]) -> Option<String> {
    let digits = (bytes.len() == 16).then(|| hex(bytes))?;
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| digits.get(range).unwrap_or_default());
    Some(parts.join("-"))
}

/// A map of fields that is being read.
struct Part<'a> {
    name: &'static str,
    pairs: Vec<(Value<'a>, Value<'a>)>,
}

impl<'a> Part<'a> {
    fn new(name: &'static str, value: Value<'a>) -> Result<Self, DecodeError> {
        match value {
            Value::Map(pairs) => Ok(Self { name, pairs }),
            _ => Err(DecodeError::Field(if name.is_empty() { "the event itself" } else { name }.to_owned())),
        }
    }

    fn wrong(&self, key: u8) -> DecodeError {
        DecodeError::Field(if self.name.is_empty() { key.to_string() } else { format!("{}.{key}", self.name) })
    }

    fn take(&mut self, key: u8) -> Option<Value<'a>> {
        let at = self.pairs.iter().position(|(found, _)| *found == Value::Unsigned(key.into()))?;
        Some(self.pairs.remove(at).1)
    }

    /// A field that `read` makes something of, if it is there.
    fn optional<T>(&mut self, key: u8, read: impl FnOnce(Value<'a>) -> Option<T>) -> Result<Option<T>, DecodeError> {
        match self.take(key) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.wrong(key)),
        }
    }

    fn required<T>(&mut self, key: u8, read: impl FnOnce(Value<'a>) -> Option<T>) -> Result<T, DecodeError> {
        self.optional(key, read)?.ok_or_else(|| self.wrong(key))
    }

    /// What nobody has asked for.
    fn rest(self, unknown: &mut UnknownFields) {
        for (key, value) in self.pairs {
            let name = if self.name.is_empty() { key.to_string() } else { format!("{}.{key}", self.name) };
            unknown.insert(name, value.to_string());
        }
    }
}

fn event(mut part: Part<'_>, unknown: &mut UnknownFields) -> Result<AuditEvent, DecodeError> {
    let event = AuditEvent {
        at_micros: part.required(1, signed)?,
        request_id: part.required(2, hex_or_text)?,
        kind: EventKind::numbered(part.required(3, unsigned)?),
        outcome: Outcome::numbered(part.required(4, unsigned)?),
        reason: part.optional(5, text)?,
        detail: part.optional(6, text)?,
        who: attributed(Part::new("who", part.required(7, Some)?)?, unknown)?,
        what: match part.take(8) {
            Some(what) => Some(certificate(Part::new("what", what)?, unknown)?),
            None => None,
        },
        repeated: match part.take(9) {
            Some(repeated) => Some(times(Part::new("repeated", repeated)?, unknown)?),
            None => None,
        },
    };
    part.rest(unknown);
    Ok(event)
}

fn attributed(mut part: Part<'_>, unknown: &mut UnknownFields) -> Result<Attributed, DecodeError> {
    let who = Attributed {
        spiffe_id: part.optional(1, text)?,
        namespace: part.optional(2, text)?,
        service_account: part.optional(3, text)?,
        service_account_uid: part.optional(4, uid_or_text)?,
        pod: part.optional(5, text)?,
        pod_uid: part.optional(6, uid_or_text)?,
        node: part.optional(7, text)?,
        node_uid: part.optional(8, uid_or_text)?,
        cluster: part.optional(9, text)?,
        auth_method: part.optional(10, text)?,
        peer: part.optional(11, text)?,
        instance: part.optional(12, text)?,
        // 13 stands for what nobody knows, in the examples of the documentation.
        token_id: part.optional(14, uid_or_text)?,
        certificate: part.optional(CERTIFICATE, hex_or_text)?,
        last_token_micros: part.optional(16, signed)?,
    };
    part.rest(unknown);
    Ok(who)
}

fn certificate(mut part: Part<'_>, unknown: &mut UnknownFields) -> Result<Certified, DecodeError> {
    let what = Certified {
        serial: part.required(1, hex_or_text)?,
        key_hash: part.required(2, hex_or_text)?,
        other_names: part.optional(3, texts)?.unwrap_or_default(),
        not_before: part.required(4, signed)?,
        not_after: part.required(5, signed)?,
        authority: part.required(6, hex_or_text)?,
        bundle_sequence: part.required(7, unsigned)?,
        acknowledges: part.optional(8, |value| (value == Value::Bool(true)).then_some(()))?.is_some(),
        fingerprint: part.optional(9, hex_or_text)?,
    };
    part.rest(unknown);
    Ok(what)
}

fn times(mut part: Part<'_>, unknown: &mut UnknownFields) -> Result<Repeated, DecodeError> {
    let repeated = Repeated { count: part.required(1, unsigned)?, since_micros: part.required(2, signed)? };
    part.rest(unknown);
    Ok(repeated)
}

fn unsigned(value: Value<'_>) -> Option<u64> {
    if let Value::Unsigned(number) = value { Some(number) } else { None }
}

fn signed(value: Value<'_>) -> Option<i64> {
    match value {
        Value::Unsigned(number) => i64::try_from(number).ok(),
        Value::Negative(number) => i64::try_from(number).ok().map(|number| !number),
        _ => None,
    }
}

fn text(value: Value<'_>) -> Option<String> {
    if let Value::Text(text) = value { Some(text.to_owned()) } else { None }
}

fn texts(value: Value<'_>) -> Option<Vec<String>> {
    let Value::Array(values) = value else { return None };
    values.into_iter().map(text).collect::<Option<Vec<_>>>().filter(|texts| !texts.is_empty())
}

/// The reverse of [`put_hex`], and of nothing else: one event has one encoding.
fn hex_or_text(value: Value<'_>) -> Option<String> {
    match value {
        Value::Bytes(bytes) => (!bytes.is_empty()).then(|| hex(bytes)),
        value => text(value).filter(|text| from_hex(text).is_none()),
    }
}

fn uid_or_text(value: Value<'_>) -> Option<String> {
    match value {
        Value::Bytes(bytes) => to_uid(bytes),
        value => text(value).filter(|text| from_uid(text).is_none()),
    }
}

#[cfg(test)]
#[path = "encoding_tests.rs"]
mod tests;
