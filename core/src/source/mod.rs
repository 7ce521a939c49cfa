//! Where authorities come from: an operator's files, another system, or our own backend, which makes them when it is asked
//! to; and which of several sources is the adopted one.

mod adopted;
mod fingerprint;
mod offer;
mod revoked_by;

pub use adopted::{AdoptedSources, SourceStanding};
pub use fingerprint::SourceFingerprint;
pub use offer::{Offer, OfferedCa};
pub use revoked_by::RevokedBy;

/// The source that one replica is configured with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicaSource {
    /// The CA that it brings, if it does; not to be used while it is superseded, unless an operator wants that.
    pub offer: Option<Offer>,
    /// What stands for that; `None` while nothing usable comes from it.
    pub fingerprint: Option<SourceFingerprint>,
    /// Whether it is what was adopted last.
    pub standing: SourceStanding,
    /// Who revokes what it certifies.
    pub revoked_by: RevokedBy,
}

impl ReplicaSource {
    /// Whether something was adopted after what it brings.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        self.fingerprint.is_some() && self.standing == SourceStanding::Superseded
    }
}
