//! Revoked certificates.

use serde::{Deserialize, Serialize};

use crate::authority::AuthorityId;
use crate::unknown_fields::Unknown;

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
