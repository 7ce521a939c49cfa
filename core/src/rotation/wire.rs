//! The JSON of roots and issuing CAs in the journal's document: flat objects, as every program of format 1 and 2 reads and
//! writes them, whatever they are made of in memory.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use time::OffsetDateTime;

use super::state::{Activation, AuthorityState, IssuingAuthority, RootAuthority};
use crate::authority::{AuthorityId, IssuingCa, KeyId, Root};
use crate::unknown_fields::{Anything, Unknown};

/// An issuing CA under a root.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct WireIssuing {
    id: AuthorityId,
    /// Programs of format 2 cannot read one without a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<KeyId>,
    #[serde(serialize_with = "der_out", deserialize_with = "der_in")]
    certificate: CertificateDer<'static>,
    #[serde(with = "time::serde::timestamp")]
    not_before: OffsetDateTime,
    #[serde(with = "time::serde::timestamp")]
    not_after: OffsetDateTime,
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "ders")]
    intermediates: Vec<CertificateDer<'static>>,
    #[serde(default, skip_serializing_if = "is_zero")]
    after_sequence: u64,
    #[serde(flatten)]
    unknown: Unknown,
}

impl From<WireIssuing> for IssuingAuthority {
    fn from(wire: WireIssuing) -> Self {
        let WireIssuing { id, key, certificate, not_before, not_after, intermediates, after_sequence, unknown } = wire;
        let ca = IssuingCa { id, key, certificate, not_before, not_after, intermediates };
        Self { ca, after_sequence, unknown }
    }
}

impl From<IssuingAuthority> for WireIssuing {
    fn from(issuing: IssuingAuthority) -> Self {
        let IssuingAuthority { ca, after_sequence, unknown } = issuing;
        let IssuingCa { id, key, certificate, not_before, not_after, intermediates } = ca;
        Self { id, key, certificate, not_before, not_after, intermediates, after_sequence, unknown }
    }
}

/// A root with its issuing CAs.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct WireRoot {
    id: AuthorityId,
    generation: u64,
    state: WireState,
    key: Option<KeyId>,
    #[serde(serialize_with = "der_out", deserialize_with = "der_in")]
    certificate: CertificateDer<'static>,
    #[serde(with = "time::serde::timestamp")]
    not_before: OffsetDateTime,
    #[serde(with = "time::serde::timestamp")]
    not_after: OffsetDateTime,
    issuing: Vec<IssuingAuthority>,
    #[serde(default)]
    published: u64,
    #[serde(default = "epoch", with = "time::serde::timestamp")]
    since: OffsetDateTime,
    #[serde(default = "on_command")]
    activation: Value,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::timestamp::option")]
    tainted_at: Option<OffsetDateTime>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::timestamp::option")]
    leaving_since: Option<OffsetDateTime>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pinned: bool,
    #[serde(flatten)]
    unknown: Unknown,
}

/// The state of a root, without what belongs to it.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WireState {
    Prepared,
    Active,
    Old,
    Tainted,
    #[serde(other)]
    Unknown,
}

/// What a Prepared root waits for. Programs leave it with the root in later states, where it means nothing: there it is kept
/// with what this one does not know.
pub(super) const ACTIVATION: &str = "activation";

/// What stands for no activation at all.
fn on_command() -> Value {
    "on_command".into()
}

fn activation(value: &Value) -> Activation {
    Activation::deserialize(value).unwrap_or(Activation::Unknown(Anything))
}

/// Whether a root is in a state, or waits or has waited for something, that only a newer program knows.
pub(super) fn holds_unknown(root: &RootAuthority) -> bool {
    let spent = || root.unknown.get(ACTIVATION).map(activation);
    let waits = root.activation().or_else(spent);
    root.state == AuthorityState::Unknown || matches!(waits, Some(Activation::Unknown(_)))
}

impl From<WireRoot> for RootAuthority {
    fn from(wire: WireRoot) -> Self {
        let WireRoot { id, key, certificate, not_before, not_after, mut unknown, .. } = wire;
        let state = match wire.state {
            WireState::Prepared => AuthorityState::Prepared(activation(&wire.activation)),
            WireState::Active => AuthorityState::Active,
            WireState::Old => AuthorityState::Old { leaving_since: wire.leaving_since },
            WireState::Tainted => AuthorityState::Tainted,
            WireState::Unknown => AuthorityState::Unknown,
        };
        if !matches!(state, AuthorityState::Prepared(_)) && wire.activation != on_command() {
            unknown.insert(ACTIVATION, wire.activation);
        }
        Self {
            ca: Root { id, key, certificate, not_before, not_after },
            generation: wire.generation,
            state,
            since: wire.since,
            issuing: wire.issuing,
            published: wire.published,
            tainted_at: wire.tainted_at,
            pinned: wire.pinned,
            unknown,
        }
    }
}

impl From<RootAuthority> for WireRoot {
    fn from(mut root: RootAuthority) -> Self {
        let spent = root.unknown.remove(ACTIVATION);
        let waits = root.activation().and_then(|activation| serde_json::to_value(activation).ok());
        let leaving_since = root.leaving_since();
        let state = match root.state {
            AuthorityState::Prepared(_) => WireState::Prepared,
            AuthorityState::Active => WireState::Active,
            AuthorityState::Old { .. } => WireState::Old,
            AuthorityState::Tainted => WireState::Tainted,
            AuthorityState::Unknown => WireState::Unknown,
        };
        let Root { id, key, certificate, not_before, not_after } = root.ca;
        Self {
            id,
            generation: root.generation,
            state,
            key,
            certificate,
            not_before,
            not_after,
            issuing: root.issuing,
            published: root.published,
            since: root.since,
            activation: waits.or(spent).unwrap_or_else(on_command),
            tainted_at: root.tainted_at,
            leaving_since,
            pinned: root.pinned,
            unknown: root.unknown,
        }
    }
}

fn der_out<S: Serializer>(der: &CertificateDer<'static>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(der))
}

fn der_in<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CertificateDer<'static>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map(CertificateDer::from).map_err(serde::de::Error::custom)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn epoch() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH
}

mod ders {
    use super::{CertificateDer, Deserialize, Deserializer, Engine, STANDARD, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(ders: &[CertificateDer<'static>], serializer: S) -> Result<S::Ok, S::Error> {
        ders.iter().map(|der| STANDARD.encode(der)).collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<CertificateDer<'static>>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let decode = |text: String| STANDARD.decode(text).map(CertificateDer::from).map_err(serde::de::Error::custom);
        texts.into_iter().map(decode).collect()
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
