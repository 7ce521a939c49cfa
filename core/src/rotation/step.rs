//! What to do next with the authorities: a pure function of the journal, the time, the records and the rules.

use std::time::Duration;

use time::OffsetDateTime;

use super::revocation_lists::is_revoked;
use super::rules::{Observed, Rules};
use super::state::{Activation, Authorities, IssuingAuthority, RootAuthority};
use crate::authority::{AuthorityId, IssuingCa, Root};
use crate::renewal::half_life;
use crate::source::{Offer, SourceStanding};
use crate::time_math;

/// One change of the authorities. Each is made by compare-and-set on the journal, so that of several replicas one makes
/// it, and is complete in itself: after a crash the next step follows from the journal alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// There is no root at all: make the first one, with an issuing CA under it, or take those of the backend. Somebody
    /// has said so: an empty journal may as well be that of a storage that is not the one that was meant.
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
    /// Note that a root is about to be dropped, so that serving certificates move away from it.
    Leave(AuthorityId),
    /// Drop a root that nobody needs any more.
    Retire(AuthorityId),
    /// Drop a compromised root.
    Revoke(AuthorityId),
    /// Put an issuing CA on the revocation list of its root.
    RevokeIssuing(AuthorityId),
    /// Note that whoever has certified this certificate has revoked it.
    NoteRevoked {
        /// Its serial number.
        serial: String,
        /// Who issued it.
        issuer: AuthorityId,
    },
    /// Sign the revocation lists anew: an entry has ended, an authority has come, or they are about to end.
    /// With `true`, entries of certificates that have ended are forgotten.
    RefreshLists(bool),
    /// Go on after the storage was restored from a backup, above this bundle sequence.
    Resume(u64),
    /// Nothing before this time, unless holders acknowledge or an operator asks.
    WaitUntil(OffsetDateTime),
}

/// When to look again although nothing is planned.
const IDLE: Duration = Duration::from_secs(3600);

/// How long before its end a root of somebody else's is published no more.
const ENDING: Duration = Duration::from_secs(300);

/// Decides the next step.
///
/// The order matters: what keeps certificates coming precedes what makes progress, and removal comes last.
#[must_use]
pub fn next_step(now: OffsetDateTime, authorities: &Authorities, seen: &Observed<'_>, rules: &Rules) -> Step {
    let Some(active) = authorities.active() else { return Step::WaitUntil(time_math::after(now, IDLE)) };
    let mut plan = Plan { now, wake: time_math::after(now, IDLE) };
    match seen.source.standing {
        SourceStanding::Newest => {}
        SourceStanding::New if seen.source.lacks_signer => return plan.step_back(authorities),
        // Noted first: from then on whoever has something earlier steps back.
        SourceStanding::New => return Step::AdoptRoots,
        SourceStanding::Superseded => return plan.step_back(authorities),
    }
    let step = None
        .or_else(|| adopt(now, authorities, active, seen.offer))
        .or_else(|| plan.renew_issuing(authorities, active, seen))
        .or_else(|| plan.revoke_left(authorities, seen))
        .or_else(|| plan.refresh_lists(authorities, seen, rules))
        .or_else(|| plan.replace(authorities, active, seen, rules))
        .or_else(|| plan.activate(authorities, active, seen, rules))
        .or_else(|| plan.retire(authorities, seen, rules))
        // For a root that stays, hence last.
        .or_else(|| plan.keep_serving(authorities, seen, rules));
    step.unwrap_or(Step::WaitUntil(plan.wake))
}

