//! What an operator should know about lists.

use time::OffsetDateTime;

use super::{ListIssuers, ListKey, Revocations};
use crate::clock::rfc3339;

impl Revocations {
    /// What an operator should know about lists that are not valid, or missing: why none are served although something is
    /// revoked.
    #[must_use]
    pub fn alert(&self, issuers: &ListIssuers, now: OffsetDateTime) -> Option<String> {
        for list in &self.lists {
            let issuer = &list.issuer;
            let refused = "by this clock, and proxies may refuse every certificate";
            if list.next_update <= now.unix_timestamp() {
                return Some(format!("the revocation list of {issuer} has ended {refused}"));
            }
            if let Some(at) = list.begins().filter(|at| *at > now) {
                return Some(format!("the revocation list of {issuer} starts only at {} {refused}", rfc3339(at)));
            }
        }
        if !self.lists.is_empty() || self.entries.is_empty() && self.failed_at == 0 {
            return None;
        }
        let elsewhere = issuers.required().iter().filter(|id| issuers.key(id) == ListKey::Elsewhere);
        let others: Vec<&str> = elsewhere.map(|id| id.as_str()).collect();
        let why = match others.is_empty() {
            true => "they could not be made, see the log; this is tried again".to_owned(),
            false => format!(
                "each authority needs one, also {}, whose list cannot be signed here, until nothing chains to it",
                others.join(", ")
            ),
        };
        let revoked = match self.entries.len() {
            0 => "revoked certificates are accepted".to_owned(),
            count => format!("{count} certificates are revoked"),
        };
        Some(format!("{revoked}, but no revocation lists are served: {why}"))
    }
}
