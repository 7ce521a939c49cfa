//! The part of the journal's document about what is revoked, and about renewals that were ordered.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateRevocationListDer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::format::Unknown;
use super::state::AuthorityId;

/// An order to renew that outlives what it is about: agents that come late must hear of it too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptOrder {
    /// Key identifiers of issuing CAs, hexadecimal as in the leaves below them.
    pub authorities: Vec<String>,
    /// Since when another one signs, seconds since 1970.
    pub since: i64,
    /// When the last certificate of theirs has ended, seconds since 1970.
    pub until: i64,
    /// Whether peers refuse those certificates already.
    pub urgent: bool,
    /// What this program does not know of it.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Revoked certificates and the signed lists of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocations {
    /// The number of the newest lists (RFC 5280 section 5.2.3); never reused.
    pub number: u64,
    /// Revoked certificates that have not ended.
    pub entries: Vec<Revoked>,
    /// Nothing, or one list per authority in the journal.
    pub lists: Vec<RevocationList>,
    /// When lists were wanted but could not be made, so that none are served; seconds since 1970, 0 for never.
    #[serde(default)]
    pub failed_at: i64,
    /// What this program does not know of it.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Revocations {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One revoked certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Serial number, hexadecimal without leading zeroes cut: as certificates of this CA are recorded.
    pub serial: String,
    /// Who issued it.
    pub issuer: AuthorityId,
    /// Why.
    pub reason: RevocationReason,
    /// When it was revoked, seconds since 1970.
    pub at: i64,
    /// When it ends by itself, seconds since 1970; after that it needs no entry.
    pub not_after: i64,
    /// What this program does not know of it.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Why a certificate was revoked (RFC 5280 section 5.3.1, those that make sense for a mesh).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationReason {
    /// Not said.
    Unspecified,
    /// The certificate's private key is known to others.
    KeyCompromise,
    /// The issuing CA's private key is known to others.
    CaCompromise,
    /// The holder changed.
    AffiliationChanged,
    /// A newer certificate took its place.
    Superseded,
    /// It is not needed any more.
    CessationOfOperation,
    /// One that a newer program has invented.
    #[serde(other)]
    Unknown,
}

impl RevocationReason {
    /// Every reason that somebody can give.
    pub const ALL: [Self; 6] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
    ];

    /// The name shown to people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "key_compromise",
            Self::CaCompromise => "ca_compromise",
            Self::AffiliationChanged => "affiliation_changed",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessation_of_operation",
            Self::Unknown => "unknown",
        }
    }

    /// The reason of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

/// A signed revocation list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationList {
    /// Who signed it.
    pub issuer: AuthorityId,
    /// The list, DER in base64.
    #[serde(serialize_with = "crl_out", deserialize_with = "crl_in")]
    pub der: CertificateRevocationListDer<'static>,
    /// When a newer one should have been made, seconds since 1970.
    pub next_update: i64,
    /// What this program does not know of it.
    #[serde(flatten)]
    pub unknown: Unknown,
}

fn crl_out<S: Serializer>(der: &CertificateRevocationListDer<'static>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(der))
}

fn crl_in<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CertificateRevocationListDer<'static>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map(CertificateRevocationListDer::from).map_err(serde::de::Error::custom)
}