/// What somebody else's source brings is taken over: its roots are published at once, its signer is used once covered.
fn adopt(
    now: OffsetDateTime,
    authorities: &Authorities,
    active: &RootAuthority,
    offer: Option<&Offer>,
) -> Option<Step> {
    let wanted = |root: &RootAuthority| offer.is_some_and(|offer| offer.roots.iter().any(|one| one.id == root.id));
    let stale_pin = authorities.roots.iter().any(|root| root.pinned && !wanted(root));
    // Also one that was renewed with the same key. One that is about to end is left alone: for a replica whose clock is
    // ahead it has ended, so that the two would put it in and take it out.
    let known = |root: &Root| {
        let known = authorities.root(&root.id);
        known.is_some_and(|known| known.pinned && known.certificate == root.certificate)
    };
    let missing = |root: &Root| !known(root) && root.not_after > time_math::after(now, ENDING);
    let unknown = offer.is_some_and(|offer| offer.roots.iter().any(missing));
    if stale_pin || unknown {
        return Some(Step::AdoptRoots);
    }
    let unwanted = authorities.roots.iter().find(|root| root.is_prepared() && !root.pinned && !is_ours(root, offer));
    if let Some(root) = unwanted {
        return Some(Step::DropPrepared(root.id.clone(), false));
    }
    let offer = offer?;
    // Listed before it was to sign: from now on it is on its way.
    let waits = |root: &&RootAuthority| root.is_old() && root.issuing.is_empty();
    if authorities.root(&offer.signer).filter(waits).is_some_and(|root| root.tainted_at.is_none()) {
        return Some(Step::AdoptRoots);
    }
    let is_same = |given| active.issuing.last().is_some_and(|newest| is_same_ca(newest, given));
    let is_new = offer.given().is_some_and(|given| !is_same(given));
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

/// Until when issuing CAs of ours may last that the configured backend certifies under this root; `None` when it certifies
/// none there.
pub(super) fn certifies_until(root: &RootAuthority, offer: Option<&Offer>) -> Option<OffsetDateTime> {
    match offer {
        None => is_ours(root, None).then_some(root.not_after),
        Some(offer) => offer.certifies_until(&root.id),
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
) -> Option<&'a IssuingAuthority> {
    // While lists are in use a new one could not sign at once: one that is not so young does until it can.
    let until = |issuing: &IssuingCa| match authorities.revocations.lists.is_empty() {
        true => half_life(issuing.not_before, issuing.not_after),
        false => issuing.not_after,
    };
    let is_given = |issuing: &IssuingCa| seen.offer.and_then(Offer::given).is_some_and(|given| given.id == issuing.id);
    let usable = |issuing: &&IssuingAuthority| {
        !is_revoked(authorities, issuing)
            // Whose key is a backend's signs only through that.
            && (issuing.key.is_some() || is_given(issuing))
            && issuing.not_before <= now
            && now < until(issuing)
            && seen.coverage.acknowledging_behind(issuing.after_sequence) == 0
    };
    root.issuing.iter().rev().find(usable)
}

/// A share of a root's life.
pub(super) fn share_of_life(root: &RootAuthority, percent: u8) -> OffsetDateTime {
    let life = time_math::until(root.not_before, root.not_after);
    time_math::after(root.not_before, life.mul_f64(f64::from(percent) / 100.0))
}

pub(super) struct Plan {
    pub(super) now: OffsetDateTime,
    /// The earliest time at which something may become due.
    wake: OffsetDateTime,
}

impl Plan {
    /// While others have something newer, this replica waits for theirs to reach it.
    fn step_back(&mut self, authorities: &Authorities) -> Step {
        let ending = self.replace_ending_lists(authorities);
        ending.unwrap_or(Step::WaitUntil(self.wake))
    }

    /// Whether `at` has come; if not, it is a reason to wake.
    pub(super) fn is_due(&mut self, at: OffsetDateTime) -> bool {
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
        // Under a root that is over, or has not begun because the clock was ahead when it was made, nothing can be made.
        let can = self.now < active.not_after && self.is_due(active.not_before);
        if let Some(until) = certifies_until(active, seen.offer).filter(|until| can && self.now < *until) {
            // One made while the clock was ahead does not count before its time, a revoked one never; nor one that a backend
            // has signed with, which certifies CAs of ours now.
            let counts = |one: &&IssuingAuthority| {
                one.not_before <= self.now && !is_revoked(authorities, one) && one.key.is_some()
            };
            let newest = active.issuing.iter().rev().find(counts);
            let Some(newest) = newest else { return Some(Step::CertifyIssuing(active.id.clone())) };
            let due = half_life(newest.not_before, newest.not_after);
            if newest.not_after < until && self.is_due(due) {
                return Some(Step::CertifyIssuing(active.id.clone()));
            }
        }
        self.use_issuing(authorities, seen)
    }

    /// An issuing CA whose revocation list had to travel first signs when the list has arrived, and in any case before
    /// the one before it has ended: no certificates for anybody would be worse than some that some peers refuse.
    fn use_issuing(&mut self, authorities: &Authorities, seen: &Observed<'_>) -> Option<Step> {
        let now = self.now;
        for root in &authorities.roots {
            for issuing in root.issuing.iter().filter(|issuing| issuing.after_sequence > 0) {
                let arrived = seen.coverage.acknowledging_behind(issuing.after_sequence) == 0;
                // One made while the clock was ahead does not sign before its time.
                let signs = |one: &&IssuingAuthority| one.after_sequence == 0 && one.not_before <= now;
                let signing = root.issuing.iter().filter(signs).map(|one| {
                    let half = half_life(one.not_before, one.not_after);
                    half_life(half, one.not_after)
                });
                let late = root.is_active() && signing.max().is_none_or(|at| self.is_due(at));
                if (arrived && seen.clock_is_steady) || late {
                    return Some(Step::UseIssuing(issuing.id.clone()));
                }
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
                root.is_old()
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
        let urgent = is_urgent(active, self.now);
        let may = match candidate.activation() {
            _ if urgent || seen.offer.is_some() => true,
            Some(Activation::WhenCovered) => true,
            Some(Activation::NotBefore(at)) => {
                self.is_due(OffsetDateTime::from_unix_timestamp(at).unwrap_or(candidate.not_before))
            }
            Some(Activation::OnCommand | Activation::Unknown(_)) | None => false,
        };
        if !may || !seen.clock_is_steady || !self.is_due(candidate.not_before) {
            return None;
        }
        let published = propagated_at(authorities, candidate, seen, rules, self.now);
        if !published.is_none_or(|at| self.is_due(at)) || !is_covered(candidate, seen, rules) {
            return None;
        }
        if !unpublished(authorities, candidate, seen, rules, self.now).is_empty() {
            return None;
        }
        let lists = !authorities.revocations.lists.is_empty();
        let certifies = seen.offer.is_none() || certifies_until(candidate, seen.offer).is_some();
        if lists && certifies && usable_issuer(authorities, candidate, seen, self.now).is_none() {
            // Its issuing CA's list travels first, like the root itself did.
            let waits = candidate.issuing.iter().any(|issuing| issuing.after_sequence > 0);
            return (!waits).then(|| Step::CertifyIssuing(candidate.id.clone()));
        }
        Some(Step::Activate(candidate.id.clone()))
    }
}

/// Whether the root that signs should have a successor already.
pub(super) fn is_urgent(active: &RootAuthority, now: OffsetDateTime) -> bool {
    active.tainted_at.is_some() || now < active.not_before || active.not_after <= now
}

/// How long a root waits before it signs: after it was published, in every place there is, and after the last holder that had
/// been behind was counted as having it, since what was handed over need not have been received. `None` when it need not wait.
pub(super) fn propagation(
    authorities: &Authorities,
    root: &RootAuthority,
    rules: &Rules,
    now: OffsetDateTime,
) -> Option<Duration> {
    let active = authorities.active()?;
    let is_known = root.is_old() && !root.issuing.is_empty();
    let wait = if is_urgent(active, now) { LAG } else { rules.propagation.max(LAG) };
    (!is_known && now < active.not_after).then_some(wait)
}

/// When that is over, as things are now; `None` when it need not wait.
#[must_use]
pub fn propagated_at(
    authorities: &Authorities,
    root: &RootAuthority,
    seen: &Observed<'_>,
    rules: &Rules,
    now: OffsetDateTime,
) -> Option<OffsetDateTime> {
    let wait = propagation(authorities, root, rules, now)?;
    let received = seen.coverage.caught_up_at(root.published);
    let begins = received.max(seen.coverage.published.reached_at(root.published));
    Some(time_math::after(begins.map_or(root.since, |at| at.max(root.since)), wait))
}

/// The publishers that keep a root from signing. One that has signed before is where it was published, and when the root that
/// signs has ended, nobody is waited for.
#[must_use]
pub fn unpublished(
    authorities: &Authorities,
    root: &RootAuthority,
    seen: &Observed<'_>,
    rules: &Rules,
    now: OffsetDateTime,
) -> Vec<String> {
    propagation(authorities, root, rules, now).map(|_| seen.lacking(root, now)).unwrap_or_default()
}

/// How far a replica usually lags behind the journal, and the least propagation time when a root is replaced in a hurry.
/// Nothing but comfort depends on it: what a replica has signed that lags more, the [`Fence`](super::Fence) refuses.
pub const LAG: Duration = Duration::from_secs(2);

#[cfg(test)]
#[path = "first_tests.rs"]
mod first_tests;
#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
