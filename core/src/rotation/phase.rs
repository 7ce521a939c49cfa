//! Where a rotation stands, and when it will be over.

use time::OffsetDateTime;

use super::rules::{Observed, SETTLE};
use super::state::{Authorities, AuthorityState, RootAuthority};
use crate::time_math;

/// Where a rotation stands, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// There is no authority yet.
    None,
    /// The root of the adopted source signs, and nothing else is in the bundle but what an operator put there.
    Settled,
    /// A root is on its way to sign: one that holders do not know yet, or that of the source that was adopted
    /// last.
    Propagate,
    /// A former root stays until nothing chains to it.
    Drain,
    /// A compromised root signs still, or is still in the bundle.
    Emergency,
}

impl Phase {
    /// Where `authorities` stand.
    #[must_use]
    pub fn of(authorities: &Authorities) -> Self {
        let Some(active) = authorities.active() else { return Self::None };
        let has = |is: fn(&RootAuthority) -> bool| authorities.roots.iter().any(|root| is(root) && !root.pinned);
        // Not listed by the files although there are some, or somebody else's although there are none: its successor may
        // have been known for long, or may not have been made yet, and is then not a prepared one.
        let is_left = !active.pinned && (active.key.is_none() || authorities.roots.iter().any(|root| root.pinned));
        if active.tainted_at.is_some() || has(|root| root.state == AuthorityState::Tainted) {
            Self::Emergency
        } else if authorities.prepared().is_some() {
            Self::Propagate
        } else if has(RootAuthority::is_old) {
            Self::Drain
        } else if is_left {
            Self::Propagate
        } else {
            Self::Settled
        }
    }

    /// Every phase.
    pub const ALL: [Self; 5] = [Self::None, Self::Settled, Self::Propagate, Self::Drain, Self::Emergency];

    /// The name shown to people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Settled => "settled",
            Self::Propagate => "propagate",
            Self::Drain => "drain",
            Self::Emergency => "emergency",
        }
    }
}

impl Authorities {
    /// The bundle sequence that holders are waited for: that of the prepared root, else the newest.
    #[must_use]
    pub fn awaited_sequence(&self) -> u64 {
        self.prepared().map_or(self.bundle_sequence, |root| root.published)
    }

    /// When what is in progress will be over at the latest, if time alone brings it about: holders that lag lose their
    /// certificates, and certificates of a former root end.
    #[must_use]
    pub fn expected_end(&self, seen: &Observed<'_>) -> Option<OffsetDateTime> {
        let ends = |root: &RootAuthority| seen.drained_at(root).max(root.leaving_since().unwrap_or(root.since));
        match Phase::of(self) {
            Phase::Drain => {
                let old = self.roots.iter().filter(|root| root.is_old() && !root.pinned);
                old.map(ends).max().map(|end| time_math::after(end, SETTLE))
            }
            Phase::Propagate => seen.last_ends.values().max().copied(),
            _ => None,
        }
    }
}
