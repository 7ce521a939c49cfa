//! Which issuing CA signs the CA's own serving certificate, and that one can be had for as long as its root stays.
//!
//! Clients with a static file of roots, such as istio-agents with `CA_ROOT_CA`, are not seen by coverage. So that they
//! reach the CA until their root is retired, the serving certificate is the last thing to leave a root, and always
//! leaves before the root does.

use std::time::Duration;

use time::OffsetDateTime;

use super::fence::signers;
use super::rules::{Observed, Retirement, Rules};
use super::state::{Authorities, AuthorityState, IssuingAuthority, RootAuthority};
use super::step::{Plan, Step, is_ours};
use crate::authority::{AuthorityId, IssuingCa};
use crate::renewal::half_life;
use crate::time_math;

/// How long before its end an issuing CA of a former root serves no more, unless its life is short: clocks of clients
/// may be ahead.
const MARGIN: Duration = Duration::from_secs(300);

/// The share of a life that the margin takes at most.
const MARGIN_SHARE: u32 = 8;

impl RootAuthority {
    /// Whether the serving certificate may be of an issuing CA under this root.
    #[must_use]
    pub fn may_serve(&self) -> bool {
        match self.state {
            // Also a compromised one, until another one can: no serving certificate would be worse.
            AuthorityState::Active => true,
            AuthorityState::Old { leaving_since } => self.tainted_at.is_none() && leaving_since.is_none(),
            _ => false,
        }
    }
}

impl Authorities {
    /// The issuing CAs that may sign the serving certificate at `now`, with their roots, the one that is to do so first:
    /// that of the root which has been in clients' hands for longest. The others are for when its key cannot be had.
    #[must_use]
    pub fn serving_issuers(&self, now: OffsetDateTime) -> Vec<(&RootAuthority, &IssuingAuthority)> {
        let of = |root| issuer(self, root, now).map(|issuing| (root, issuing));
        serving_roots(self).into_iter().filter_map(of).collect()
    }

    /// Notes that a root is about to be dropped, so that the serving certificate of every replica moves.
    pub fn leave(&mut self, id: &AuthorityId, now: OffsetDateTime) {
        for root in self.roots.iter_mut().filter(|root| root.id == *id && root.is_old()) {
            root.state = AuthorityState::Old { leaving_since: Some(now) };
        }
    }
}

/// Roots that may serve, the oldest first.
fn serving_roots(authorities: &Authorities) -> Vec<&RootAuthority> {
    let mut roots: Vec<&RootAuthority> = authorities.roots.iter().filter(|root| root.may_serve()).collect();
    roots.sort_by_key(|root| root.generation);
    roots
}

fn issuer<'a>(
    authorities: &'a Authorities,
    root: &'a RootAuthority,
    now: OffsetDateTime,
) -> Option<&'a IssuingAuthority> {
    if root.is_active() {
        return authorities.active_issuer(now);
    }
    let usable = |one: &&IssuingAuthority| one.not_before <= now && now < serves_until(one);
    signers(authorities, root).into_iter().rev().find(usable)
}

/// Until when an issuing CA of a former root may serve.
fn serves_until(issuing: &IssuingCa) -> OffsetDateTime {
    let life = time_math::until(issuing.not_before, issuing.not_after);
    time_math::before(issuing.not_after, MARGIN.min(life / MARGIN_SHARE))
}

impl Plan {
    /// The issuing CA that serves under a former root gets a successor in the last quarter of its life, if that root of
    /// ours stays for longer than it.
    pub(super) fn keep_serving(
        &mut self,
        authorities: &Authorities,
        seen: &Observed<'_>,
        rules: &Rules,
    ) -> Option<Step> {
        if seen.offer.is_some() || !seen.clock_is_steady {
            return None;
        }
        for root in serving_roots(authorities) {
            if root.is_active() {
                return None;
            }
            let signers = signers(authorities, root);
            let newest = signers.iter().rev().find(|one| one.not_before <= self.now);
            let stays = |until| rules.retirement == Retirement::Manual || seen.drained_at(root) > until;
            let due = match newest {
                // All of them were left behind on purpose. One that never had any has never signed.
                None => !root.issuing.is_empty() && stays(self.now),
                Some(one) => {
                    let half = half_life(one.not_before, one.not_after);
                    let ends_early = one.not_after < root.not_after && stays(serves_until(one));
                    ends_early && self.is_due(half_life(half, one.not_after))
                }
            };
            // Its list has to travel first, if there are lists.
            let is_on_its_way = root.issuing.iter().any(|one| one.after_sequence > 0);
            let can = is_ours(root, None) && root.not_before <= self.now && self.now < root.not_after;
            if due && can && !is_on_its_way {
                return Some(Step::CertifyIssuing(root.id.clone()));
            }
            if let Some(one) = issuer(authorities, root, self.now) {
                let _moves_then = self.is_due(serves_until(one));
                return None;
            }
        }
        None
    }
}

#[cfg(test)]
#[path = "serving_tests.rs"]
mod tests;
