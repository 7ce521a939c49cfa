//! What the rules of rotation look at: what is configured, and what the records and the backend say.

use std::collections::BTreeMap;
use std::time::Duration;

use time::OffsetDateTime;

use super::state::RootAuthority;
use crate::authority::AuthorityId;
use crate::holder::{Coverage, Lag};
use crate::source::{Offer, ReplicaSource};

/// The configured lifetimes of authorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Lifetime of a root.
    pub root_ttl: Duration,
    /// Lifetime of an issuing CA.
    pub issuing_ttl: Duration,
}

/// When the state of authorities may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Whether roots are replaced without being asked.
    pub automatic: bool,
    /// When the next root is prepared, in percent of the active one's life.
    pub prepare_at: u8,
    /// When it is activated at the earliest, in percent of the active one's life.
    pub activate_at: u8,
    /// How many of all holders must have received a root before it signs, in percent.
    pub coverage: u8,
    /// The least time between publishing a root and signing under it: for those who learn roots in other ways than
    /// from us (F-1a), and for replicas that lag.
    pub propagation: Duration,
    /// Lifetime of a revocation list; it is renewed at half of it.
    pub list_ttl: Duration,
    /// Who lets a former root go that nothing chains to any more.
    pub retirement: Retirement,
    /// The longest lifetime of a workload's certificate.
    pub leaf_ttl: Duration,
}

/// Who takes the last step of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retirement {
    /// It is taken by itself.
    Automatic,
    /// An operator, when static files of roots are in order everywhere.
    Manual,
}

impl Retirement {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Automatic, Self::Manual];

    /// The name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Manual => "manual",
        }
    }
}

/// How long a root stays at least after it has stopped to sign, and after its last certificate has ended: what was on
/// record before then may still be on its way to its holder, and clocks differ.
pub const SETTLE: Duration = Duration::from_secs(15);

/// What is seen of the world at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// Who has received which bundle.
    pub coverage: &'a Coverage,
    /// Who lacks the bundle that is waited for, and who refuses bundles.
    pub lag: Lag,
    /// When the last certificate of each issuing CA ends.
    pub last_ends: &'a BTreeMap<AuthorityId, OffsetDateTime>,
    /// The CA that somebody else runs, as it counts now: what this replica's source brings or, when others have
    /// something newer, what the journal holds of that.
    pub offer: Option<&'a Offer>,
    /// The source that this replica is configured with.
    pub source: &'a ReplicaSource,
    /// Where this replica is configured to publish the bundle; see [`Publications`].
    ///
    /// [`Publications`]: crate::publication::Publications
    pub publishers: &'a [String],
    /// False for a while after the wall clock has jumped: what a clock that is wrong makes look ended or expired may be
    /// alive, so nothing is activated or removed then.
    pub clock_is_steady: bool,
}

impl Observed<'_> {
    /// When the last certificate that chains to `root` ends, if any was ever issued.
    #[must_use]
    pub fn needed_until(&self, root: &RootAuthority) -> Option<OffsetDateTime> {
        root.issuing.iter().filter_map(|issuing| self.last_ends.get(&issuing.id)).max().copied()
    }

    /// The publishers that lack a bundle with `root`, so that it does not sign yet.
    #[must_use]
    pub fn lacking(&self, root: &RootAuthority, now: OffsetDateTime) -> Vec<String> {
        self.coverage.published.lacking(root.published, self.publishers, now)
    }

    /// Live holders whose newest certificate chains to `root`.
    #[must_use]
    pub fn holders_of(&self, root: &RootAuthority) -> u64 {
        root.issuing.iter().filter_map(|issuing| self.coverage.by_authority.get(&issuing.id)).sum()
    }

    /// When nothing that chains to `root`, which signs no more, is valid any more by this clock.
    #[must_use]
    pub fn drained_at(&self, root: &RootAuthority) -> OffsetDateTime {
        self.needed_until(root).map_or(root.since, |end| end.max(root.since))
    }
}
