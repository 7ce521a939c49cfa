//! What each step does to the journal's document. Pure: keys and certificates are made before and passed in.

use std::time::Duration;

use time::OffsetDateTime;

use super::format::Unknown;
use super::revocation::{KeptOrder, RevocationList, Revoked};
use super::rules::Observed;
use super::state::{Activation, Authorities, AuthorityId, AuthorityState, IssuingCa, RootAuthority, subject_key_id};
use crate::certificate::{hex, key_identifier};
use crate::moment;
use crate::seams::authority::Offer;

/// How many revoked certificates an order to renew names at most: agents read no more of them.
const MAX_SERIALS: usize = 4096;

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

/// The key identifier that leaves name their issuer by. A CA without one signs no leaves, so that what stands for it then
/// is in none.
fn key_id(issuing: &IssuingCa) -> String {
    let own = subject_key_id(&issuing.certificate);
    if own.is_empty() { hex(&key_identifier(&issuing.certificate)) } else { own }
}

/// Where a rotation stands, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// There is no authority yet.
    None,
    /// The root that is followed signs, and nothing else is in the bundle but what an operator put there.
    Settled,
    /// A root is on its way to sign: one that holders do not know yet, or the one that is followed since a change of
    /// files or of the backend.
    Propagate,
    /// A former root stays until nothing chains to it.
    Drain,
    /// A compromised root signs still, or is still in the bundle.
    Emergency,
}

impl Phase {
    /// Where `authorities` stand.
    #[must_use]
    pub fn of(authorities: &Authorities) -> Self {
        let Some(active) = authorities.active() else { return Self::None };
        let has = |state| authorities.roots.iter().any(|root| root.state == state && !root.pinned);
        // Not listed by the files although there are some, or somebody else's although there are none: its successor may
        // have been known for long, or may not have been made yet, and is then not a prepared one.
        let is_left = !active.pinned && (active.key.is_none() || authorities.roots.iter().any(|root| root.pinned));
        if active.tainted_at.is_some() || has(AuthorityState::Tainted) {
            Self::Emergency
        } else if authorities.prepared().is_some() {
            Self::Propagate
        } else if has(AuthorityState::Old) {
            Self::Drain
        } else if is_left {
            Self::Propagate
        } else {
            Self::Settled
        }
    }

    /// Every phase.
    pub const ALL: [Self; 5] = [Self::None, Self::Settled, Self::Propagate, Self::Drain, Self::Emergency];

    /// The name shown to people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Settled => "settled",
            Self::Propagate => "propagate",
            Self::Drain => "drain",
            Self::Emergency => "emergency",
        }
    }
}

/// An order to agents: certificates of these issuing CAs are to be renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalOrder {
    /// The key identifiers of the issuing CAs under one compromised root, hexadecimal as in the leaves below them.
    pub authorities: Vec<String>,
    /// Serial numbers of single certificates, hexadecimal as they are recorded.
    pub serials: Vec<String>,
    /// Since when another one signs, or since when the newest of the serials is revoked.
    pub since: OffsetDateTime,
    /// Whether peers refuse those certificates already, so that there is nothing to spread.
    pub urgent: bool,
}

impl Authorities {
    /// The orders that follow from the journal: a compromised root that has been replaced, issuing CAs whose certificates
    /// proxies refuse because they are revoked, and what was ordered before for authorities that are gone.
    #[must_use]
    pub fn renewal_orders(&self) -> Vec<RenewalOrder> {
        let time = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let tainted = self.roots.iter().filter(|root| root.state == AuthorityState::Tainted).map(|root| RenewalOrder {
            authorities: root.issuing.iter().map(key_id).collect(),
            serials: Vec::new(),
            since: root.since,
            urgent: false,
        });
        let issuing = self.roots.iter().flat_map(|root| &root.issuing);
        let revoked = issuing.filter_map(|issuing| {
            let since = time(super::revocation_of(self, issuing)?.at);
            Some(RenewalOrder { authorities: vec![key_id(issuing)], serials: Vec::new(), since, urgent: true })
        });
        let kept = self.orders.iter().map(|order| RenewalOrder {
            authorities: order.authorities.clone(),
            serials: Vec::new(),
            since: time(order.since),
            urgent: order.urgent,
        });
        // The urgent ones first: of several orders for one certificate the first counts.
        let mut all: Vec<RenewalOrder> = tainted.chain(revoked).chain(kept).collect();
        all.retain(|order| !order.authorities.is_empty());
        all.extend(self.renewal_of_revoked(time));
        all.sort_by_key(|order| !order.urgent);
        all
    }

