//! What an operator may do about a compromised authority.

use time::OffsetDateTime;

use super::command::{Refused, find, refuse};
use super::revocation_lists::{is_revoked, lists_possible};
use super::rules::{Observed, SETTLE};
use super::state::{Authorities, AuthorityState};
use super::step::Step;
use crate::authority::AuthorityId;
use crate::time_math;

pub(super) fn taint(
    now: OffsetDateTime,
    authorities: &Authorities,
    seen: &Observed<'_>,
    id: &AuthorityId,
    force: bool,
) -> Result<Option<Step>, Refused> {
    if authorities.root(id).is_none() && authorities.root_of(id).is_some() {
        signs_no_more(now, authorities, id)?;
        // Told anew, the window would begin again, and whoever is about to renew would wait for longer.
        let mut anew = authorities.clone();
        anew.taint_issuing(id, now);
        let lasts = |known: &super::KeptHint| known.until > now.unix_timestamp();
        let is_told = anew.hints.last().is_some_and(|hint| {
            authorities.hints.iter().any(|known| known.authorities == hint.authorities && lasts(known))
        });
        return Ok((!is_told).then(|| Step::TaintIssuing(id.clone())));
    }
    let root = find(authorities, id)?;
    let signs = root.is_active();
    if force && seen.offer.is_some() && (signs || root.tainted_at.is_none()) {
        return Err(Refused::Foreign);
    }
    if root.tainted_at.is_some() {
        // So that whoever watched it and was interrupted may do so again.
        return Ok(None);
    }
    Ok(Some(match root.state {
        // It has signed nothing, so there is nothing to move away from.
        AuthorityState::Prepared(_) if !root.pinned => Step::DropPrepared(id.clone(), false),
        _ => Step::Taint(id.clone()),
    }))
}

pub(super) fn revoke(
    now: OffsetDateTime,
    authorities: &Authorities,
    seen: &Observed<'_>,
    id: &AuthorityId,
    force: bool,
) -> Result<Option<Step>, Refused> {
    let Some(root) = authorities.root(id) else { return revoke_issuing(now, authorities, seen, id, force) };
    match root.state {
        AuthorityState::Tainted => {}
        AuthorityState::Active if root.tainted_at.is_some() => {
            return refuse(
                root,
                "it still signs, until its successor is known to all holders; `status` shows who lags",
            );
        }
        _ => return refuse(root, "only a compromised root is revoked; declare it with `authority taint` first"),
    }
    if root.pinned {
        return refuse(
            root,
            "the backend lists it; take it out of the CA files or of the roots of cert-manager, or rotate it in Vault, first",
        );
    }
    if !force {
        let holders = seen.holders_of(root);
        if holders > 0 {
            return Err(Refused::Needed { id: id.clone(), holders });
        }
        if now < time_math::after(root.since, SETTLE) {
            return Err(Refused::Settling(id.clone()));
        }
        if !seen.clock_is_steady {
            return Err(Refused::ClockJumped);
        }
    }
    Ok(Some(Step::Revoke(id.clone())))
}

fn revoke_issuing(
    now: OffsetDateTime,
    authorities: &Authorities,
    seen: &Observed<'_>,
    id: &AuthorityId,
    force: bool,
) -> Result<Option<Step>, Refused> {
    let root = authorities.root_of(id).ok_or_else(|| Refused::Unknown(id.clone()))?;
    // A backend that signs leaves itself has the key and the list; it revokes none of its own issuers.
    if root.issuing.iter().any(|issuing| issuing.id == *id && issuing.key.is_none()) {
        return Err(Refused::BackendsOwn { id: id.clone(), root: root.id.clone() });
    }
    // Whoever has certified it is told for as long as it takes; its list follows.
    if !authorities.is_revoked_elsewhere(id, seen.source) {
        lists_possible(authorities, seen, now)?;
    }
    signs_no_more(now, authorities, id)?;
    let holders = seen.coverage.by_authority.get(id).copied().unwrap_or(0);
    if !force && holders > 0 {
        return Err(Refused::Needed { id: id.clone(), holders });
    }
    let done = root.issuing.iter().any(|issuing| issuing.id == *id && is_revoked(authorities, issuing));
    Ok((!done).then(|| Step::RevokeIssuing(id.clone())))
}

/// An issuing CA is replaced before anything is said against it.
fn signs_no_more(now: OffsetDateTime, authorities: &Authorities, id: &AuthorityId) -> Result<(), Refused> {
    match authorities.active_issuer(now) {
        Some(issuing) if issuing.id == *id => Err(Refused::State {
            id: id.clone(),
            state: "signing",
            hint: "replace it first with `authority rotate --issuing`",
        }),
        _ => Ok(()),
    }
}
