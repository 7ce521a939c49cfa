//! What a command has done, what happens next, and when that will be over.

use signet_core::authority::AuthorityId;
use signet_core::rotation::{
    Activation, Authorities, AuthorityState, Observed, Phase, Retirement, RootAuthority, Rules, SETTLE, Step, is_held,
    propagated_at,
};
use signet_core::time_math;
use time::OffsetDateTime;

use super::{Awaited, Done, Next};
use crate::rotator::Observation;

/// What a command has done to what was seen.
pub(super) fn done(step: &Step, observation: &Observation) -> Done {
    match step {
        Step::PrepareRoot(_) => Done::Prepared,
        Step::Await(id, _) => Done::Awaited(id.clone()),
        Step::CertifyIssuing(_) => Done::IssuingRenewed,
        Step::Activate(id) => Done::Activated(id.clone()),
        Step::DropPrepared(id, _) => Done::Dropped(id.clone()),
        Step::Reinstate(id) => Done::Reinstated(id.clone()),
        Step::Taint(id) if observation.authorities.active().is_some_and(|root| root.id == *id) => {
            Done::Tainted(id.clone())
        }
        Step::Taint(id) => Done::FormerTainted(id.clone()),
        Step::TaintIssuing(id) => Done::IssuingTainted(id.clone()),
        Step::Leave(id) => Done::Leaving(id.clone(), SETTLE.as_secs()),
        Step::Revoke(id) => {
            let holders = observation.authorities.root(id).map_or(0, |root| observation.seen().holders_of(root));
            Done::Revoked(id.clone(), holders)
        }
        Step::RevokeIssuing(id) => {
            let holders = observation.coverage.by_authority.get(id).copied().unwrap_or_default();
            Done::IssuingRevoked(id.clone(), holders)
        }
        Step::AdoptRoots => adopted(observation),
        Step::Resume(shown) => Done::Resumed(*shown),
        Step::CreateRoot | Step::UseIssuing(_) | Step::Retire(_) => Done::Other,
        Step::RefreshLists(_) | Step::NoteRevoked { .. } | Step::WaitUntil(_) => Done::Other,
    }
}

/// What this replica has is adopted.
fn adopted(observation: &Observation) -> Done {
    let signs = observation.authorities.active().map(|root| &root.id);
    match &observation.source.offer {
        Some(offer) if signs == Some(&offer.signer) => Done::FilesAdopted(offer.signer.clone()),
        Some(offer) => Done::FilesAwaited(offer.signer.clone()),
        None => Done::BackendAdopted,
    }
}

/// Whether a former root leaves the bundle in the end: static files of roots must hold the one that signs by then, which
/// coverage does not see.
pub(super) fn has_former(authorities: &Authorities) -> bool {
    former(authorities).next().is_some()
}

/// Roots that have signed, and leave the bundle in the end.
fn former(authorities: &Authorities) -> impl Iterator<Item = &RootAuthority> {
    authorities.roots.iter().filter(|root| root.is_old() && !root.pinned)
}

/// Former roots that an operator is to let go.
pub(super) fn held(observation: &Observation, rules: &Rules) -> Vec<AuthorityId> {
    let is_held = |root: &&RootAuthority| is_held(root, &observation.seen(), rules, observation.now);
    observation.authorities.roots.iter().filter(is_held).map(|root| root.id.clone()).collect()
}

/// What happens next, and when at the latest.
pub(super) fn what_next(observation: &Observation, rules: &Rules) -> (Next, Option<OffsetDateTime>) {
    let (authorities, seen) = (&observation.authorities, observation.seen());
    if authorities.active().is_none() {
        return (Next::Init, None);
    }
    let expected = authorities.expected_end(&seen, rules, observation.now);
    if !observation.clock_is_steady {
        return (Next::TrustClock, None);
    }
    let phase = Phase::of(authorities);
    if let Some(root) = authorities.prepared().filter(|_| matches!(phase, Phase::Propagate | Phase::Emergency)) {
        let behind = observation.coverage.live().saturating_sub(observation.coverage.covered(root.published));
        let lacking = observation.lacking();
        let awaited = match behind {
            0 if !lacking.is_empty() => Awaited::Publishers(lacking),
            0 => Awaited::Propagation(signs_at(observation, root, rules)),
            holders => {
                Awaited::Holders { holders, refusing: observation.lag.refusing, until: observation.lag.last_end }
            }
        };
        let activation = root.activation().unwrap_or_default();
        let at = match activation {
            Activation::NotBefore(at) => {
                OffsetDateTime::from_unix_timestamp(at).ok().filter(|at| *at > observation.now)
            }
            _ => None,
        };
        let id = root.id.clone();
        return match (activation, at) {
            _ if phase == Phase::Emergency => (Next::Activate(id, awaited), expected),
            (Activation::OnCommand, _) => (Next::ActivateByCommand(id, awaited), None),
            (_, Some(at)) => (Next::ActivateNotBefore(id, at), expected),
            _ => (Next::Activate(id, awaited), expected),
        };
    }
    match phase {
        Phase::None | Phase::Settled | Phase::Degraded => {
            (unsettled(observation).unwrap_or_else(|| settled(authorities, rules)), expected)
        }
        Phase::Emergency if authorities.active().is_some_and(|root| root.tainted_at.is_some()) => {
            (Next::ReplaceCompromised, expected)
        }
        Phase::Emergency => (emergency(authorities, &seen), expected),
        Phase::Propagate => (left(observation, rules), expected),
        Phase::Drain => drain(observation, rules, expected),
    }
}

