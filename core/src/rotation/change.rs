//! What each step does to the journal's document. Pure: keys and certificates are made before and passed in.

use std::time::Duration;

use time::OffsetDateTime;

use super::state::{Activation, Authorities, AuthorityState, IssuingCa, RootAuthority};
use crate::authority::AuthorityId;
use crate::moment;
use crate::revocation::{RevocationList, Revoked};
use crate::seams::authority::Offer;

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
    pub fn add_root(&mut self, mut root: RootAuthority, activation: Activation, now: OffsetDateTime) {
        self.bundle_sequence = self.next_sequence();
        root.generation = self.next_generation();
        root.state = AuthorityState::Prepared;
        (root.published, root.since, root.activation) = (self.bundle_sequence, now, activation);
        self.last_generation = root.generation;
        self.paused = false;
        self.roots.push(root);
    }

    /// Publishes the roots of a backend that brings its own, and notes which ones it wants; without a backend of that
    /// kind, none.
    pub fn adopt(&mut self, offer: Option<&Offer>, now: OffsetDateTime) {
        let wanted = |id: &AuthorityId| offer.is_some_and(|offer| offer.roots.iter().any(|root| root.id == *id));
        let signer = offer.map(|offer| &offer.signer);
        for root in &mut self.roots {
            root.pinned = wanted(&root.id);
            if root.pinned {
                root.leaving_since = None;
            }
            // One that is in the bundle but is not to sign is, in the terms of rotation, one that has signed.
            if root.pinned && root.state == AuthorityState::Prepared && signer != Some(&root.id) {
                (root.state, root.since) = (AuthorityState::Old, now);
            }
            // And one that is to sign, and has never done so, is on its way.
            let is_next = root.pinned && root.state == AuthorityState::Old && root.issuing.is_empty();
            if is_next && signer == Some(&root.id) && root.tainted_at.is_none() {
                (root.state, root.since, root.activation) = (AuthorityState::Prepared, now, Activation::WhenCovered);
            }
        }
        let renewed = |root: &RootAuthority| {
            let same = |one: &&RootAuthority| one.id == root.id && one.certificate != root.certificate;
            offer.and_then(|offer| offer.roots.iter().find(same)).cloned()
        };
        let mut changed = false;
        for root in &mut self.roots {
            // The same name and key with another certificate: whoever knew the old one knows the authority, so nobody is
            // waited for.
            if let Some(new) = renewed(root) {
                (root.certificate, root.not_before, root.not_after) = (new.certificate, new.not_before, new.not_after);
                changed = true;
            }
        }
        let news: Vec<&RootAuthority> =
            offer.iter().flat_map(|offer| &offer.roots).filter(|root| self.root(&root.id).is_none()).collect();
        if news.is_empty() && !changed {
            return;
        }
        self.bundle_sequence = self.next_sequence();
        for root in news {
            let state = match signer == Some(&root.id) {
                _ if self.is_stolen(root) => AuthorityState::Tainted,
                true => AuthorityState::Prepared,
                false => AuthorityState::Old,
            };
            let generation = self.next_generation();
            self.last_generation = generation;
            self.roots.push(RootAuthority {
                generation,
                state,
                // Somebody else's: even if the key is at hand, nothing new is certified with it here.
                key: None,
                issuing: Vec::new(),
                published: self.bundle_sequence,
                since: now,
                activation: Activation::WhenCovered,
                tainted_at: (state == AuthorityState::Tainted).then_some(now),
                leaving_since: None,
                pinned: true,
                ..root.clone()
            });
        }
    }

    /// Adds an issuing CA under a root. While revocation lists are in use it waits until its own list has arrived.
    ///
    /// Those that ended long ago are forgotten, unless the clock that says so may be wrong.
    pub fn add_issuing(&mut self, root: &AuthorityId, mut issuing: IssuingCa, now: OffsetDateTime, forget: bool) {
        issuing.after_sequence = if self.revocations.lists.is_empty() { 0 } else { self.next_sequence() };
        if let Some(root) = self.roots.iter_mut().find(|one| one.id == *root) {
            root.issuing
                .retain(|old| (!forget || moment::after(old.not_after, KEEP_ENDED) > now) && old.id != issuing.id);
            root.issuing.push(issuing);
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
                (root.state, root.since) = (AuthorityState::Active, now);
                root.leaving_since = None;
                for issuing in &mut root.issuing {
                    issuing.after_sequence = 0;
                }
            } else if root.state == AuthorityState::Active {
                let tainted = root.tainted_at.is_some();
                root.state = if tainted { AuthorityState::Tainted } else { AuthorityState::Old };
                root.since = now;
            }
        }
    }

    /// Changes what a prepared root waits for.
    pub fn wait_for(&mut self, id: &AuthorityId, activation: Activation) {
        for root in self.roots.iter_mut().filter(|root| root.id == *id) {
            root.activation = activation;
        }
        self.paused = false;
    }

    /// Drops a root from the bundle. The active one stays, whatever happens.
    pub fn remove_root(&mut self, id: &AuthorityId) {
        let before = self.roots.len();
        let compromised = self.root(id).is_some_and(|root| root.tainted_at.is_some());
        self.last_generation = self.next_generation().saturating_sub(1);
        self.roots.retain(|root| root.id != *id || root.state == AuthorityState::Active);
        if self.roots.len() != before {
            self.bundle_sequence = self.next_sequence();
            if compromised {
                self.without_compromised = self.bundle_sequence;
            }
            // Nobody accepts anything below it any more, so that nothing need be said against single certificates.
            let left: Vec<&AuthorityId> =
                self.roots.iter().flat_map(|root| root.issuing.iter().map(|one| &one.id).chain([&root.id])).collect();
            self.revocations.entries.retain(|entry| left.contains(&&entry.issuer));
        }
    }

    /// Adds an entry to the revocation lists; the lists themselves are signed afterwards.
    pub fn revoke(&mut self, entry: Revoked) {
        let known = |one: &Revoked| one.serial == entry.serial && one.issuer == entry.issuer;
        if !self.revocations.entries.iter().any(known) {
            self.revocations.entries.push(entry);
        }
    }

    /// Takes an entry off the revocation lists; `false` when there was none.
    pub fn clear_revocation(&mut self, serial: &str) -> bool {
        let before = self.revocations.entries.len();
        self.revocations.entries.retain(|entry| entry.serial != serial);
        self.revocations.entries.len() != before
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

    /// Drops entries of certificates that ended before `now`, which no verifier accepts anyway.
    pub fn forget_ended_entries(&mut self, now: OffsetDateTime) {
        let limit = moment::before(now, super::lists::KEEP_ENTRY).unix_timestamp();
        self.revocations.entries.retain(|entry| entry.not_after > limit);
    }
}
