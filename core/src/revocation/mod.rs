//! What is revoked, and the signed lists that say so.

mod entry;
mod list;

pub use entry::{RevocationReason, Revoked};
pub use list::RevocationList;

use serde::{Deserialize, Serialize};

use crate::document::Unknown;

/// Revoked certificates and the signed lists of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocations {
    /// The number of the newest lists (RFC 5280 section 5.2.3); never reused.
    pub number: u64,
    /// Revoked certificates that have not ended.
    pub entries: Vec<Revoked>,
    /// Nothing, or one list per authority in the journal.
    pub lists: Vec<RevocationList>,
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
}