    /// One order for everything that is revoked by serial number, the newest [`MAX_SERIALS`] of them.
    fn renewal_of_revoked(&self, time: impl Fn(i64) -> OffsetDateTime) -> Option<RenewalOrder> {
        let mut entries: Vec<&Revoked> = self.revocations.entries.iter().collect();
        entries.sort_by(|one, other| (other.at, &one.serial).cmp(&(one.at, &other.serial)));
        let since = time(entries.first()?.at);
        let serials = entries.into_iter().take(MAX_SERIALS).map(|entry| entry.serial.clone()).collect();
        Some(RenewalOrder { authorities: Vec::new(), serials, since, urgent: true })
    }

    /// Removes a compromised root, and keeps the order to renew what chains to it: nobody accepts that any more.
    pub fn revoke_root(&mut self, id: &AuthorityId, now: OffsetDateTime) {
        if let Some(root) = self.root(id).cloned() {
            let until = root.issuing.iter().map(|issuing| issuing.not_after).max().unwrap_or(now);
            self.order(root.issuing.iter().map(key_id).collect(), now, until, true);
        }
        self.remove_root(id);
    }

    /// Orders that certificates of an issuing CA are renewed, which has been replaced already.
    pub fn taint_issuing(&mut self, id: &AuthorityId, now: OffsetDateTime) {
        let found = self.roots.iter().flat_map(|root| &root.issuing).find(|issuing| issuing.id == *id).cloned();
        if let Some(issuing) = found {
            self.order(vec![key_id(&issuing)], now, issuing.not_after, false);
        }
    }

    /// Since when holders are told to leave this issuing CA although its root goes on; seconds since 1970.
    #[must_use]
    pub fn issuing_tainted_at(&self, issuing: &IssuingCa) -> Option<i64> {
        let own = [key_id(issuing)];
        self.orders.iter().find(|order| order.authorities == own).map(|order| order.since)
    }

    fn order(&mut self, authorities: Vec<String>, now: OffsetDateTime, until: OffsetDateTime, urgent: bool) {
        let now = now.unix_timestamp();
        self.orders.retain(|order| order.until > now && order.authorities != authorities);
        if !authorities.is_empty() {
            self.orders.push(KeptOrder {
                authorities,
                since: now,
                until: until.unix_timestamp(),
                urgent,
                unknown: Unknown::default(),
            });
        }
    }

    /// The bundle sequence that holders are waited for: that of the prepared root, else the newest.
    #[must_use]
    pub fn awaited_sequence(&self) -> u64 {
        self.prepared().map_or(self.bundle_sequence, |root| root.published)
    }

    /// When what is in progress will be over at the latest, if time alone brings it about: holders that lag lose their
    /// certificates, and certificates of a former root end.
    #[must_use]
    pub fn expected_end(&self, seen: &Observed<'_>) -> Option<OffsetDateTime> {
        let ends = |root: &RootAuthority| seen.drained_at(root).max(root.leaving_since.unwrap_or(root.since));
        match Phase::of(self) {
            Phase::Drain => {
                let old = self.roots.iter().filter(|root| root.state == AuthorityState::Old && !root.pinned);
                old.map(ends).max().map(|end| moment::after(end, super::rules::SETTLE))
            }
            Phase::Propagate => seen.last_ends.values().max().copied(),
            _ => None,
        }
    }
}
