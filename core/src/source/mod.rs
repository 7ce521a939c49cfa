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

use crate::revocation::{GivenLists, RevocationList};

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
    /// Whether nothing that this replica is configured with can sign leaves with the issuing CA in use, whose key a backend
    /// keeps, or certify another one in its place.
    pub lacks_signer: bool,
    /// The revocation lists of a backend that was left and has signed leaves.
    pub former_lists: Vec<RevocationList>,
}

impl ReplicaSource {
    /// What is said about revocation lists, `offer` being what counts: lists of a backend that was left are such as are to be had at
    /// any time, beside those of ours.
    #[must_use]
    pub fn given_lists<'a>(&'a self, offer: Option<&'a Offer>) -> GivenLists<'a> {
        match offer {
            Some(offer) => offer.given_lists(),
            None if self.former_lists.is_empty() => GivenLists::Unknown,
            None => GivenLists::OnDemand(&self.former_lists),
        }
    }

    /// Whether something was adopted after what it brings.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        self.fingerprint.is_some() && self.standing == SourceStanding::Superseded
    }
}
