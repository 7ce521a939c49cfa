//! One audit event: who, what, why, when. No field ever holds a key or a token.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::who::Attributed;
use crate::certificate::{Serial, hex, key_hash};
use crate::holder::HolderKey;
use crate::policy::{SigningRequest, Subject};

/// What kind of decision or change an event records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// A workload asked for a certificate.
    Certificate,
    /// Somebody asked for the stream of trust bundles; only refusals are recorded.
    BundleStream,
    /// The CA issued its own serving certificate.
    ServingCertificate,
    /// A step in the life of an authority.
    Authority,
    /// An operator asked for a change.
    Admin,
    /// The CA process started with a configuration.
    Configuration,
}

impl EventKind {
    /// The name shown to people, programs and storage.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::BundleStream => "bundle_stream",
            Self::ServingCertificate => "serving_certificate",
            Self::Authority => "authority",
            Self::Admin => "admin",
            Self::Configuration => "configuration",
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A certificate was issued.
    Issued,
    /// The request was refused: it was not entitled, or it was wrong.
    Refused,
    /// The request was in order, but could not be served.
    Failed,
    /// A step or change was made.
    Done,
    /// A key or a certificate of an authority is about to be made, outside of the journal. The step that uses it is an
    /// event of its own: in between a process may die, or another replica be faster.
    Intended,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 5] = [Self::Issued, Self::Refused, Self::Failed, Self::Done, Self::Intended];

    /// The name shown to people, programs and storage.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Done => "done",
            Self::Intended => "intended",
        }
    }

    /// The outcome of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == name)
    }
}

/// How often something happened that one event tells of. The event is about the newest of them; its `who` holds what
/// is true of them all, and its time is when it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeated {
    /// How often; at least once.
    pub count: u64,
    /// When the first of them happened, in microseconds since 1970.
    pub since_micros: i64,
}

/// What was certified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certified {
    /// Serial number as 32 hexadecimal digits.
    pub serial: String,
    /// SHA-256 of the SubjectPublicKeyInfo, hexadecimal.
    pub key_hash: String,
    /// DNS names and IP addresses beside the SPIFFE ID; only serving certificates have any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_names: Vec<String>,
    /// Start of validity, seconds since 1970.
    pub not_before: i64,
    /// End of validity, seconds since 1970.
    pub not_after: i64,
    /// The issuing CA.
    pub authority: String,
    /// Sequence of the trust bundle that went with the certificate.
    pub bundle_sequence: u64,
    /// Whether the holder acknowledges bundles itself, so that the one in the reply does not count as received.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub acknowledges: bool,
}

impl Certified {
    /// What a signing decision will certify.
    #[must_use]
    pub fn by(request: &SigningRequest, bundle_sequence: u64) -> Self {
        let other_names = match request.subject() {
            Subject::Workload(_) => Vec::new(),
            Subject::Serving { dns, ips, .. } => {
                dns.iter().cloned().chain(ips.iter().map(ToString::to_string)).collect()
            }
        };
        Self {
            serial: request.serial().to_string(),
            key_hash: hex(&key_hash(request.key().spki_der())),
            other_names,
            not_before: request.not_before().unix_timestamp(),
            not_after: request.not_after().unix_timestamp(),
            authority: request.issuer().to_string(),
            bundle_sequence,
            acknowledges: false,
        }
    }

    /// The serial number as a value.
    #[must_use]
    pub fn serial(&self) -> Option<Serial> {
        Serial::parse(&self.serial)
    }
}

/// One event. Its JSON encoding, fields in this order, is the log entry whose hash the tree keeps: fields may be added
/// with `skip_serializing_if`, never renamed or reordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// When, in microseconds since 1970.
    pub at_micros: i64,
    /// The id of the request, as in logs and traces.
    pub request_id: String,
    /// What kind of event it is.
    pub kind: EventKind,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, as a constant of a closed set, when it did not go well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Whom it is about.
    pub who: Attributed,
    /// What was certified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<Certified>,
    /// When it tells of more than itself: how often, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeated: Option<Repeated>,
}

impl AuditEvent {
    /// The canonical encoding: what is stored and hashed.
    ///
    /// # Panics
    /// Never: every field is text, a number or a list of them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What this event lets out of the CA: the certificate that was issued, to whomever.
    #[must_use]
    pub fn released(&self) -> Option<&Certified> {
        self.what.as_ref().filter(|_| self.outcome == Outcome::Issued)
    }

    /// The holder that this event makes or renews: for a certificate that was issued to a workload.
    #[must_use]
    pub fn holder(&self) -> Option<HolderKey> {
        if (self.kind, self.outcome) != (EventKind::Certificate, Outcome::Issued) {
            return None;
        }
        let serial = &self.what.as_ref()?.serial;
        let instance = self.who.pod_uid.as_ref().or(self.who.instance.as_ref()).unwrap_or(serial);
        Some(HolderKey { spiffe_id: self.who.spiffe_id.clone()?, instance: instance.clone() })
    }

    /// How many decisions it tells of.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.repeated.map_or(1, |repeated| repeated.count)
    }

    /// When the first of those was taken.
    #[must_use]
    pub fn since(&self) -> OffsetDateTime {
        moment(self.repeated.map_or(self.at_micros, |repeated| repeated.since_micros))
    }

    /// When it happened.
    #[must_use]
    pub fn at(&self) -> OffsetDateTime {
        moment(self.at_micros)
    }

    /// Microseconds since 1970, the resolution of the log.
    #[must_use]
    pub fn micros(at: OffsetDateTime) -> i64 {
        i64::try_from(at.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX)
    }
}

fn moment(micros: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros).saturating_mul(1000))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// An event as it is in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// Its position in the log, from 0, without gaps.
    pub sequence: u64,
    /// The event.
    #[serde(flatten)]
    pub event: AuditEvent,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_encoding_is_fixed_for_ever() {
        let event = AuditEvent {
            at_micros: 1_700_000_000_000_001,
            request_id: "r1".into(),
            kind: EventKind::Certificate,
            outcome: Outcome::Refused,
            reason: Some("token_expired".into()),
            detail: None,
            who: Attributed { peer: Some("127.0.0.1:5".into()), ..Attributed::default() },
            what: None,
            repeated: None,
        };
        let text = r#"{"at_micros":1700000000000001,"request_id":"r1","kind":"certificate","outcome":"refused","reason":"token_expired","who":{"peer":"127.0.0.1:5"}}"#;
        assert_eq!(String::from_utf8(event.encode()).unwrap(), text);
        assert_eq!(serde_json::from_str::<AuditEvent>(text).unwrap(), event);
        assert_eq!((event.count(), event.since()), (1, event.at()));

        let repeated = Some(Repeated { count: 1234, since_micros: 1_699_999_940_000_000 });
        let event = AuditEvent { repeated, ..event };
        let more = text.strip_suffix('}').unwrap().to_owned()
            + r#","repeated":{"count":1234,"since_micros":1699999940000000}}"#;
        assert_eq!(String::from_utf8(event.encode()).unwrap(), more);
        assert_eq!(serde_json::from_str::<AuditEvent>(&more).unwrap(), event);
        assert_eq!((event.count(), event.since().unix_timestamp()), (1234, 1_699_999_940));
    }
}
