//! Holders: who has an unexpired certificate, and the newest trust bundle each has received. *Coverage* is the sum of
//! it, and the reason why nothing is signed under a root that somebody does not know yet (invariant 3).

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::rotation::AuthorityId;

/// Names a holder.
///
/// Several pods share one SPIFFE ID, so a holder is the identity together with an instance of it: the pod's UID when
/// the token is bound to a pod, else what the client calls itself, else each single certificate by its serial. The
/// last one errs on the safe side: an old certificate counts until it ends although its owner has a newer one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HolderKey {
    /// The certified identity.
    pub spiffe_id: String,
    /// Pod UID, name of a client instance, or serial number.
    pub instance: String,
}

/// Which holder an acknowledgement is from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Acknowledger {
    /// The holder of this name.
    Holder(HolderKey),
    /// The holder whose newest certificate has this serial (32 hexadecimal digits), of this SPIFFE ID.
    Certificate {
        /// The identity in the certificate.
        spiffe_id: String,
        /// Its serial.
        serial: String,
    },
}

impl Acknowledger {
    /// The identity, which many holders may share.
    #[must_use]
    pub fn spiffe_id(&self) -> &str {
        match self {
            Self::Holder(key) => &key.spiffe_id,
            Self::Certificate { spiffe_id, .. } => spiffe_id,
        }
    }
}

/// A holder says what became of a trust bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Who.
    pub from: Acknowledger,
    /// The bundle's sequence.
    pub sequence: u64,
    /// Why it could not be applied; `None` when it was.
    pub refused: Option<String>,
    /// When.
    pub at: OffsetDateTime,
}

/// One holder as storage keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub key: HolderKey,
    /// Pod name, when the token was bound to one.
    pub pod: Option<String>,
    /// Node, when known.
    pub node: Option<String>,
    /// Cluster.
    pub cluster: Option<String>,
    /// Serial of its newest certificate.
    pub serial: String,
    /// The issuing CA of its newest certificate.
    pub authority: AuthorityId,
    /// When the last of its certificates ends.
    pub not_after: OffsetDateTime,
    /// The newest bundle sequence it is known to have received; 0 for none.
    pub sequence: u64,
    /// Whether it acknowledges bundles itself. Otherwise a certificate reply that carried a bundle counts.
    pub acknowledges: bool,
    /// When it last acknowledged or got a reply.
    pub seen_at: OffsetDateTime,
    /// The bundle it refused last and why; cleared when it applies one.
    pub refused: Option<(u64, String)>,
}

/// Numbers of holders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub holders: u64,
    /// Those that acknowledge bundles themselves.
    pub acknowledging: u64,
}

/// What the records say about all holders of unexpired certificates at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// How many have which sequence as their newest.
    pub by_sequence: BTreeMap<u64, Count>,
    /// How many have a newest certificate of which issuing CA.
    pub by_authority: BTreeMap<AuthorityId, u64>,
}

impl Coverage {
    /// Holders of unexpired certificates.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.by_sequence.values().map(|count| count.holders).sum()
    }

    /// Those of them that have received the bundle of this sequence or a later one.
    #[must_use]
    pub fn covered(&self, sequence: u64) -> u64 {
        self.by_sequence.range(sequence..).map(|(_, count)| count.holders).sum()
    }

    /// Whether at least `percent` of the holders have received `sequence`; with 100, every one. No holders are covered.
    #[must_use]
    pub fn reaches(&self, sequence: u64, percent: u8) -> bool {
        u128::from(self.covered(sequence)) * 100 >= u128::from(self.live()) * u128::from(percent)
    }

    /// Of the holders that acknowledge, those that have not received `sequence`.
    #[must_use]
    pub fn acknowledging_behind(&self, sequence: u64) -> u64 {
        self.by_sequence.range(..sequence).map(|(_, count)| count.acknowledging).sum()
    }
}

/// The largest page of holders.
pub const MAX_HOLDERS: u32 = 1000;

/// Which holders of unexpired certificates to list, ordered by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderQuery {
    /// Certificates that end after this count as unexpired.
    pub now: OffsetDateTime,
    /// Only those whose newest sequence is below this one.
    pub behind: Option<u64>,
    /// Only those whose newest certificate is from one of these issuing CAs; empty means any.
    pub authorities: Vec<AuthorityId>,
    /// Only those after this key: the cursor of the page before.
    pub after: Option<HolderKey>,
    /// How many at most, 1 to [`MAX_HOLDERS`].
    pub limit: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(counts: &[(u64, u64)]) -> Coverage {
        let count =
            |(sequence, holders): &(u64, u64)| (*sequence, Count { holders: *holders, acknowledging: *holders });
        Coverage { by_sequence: counts.iter().map(count).collect(), by_authority: BTreeMap::new() }
    }

    #[test]
    fn the_threshold_counts_holders_exactly() {
        for (counts, percent, expected) in [
            (&[][..], 100, true),
            (&[(3, 1)][..], 100, true),
            (&[(2, 1)][..], 100, false),
            (&[(2, 1), (3, 999_999)][..], 100, false),
            (&[(2, 1), (3, 99)][..], 99, true),
            (&[(2, 2), (3, 98)][..], 99, false),
            (&[(2, 5), (4, 5)][..], 50, true),
            (&[(0, u64::MAX / 4), (9, u64::MAX / 4)][..], 51, false),
        ] {
            assert_eq!(coverage(counts).reaches(3, percent), expected, "{counts:?} {percent}");
        }
    }
}
