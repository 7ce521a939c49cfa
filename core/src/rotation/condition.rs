//! What must be true of the records for a step to be taken: seen when the step is decided, and counted once more by
//! storage in the transaction that takes it, so that nothing is recorded in between.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::rules::{Observed, Rules, SETTLE};
use super::state::{Authorities, AuthorityState, RootAuthority};
use super::step::{Step, propagation, usable_issuer};
use crate::authority::AuthorityId;
use crate::holder::Coverage;
use crate::time_math;

/// One condition, as plain data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// So many of the live holders, in percent, have received this bundle.
    Covered {
        /// The bundle.
        sequence: u64,
        /// How many.
        percent: u8,
    },
    /// Of the holders that had been behind this bundle, none was counted as having it after this time.
    CaughtUp {
        /// The bundle.
        sequence: u64,
        /// The latest time at which one may have been.
        by: OffsetDateTime,
    },
    /// This bundle is in every place that is published to.
    Published {
        /// The bundle.
        sequence: u64,
        /// The publishers that the deciding replica is configured with.
        publishers: Vec<String>,
        /// The latest time at which the last of them may have had it first.
        by: OffsetDateTime,
        /// When that was decided.
        now: OffsetDateTime,
    },
    /// Every live holder that acknowledges bundles has received this one.
    Arrived {
        /// The bundle.
        sequence: u64,
    },
    /// No live holder's newest certificate is of one of these issuing CAs.
    Left(Vec<AuthorityId>),
    /// Every certificate that one of these issuing CAs has ever signed had ended by this time.
    Drained(Vec<AuthorityId>, OffsetDateTime),
}

impl Condition {
    /// Whether it holds, by these records.
    #[must_use]
    pub fn holds(&self, coverage: &Coverage, last_ends: &BTreeMap<AuthorityId, OffsetDateTime>) -> bool {
        match self {
            Self::Covered { sequence, percent } => coverage.reaches(*sequence, *percent),
            Self::CaughtUp { sequence, by } => coverage.caught_up_at(*sequence).is_none_or(|at| at <= *by),
            Self::Published { sequence, publishers, by, now } => {
                coverage.published.lacking(*sequence, publishers, *now).is_empty()
                    && coverage.published.reached_at(*sequence).is_none_or(|at| at <= *by)
            }
            Self::Arrived { sequence } => coverage.acknowledging_behind(*sequence) == 0,
            Self::Left(issuing) => {
                issuing.iter().all(|id| coverage.by_authority.get(id).is_none_or(|&count| count == 0))
            }
            Self::Drained(issuing, by) => issuing.iter().all(|id| last_ends.get(id).is_none_or(|end| end <= by)),
        }
    }
}

impl Authorities {
    /// The oldest and the newest bundle that a root came with whose [`CaughtUp`](Condition::CaughtUp) may still be asked
    /// for; `None` when there is no such root.
    #[must_use]
    pub fn awaited(&self) -> Option<(u64, u64)> {
        let waits = |root: &&RootAuthority| match root.state {
            AuthorityState::Prepared(_) | AuthorityState::Unknown => true,
            AuthorityState::Old { .. } => root.issuing.is_empty(),
            AuthorityState::Active | AuthorityState::Tainted => false,
        };
        let published = || self.roots.iter().filter(waits).map(|root| root.published);
        published().min().zip(published().max())
    }
}

/// The conditions of a step that was decided on what was seen at `now`. One that an operator forces has none.
#[must_use]
pub fn conditions(
    step: &Step,
    authorities: &Authorities,
    seen: &Observed<'_>,
    rules: &Rules,
    now: OffsetDateTime,
) -> Vec<Condition> {
    let root = |id: &AuthorityId| authorities.root(id);
    let issuing = |root: &RootAuthority| root.issuing.iter().map(|one| one.id.clone()).collect();
    match step {
        Step::Activate(id) => root(id).map(|root| activation(authorities, root, seen, rules, now)).unwrap_or_default(),
        Step::Reinstate(id) => root(id).map(|root| covered(root, 100)).into_iter().collect(),
        Step::UseIssuing(id) => {
            let found = authorities.roots.iter().flat_map(|root| &root.issuing).find(|one| one.id == *id);
            let sequence = found.map_or(0, |issuing| issuing.after_sequence);
            // It is taken into use at last although some do not know its list.
            let late = seen.coverage.acknowledging_behind(sequence) > 0;
            if late { Vec::new() } else { vec![Condition::Arrived { sequence }] }
        }
        Step::Leave(id) => root(id).map(|root| Condition::Drained(issuing(root), now)).into_iter().collect(),
        Step::Retire(id) => {
            root(id).map(|root| Condition::Drained(issuing(root), time_math::before(now, SETTLE))).into_iter().collect()
        }
        Step::Revoke(id) => root(id).map(|root| Condition::Left(issuing(root))).into_iter().collect(),
        Step::RevokeIssuing(id) => vec![Condition::Left(vec![id.clone()])],
        _ => Vec::new(),
    }
}

fn covered(root: &RootAuthority, percent: u8) -> Condition {
    Condition::Covered { sequence: root.published, percent }
}

fn activation(
    authorities: &Authorities,
    root: &RootAuthority,
    seen: &Observed<'_>,
    rules: &Rules,
    now: OffsetDateTime,
) -> Vec<Condition> {
    // One of ours that has signed before takes the place of a compromised one only if everybody knows it.
    let is_fallback = root.is_old() && seen.offer.is_none();
    let mut all = vec![covered(root, if is_fallback { 100 } else { rules.coverage })];
    if let Some(wait) = propagation(authorities, root, rules, now) {
        let (sequence, by) = (root.published, time_math::before(now, wait));
        all.push(Condition::CaughtUp { sequence, by });
        all.push(Condition::Published { sequence, publishers: seen.publishers.to_vec(), by, now });
    }
    if let Some(issuer) = usable_issuer(authorities, root, seen, now).filter(|issuer| issuer.after_sequence > 0) {
        all.push(Condition::Arrived { sequence: issuer.after_sequence });
    }
    all
}

#[cfg(test)]
#[path = "condition_tests.rs"]
mod tests;
