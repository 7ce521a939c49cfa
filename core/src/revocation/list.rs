//! Signed revocation lists.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateRevocationListDer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::authority::AuthorityId;
use crate::document::Unknown;

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
