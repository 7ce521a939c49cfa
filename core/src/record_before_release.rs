//! The rule "record before release" as types: a signed certificate is [`Unreleased`] until a [`Recorded`] proof that
//! its record is durable opens it (invariant 2).

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::certificate::{CertificateChain, Serial};
use crate::digest::sha256;

/// Proof that the record of one certificate is on durable storage. Used up by the release it permits.
#[derive(Debug, PartialEq, Eq)]
pub struct Recorded {
    serial: Option<Serial>,
    sequence: u64,
}

impl Recorded {
    /// Vouches that the event with this `sequence`, which names `serial`, survives a crash from now on.
    ///
    /// For implementations of [`AuditStore`](crate::seams::store::AuditStore) only, after their commit returned.
    #[must_use]
    pub fn durable(sequence: u64, serial: Option<Serial>) -> Self {
        Self { serial, sequence }
    }

    /// The position of the record in the log.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

/// The record that was made durable is not that of the certificate to release: a bug, and nothing leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bug: the durable record {sequence} does not name the certificate that is to be released")]
pub struct WrongRecord {
    sequence: u64,
}

/// A signed and verified chain that may not leave the process yet. There is no way to its content but
/// [`release`](Self::release).
pub struct Unreleased {
    chain: CertificateChain,
    serial: Serial,
    life: (OffsetDateTime, OffsetDateTime),
}

impl Unreleased {
    /// Only [`verify::check_issued`](crate::verify::check_issued) makes one.
    pub(crate) fn new(chain: CertificateChain, serial: Serial, life: (OffsetDateTime, OffsetDateTime)) -> Self {
        Self { chain, serial, life }
    }

    /// Start and end of its validity, for its record: of what somebody else has signed, they are not those that were decided.
    #[must_use]
    pub fn life(&self) -> (OffsetDateTime, OffsetDateTime) {
        self.life
    }

    /// The serial of the leaf, for its record.
    #[must_use]
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// SHA-256 of the leaf (DER), for its record.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        sha256(self.chain.leaf())
    }

    /// The chain, to be kept with a claim in the transaction of its record: whoever comes after this process hands out the same.
    #[must_use]
    pub fn kept_for(&self, claim: ClaimName) -> Kept {
        Kept::new(claim, self.chain.pem())
    }

    /// The leaf, to be kept in the transaction of its record, so that whoever has signed it can be asked to revoke it.
    #[must_use]
    pub fn kept_to_revoke(&self) -> Kept {
        Kept::of_leaf(self.chain.leaf().clone())
    }

    /// Hands out the chain against the proof that its record is durable.
    ///
    /// # Errors
    /// [`WrongRecord`] when the proof is for another certificate; the chain is dropped.
    pub fn release(self, recorded: Recorded) -> Result<CertificateChain, WrongRecord> {
        if recorded.serial == Some(self.serial) {
            Ok(self.chain)
        } else {
            Err(WrongRecord { sequence: recorded.sequence })
        }
    }
}

/// A claim on one request, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimName {
    /// The UID of the request.
    pub uid: String,
    /// The process that has claimed it.
    pub claimant: String,
}

/// What is kept of a certificate with its record: its chain, for the case that this process does not come to hand it out, its
/// leaf, for the case that it is to be revoked by whoever has signed it, or both. Implementations of
/// [`AuditStore`](crate::seams::store::AuditStore) keep that together with the record, or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    claimed: Option<Claimed>,
    leaf: Option<CertificateDer<'static>>,
}

/// A chain that goes with a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The claim.
    pub claim: ClaimName,
    /// Leaf and intermediates as PEM.
    pub chain: String,
}

impl Kept {
    /// A chain as PEM that goes with a claim.
    #[must_use]
    pub fn new(claim: ClaimName, chain: String) -> Self {
        Self { claimed: Some(Claimed { claim, chain }), leaf: None }
    }

    /// A leaf that whoever has signed it can revoke.
    #[must_use]
    pub fn of_leaf(leaf: CertificateDer<'static>) -> Self {
        Self { claimed: None, leaf: Some(leaf) }
    }

    /// Both of one certificate.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { claimed: self.claimed.or(other.claimed), leaf: self.leaf.or(other.leaf) }
    }

    /// The chain with the claim that it goes with.
    #[must_use]
    pub fn claimed(&self) -> Option<&Claimed> {
        self.claimed.as_ref()
    }

    /// The leaf that may have to be revoked elsewhere.
    #[must_use]
    pub fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.leaf.as_ref()
    }
}

impl std::fmt::Debug for Unreleased {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Unreleased({})", self.serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_record_of_the_same_certificate_opens_it() {
        let (one, other) =
            (Serial::new(OffsetDateTime::UNIX_EPOCH, [1; 16]), Serial::new(OffsetDateTime::UNIX_EPOCH, [2; 16]));
        let life = (OffsetDateTime::UNIX_EPOCH, OffsetDateTime::UNIX_EPOCH);
        let unreleased = || Unreleased::new(CertificateChain::new(vec![1].into(), vec![]), one, life);
        assert!(unreleased().release(Recorded::durable(7, Some(one))).is_ok());
        assert_eq!(unreleased().release(Recorded::durable(7, Some(other))), Err(WrongRecord { sequence: 7 }));
        assert_eq!(unreleased().release(Recorded::durable(7, None)), Err(WrongRecord { sequence: 7 }));
    }
}
