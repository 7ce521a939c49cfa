//! Claims on requests for the certificates of pods: the statements, which are the same for every database, and what they mean.

use signet_core::audit::AuditEvent;
use signet_core::record_before_release::ClaimName;
use signet_core::seams::pod_certificates::Claim;
use signet_core::seams::store::StoreError;
use time::OffsetDateTime;

use super::holders::micros;

/// Claims a request that nobody else has, and that has no answer. Its parameters are UID, cluster, claimant, now and until.
pub(super) const CLAIM: &str = "INSERT INTO pod_certificate (uid, cluster, claimant, claimed_at, claimed_until) \
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (uid) DO UPDATE SET claimant = excluded.claimant, \
    claimed_at = excluded.claimed_at, claimed_until = excluded.claimed_until \
    WHERE pod_certificate.chain IS NULL AND pod_certificate.done_at IS NULL \
    AND (pod_certificate.claimant = excluded.claimant OR pod_certificate.claimed_until <= excluded.claimed_at)";

/// What there is of one that could not be claimed.
pub(super) const LOOK: &str = "SELECT claimed_until, chain, done_at FROM pod_certificate WHERE uid = $1";

/// Keeps the certificate of a request for its claimant, if there is none.
pub(super) const KEEP: &str = "UPDATE pod_certificate SET chain = $3 WHERE uid = $1 AND claimant = $2 AND chain IS NULL \
    AND done_at IS NULL";

/// Takes back what was kept in the same transaction: its record was not.
pub(super) const KEEP_NOT: &str = "UPDATE pod_certificate SET chain = NULL WHERE uid = $1 AND claimant = $2";

/// Notes that a request was answered.
pub(super) const FINISH: &str = "UPDATE pod_certificate SET done_at = $2 WHERE uid = $1 AND done_at IS NULL";

/// Forgets some of those that were claimed before.
pub(super) const FORGET: &str = "DELETE FROM pod_certificate WHERE uid IN \
    (SELECT uid FROM pod_certificate WHERE claimed_at < $1 LIMIT $2)";

/// A row as [`LOOK`] reads it.
pub(super) type ClaimRow = (i64, Option<String>, Option<i64>);

/// What a row says to whoever could not claim it.
///
/// # Errors
/// [`StoreError::Damaged`] when a time was never written.
pub(super) fn claim_of((until, chain, done_at): ClaimRow) -> Result<Claim, StoreError> {
    let damaged = || StoreError::Damaged("a claim on a pod certificate has no valid end".to_owned());
    match (chain, done_at) {
        (_, Some(_)) => Ok(Claim::Done),
        (Some(chain), None) => Ok(Claim::Signed(chain)),
        (None, None) => micros(until).map(Claim::HeldByAnother).ok_or_else(damaged),
    }
}

/// One claim as memory keeps it.
#[derive(Debug, Clone)]
pub(super) struct ClaimEntry {
    claimant: String,
    pub(super) claimed_at: i64,
    claimed_until: i64,
    chain: Option<String>,
    done_at: Option<i64>,
}

impl ClaimEntry {
    /// One that was made now.
    pub(super) fn new(name: &ClaimName, now: OffsetDateTime, until: OffsetDateTime) -> Self {
        let (claimed_at, claimed_until) = (AuditEvent::micros(now), AuditEvent::micros(until));
        Self { claimant: name.claimant.clone(), claimed_at, claimed_until, chain: None, done_at: None }
    }

    fn is_open(&self) -> bool {
        self.chain.is_none() && self.done_at.is_none()
    }

    /// Whether another claim takes its place.
    pub(super) fn yields_to(&self, other: &Self) -> bool {
        self.is_open() && (self.claimant == other.claimant || self.claimed_until <= other.claimed_at)
    }

    /// Whether a certificate may be kept for this claimant.
    pub(super) fn takes(&self, claimant: &str) -> bool {
        self.is_open() && self.claimant == claimant
    }

    /// Keeps one.
    pub(super) fn keep(&mut self, chain: &str) {
        self.chain = Some(chain.to_owned());
    }

    /// Notes that it was answered.
    pub(super) fn finish(&mut self, at: OffsetDateTime) {
        self.done_at.get_or_insert(AuditEvent::micros(at));
    }

    /// What it says to whoever could not have it.
    pub(super) fn row(&self) -> ClaimRow {
        (self.claimed_until, self.chain.clone(), self.done_at)
    }
}
