//! Whether there should be lists, and whether there can be.

use std::time::Duration;

use time::OffsetDateTime;

use super::{GivenLists, ListIssuers, ListKey, RevocationList, Revocations};
use crate::authority::AuthorityId;
use crate::time_math;

/// How long before its end a list is given up that nobody renews here: clocks of other hosts may be ahead.
pub const LIST_MARGIN: Duration = Duration::from_secs(300);

/// Whether there should be revocation lists, and can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListNeed {
    /// Nothing is revoked.
    Needless,
    /// Something is, and this authority can have no list, so that there can be none for the others either.
    Impossible(AuthorityId),
    /// Something is, and each authority's list can be made or is given.
    Wanted,
}

impl Revocations {
    /// Whether there should be lists at `now`: something is revoked, by an entry here or by whoever gave lists; and each
    /// authority's list can be made, is given, or is kept.
    #[must_use]
    pub fn need(&self, issuers: &ListIssuers, given: GivenLists<'_>, now: OffsetDateTime) -> ListNeed {
        let kept = |id: &AuthorityId| self.kept(id, issuers, given, now).is_some();
        let revoked = !self.entries.is_empty() || given.says_revoked(issuers) || issuers.required().iter().any(kept);
        if !revoked {
            return ListNeed::Needless;
        }
        let can = |id: &AuthorityId| issuers.key(id) != ListKey::Elsewhere || given.list_of(id).is_some() || kept(id);
        issuers.required().iter().find(|id| !can(id)).cloned().map_or(ListNeed::Wanted, ListNeed::Impossible)
    }

    /// The list in use of this issuer, if it is to go on as its owner made it: it is good, nobody here could make it so,
    /// and its owner gives neither another one nor says that nothing is revoked.
    #[must_use]
    pub fn kept(
        &self,
        issuer: &AuthorityId,
        issuers: &ListIssuers,
        given: GivenLists<'_>,
        now: OffsetDateTime,
    ) -> Option<&RevocationList> {
        let is_good = |list: &&RevocationList| list.next_update > time_math::after(now, LIST_MARGIN).unix_timestamp();
        let list = self.list_of(issuer).filter(is_good)?;
        let is_replaced = given == GivenLists::NothingRevoked || given.list_of(issuer).is_some();
        (!is_replaced && !issuers.renews(issuer)).then_some(list)
    }
}
