//! The journalled record of all authorities of a trust domain. It holds certificates and names of keys, never keys.

use std::ops::Deref;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::format::Version;
use super::renewal_hint::KeptHint;
use super::revocation_lists::is_revoked;
use super::wire::{ACTIVATION, WireIssuing, WireRoot};
use crate::authority::{AuthorityId, IssuingCa, Root};
use crate::bundle::{BundleError, TrustBundle, Validation};
use crate::identity::TrustDomain;
use crate::revocation::Revocations;
use crate::source::AdoptedSources;
use crate::unknown_fields::{Anything, Unknown};

/// Where an authority is in its life (`Prepared -> Active -> Old`, with `Tainted` in an emergency), with what only that part
/// of its life has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorityState {
    /// In the bundle, signs nothing yet, and waits for this.
    Prepared(Activation),
    /// The one that signs.
    Active,
    /// In the bundle until nothing needs it.
    Old {
        /// Since when it is about to be dropped: no serving certificate is under it any more.
        leaving_since: Option<OffsetDateTime>,
    },
    /// Compromised: still in the bundle while workloads move away.
    Tainted,
    /// One that a newer program has invented: it stays in the bundle, and signs nothing here.
    Unknown,
}

impl AuthorityState {
    /// One that has just stopped to sign, or is in the bundle for others to use.
    pub const OLD: Self = Self::Old { leaving_since: None };

    /// The name shown to people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepared(_) => "prepared",
            Self::Active => "active",
            Self::Old { .. } => "old",
            Self::Tainted => "tainted",
            Self::Unknown => "unknown",
        }
    }
}

/// An issuing CA as the journal keeps it. What it is reads through: `issuing.id` is `issuing.ca.id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WireIssuing", into = "WireIssuing")]
pub struct IssuingAuthority {
    /// What it is.
    pub ca: IssuingCa,
    /// The bundle sequence that first carried its revocation list and that must be covered before it signs; 0 when
    /// there was nothing to wait for.
    pub after_sequence: u64,
    /// What this program does not know of it.
    pub unknown: Unknown,
}

impl Deref for IssuingAuthority {
    type Target = IssuingCa;
    fn deref(&self) -> &IssuingCa {
        &self.ca
    }
}

impl From<IssuingCa> for IssuingAuthority {
    fn from(ca: IssuingCa) -> Self {
        Self { ca, after_sequence: 0, unknown: Unknown::default() }
    }
}

/// A root as the journal keeps it, with the issuing CAs that it has certified. What it is reads through: `root.id` is
/// `root.ca.id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WireRoot", into = "WireRoot")]
pub struct RootAuthority {
    /// What it is.
    pub ca: Root,
    /// Counts up with every new root; never reused.
    pub generation: u64,
    /// Where it is in its life.
    pub state: AuthorityState,
    /// When it entered its state.
    pub since: OffsetDateTime,
    /// Its issuing CAs, oldest first. The newest one signs.
    pub issuing: Vec<IssuingAuthority>,
    /// The first bundle sequence that held it: whoever has received that one, or a later one, knows this root.
    pub published: u64,
    /// When it was found to be compromised, whatever state it is in: one that still signs stays Active until another one can,
    /// and one that has not signed yet never will.
    pub tainted_at: Option<OffsetDateTime>,
    /// Whether the operator's files list it, so that it stays in the bundle.
    pub pinned: bool,
    /// What this program does not know of it.
    pub unknown: Unknown,
}

impl Deref for RootAuthority {
    type Target = Root;
    fn deref(&self) -> &Root {
        &self.ca
    }
}

impl RootAuthority {
    /// Whether it signs nothing yet.
    #[must_use]
    pub fn is_prepared(&self) -> bool {
        self.activation().is_some()
    }

    /// Whether it is the one that signs.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.state == AuthorityState::Active
    }

    /// Whether it signs no more and is in the bundle until nothing needs it.
    #[must_use]
    pub fn is_old(&self) -> bool {
        matches!(self.state, AuthorityState::Old { .. })
    }

    /// What it waits for while it signs nothing yet.
    #[must_use]
    pub fn activation(&self) -> Option<Activation> {
        match self.state {
            AuthorityState::Prepared(activation) => Some(activation),
            _ => None,
        }
    }

    /// Since when it is about to be dropped although it is not compromised.
    #[must_use]
    pub fn leaving_since(&self) -> Option<OffsetDateTime> {
        match self.state {
            AuthorityState::Old { leaving_since } => leaving_since,
            _ => None,
        }
    }

    /// Enters a state; nothing of the former one is left.
    pub(super) fn enter(&mut self, state: AuthorityState, now: OffsetDateTime) {
        (self.state, self.since) = (state, now);
        self.unknown.remove(ACTIVATION);
    }
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
    /// Renewal hints for the sake of authorities that may be gone already.
    #[serde(default, rename = "orders", skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<KeptHint>,
    /// What is revoked, and the lists that say so.
    #[serde(default, skip_serializing_if = "Revocations::is_empty")]
    pub revocations: Revocations,
    /// What was ever adopted of an operator's files, or our own backend.
    #[serde(default, rename = "followed", skip_serializing_if = "AdoptedSources::is_empty")]
    pub adopted: AdoptedSources,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Authorities {
    /// The root that signs: the one in state Active.
    #[must_use]
    pub fn active(&self) -> Option<&RootAuthority> {
        self.roots.iter().find(|root| root.is_active())
    }

    /// The issuing CA that signs leaves at the time `now`: the newest one that is valid then. One that was made while
    /// the clock was ahead does not take over before its time; when none is valid, the newest one says so by its limits.
    #[must_use]
    pub fn active_issuer(&self, now: OffsetDateTime) -> Option<&IssuingAuthority> {
        let issuing = &self.active()?.issuing;
        // Unless revoked, or waiting for its revocation list to travel.
        let may = |issuer: &&IssuingAuthority| issuer.after_sequence == 0 && !is_revoked(self, issuer);
        let valid = |issuer: &&IssuingAuthority| issuer.not_before <= now && now < issuer.not_after;
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
        self.roots.iter().find(|root| root.is_prepared())
    }

    /// The root above the issuing CA of this id.
    #[must_use]
    pub fn root_of(&self, issuing: &AuthorityId) -> Option<&RootAuthority> {
        self.roots.iter().find(|root| root.issuing.iter().any(|one| one.id == *issuing))
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
