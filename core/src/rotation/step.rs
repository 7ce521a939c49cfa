//! What to do next with the authorities: a pure function of the journal, the time, the records and the rules.

use std::time::Duration;

use time::OffsetDateTime;

use super::rules::{Observed, Rules, SETTLE};
use super::state::{Activation, Authorities, AuthorityId, AuthorityState, IssuingCa, RootAuthority};
use crate::renewal::half_life;
use crate::seams::authority::Offer;

/// One change of the authorities. Each is made by compare-and-set on the journal, so that of several replicas one makes
/// it, and is complete in itself: after a crash the next step follows from the journal alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// There is no root at all: make the first one, with an issuing CA under it, or take those of the backend.
    CreateRoot,
    /// Make the next root and publish it. It signs nothing yet.
    PrepareRoot(Activation),
    /// Publish the roots that the backend wants, and note which of the known ones it still wants.
    AdoptRoots,
    /// Certify a new issuing CA under this root; or, with a backend that brings its own, take that.
    CertifyIssuing(AuthorityId),
    /// Let an issuing CA sign whose revocation list has reached the holders.
    UseIssuing(AuthorityId),
    /// Let this root sign from now on.
    Activate(AuthorityId),
    /// Let a prepared root wait for something else than before.
    Await(AuthorityId, Activation),
    /// Drop a root that has never signed anything; with `true` because an operator has taken it back, which holds the
    /// automatic rotation.
    DropPrepared(AuthorityId, bool),
    /// Let the root that signed before sign again, and hold the automatic rotation.
    Reinstate(AuthorityId),
    /// Note that a root is compromised.
    Taint(AuthorityId),
    /// Have the certificates of an issuing CA renewed that signs no more.
    TaintIssuing(AuthorityId),
    /// Drop a root that nobody needs any more.
    Retire(AuthorityId),
    /// Drop a compromised root.
    Revoke(AuthorityId),
    /// Put an issuing CA on the revocation list of its root.
    RevokeIssuing(AuthorityId),
    /// Sign the revocation lists anew: an entry has ended, an authority has come, or they are about to end.
    /// With `true`, entries of certificates that have ended are forgotten.
    RefreshLists(bool),
    /// Nothing before this time, unless holders acknowledge or an operator asks.
    WaitUntil(OffsetDateTime),
}

/// When to look again although nothing is planned.
const IDLE: Duration = Duration::from_secs(3600);

/// Decides the next step.
///
/// The order matters: what keeps certificates coming precedes what makes progress, and removal comes last.
#[must_use]
pub fn next_step(now: OffsetDateTime, authorities: &Authorities, seen: &Observed<'_>, rules: &Rules) -> Step {
    let Some(active) = authorities.active() else { return Step::CreateRoot };
    let mut plan = Plan { now, wake: now + IDLE };
    let step = None
        .or_else(|| follow(authorities, active, seen.offer))
        .or_else(|| plan.renew_issuing(authorities, active, seen))
        .or_else(|| plan.refresh_lists(authorities, seen, rules))
        .or_else(|| plan.replace(authorities, active, seen, rules))
        .or_else(|| plan.activate(authorities, active, seen, rules))
        .or_else(|| plan.retire(authorities, seen));
    step.unwrap_or(Step::WaitUntil(plan.wake))
}

/// A backend that is somebody else's is followed: its roots are published at once, its signer is used once covered.
fn follow(authorities: &Authorities, active: &RootAuthority, offer: Option<&Offer>) -> Option<Step> {
    let wanted = |root: &RootAuthority| offer.is_some_and(|offer| offer.roots.iter().any(|one| one.id == root.id));
    let stale_pin = authorities.roots.iter().any(|root| root.pinned != wanted(root));
    // Also one that was renewed with the same key.
    let known = |root: &RootAuthority| authorities.root(&root.id).map(|known| &known.certificate);
    let unknown = offer.is_some_and(|offer| offer.roots.iter().any(|root| known(root) != Some(&root.certificate)));
    if stale_pin || unknown {
        return Some(Step::AdoptRoots);
    }
    let unwanted = authorities
        .roots
        .iter()
        .find(|root| root.state == AuthorityState::Prepared && !root.pinned && !is_ours(root, offer));
    if let Some(root) = unwanted {
        return Some(Step::DropPrepared(root.id.clone(), false));
    }
    let offer = offer?;
    // Listed before it was to sign: from now on it is on its way.
    let waits = |root: &&RootAuthority| root.state == AuthorityState::Old && root.issuing.is_empty();
    if authorities.root(&offer.signer).filter(waits).is_some_and(|root| root.tainted_at.is_none()) {
        return Some(Step::AdoptRoots);
    }
    let is_new = active.issuing.last().is_none_or(|newest| !is_same_ca(newest, &offer.issuing));
    (offer.signer == active.id && is_new).then(|| Step::CertifyIssuing(active.id.clone()))
}

