//! One audit event: who, what, why, when. No field ever holds a key or a token.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use time::OffsetDateTime;

use super::who::Attributed;
use crate::caller::AuthMethod;
use crate::certificate::Serial;
use crate::digest::{hex, key_hash};
use crate::holder::HolderKey;
use crate::policy::{SigningRequest, Subject};
use crate::record_before_release::Unreleased;

/// What kind of decision or change an event records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
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
    /// The CA process started with a configuration, or files that it reads again have changed.
    Configuration,
    /// The CA logged in to its backend, or could not.
    Backend,
    /// One that a newer version has written, by its number.
    #[serde(skip)]
    Unknown(u64),
}

impl EventKind {
    /// Every kind that this version knows. The position of each is its number in storage, for ever.
    pub const ALL: [Self; 7] = [
        Self::Certificate,
        Self::BundleStream,
        Self::ServingCertificate,
        Self::Authority,
        Self::Admin,
        Self::Configuration,
        Self::Backend,
    ];

    /// The number that stands for it in storage.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::Certificate => 0,
            Self::BundleStream => 1,
            Self::ServingCertificate => 2,
            Self::Authority => 3,
            Self::Admin => 4,
            Self::Configuration => 5,
            Self::Backend => 6,
            Self::Unknown(number) => number,
        }
    }

    /// The kind of that number.
    #[must_use]
    pub fn numbered(number: u64) -> Self {
        Self::ALL.into_iter().find(|kind| kind.number() == number).unwrap_or(Self::Unknown(number))
    }

    /// The name shown to people and programs, from a closed set.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::BundleStream => "bundle_stream",
            Self::ServingCertificate => "serving_certificate",
            Self::Authority => "authority",
            Self::Admin => "admin",
            Self::Configuration => "configuration",
            Self::Backend => "backend",
            Self::Unknown(_) => UNKNOWN,
        }
    }
}

/// What stands for a kind or an outcome that this version does not know.
const UNKNOWN: &str = "unknown";

/// The name; for one that is not known, with its number.
impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(number) => write!(f, "{UNKNOWN} ({number})"),
            known => f.write_str(known.as_str()),
        }
    }
}

impl Serialize for EventKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// A certificate was issued.
    Issued,
    /// The request was refused: it was not entitled, or it was wrong.
    Refused,
    /// The request was in order, but could not be served.
    Failed,
    /// A step or change was made.
    Done,
    /// A key or a certificate is about to be made, outside of the journal, or by somebody else. The step that uses it, or what
    /// came of it, is an event of its own: in between a process may die, or another replica be faster.
    Intended,
    /// One that a newer version has written, by its number.
    #[serde(skip)]
    Unknown(u64),
}

impl Outcome {
    /// Every outcome that this version knows. The position of each is its number in storage, for ever.
    pub const ALL: [Self; 5] = [Self::Issued, Self::Refused, Self::Failed, Self::Done, Self::Intended];

    /// The number that stands for it in storage.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::Issued => 0,
            Self::Refused => 1,
            Self::Failed => 2,
            Self::Done => 3,
            Self::Intended => 4,
            Self::Unknown(number) => number,
        }
    }

    /// The outcome of that number.
    #[must_use]
    pub fn numbered(number: u64) -> Self {
        Self::ALL.into_iter().find(|outcome| outcome.number() == number).unwrap_or(Self::Unknown(number))
    }

    /// The name shown to people and programs, from a closed set.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Done => "done",
            Self::Intended => "intended",
            Self::Unknown(_) => UNKNOWN,
        }
    }

    /// The outcome of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == name)
    }
}

/// The name; for one that is not known, with its number.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(number) => write!(f, "{UNKNOWN} ({number})"),
            known => f.write_str(known.as_str()),
        }
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
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
    /// Serial number as 32 hexadecimal digits, or up to 40 of a backend's that signs leaves itself; empty as long as that
    /// has not.
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
    /// SHA-256 of the certificate (DER), hexadecimal; there once it is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
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
            fingerprint: None,
        }
    }

    /// The same before a backend is asked to sign it, which chooses the serial number.
    #[must_use]
    pub fn intended(self) -> Self {
        Self { serial: String::new(), ..self }
    }

    /// The same as it was signed, by whomever.
    #[must_use]
    pub fn signed(self, signed: &Unreleased) -> Self {
        let (not_before, not_after) = signed.life();
        Self {
            serial: signed.serial().to_string(),
            fingerprint: Some(hex(&signed.fingerprint())),
            not_before: not_before.unix_timestamp(),
            not_after: not_after.unix_timestamp(),
            ..self
        }
    }

    /// The serial number as a value.
    #[must_use]
    pub fn serial(&self) -> Option<Serial> {
        Serial::parse(&self.serial)
    }
}

/// One event. Its JSON form is what programs show, and what programs stored before there was an encoding of its own: fields
/// may be added with `skip_serializing_if`, never renamed.
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
    /// The record of the intention that precedes this event, of a certificate that a backend is to sign.
    #[must_use]
    pub fn intended(self) -> Self {
        let what = self.what.map(Certified::intended);
        Self { outcome: Outcome::Intended, what, ..self }
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
        let (pod_uid, instance) = (self.who.pod_uid.as_deref(), self.who.instance.as_deref());
        let spiffe_id = self.who.spiffe_id.clone()?;
        if self.who.auth_method.as_deref().and_then(AuthMethod::parse) == Some(AuthMethod::PodCertificate) {
            return Some(HolderKey::of_kubelet(spiffe_id, instance.unwrap_or_default(), pod_uid, serial));
        }
        Some(HolderKey::of(spiffe_id, pod_uid, instance, serial))
    }

    /// When the holder of the certificate that this event is about has shown a token for the last time: then, unless it has
    /// shown a certificate in its place, of which this travels on. `None` when that is not known.
    #[must_use]
    pub fn last_token(&self) -> Option<OffsetDateTime> {
        match AuthMethod::parse(self.who.auth_method.as_deref()?)? {
            AuthMethod::Jwks | AuthMethod::TokenReview => Some(self.at()),
            AuthMethod::ClientCertificate => self.who.last_token_micros.map(moment),
            // Nobody has shown anything: a kubelet has asked.
            AuthMethod::PodCertificate => None,
        }
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

/// The time that a number of microseconds since 1970 names.
pub(super) fn moment(micros: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros).saturating_mul(1000))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_kinds_and_outcomes_are_fixed_for_ever_and_unknown_ones_keep_theirs() {
        let kinds =
            ["certificate", "bundle_stream", "serving_certificate", "authority", "admin", "configuration", "backend"];
        let outcomes = ["issued", "refused", "failed", "done", "intended"];
        let found: Vec<String> = (0..8).map(|number| EventKind::numbered(number).to_string()).collect();
        assert_eq!(found, kinds.into_iter().chain(["unknown (7)"]).collect::<Vec<_>>());
        let found: Vec<String> = (0..6).map(|number| Outcome::numbered(number).to_string()).collect();
        assert_eq!(found, outcomes.into_iter().chain(["unknown (5)"]).collect::<Vec<_>>());
        for number in (0..20).chain([u64::MAX]) {
            assert_eq!(EventKind::numbered(number).number(), number);
            assert_eq!(Outcome::numbered(number).number(), number);
        }
        assert_eq!(outcomes.map(Outcome::parse), Outcome::ALL.map(Some));
        assert_eq!(Outcome::parse("unknown"), None);
    }
}