/// When a root may sign that everybody has, if that is to come.
fn signs_at(observation: &Observation, root: &RootAuthority, rules: &Rules) -> Option<OffsetDateTime> {
    propagated_at(&observation.authorities, root, &observation.seen(), rules, observation.now)
        .filter(|at| *at > observation.now)
}

fn drain(observation: &Observation, rules: &Rules, expected: Option<OffsetDateTime>) -> (Next, Option<OffsetDateTime>) {
    let (authorities, seen) = (&observation.authorities, observation.seen());
    if let Some(id) = held(observation, rules).into_iter().next() {
        return (Next::RetireByCommand(id, None), None);
    }
    let staying = former(authorities).find(|root| root.leaving_since().is_none());
    match staying {
        None => (Next::Leave, expected),
        Some(root) if rules.retirement == Retirement::Manual => {
            (Next::RetireByCommand(root.id.clone(), Some(seen.drained_at(root))), None)
        }
        Some(_) => (Next::Retire, expected),
    }
}

/// The root that signs is not that of the adopted source, and none is prepared.
fn left(observation: &Observation, rules: &Rules) -> Next {
    let authorities = &observation.authorities;
    if authorities.paused {
        return Next::RotateByCommand;
    }
    match observation.offer.as_ref().and_then(|offer| authorities.root(&offer.signer)) {
        Some(root) if root.tainted_at.is_some() => Next::ReplaceFilesByHand(root.id.clone()),
        Some(root) => Next::SignWithFiles(root.id.clone(), signs_at(observation, root, rules)),
        None if authorities.roots.iter().any(|root| root.pinned) => Next::SignWithListed,
        None => Next::SignWithBackend,
    }
}

fn emergency(authorities: &Authorities, seen: &Observed<'_>) -> Next {
    let tainted = authorities.roots.iter().filter(|root| root.state == AuthorityState::Tainted);
    match tainted.clone().map(|root| seen.holders_of(root)).sum() {
        0 => Next::RevokeByCommand(tainted.map(|root| root.id.clone()).collect()),
        holders => Next::Renew(holders),
    }
}

/// What is waited for although every root is in its place.
fn unsettled(observation: &Observation) -> Option<Next> {
    let (authorities, seen) = (&observation.authorities, observation.unsettled());
    let holders = |id| observation.coverage.by_authority.get(id).copied().unwrap_or_default();
    if seen.cut_off > 0 {
        return Some(Next::RenewCutOff(seen.cut_off));
    }
    let tainted: Vec<&AuthorityId> = authorities.tainted_issuing(observation.now).map(|issuing| &issuing.id).collect();
    if !tainted.is_empty() {
        return Some(match tainted.iter().copied().map(holders).sum() {
            0 => Next::RevokeByCommand(tainted.into_iter().cloned().collect()),
            holders => Next::Renew(holders),
        });
    }
    if seen.refusing > 0 {
        return Some(Next::Accept(seen.refusing));
    }
    if seen.unpublished > 0 {
        return Some(Next::Publish(observation.lacking()));
    }
    if seen.unrevoked > 0 {
        return Some(Next::RevokeElsewhere);
    }
    seen.superseded.then_some(Next::Follow)
}

fn settled(authorities: &Authorities, rules: &Rules) -> Next {
    let Some(active) = authorities.active() else { return Next::Init };
    if authorities.paused {
        return Next::RotateByCommand;
    }
    if !rules.automatic || active.pinned {
        return Next::Nothing;
    }
    let life = time_math::until(active.not_before, active.not_after);
    Next::Prepare(time_math::after(active.not_before, life.mul_f64(f64::from(rules.prepare_at) / 100.0)))
}