/// Whether nothing that leaves depend on has changed: the certificate, what lies above it, and for how long it holds.
fn is_same_ca(one: &IssuingCa, other: &IssuingCa) -> bool {
    one.certificate == other.certificate
        && one.intermediates == other.intermediates
        && (one.not_before, one.not_after) == (other.not_before, other.not_after)
}

/// Whether the configured backend can certify under this root.
pub(super) fn is_ours(root: &RootAuthority, offer: Option<&Offer>) -> bool {
    match offer {
        None => root.key.is_some() && !root.pinned,
        Some(offer) => offer.signer == root.id,
    }
}

/// Whether holders know this root, as far as the rules want them to.
pub(super) fn is_covered(root: &RootAuthority, seen: &Observed<'_>, rules: &Rules) -> bool {
    seen.coverage.reaches(root.published, rules.coverage)
}

/// The issuing CA that a root would sign with at once: one whose list, if there are lists, has been published.
#[must_use]
pub fn usable_issuer<'a>(
    authorities: &Authorities,
    root: &'a RootAuthority,
    seen: &Observed<'_>,
    now: OffsetDateTime,
) -> Option<&'a IssuingCa> {
    // While lists are in use a new one could not sign at once: one that is not so young does until it can.
    let until = |issuing: &IssuingCa| match authorities.revocations.lists.is_empty() {
        true => half_life(issuing.not_before, issuing.not_after),
        false => issuing.not_after,
    };
    let usable = |issuing: &&IssuingCa| {
        !super::is_revoked(authorities, issuing)
            && issuing.not_before <= now
            && now < until(issuing)
            && seen.coverage.acknowledging_behind(issuing.after_sequence) == 0
    };
    root.issuing.iter().rev().find(usable)
}

/// A share of a root's life.
pub(super) fn share_of_life(root: &RootAuthority, percent: u8) -> OffsetDateTime {
    let life = Duration::try_from(root.not_after - root.not_before).unwrap_or_default();
    root.not_before + life.mul_f64(f64::from(percent) / 100.0)
}

struct Plan {
    now: OffsetDateTime,
    /// The earliest time at which something may become due.
    wake: OffsetDateTime,
}

impl Plan {
    /// Whether `at` has come; if not, it is a reason to wake.
    fn is_due(&mut self, at: OffsetDateTime) -> bool {
        if at > self.now {
            self.wake = self.wake.min(at);
        }
        at <= self.now
    }

    /// The issuing CA rolls on its own: at half of its life, hence, since configuration demands that it lives at least
    /// twice as long as a leaf, before it would cut leaves short. One that ends with its root is not renewed: the new
    /// one could not live longer.
    fn renew_issuing(
        &mut self,
        authorities: &Authorities,
        active: &RootAuthority,
        seen: &Observed<'_>,
    ) -> Option<Step> {
        if seen.offer.is_none() && is_ours(active, None) && self.now < active.not_after {
            // One made while the clock was ahead does not count before its time, a revoked one never.
            let counts = |one: &&IssuingCa| one.not_before <= self.now && !super::is_revoked(authorities, one);
            let newest = active.issuing.iter().rev().find(counts);
            let Some(newest) = newest else { return Some(Step::CertifyIssuing(active.id.clone())) };
            let due = half_life(newest.not_before, newest.not_after);
            if newest.not_after < active.not_after && self.is_due(due) {
                return Some(Step::CertifyIssuing(active.id.clone()));
            }
        }
        self.use_issuing(authorities, seen)
    }

