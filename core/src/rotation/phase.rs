//! Where a rotation stands.

use super::state::{Authorities, AuthorityState, RootAuthority};
use super::unsettled::Unsettled;

/// Where a rotation stands, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// There is no authority yet.
    None,
    /// The root of the adopted source signs, and nothing else is in the bundle but what an operator put there.
    Settled,
    /// The same, but holders refuse what they are to have, or this replica was left behind.
    Degraded,
    /// A root is on its way to sign: one that holders do not know yet, or that of the source that was adopted
    /// last.
    Propagate,
    /// A former root stays until nothing chains to it.
    Drain,
    /// A compromised authority signs still, or is still accepted; or holders are accepted by nobody.
    Emergency,
}

impl Phase {
    /// Where the roots of `authorities` stand. What people are told is [`with`](Self::with) what else is not over.
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

    /// The same in view of what else is not over.
    #[must_use]
    pub fn with(self, unsettled: &Unsettled) -> Self {
        match self {
            Self::None => Self::None,
            _ if unsettled.is_emergency() => Self::Emergency,
            Self::Settled if !unsettled.is_nothing() => Self::Degraded,
            other => other,
        }
    }

    /// Every phase.
    pub const ALL: [Self; 6] =
        [Self::None, Self::Settled, Self::Degraded, Self::Propagate, Self::Drain, Self::Emergency];

    /// The name shown to people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Settled => "settled",
            Self::Degraded => "degraded",
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
}
