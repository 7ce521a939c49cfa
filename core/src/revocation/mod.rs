//! What is revoked, and the signed lists that say so: one list for every authority, or none at all. Verifiers that have a
//! list for one CA of a chain demand one for each.

mod alert;
mod elsewhere;
mod entry;
mod issuers;
mod list;
mod list_due;
mod list_need;

pub use elsewhere::{RevokedElsewhere, named};
pub use entry::{RevocationReason, Revoked};
pub use issuers::ListIssuers;
pub(crate) use issuers::ListKey;
pub use list::{GivenLists, RevocationList};
pub use list_need::{LIST_MARGIN, ListNeed};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::authority::AuthorityId;
use crate::time_math;
use crate::unknown_fields::Unknown;

/// Revoked certificates and the signed lists of them, as the journal keeps them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocations {
    /// The number of the newest lists (RFC 5280 section 5.2.3); never reused.
    pub number: u64,
    /// Revoked certificates that have not ended.
    pub entries: Vec<Revoked>,
    /// Nothing, or one list per authority in the journal.
    pub lists: Vec<RevocationList>,
    /// Which of them whoever has certified them is to revoke, or has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<RevokedElsewhere>,
    /// When lists were wanted but could not be made, so that none are served; seconds since 1970, 0 for never.
    #[serde(default)]
    pub failed_at: i64,
    /// What this program does not know of it.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Revocations {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The entry of the certificate with this serial number and this issuer: CAs of an operator's may share serial numbers.
    #[must_use]
    pub fn find(&self, serial: &str, issuer: &AuthorityId) -> Option<&Revoked> {
        self.entries.iter().find(|entry| entry.serial == serial && entry.issuer == *issuer)
    }

    /// The list in use of this issuer.
    #[must_use]
    pub fn list_of(&self, issuer: &AuthorityId) -> Option<&RevocationList> {
        self.lists.iter().find(|list| list.issuer == *issuer)
    }

    /// Adds an entry, unless there is one for that certificate; the lists themselves are signed afterwards.
    pub fn add(&mut self, entry: Revoked) {
        if self.find(&entry.serial, &entry.issuer).is_none() {
            self.entries.push(entry);
        }
    }

    /// Takes the certificate with this serial number off.
    pub fn clear(&mut self, serial: &str) {
        self.entries.retain(|entry| entry.serial != serial);
        self.forget_elsewhere();
    }

    /// Drops entries of certificates that ended before `now`, which no verifier accepts anyway.
    pub fn forget_ended(&mut self, now: OffsetDateTime) {
        let limit = time_math::before(now, list_due::KEEP_ENTRY).unix_timestamp();
        self.entries.retain(|entry| entry.not_after > limit);
        self.forget_elsewhere();
    }
}

#[cfg(test)]
mod tests;
