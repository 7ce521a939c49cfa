//! What each step does to the journal's document. Pure: keys and certificates are made before and passed in.

use std::time::Duration;

use time::OffsetDateTime;

use super::state::{Activation, Authorities, AuthorityState, IssuingAuthority, RootAuthority};
use crate::authority::{AuthorityId, IssuingCa, Root};
use crate::revocation::RevocationList;
use crate::source::Offer;
use crate::time_math;
use crate::unknown_fields::Unknown;

/// Issuing CAs that ended this long ago are forgotten.
const KEEP_ENDED: Duration = Duration::from_secs(24 * 3600);

impl Authorities {
    /// The sequence that the next change of roots or lists gets.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.bundle_sequence.saturating_add(1)
    }

    /// The generation of the next root.
    #[must_use]
    pub fn next_generation(&self) -> u64 {
        let newest = self.roots.iter().map(|root| root.generation).max().unwrap_or(0);
        newest.max(self.last_generation).saturating_add(1)
    }

    /// Publishes a new root of our own.
    pub fn add_root(&mut self, root: Root, activation: Activation, now: OffsetDateTime) {
        self.bundle_sequence = self.next_sequence();
        self.paused = false;
        self.push_root(root, AuthorityState::Prepared(activation), now);
    }

    /// Adds a root of a new generation, which the bundle with the sequence of this moment is the first to hold.
    fn push_root(&mut self, ca: Root, state: AuthorityState, now: OffsetDateTime) {
        let generation = self.next_generation();
        self.last_generation = generation;
        self.roots.push(RootAuthority {
            ca,
            generation,
            state,
            since: now,
            issuing: Vec::new(),
            published: self.bundle_sequence,
            tainted_at: None,
            pinned: false,
            unknown: Unknown::default(),
        });
    }

    /// Publishes the roots of a backend that brings its own, and notes which ones it wants; without a backend of that
    /// kind, none.
    pub fn adopt(&mut self, offer: Option<&Offer>, now: OffsetDateTime) {
        let wanted = |id: &AuthorityId| offer.is_some_and(|offer| offer.roots.iter().any(|root| root.id == *id));
        let signer = offer.map(|offer| &offer.signer);
        for root in &mut self.roots {
            root.pinned = wanted(&root.id);
            if !root.pinned {
                continue;
            }
            let is_signer = signer == Some(&root.id);
            match root.state {
                // One that is in the bundle but is not to sign is, in the terms of rotation, one that has signed.
                AuthorityState::Prepared(_) if !is_signer => root.enter(AuthorityState::OLD, now),
                // And one that is to sign, and has never done so, is on its way.
                AuthorityState::Old { .. } if is_signer && root.issuing.is_empty() && root.tainted_at.is_none() => {
                    root.enter(AuthorityState::Prepared(Activation::WhenCovered), now);
                }
                AuthorityState::Old { .. } => root.state = AuthorityState::OLD,
                _ => {}
            }
        }
        let mut changed = false;
        for root in &mut self.roots {
            let is_renewed = |one: &&Root| one.id == root.id && one.certificate != root.certificate;
            // The same name and key with another certificate: whoever knew the old one knows the authority, so nobody is
            // waited for.
            if let Some(new) = offer.and_then(|offer| offer.roots.iter().find(is_renewed)) {
                root.ca = Root { key: root.ca.key.take(), ..new.clone() };
                changed = true;
            }
        }
        let news: Vec<&Root> =
            offer.iter().flat_map(|offer| &offer.roots).filter(|root| self.root(&root.id).is_none()).collect();
        if news.is_empty() && !changed {
            return;
        }
        self.bundle_sequence = self.next_sequence();
        for root in news {
            let stolen = self.is_stolen(root);
            let state = match signer == Some(&root.id) {
                _ if stolen => AuthorityState::Tainted,
                true => AuthorityState::Prepared(Activation::WhenCovered),
                false => AuthorityState::OLD,
            };
            // Somebody else's: even if the key is at hand, nothing new is certified with it here.
            self.push_root(Root { key: None, ..root.clone() }, state, now);
            if let Some(added) = self.roots.last_mut() {
                (added.pinned, added.tainted_at) = (true, stolen.then_some(now));
            }
        }
    }

    /// Adds an issuing CA under a root. While revocation lists are in use it waits until its own list has arrived.
    ///
    /// Those that ended long ago are forgotten, unless the clock that says so may be wrong.
    pub fn add_issuing(&mut self, root: &AuthorityId, issuing: IssuingCa, now: OffsetDateTime, forget: bool) {
        if issuing.key.is_none() {
            self.version.holds_key_of_backend();
        }
        let after_sequence = if self.revocations.lists.is_empty() { 0 } else { self.next_sequence() };
        if let Some(root) = self.roots.iter_mut().find(|one| one.id == *root) {
            root.issuing
                .retain(|old| (!forget || time_math::after(old.not_after, KEEP_ENDED) > now) && old.id != issuing.id);
            root.issuing.push(IssuingAuthority { after_sequence, ..issuing.into() });
        }
    }

    /// Lets an issuing CA sign that has waited for its revocation list.
    pub fn use_issuing(&mut self, id: &AuthorityId) {
        for issuing in self.roots.iter_mut().flat_map(|root| &mut root.issuing).filter(|issuing| issuing.id == *id) {
            issuing.after_sequence = 0;
        }
    }

    /// Lets a root sign, and the one that does so now no more. Exactly one signs before and after.
    pub fn activate(&mut self, id: &AuthorityId, now: OffsetDateTime) {
        if self.root(id).is_none() {
            return;
        }
        for root in &mut self.roots {
            if root.id == *id {
                root.enter(AuthorityState::Active, now);
                for issuing in &mut root.issuing {
                    issuing.after_sequence = 0;
                }
            } else if root.is_active() {
                let tainted = root.tainted_at.is_some();
                root.enter(if tainted { AuthorityState::Tainted } else { AuthorityState::OLD }, now);
            }
        }
    }

    /// Changes what a prepared root waits for.
    pub fn wait_for(&mut self, id: &AuthorityId, activation: Activation) {
        for root in self.roots.iter_mut().filter(|root| root.id == *id && root.is_prepared()) {
            root.state = AuthorityState::Prepared(activation);
        }
        self.paused = false;
    }

    /// Drops a root from the bundle. The active one stays, whatever happens.
    pub fn remove_root(&mut self, id: &AuthorityId) {
        let before = self.roots.len();
        let compromised = self.root(id).is_some_and(|root| root.tainted_at.is_some());
        self.last_generation = self.next_generation().saturating_sub(1);
        self.roots.retain(|root| root.id != *id || root.is_active());
        if self.roots.len() != before {
            self.bundle_sequence = self.next_sequence();
            if compromised {
                self.without_compromised = self.bundle_sequence;
            }
            // Nobody accepts anything below it any more, so that nothing need be said against single certificates.
            let left: Vec<&AuthorityId> =
                self.roots.iter().flat_map(|root| root.issuing.iter().map(|one| &one.id).chain([&root.id])).collect();
            self.revocations.entries.retain(|entry| left.contains(&&entry.issuer));
            self.revocations.forget_elsewhere();
        }
    }

    /// Replaces the revocation lists, as part of the change that made `self` out of a document with the bundle sequence
    /// `before`: one change raises the sequence once.
    pub fn set_lists(&mut self, lists: Vec<RevocationList>, before: u64) {
        if lists.is_empty() && self.revocations.lists.is_empty() {
            return;
        }
        if lists.is_empty() {
            // Nothing to wait for any more.
            for issuing in self.roots.iter_mut().flat_map(|root| &mut root.issuing) {
                issuing.after_sequence = 0;
            }
        }
        self.revocations.lists = lists;
        self.bundle_sequence = self.bundle_sequence.max(before.saturating_add(1));
    }
}
