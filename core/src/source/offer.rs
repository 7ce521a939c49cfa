//! The CA that a source brings.

use time::OffsetDateTime;

use super::SourceFingerprint;
use crate::authority::{AuthorityId, IssuingCa, Root};
use crate::revocation::{GivenLists, RevocationList};

/// Who signs leaves with a CA that somebody else runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OfferedCa {
    /// A CA that comes with it. Its key is in custody already, and stays there when the backend moves on.
    Given(IssuingCa),
    /// Issuing CAs of ours, which the backend certifies under the signer when it is asked to
    /// ([`certify`](crate::seams::upstream_authority::UpstreamAuthority::certify)).
    Certified {
        /// None of them ends later than this: something above them ends then.
        until: OffsetDateTime,
    },
}

/// A CA that somebody else runs, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Every root that peers must know.
    pub roots: Vec<Root>,
    /// The root that what signs leaves chains to; one of `roots`.
    pub signer: AuthorityId,
    /// What signs leaves.
    pub issuing: OfferedCa,
    /// Revocation lists that the operator made, one for each CA of the chain, or none.
    pub revocation_lists: Vec<RevocationList>,
    /// Whether they are to be had at any time, so that they are used only while something is revoked. Then there may be one for
    /// some of the chain only, and some for other CAs; and nothing is said by there being none.
    pub lists_on_demand: bool,
    /// Stands for all of this among replicas. It must not change unless the operator changes something.
    pub fingerprint: SourceFingerprint,
}

impl Offer {
    /// The CA that signs leaves, when it comes with the offer.
    #[must_use]
    pub fn given(&self) -> Option<&IssuingCa> {
        match &self.issuing {
            OfferedCa::Given(issuing) => Some(issuing),
            OfferedCa::Certified { .. } => None,
        }
    }

    /// Until when an issuing CA of ours may last that is certified under `root`; `None` when the backend certifies none there.
    #[must_use]
    pub fn certifies_until(&self, root: &AuthorityId) -> Option<OffsetDateTime> {
        match &self.issuing {
            OfferedCa::Certified { until } if self.signer == *root => Some(*until),
            OfferedCa::Certified { .. } | OfferedCa::Given(_) => None,
        }
    }

    /// What it says about revocation lists.
    #[must_use]
    pub fn given_lists(&self) -> GivenLists<'_> {
        match self.revocation_lists.as_slice() {
            lists if self.lists_on_demand => GivenLists::OnDemand(lists),
            [] if self.fingerprint.has_unusable_lists() => GivenLists::Unknown,
            [] => GivenLists::NothingRevoked,
            lists => GivenLists::Lists(lists),
        }
    }
}
