//! What is not over although every root may be in its place: who is accepted by nobody, who refuses, what is compromised.
//! As long as there is anything of the kind, nobody is told that all is settled (invariant 8).

use time::OffsetDateTime;

use super::revocation_lists::is_revoked;
use super::rules::Observed;
use super::state::{Authorities, IssuingAuthority, RootAuthority};
use crate::authority::AuthorityId;
use crate::holder::Coverage;

/// Numbers of what is not over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unsettled {
    /// Live holders whose certificate is accepted by nobody, because its root is in the bundle no more or its issuing CA is
    /// revoked. One whose newest certificate may not have reached it counts by the one before.
    pub cut_off: u64,
    /// Live holders that have refused a bundle, and applied none since.
    pub refusing: u64,
    /// Compromised roots that sign still, or that are still in the bundle.
    pub tainted_roots: u64,
    /// Issuing CAs under other roots that are declared compromised, have not ended and are on no revocation list; and those that
    /// whoever has certified them is to revoke and has not yet. Leaves are not among them.
    pub tainted_issuing: u64,
    /// Leaves that are revoked here and that the backend which has signed them is to revoke and has not yet.
    pub unrevoked: u64,
    /// Publishers that lack the bundle that is waited for.
    pub unpublished: u64,
    /// Whether something was adopted after what this replica has.
    pub superseded: bool,
}

impl Unsettled {
    /// What is not over at `now`.
    #[must_use]
    pub fn of(authorities: &Authorities, seen: &Observed<'_>, now: OffsetDateTime) -> Self {
        let cut_off = authorities.cut_off(seen.coverage);
        let holders = cut_off.iter().filter_map(|id| seen.coverage.by_authority.get(id)).sum::<u64>();
        let tainted = |root: &&RootAuthority| root.tainted_at.is_some();
        let (awaited, awaited_leaves) =
            (authorities.revocations.awaited().count(), authorities.revocations.awaited_leaves());
        Self {
            cut_off: holders.min(seen.coverage.live().saturating_add(seen.coverage.gone)),
            refusing: seen.lag.refusing,
            tainted_roots: number(authorities.roots.iter().filter(tainted).count()),
            tainted_issuing: number(
                authorities.tainted_issuing(now).count().saturating_add(awaited.saturating_sub(awaited_leaves)),
            ),
            unrevoked: number(awaited_leaves),
            unpublished: number(
                seen.coverage.published.lacking(authorities.awaited_sequence(), seen.publishers, now).len(),
            ),
            superseded: seen.source.is_superseded(),
        }
    }

    /// Whether something is compromised, or somebody is accepted by nobody.
    #[must_use]
    pub fn is_emergency(&self) -> bool {
        self.cut_off > 0 || self.tainted_roots > 0 || self.tainted_issuing > 0
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl Authorities {
    /// The issuing CAs that holders have certificates of and proxies accept nothing of: their root is in the bundle no more,
    /// or they are revoked.
    #[must_use]
    pub fn cut_off(&self, coverage: &Coverage) -> Vec<AuthorityId> {
        let accepted = |id: &AuthorityId| {
            let issuing = self.roots.iter().flat_map(|root| &root.issuing).find(|issuing| issuing.id == *id);
            // A root may sign leaves itself.
            issuing.map_or_else(|| self.root(id).is_some(), |issuing| !is_revoked(self, issuing))
        };
        coverage
            .by_authority
            .iter()
            .filter(|(id, count)| **count > 0 && !accepted(id))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Issuing CAs that are declared compromised while their root is not: whoever has the key of one can sign with it until it
    /// ends or is on a revocation list.
    pub fn tainted_issuing(&self, now: OffsetDateTime) -> impl Iterator<Item = &IssuingAuthority> {
        let sound = self.roots.iter().filter(|root| root.tainted_at.is_none());
        sound.flat_map(|root| &root.issuing).filter(move |issuing| {
            now < issuing.not_after && self.issuing_tainted_at(issuing).is_some() && !is_revoked(self, issuing)
        })
    }
}

#[cfg(test)]
#[path = "unsettled_tests.rs"]
mod tests;
