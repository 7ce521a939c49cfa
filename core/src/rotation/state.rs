//! The journalled record of all authorities of a trust domain. It holds certificates and names of keys, never keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;

use super::followed::Fingerprint;
use super::format::Version;
use super::renewal_hint::KeptOrder;
use crate::authority::{AuthorityId, KeyId};
use crate::bundle::{BundleError, TrustBundle, Validation};
use crate::certificate::Facts;
use crate::document::{Anything, Unknown};
use crate::identity::TrustDomain;
use crate::revocation::Revocations;

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
    /// One that a newer program has invented: it stays in the bundle, and signs nothing here.
    #[serde(other)]
    Unknown,
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
            Self::Unknown => "unknown",
        }
    }
}

/// An issuing CA under a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuingCa {
    /// Its name, for as long as it is in the journal: records of holders and certificates have it too.
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
    /// Certificates between this one and the root, nearest first; only an operator's own CA has any.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "ders")]
    pub intermediates: Vec<CertificateDer<'static>>,
    /// The bundle sequence that first carried its revocation list and that must be covered before it signs; 0 when
    /// there was nothing to wait for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub after_sequence: u64,
    /// What this program does not know of it.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A root and the issuing CAs it has certified, newest last. The newest one signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootAuthority {
    /// Its name, for as long as it is in the journal.
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
    /// The first bundle sequence that held it: whoever has received that one, or a later one, knows this root.
    #[serde(default)]
    pub published: u64,
    /// When it entered its state.
    #[serde(default = "epoch", with = "time::serde::timestamp")]
    pub since: OffsetDateTime,
    /// When it may be activated, while it is Prepared.
    #[serde(default)]
    pub activation: Activation,
    /// When it was found to be compromised. One that still signs stays Active until another one can.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::timestamp::option")]
    pub tainted_at: Option<OffsetDateTime>,
    /// Since when it is about to be dropped although it is not compromised: no serving certificate is under it any more.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::timestamp::option")]
    pub leaving_since: Option<OffsetDateTime>,
    /// Whether the operator's files list it, so that it stays in the bundle.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// What this program does not know of it.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What a Prepared root waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// An operator.
    #[default]
    OnCommand,
    /// Coverage.
    WhenCovered,
    /// Coverage, and this time (seconds since 1970).
    NotBefore(i64),
    /// Something that a newer program has invented.
    #[serde(untagged)]
    Unknown(Anything),
}

/// All authorities of one trust domain: the document that the journal keeps under compare-and-set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorities {
    /// The format of the document.
    #[serde(flatten)]
    pub version: Version,
    /// Sequence of the trust bundle; grows with every change of the roots (B-2b) or of the revocation lists.
    pub bundle_sequence: u64,
    /// Roots, oldest generation first.
    pub roots: Vec<RootAuthority>,
    /// The highest generation ever made; a rolled back or revoked one is not used again.
    #[serde(default)]
    pub last_generation: u64,
    /// The first bundle sequence without the last root that was dropped because it was compromised, or may have been; 0
    /// when there was none. Earlier ones go out no more.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub without_compromised: u64,
    /// Whether the automatic rotation of roots waits for an operator, because one has rolled it back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Renewals that were ordered for the sake of authorities that may be gone already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<KeptOrder>,
    /// What is revoked, and the lists that say so.
    #[serde(default, skip_serializing_if = "Revocations::is_empty")]
    pub revocations: Revocations,
    /// What was ever adopted of an operator's files, or our own backend, newest last (see [`Fingerprint`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub followed: Vec<Fingerprint>,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
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
        // Unless revoked, or waiting for its revocation list to travel.
        let may = |issuer: &&IssuingCa| issuer.after_sequence == 0 && !super::is_revoked(self, issuer);
        let valid = |issuer: &&IssuingCa| issuer.not_before <= now && now < issuer.not_after;
        let usable = || issuing.iter().rev().filter(may);
        usable().find(valid).or_else(|| usable().next())
    }

    /// The root of this id.
    #[must_use]
    pub fn root(&self, id: &AuthorityId) -> Option<&RootAuthority> {
        self.roots.iter().find(|root| root.id == *id)
    }

    /// The root that is to become active next.
    #[must_use]
    pub fn prepared(&self) -> Option<&RootAuthority> {
        self.roots.iter().find(|root| root.state == AuthorityState::Prepared)
    }

    /// The root above the issuing CA of this id.
    #[must_use]
    pub fn root_of(&self, issuing: &AuthorityId) -> Option<&RootAuthority> {
        self.roots.iter().find(|root| root.issuing.iter().any(|one| one.id == *issuing))
    }

    /// The authorities whose lists make a complete set: those that may have signed something that is valid at `now`.
    #[must_use]
    pub fn list_issuers(&self, now: OffsetDateTime) -> Vec<AuthorityId> {
        let (mut all, mut former) = (Vec::new(), None);
        for root in &self.roots {
            all.push(root.id.clone());
            for issuing in root.issuing.iter().filter(|issuing| issuing.not_after > now && issuing.id != root.id) {
                all.push(issuing.id.clone());
                for facts in issuing.intermediates.iter().filter_map(|der| Facts::read(der).ok()) {
                    let former = former.get_or_insert_with(|| self.former_ids());
                    all.push(former.known(AuthorityId::of(&facts)));
                }
            }
        }
        all.sort();
        all.dedup();
        all
    }

    /// What peers are verified with: the trust bundle and the revocation lists.
    ///
    /// # Errors
    /// As [`bundle`](Self::bundle).
    pub fn validation(&self, trust_domain: &TrustDomain) -> Result<Validation, BundleError> {
        let revocation_lists = self.revocations.lists.iter().map(|list| list.der.clone()).collect();
        Ok(Validation { bundle: self.bundle(trust_domain)?, revocation_lists })
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
