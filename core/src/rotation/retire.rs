//! The end of a former root, in two parts: first it is noted that it leaves, so that the serving certificate of every
//! replica moves away from it, then it is dropped from the trust bundle.

use time::OffsetDateTime;

use super::command::{Refused, find, refuse};
use super::rules::{Observed, Retirement, Rules, SETTLE};
use super::state::{Authorities, AuthorityState, RootAuthority};
use super::step::{Plan, Step};
use crate::authority::AuthorityId;
use crate::clock::rfc3339;
use crate::time_math;

impl Plan {
    /// A root that nothing chains to any more leaves the bundle. Of a compromised one, the serving certificate has moved
    /// when another one began to sign.
    pub(super) fn retire(&mut self, authorities: &Authorities, seen: &Observed<'_>, rules: &Rules) -> Option<Step> {
        if !seen.clock_is_steady {
            return None;
        }
        for root in authorities.roots.iter().filter(|root| !root.pinned) {
            let drained = seen.drained_at(root);
            let (at, step) = match root.state {
                AuthorityState::Old { leaving_since: None } if rules.retirement == Retirement::Manual => continue,
                AuthorityState::Old { leaving_since: None } => (drained, Step::Leave(root.id.clone())),
                AuthorityState::Old { leaving_since: Some(left) } => {
                    (time_math::after(left.max(drained), SETTLE), Step::Retire(root.id.clone()))
                }
                AuthorityState::Tainted => (time_math::after(drained, SETTLE), Step::Retire(root.id.clone())),
                _ => continue,
            };
            if self.is_due(at) {
                return Some(step);
            }
        }
        None
    }
}

/// Whether nothing keeps a former root in the bundle but that an operator holds the last step.
#[must_use]
pub fn is_held(root: &RootAuthority, seen: &Observed<'_>, rules: &Rules, now: OffsetDateTime) -> bool {
    let waits = root.state == AuthorityState::OLD && !root.pinned;
    waits && rules.retirement == Retirement::Manual && seen.drained_at(root) <= now
}

/// An operator lets a former root go.
pub(super) fn retire(
    now: OffsetDateTime,
    authorities: &Authorities,
    seen: &Observed<'_>,
    id: &AuthorityId,
) -> Result<Option<Step>, Refused> {
    let root = find(authorities, id)?;
    match root.state {
        AuthorityState::Old { .. } if root.pinned => {
            return refuse(
                root,
                "the backend lists it; take it out of the CA files or of the roots of cert-manager, or rotate it in Vault, first",
            );
        }
        // So that whoever got no answer may ask again.
        AuthorityState::Old { leaving_since: Some(_) } => return Ok(None),
        AuthorityState::Old { leaving_since: None } => {}
        AuthorityState::Prepared(_) => return refuse(root, "it has signed nothing; `authority rollback` drops it"),
        AuthorityState::Tainted => return refuse(root, "it is compromised; `authority revoke` drops it"),
        _ => return refuse(root, "only a former root is retired; `authority rotate` makes it one"),
    }
    let until = seen.drained_at(root);
    if now < until {
        let holders = seen.holders_of(root);
        return Err(Refused::StillChained { id: id.clone(), holders, until: rfc3339(until) });
    }
    if !seen.clock_is_steady {
        return Err(Refused::ClockDoubtful);
    }
    Ok(Some(Step::Leave(id.clone())))
}

#[cfg(test)]
#[path = "retire_tests.rs"]
mod tests;
