//! A step from end to end: what has to be made for it, and the document that it leads to.

use time::OffsetDateTime;

use super::rules::Observed;
use super::state::{Activation, Authorities};
use super::step::{Step, usable_issuer};
use crate::authority::{AuthorityId, IssuingCa, Root};
use crate::source::{SourceFingerprint, SourceStanding};

/// What must be made before a step can be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// A new root.
    Root,
    /// A new root, and an issuing CA under it.
    RootAndIssuing,
    /// An issuing CA under this root.
    Issuing(AuthorityId),
    /// An issuing CA under this root of somebody else's, which is in no bundle yet.
    IssuingUnder(Root),
}

/// What was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// A root that is in no bundle yet.
    pub root: Option<Root>,
    /// An issuing CA that has signed nothing yet.
    pub issuing: Option<IssuingCa>,
}

/// What has to be made for `step`. A backend that brings its own CA has made everything already.
#[must_use]
pub fn needs(step: &Step, authorities: &Authorities, seen: &Observed<'_>, now: OffsetDateTime) -> Needs {
    if seen.offer.is_some_and(|offer| offer.given().is_some()) {
        return Needs::Nothing;
    }
    let certifies = |id: &AuthorityId| seen.offer.is_none_or(|offer| offer.certifies_until(id).is_some());
    match step {
        Step::CreateRoot => match seen.offer {
            None => Needs::RootAndIssuing,
            Some(offer) => match offer.roots.iter().find(|root| root.id == offer.signer) {
                Some(root) => Needs::IssuingUnder(root.clone()),
                None => Needs::Nothing,
            },
        },
        Step::CertifyIssuing(id) | Step::Activate(id) | Step::Reinstate(id) if !certifies(id) => Needs::Nothing,
        Step::PrepareRoot(_) => Needs::Root,
        Step::CertifyIssuing(root) => Needs::Issuing(root.clone()),
        Step::Activate(id) | Step::Reinstate(id) => match authorities.root(id) {
            Some(root) if usable_issuer(authorities, root, seen, now).is_none() => Needs::Issuing(id.clone()),
            _ => Needs::Nothing,
        },
        _ => Needs::Nothing,
    }
}

/// The document after `step`. Revocation lists are signed afterwards, see [`Authorities::set_lists`].
#[must_use]
pub fn apply(
    step: &Step,
    authorities: &Authorities,
    made: Made,
    seen: &Observed<'_>,
    now: OffsetDateTime,
) -> Authorities {
    let offer = seen.offer;
    let mut next = authorities.clone();
    match step {
        Step::CreateRoot => create(&mut next, made, seen, now),
        Step::PrepareRoot(activation) => {
            if let Some(root) = made.root {
                next.add_root(root, *activation, now);
            }
        }
        Step::AdoptRoots => adopt(&mut next, seen, now),
        Step::CertifyIssuing(root) => {
            let offered = offer.filter(|offer| offer.signer == *root).and_then(|offer| offer.given().cloned());
            if let Some(issuing) = made.issuing.or(offered) {
                next.add_issuing(root, issuing, now, seen.clock_is_steady);
            }
        }
        Step::UseIssuing(id) => next.use_issuing(id),
        Step::Activate(id) => activate(&mut next, id, made, seen, now),
        Step::Reinstate(id) => {
            activate(&mut next, id, made, seen, now);
            next.paused = true;
        }
        Step::Await(id, activation) => next.wait_for(id, *activation),
        Step::DropPrepared(id, taken_back) => {
            if !taken_back {
                // That may be why: an operator who declares it compromised has it dropped like this.
                next.taint(id, now);
            }
            next.remove_root(id);
            next.paused |= taken_back;
        }
        Step::Taint(id) => next.taint(id, now),
        Step::TaintIssuing(id) => next.taint_issuing(id, now),
        Step::Leave(id) => next.leave(id, now),
        Step::Retire(id) => next.remove_root(id),
        Step::Revoke(id) => next.revoke_root(id, now),
        Step::Resume(shown) => next.resume(*shown, now),
        Step::RevokeIssuing(id) => next.revoke_issuing(id, now),
        Step::NoteRevoked { serial, issuer } => next.revocations.done_elsewhere(serial, issuer, now),
        Step::WaitUntil(_) => {}
        Step::RefreshLists(forget) => {
            if *forget {
                next.revocations.forget_ended(now);
            }
        }
    }
    next
}

/// Everything of this replica's source counts from now on, in the one change that notes it.
fn adopt(next: &mut Authorities, seen: &Observed<'_>, now: OffsetDateTime) {
    if let Some(fingerprint) = &seen.source.fingerprint {
        // What an operator had taken back was something else.
        next.paused &= next.adopted.standing(fingerprint) == SourceStanding::Newest;
        next.adopted.note(fingerprint);
    }
    next.adopt(seen.source.offer.as_ref(), now);
}

fn create(next: &mut Authorities, made: Made, seen: &Observed<'_>, now: OffsetDateTime) {
    let id = match (seen.offer, made.root) {
        (Some(offer), _) => {
            adopt(next, seen, now);
            offer.signer.clone()
        }
        (None, Some(root)) => {
            let id = root.id.clone();
            next.add_root(root, Activation::WhenCovered, now);
            next.adopted.note(&SourceFingerprint::own());
            id
        }
        (None, None) => return,
    };
    // The first root has nobody to wait for: no certificate exists that it could make invalid.
    activate(next, &id, Made { root: None, issuing: made.issuing }, seen, now);
}

fn activate(next: &mut Authorities, id: &AuthorityId, made: Made, seen: &Observed<'_>, now: OffsetDateTime) {
    let offered = seen.offer.filter(|offer| offer.signer == *id).and_then(|offer| offer.given().cloned());
    if let Some(issuing) = made.issuing.or(offered) {
        next.add_issuing(id, issuing, now, seen.clock_is_steady);
    }
    next.activate(id, now);
}
