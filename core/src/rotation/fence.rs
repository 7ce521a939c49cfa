//! What may still leave the CA, decided by the journal as it is at the instant of the record, never by what a replica
//! remembers of it: one that was asleep meets this before anything that it has signed goes out.

use serde::{Deserialize, Serialize};

use super::revocation_lists::is_revoked;
use super::state::{Authorities, IssuingAuthority, RootAuthority};
use crate::audit::{AuditEvent, EventKind};
use crate::authority::AuthorityId;

/// The part of the journal that a certificate is held against when it is recorded. Small, so that storage can look at
/// it in the transaction of every batch. The default lets nothing out: without a journal nothing signs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The oldest bundle that may go out with a workload's certificate.
    pub oldest: u64,
    /// Issuing CAs that may sign for workloads: those of the root that signs.
    pub workloads: Vec<AuthorityId>,
    /// Issuing CAs that may sign the CA's own serving certificate: clients that know an old root only, from a file, must
    /// be able to reach the CA until that root is left.
    pub serving: Vec<AuthorityId>,
}

impl Fence {
    /// The fence that follows from `authorities`.
    #[must_use]
    pub fn of(authorities: &Authorities) -> Self {
        let signers =
            |root: &RootAuthority| signers(authorities, root).iter().map(|one| one.id.clone()).collect::<Vec<_>>();
        // A holder never forgets a root that it is counted for: so no bundle goes out that lacks one which is in the
        // newest. One with a root too many does no harm, unless that one is compromised.
        let published = authorities.roots.iter().map(|root| root.published).max().unwrap_or_default();
        Self {
            oldest: published.max(authorities.without_compromised),
            workloads: authorities.active().map(signers).unwrap_or_default(),
            serving: authorities.roots.iter().filter(|root| root.may_serve()).flat_map(signers).collect(),
        }
    }

    /// Whether a certificate of this kind, of this issuing CA and with this bundle may leave.
    #[must_use]
    pub fn admits(&self, kind: EventKind, issuing: &str, bundle_sequence: u64) -> bool {
        let is_among = |all: &[AuthorityId]| all.iter().any(|one| one.as_str() == issuing);
        match kind {
            // No bundle goes out with it.
            EventKind::ServingCertificate => is_among(&self.serving),
            _ => is_among(&self.workloads) && bundle_sequence >= self.oldest,
        }
    }

    /// Whether what `event` records may happen: everything but the release of a certificate may.
    #[must_use]
    pub fn admits_event(&self, event: &AuditEvent) -> bool {
        event.released().is_none_or(|what| self.admits(event.kind, &what.authority, what.bundle_sequence))
    }
}

/// The issuing CAs of a root that may sign something, newest last: not revoked, with their revocation list published, and
/// not left behind on purpose; under the root that signs the newest of them always, since that is the one that does.
pub(super) fn signers<'a>(authorities: &Authorities, root: &'a RootAuthority) -> Vec<&'a IssuingAuthority> {
    let may = |one: &&IssuingAuthority| one.after_sequence == 0 && !is_revoked(authorities, one);
    let usable: Vec<&IssuingAuthority> = root.issuing.iter().filter(may).collect();
    let newest = usable.last().filter(|_| root.is_active()).map(|one| &one.id);
    let goes_on = |one: &&IssuingAuthority| Some(&one.id) == newest || authorities.issuing_tainted_at(one).is_none();
    usable.iter().copied().filter(goes_on).collect()
}

#[cfg(test)]
#[path = "fence_tests.rs"]
mod tests;
