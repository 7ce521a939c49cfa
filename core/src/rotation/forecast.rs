//! When what is in progress will be over at the latest, with every phase that is still to come.

use std::time::Duration;

use time::OffsetDateTime;

use super::rules::{Observed, Retirement, Rules, SETTLE};
use super::state::{Activation, Authorities, AuthorityState, RootAuthority};
use super::step::{LAG, is_covered, is_ours, is_urgent, propagated_at, propagation, unpublished, usable_issuer};
use crate::renewal::half_life;
use crate::time_math;

/// From when nothing chains to a root any more until it is gone: it is left, then dropped, and replicas lag.
const REMOVAL: Duration = SETTLE.saturating_add(LAG);

/// What is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// The root that signs goes on.
    None,
    /// Another one signs from this time on, at the latest.
    By(OffsetDateTime),
    /// Nobody can tell when: an operator decides, or a holder refuses the next root.
    Unknown,
}

impl Authorities {
    /// When everything in progress will be over at the latest, as things are: holders that lag are waited for until their
    /// certificates end, and what is signed until then may live as long as any certificate may. `None` when nothing is in
    /// progress, or when that cannot be told: an operator decides, or a holder refuses what it is to have.
    #[must_use]
    pub fn expected_end(&self, seen: &Observed<'_>, rules: &Rules, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let active = self.active()?;
        let change = self.change_of_signer(active, seen, rules, now);
        let mut ends = Vec::new();
        match change {
            Change::None => {}
            Change::By(at) => {
                ends.push(at);
                if !active.pinned {
                    let drained = seen.needed_until(active).unwrap_or(at).max(last_leaf(active, at, seen, rules));
                    ends.push(gone_at(active, drained, rules, now)?);
                }
            }
            Change::Unknown => return None,
        }
        for root in self.roots.iter().filter(|root| !root.pinned) {
            if root.is_old() || root.state == AuthorityState::Tainted {
                ends.push(gone_at(root, seen.drained_at(root), rules, now)?);
            }
        }
        let cut_off = self.cut_off(seen.coverage);
        ends.extend(cut_off.iter().filter_map(|id| seen.last_ends.get(id)));
        ends.extend(self.tainted_issuing(now).map(|issuing| issuing.not_after));
        let others_decide = seen.lag.refusing > 0 || seen.source.is_superseded();
        ends.into_iter().max().filter(|_| !others_decide)
    }

    fn change_of_signer(
        &self,
        active: &RootAuthority,
        seen: &Observed<'_>,
        rules: &Rules,
        now: OffsetDateTime,
    ) -> Change {
        let candidate = match seen.offer {
            Some(offer) if offer.signer == active.id => return Change::None,
            Some(offer) => match self.root(&offer.signer) {
                Some(root) if root.tainted_at.is_none() => root,
                _ => return Change::Unknown,
            },
            None => match self.prepared() {
                Some(root) => root,
                None if active.tainted_at.is_none() && is_ours(active, None) => return Change::None,
                None if self.paused && active.tainted_at.is_none() => return Change::Unknown,
                // It is to be made, and no holder knows it: whoever has a certificate may be one that lags.
                None => {
                    let wait = if is_urgent(active, now) { LAG } else { rules.propagation.max(LAG) };
                    let lag = seen.last_ends.values().max().map_or(now, |end| now.max(*end));
                    return Change::By(time_math::after(lag, wait.saturating_add(LAG)));
                }
            },
        };
        let not_before = match candidate.activation() {
            _ if seen.offer.is_some() || is_urgent(active, now) => now,
            Some(Activation::NotBefore(at)) => OffsetDateTime::from_unix_timestamp(at).unwrap_or(now),
            Some(Activation::OnCommand | Activation::Unknown(_)) => return Change::Unknown,
            Some(Activation::WhenCovered) | None => now,
        };
        let mut at = now.max(candidate.not_before).max(not_before);
        at = propagated_at(self, candidate, seen, rules, now).map_or(at, |known| known.max(at));
        if !is_covered(candidate, seen, rules) {
            if seen.lag.refusing > 0 {
                return Change::Unknown;
            }
            let wait = propagation(self, candidate, rules, now).unwrap_or_default();
            // The last one may receive it just before its certificate ends.
            at = seen.lag.last_end.map_or(at, |end| at.max(time_math::after(end, wait)));
        }
        if !unpublished(self, candidate, seen, rules, now).is_empty() {
            // Whoever runs the place where it is to be published decides.
            return Change::Unknown;
        }
        let lists = !self.revocations.lists.is_empty() && seen.offer.is_none();
        if lists && usable_issuer(self, candidate, seen, now).is_none() {
            // The list of its issuing CA travels first, and who has a certificate then may lag.
            at = time_math::after(at, rules.leaf_ttl);
        }
        Change::By(time_math::after(at, LAG))
    }
}

/// When a root is gone to which nothing chains from `drained` on; `None` when an operator lets it go.
fn gone_at(
    root: &RootAuthority,
    drained: OffsetDateTime,
    rules: &Rules,
    now: OffsetDateTime,
) -> Option<OffsetDateTime> {
    let by_hand = rules.retirement == Retirement::Manual && root.tainted_at.is_none();
    match root.leaving_since() {
        None if by_hand => None,
        left => Some(time_math::after(drained.max(left.unwrap_or(now)), REMOVAL)),
    }
}

/// When the last certificate may end that chains to the root which signs until `at`.
fn last_leaf(active: &RootAuthority, at: OffsetDateTime, seen: &Observed<'_>, rules: &Rules) -> OffsetDateTime {
    let ends = active.issuing.iter().map(|issuing| issuing.not_after).max();
    let renewed = active.issuing.iter().map(|issuing| half_life(issuing.not_before, issuing.not_after)).max();
    // No certificate outlives its issuing CA, nor the root; and the issuing CA may be a later one by then.
    let issuer_ends = match (ends, renewed) {
        (Some(ends), Some(renewed)) if at < renewed || !is_ours(active, seen.offer) => ends,
        _ => active.not_after,
    };
    time_math::after(at, rules.leaf_ttl).min(issuer_ends).min(active.not_after)
}

#[cfg(test)]
#[path = "forecast_tests.rs"]
mod tests;
