//! The CA that a source brings.

use super::SourceFingerprint;
use crate::authority::{AuthorityId, IssuingCa, Root};
use crate::revocation::{GivenLists, RevocationList};

/// A CA that somebody else runs, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Every root that peers must know.
    pub roots: Vec<Root>,
    /// The root that `issuing` chains to; one of `roots`.
    pub signer: AuthorityId,
    /// The CA that signs leaves. Its key is in custody already, and stays there when the backend moves on.
    pub issuing: IssuingCa,
    /// Revocation lists that the operator made, one for each CA of the chain, or none.
    pub revocation_lists: Vec<RevocationList>,
    /// Stands for all of this among replicas. It must not change unless the operator changes something.
    pub fingerprint: SourceFingerprint,
}

impl Offer {
    /// What it says about revocation lists.
    #[must_use]
    pub fn given_lists(&self) -> GivenLists<'_> {
        match self.revocation_lists.as_slice() {
            [] if self.fingerprint.has_unusable_lists() => GivenLists::Unknown,
            [] => GivenLists::NothingRevoked,
            lists => GivenLists::Lists(lists),
        }
    }
}
