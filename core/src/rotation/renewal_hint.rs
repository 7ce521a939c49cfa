//! Renewal hints: which certificates holders should replace before they would by themselves.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::state::{Authorities, AuthorityState};
use crate::authority::{AuthorityId, IssuingCa};
use crate::revocation::Revoked;
use crate::unknown_fields::Unknown;

/// How many revoked certificates a hint names at most: agents read no more of them.
const MAX_SERIALS: usize = 4096;

/// A renewal hint that outlives what it is about: agents that come late must hear of it too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptHint {
    /// Key identifiers of issuing CAs, hexadecimal as in the leaves below them.
    pub authorities: Vec<String>,
    /// Since when another one signs, seconds since 1970.
    pub since: i64,
    /// When the last certificate of theirs has ended, seconds since 1970.
    pub until: i64,
    /// Whether peers refuse those certificates already.
    pub urgent: bool,
    /// What this program does not know of it.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A hint to agents: certificates of these issuing CAs are to be renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalHint {
    /// The key identifiers of the issuing CAs under one compromised root, hexadecimal as in the leaves below them.
    pub authorities: Vec<String>,
    /// Serial numbers of single certificates, hexadecimal as they are recorded.
    pub serials: Vec<String>,
    /// Since when another one signs, or since when the newest of the serials is revoked.
    pub since: OffsetDateTime,
    /// Whether peers refuse those certificates already, so that there is nothing to spread.
    pub urgent: bool,
}

impl Authorities {
    /// The hints that follow from the journal: a compromised root that has been replaced, issuing CAs whose certificates
    /// proxies refuse because they are revoked, and what was hinted at before for authorities that are gone.
    #[must_use]
    pub fn renewal_hints(&self) -> Vec<RenewalHint> {
        let time = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let tainted = self.roots.iter().filter(|root| root.state == AuthorityState::Tainted).map(|root| RenewalHint {
            authorities: root.issuing.iter().map(|issuing| issuing.key_id()).collect(),
            serials: Vec::new(),
            since: root.since,
            urgent: false,
        });
        let issuing = self.roots.iter().flat_map(|root| &root.issuing);
        let revoked = issuing.filter_map(|issuing| {
            let since = time(self.revocation_of(issuing)?.at);
            Some(RenewalHint { authorities: vec![issuing.key_id()], serials: Vec::new(), since, urgent: true })
        });
        let kept = self.hints.iter().map(|hint| RenewalHint {
            authorities: hint.authorities.clone(),
            serials: Vec::new(),
            since: time(hint.since),
            urgent: hint.urgent,
        });
        // The urgent ones first: of several hints for one certificate the first counts.
        let mut all: Vec<RenewalHint> = tainted.chain(revoked).chain(kept).collect();
        all.retain(|hint| !hint.authorities.is_empty());
        all.extend(self.renewal_of_revoked(time));
        all.sort_by_key(|hint| !hint.urgent);
        all
    }

    /// One hint for everything that is revoked by serial number, the newest [`MAX_SERIALS`] of them.
    fn renewal_of_revoked(&self, time: impl Fn(i64) -> OffsetDateTime) -> Option<RenewalHint> {
        let mut entries: Vec<&Revoked> = self.revocations.entries.iter().collect();
        entries.sort_by(|one, other| (other.at, &one.serial).cmp(&(one.at, &other.serial)));
        let since = time(entries.first()?.at);
        let serials = entries.into_iter().take(MAX_SERIALS).map(|entry| entry.serial.clone()).collect();
        Some(RenewalHint { authorities: Vec::new(), serials, since, urgent: true })
    }

    /// Removes a compromised root, and keeps the hint to renew what chains to it: nobody accepts that any more.
    pub fn revoke_root(&mut self, id: &AuthorityId, now: OffsetDateTime) {
        if let Some(root) = self.root(id).cloned() {
            let until = root.issuing.iter().map(|issuing| issuing.not_after).max().unwrap_or(now);
            self.hint(root.issuing.iter().map(|issuing| issuing.key_id()).collect(), now, until, true);
        }
        self.remove_root(id);
    }

    /// Has agents told that certificates of an issuing CA are to be renewed, which has been replaced already.
    pub fn taint_issuing(&mut self, id: &AuthorityId, now: OffsetDateTime) {
        let found = self.roots.iter().flat_map(|root| &root.issuing).find(|issuing| issuing.id == *id).cloned();
        if let Some(issuing) = found {
            self.hint(vec![issuing.key_id()], now, issuing.not_after, false);
        }
    }

    /// Since when holders are told to leave this issuing CA although its root goes on; seconds since 1970.
    #[must_use]
    pub fn issuing_tainted_at(&self, issuing: &IssuingCa) -> Option<i64> {
        let own = [issuing.key_id()];
        self.hints.iter().find(|hint| hint.authorities == own).map(|hint| hint.since)
    }

    fn hint(&mut self, authorities: Vec<String>, now: OffsetDateTime, until: OffsetDateTime, urgent: bool) {
        let now = now.unix_timestamp();
        self.hints.retain(|hint| hint.until > now && hint.authorities != authorities);
        if !authorities.is_empty() {
            self.hints.push(KeptHint {
                authorities,
                since: now,
                until: until.unix_timestamp(),
                urgent,
                unknown: Unknown::default(),
            });
        }
    }
}
