//! What is seen at one moment of everything that decisions about authorities depend on.

use std::collections::BTreeMap;
use std::sync::Arc;

use signet_core::authority::AuthorityId;
use signet_core::holder::{Coverage, Lag};
use signet_core::rotation::{Authorities, Observed, Unsettled};
use signet_core::seams::store::JournalVersion;
use signet_core::source::{Offer, ReplicaSource};
use time::OffsetDateTime;

/// What was seen at one moment.
#[derive(Debug, Clone)]
pub struct Observation {
    /// When.
    pub now: OffsetDateTime,
    /// The version of the journal.
    pub version: JournalVersion,
    /// The journal.
    pub authorities: Authorities,
    /// Who knows which bundle.
    pub coverage: Coverage,
    /// Who lacks the bundle that is waited for, and who refuses bundles.
    pub lag: Lag,
    /// When the last certificate of each issuing CA ends.
    pub last_ends: BTreeMap<AuthorityId, OffsetDateTime>,
    /// The CA that somebody else runs, as it counts now.
    pub offer: Option<Offer>,
    /// What this replica's own source is like.
    pub source: ReplicaSource,
    /// Where this replica is configured to publish the bundle.
    pub publishers: Arc<Vec<String>>,
    /// Whether the clock can be relied on.
    pub clock_is_steady: bool,
}

impl Observation {
    /// The same as the rules of rotation want it.
    #[must_use]
    pub fn seen(&self) -> Observed<'_> {
        Observed {
            coverage: &self.coverage,
            lag: self.lag,
            last_ends: &self.last_ends,
            offer: self.offer.as_ref(),
            source: &self.source,
            publishers: &self.publishers,
            clock_is_steady: self.clock_is_steady,
        }
    }

    /// The publishers that lack the bundle that is waited for.
    #[must_use]
    pub fn lacking(&self) -> Vec<String> {
        self.coverage.published.lacking(self.authorities.awaited_sequence(), &self.publishers, self.now)
    }

    /// What is not over.
    #[must_use]
    pub fn unsettled(&self) -> Unsettled {
        Unsettled::of(&self.authorities, &self.seen(), self.now)
    }
}