    /// An issuing CA whose revocation list had to travel first signs when the list has arrived, and in any case before
    /// the one before it has ended: no certificates for anybody would be worse than some that some peers refuse.
    fn use_issuing(&mut self, authorities: &Authorities, seen: &Observed<'_>) -> Option<Step> {
        for root in &authorities.roots {
            for issuing in root.issuing.iter().filter(|issuing| issuing.after_sequence > 0) {
                let arrived = seen.coverage.acknowledging_behind(issuing.after_sequence) == 0;
                let signing = root.issuing.iter().filter(|one| one.after_sequence == 0).map(|one| {
                    let half = half_life(one.not_before, one.not_after);
                    half_life(half, one.not_after)
                });
                let late = root.state == AuthorityState::Active && signing.max().is_none_or(|at| self.is_due(at));
                if (arrived && seen.clock_is_steady) || late {
                    return Some(Step::UseIssuing(issuing.id.clone()));
                }
            }
        }
        None
    }

    /// The revocation lists: one for every authority, or none (Envoy refuses chains with a part missing).
    fn refresh_lists(&mut self, authorities: &Authorities, seen: &Observed<'_>, rules: &Rules) -> Option<Step> {
        let (revocations, forget) = (&authorities.revocations, seen.clock_is_steady);
        if lists_wanted(authorities, seen.offer) == revocations.lists.is_empty() {
            // That they could not be made is no reason to try again at once.
            let failed =
                revocations.lists.is_empty() && revocations.failed_at > self.now.unix_timestamp() - RETRY_LISTS;
            if !failed {
                return Some(Step::RefreshLists(forget));
            }
            let at = OffsetDateTime::from_unix_timestamp(revocations.failed_at + RETRY_LISTS).unwrap_or(self.now);
            let _not_yet = self.is_due(at);
        }
        if revocations.lists.is_empty() {
            return None;
        }
        let now = self.now;
        let time = |seconds: i64| OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(now);
        let listed = |id: &AuthorityId| revocations.lists.iter().find(|list| list.issuer == *id);
        let offered = seen.offer.iter().flat_map(|offer| &offer.revocation_lists);
        if offered.clone().any(|list| listed(&list.issuer).is_none_or(|known| known.der != list.der))
            || authorities.list_issuers(self.now).iter().any(|id| listed(id).is_none())
        {
            return Some(Step::RefreshLists(forget));
        }
        for list in revocations.lists.iter().filter(|list| offered_list(seen.offer, &list.issuer).is_none()) {
            let end = time(list.next_update);
            // With a clock that may be wrong only what has ended is replaced; and what was made while it was ahead is
            // replaced once it is back, since nobody accepts a list from the future.
            let due = if seen.clock_is_steady { end - rules.list_ttl / 2 } else { end };
            if self.is_due(due) || end - rules.list_ttl > self.now + LAG {
                return Some(Step::RefreshLists(forget));
            }
        }
        // An entry is kept for a while after its certificate's end: clocks differ.
        for entry in &revocations.entries {
            if self.is_due(time(entry.not_after) + KEEP_ENTRY) && seen.clock_is_steady {
                return Some(Step::RefreshLists(true));
            }
        }
        None
    }

    /// A compromised, foreign or ageing root gets a successor.
    fn replace(
        &mut self,
        authorities: &Authorities,
        active: &RootAuthority,
        seen: &Observed<'_>,
        rules: &Rules,
    ) -> Option<Step> {
        if seen.offer.is_some() || authorities.prepared().is_some() || !seen.clock_is_steady {
            return None;
        }
        if active.tainted_at.is_some() {
            let fallback = authorities.roots.iter().rev().find(|root| {
                root.state == AuthorityState::Old
                    && root.tainted_at.is_none()
                    && is_ours(root, None)
                    && self.now < share_of_life(root, rules.activate_at)
                    && seen.coverage.reaches(root.published, 100)
            });
            let step = fallback.map(|root| Step::Activate(root.id.clone()));
            return Some(step.unwrap_or(Step::PrepareRoot(Activation::WhenCovered)));
        }
        if authorities.paused {
            return None;
        }
        if !is_ours(active, None) {
            return Some(Step::PrepareRoot(Activation::WhenCovered));
        }
        if !rules.automatic {
            return None;
        }
        let at = share_of_life(active, rules.activate_at).unix_timestamp();
        self.is_due(share_of_life(active, rules.prepare_at)).then_some(Step::PrepareRoot(Activation::NotBefore(at)))
    }

