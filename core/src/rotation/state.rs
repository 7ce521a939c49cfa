//! The journalled record of all authorities of a trust domain. It holds certificates and names of keys, never keys.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;

use crate::bundle::{BundleError, TrustBundle};
use crate::identity::TrustDomain;
use crate::seams::custody::KeyId;

/// Names an authority by its key: the hexadecimal subject key identifier of its certificate.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AuthorityId(String);

impl AuthorityId {
    /// The id of the authority with this public key (SubjectPublicKeyInfo in DER): the first 20 bytes of its SHA-256
    /// (RFC 7093 section 2, method 4), which is also the key identifier in its certificate.
    #[must_use]
    pub fn from_spki(spki_der: &[u8]) -> Self {
        let hash = crate::certificate::key_hash(spki_der);
        Self(hash.iter().take(20).map(|byte| format!("{byte:02x}")).collect())
    }

    /// The hexadecimal text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key identifier bytes, 20 of them.
    #[must_use]
    pub fn key_id(&self) -> Vec<u8> {
        let digits = self.0.as_bytes().chunks(2);
        digits.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
    }
}

impl fmt::Display for AuthorityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AuthorityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an authority is in its life (`Prepared -> Active -> Old`, with `Tainted` in an emergency).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthorityState {
    /// In the bundle, signs nothing yet.
    Prepared,
    /// The one that signs.
    Active,
    /// In the bundle until nothing needs it.
    Old,
    /// Compromised: still in the bundle while workloads move away.
    Tainted,
}

impl AuthorityState {
    /// The name shown to people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Old => "old",
            Self::Tainted => "tainted",
        }
    }
}

/// An issuing CA under a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuingCa {
    /// Names its key.
    pub id: AuthorityId,
    /// Where custody finds the private key.
    pub key: KeyId,
    /// Its certificate.
    #[serde(serialize_with = "der_out", deserialize_with = "der_in")]
    pub certificate: CertificateDer<'static>,
    /// Start of its validity.
    #[serde(with = "time::serde::timestamp")]
    pub not_before: OffsetDateTime,
    /// End of its validity.
    #[serde(with = "time::serde::timestamp")]
    pub not_after: OffsetDateTime,
}

/// A root and the issuing CAs it has certified, newest last. The newest one signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootAuthority {
    /// Names its key.
    pub id: AuthorityId,
    /// Counts up with every new root; never reused.
    pub generation: u64,
    /// Where it is in its life.
    pub state: AuthorityState,
    /// Where custody finds the private key; absent when the root is somebody else's.
    pub key: Option<KeyId>,
    /// Its certificate.
    #[serde(serialize_with = "der_out", deserialize_with = "der_in")]
    pub certificate: CertificateDer<'static>,
    /// Start of its validity.
    #[serde(with = "time::serde::timestamp")]
    pub not_before: OffsetDateTime,
    /// End of its validity.
    #[serde(with = "time::serde::timestamp")]
    pub not_after: OffsetDateTime,
    /// Its issuing CAs, oldest first.
    pub issuing: Vec<IssuingCa>,
}

/// All authorities of one trust domain: the document that the journal keeps under compare-and-set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorities {
    /// Sequence of the trust bundle; grows with every change of the set of roots (B-2b).
    pub bundle_sequence: u64,
    /// Roots, oldest generation first.
    pub roots: Vec<RootAuthority>,
}

impl Authorities {
    /// The root that signs: the one in state Active.
    #[must_use]
    pub fn active(&self) -> Option<&RootAuthority> {
        self.roots.iter().find(|root| root.state == AuthorityState::Active)
    }

    /// The issuing CA that signs leaves at the time `now`: the newest one that is valid then. One that was made while
    /// the clock was ahead does not take over before its time; when none is valid, the newest one says so by its limits.
    #[must_use]
    pub fn active_issuer(&self, now: OffsetDateTime) -> Option<&IssuingCa> {
        let issuing = &self.active()?.issuing;
        let valid = |issuer: &&IssuingCa| issuer.not_before <= now && now < issuer.not_after;
        issuing.iter().rev().find(valid).or(issuing.last())
    }

    /// The trust bundle: the certificates of all roots.
    ///
    /// # Errors
    /// [`BundleError`] when there are no roots or one is damaged.
    pub fn bundle(&self, trust_domain: &TrustDomain) -> Result<TrustBundle, BundleError> {
        let roots = self.roots.iter().map(|root| root.certificate.clone()).collect();
        TrustBundle::new(trust_domain.clone(), self.bundle_sequence, roots)
    }
}

fn der_out<S: Serializer>(der: &CertificateDer<'static>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(der))
}

fn der_in<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CertificateDer<'static>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map(CertificateDer::from).map_err(serde::de::Error::custom)
}