    /// A prepared root signs when it may, and when everybody knows it.
    fn activate(
        &mut self,
        authorities: &Authorities,
        active: &RootAuthority,
        seen: &Observed<'_>,
        rules: &Rules,
    ) -> Option<Step> {
        let candidate = match seen.offer {
            // The operator's files may also name a root that has signed before, and is known since.
            Some(offer) if offer.signer == active.id => return None,
            Some(offer) => authorities.root(&offer.signer).filter(|root| root.tainted_at.is_none())?,
            None => authorities.prepared()?,
        };
        let urgent = active.tainted_at.is_some() || active.not_after <= self.now;
        let may = match candidate.activation {
            _ if urgent || seen.offer.is_some() => true,
            Activation::OnCommand => false,
            Activation::WhenCovered => true,
            Activation::NotBefore(at) => {
                self.is_due(OffsetDateTime::from_unix_timestamp(at).unwrap_or(candidate.not_before))
            }
        };
        if !may || !seen.clock_is_steady {
            return None;
        }
        let published = candidate.state == AuthorityState::Old && !candidate.issuing.is_empty()
            || active.not_after <= self.now
            || self.is_due(candidate.since + if urgent { LAG } else { rules.propagation.max(LAG) });
        if !published || !is_covered(candidate, seen, rules) {
            return None;
        }
        let lists = !authorities.revocations.lists.is_empty();
        if lists && seen.offer.is_none() && usable_issuer(authorities, candidate, seen, self.now).is_none() {
            // Its issuing CA's list travels first, like the root itself did.
            let waits = candidate.issuing.iter().any(|issuing| issuing.after_sequence > 0);
            return (!waits).then(|| Step::CertifyIssuing(candidate.id.clone()));
        }
        Some(Step::Activate(candidate.id.clone()))
    }

    /// A root that nothing chains to any more leaves the bundle.
    fn retire(&mut self, authorities: &Authorities, seen: &Observed<'_>) -> Option<Step> {
        if !seen.clock_is_steady {
            return None;
        }
        for root in &authorities.roots {
            let done = matches!(root.state, AuthorityState::Old | AuthorityState::Tainted) && !root.pinned;
            if done && seen.is_drained(root, self.now) {
                return Some(Step::Retire(root.id.clone()));
            }
            if done {
                let end = seen.needed_until(root).map_or(root.since, |end| end.max(root.since));
                let _not_yet = self.is_due(end + SETTLE);
            }
        }
        None
    }
}

/// How far a replica may lag behind the journal; also the least propagation time when a root is replaced in a hurry.
pub const LAG: Duration = Duration::from_secs(2);

/// How long after lists could not be made they are tried again, in seconds.
const RETRY_LISTS: i64 = 60;

/// How long an entry stays on its list after the certificate's end.
const KEEP_ENTRY: Duration = Duration::from_secs(KEEP_ENTRY_SECONDS.unsigned_abs());
pub(super) const KEEP_ENTRY_SECONDS: i64 = 3600;

/// The operator's own list of this issuer.
pub(super) fn offered_list<'a>(
    offer: Option<&'a Offer>,
    issuer: &AuthorityId,
) -> Option<&'a rustls_pki_types::CertificateRevocationListDer<'static>> {
    offer?.revocation_lists.iter().find(|list| list.issuer == *issuer).map(|list| &list.der)
}

/// Whether there should be lists: something is revoked, and each authority's list can be made or is given.
#[must_use]
pub fn lists_wanted(authorities: &Authorities, offer: Option<&Offer>) -> bool {
    let revoked =
        !authorities.revocations.entries.is_empty() || offer.is_some_and(|one| !one.revocation_lists.is_empty());
    let possible = authorities.roots.iter().all(|root| root.key.is_some() || offered_list(offer, &root.id).is_some());
    revoked && possible
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
