//! Holders: who has an unexpired certificate, and the newest trust bundle each has received. *Coverage* is the sum of
//! it, and the reason why nothing is signed under a root that somebody does not know yet (invariant 3).

use std::collections::BTreeMap;
use std::fmt;

use time::OffsetDateTime;

use crate::authority::AuthorityId;
use crate::publication::Publications;

/// Names a holder.
///
/// Several pods share one SPIFFE ID, so a holder is the identity together with an instance of it: the pod's UID when
/// the token is bound to a pod, else what the client calls itself, else each single certificate by its serial. The
/// last one errs on the safe side: an old certificate counts until it ends although its owner has a newer one.
///
/// Files in a pod are held beside what the pod's proxy holds, and one knows nothing of the other's roots: each set of them
/// is a holder of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HolderKey {
    /// The certified identity.
    pub spiffe_id: String,
    /// Pod UID, name of a client instance, or serial number; of files in a pod, their name before the pod's UID.
    pub instance: String,
}

/// What stands before the UID of a pod whose kubelet keeps its certificate in a volume.
pub const KUBELET: &str = "kubelet/";

/// What stands between a client's name of its own and the name of the files that it keeps.
pub const FILES: &str = ".files-";

impl HolderKey {
    /// The holder of `spiffe_id` whose token is bound to this pod, or that calls itself so; `serial` is that of its
    /// certificate.
    #[must_use]
    pub fn of(spiffe_id: String, pod_uid: Option<&str>, instance: Option<&str>, serial: &str) -> Self {
        let files = instance.and_then(|name| name.split_once(FILES)).map(|(_, files)| files);
        let instance = match (pod_uid, files) {
            (Some(pod), Some(files)) => format!("files-{files}/{pod}"),
            (Some(pod), None) => pod.to_owned(),
            (None, _) => instance.unwrap_or(serial).to_owned(),
        };
        Self { spiffe_id, instance }
    }

    /// The holder of `spiffe_id` whose certificate of this signer the kubelet of this pod keeps: beside what a proxy in it
    /// holds.
    #[must_use]
    pub fn of_kubelet(spiffe_id: String, signer: &str, pod_uid: Option<&str>, serial: &str) -> Self {
        Self { spiffe_id, instance: format!("{}{}", Self::kubelets(signer), pod_uid.unwrap_or(serial)) }
    }

    /// How the instances begin whose certificates of this signer kubelets keep.
    #[must_use]
    pub fn kubelets(signer: &str) -> String {
        format!("{KUBELET}{}/", signer.replace('/', ":"))
    }

    /// Whether it learns of bundles from where they are published in its cluster, and acknowledges nothing.
    #[must_use]
    pub fn learns_from_publication(&self) -> bool {
        self.instance.starts_with(KUBELET)
    }

    /// What is the UID of its pod, if its token is bound to one.
    #[must_use]
    pub fn pod_uid(&self) -> &str {
        self.instance.rsplit_once('/').map_or(&self.instance, |(_, pod)| pod)
    }
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

impl fmt::Display for Acknowledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holder(HolderKey { spiffe_id, instance }) if instance.is_empty() => f.write_str(spiffe_id),
            Self::Holder(HolderKey { spiffe_id, instance }) => write!(f, "{spiffe_id} ({instance})"),
            Self::Certificate { spiffe_id, serial } => write!(f, "{spiffe_id} (certificate {serial})"),
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

/// A reply that carries a certificate and the trust bundle of that moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Whose certificate.
    pub holder: HolderKey,
    /// Its serial (32 hexadecimal digits).
    pub serial: String,
    /// Its issuing CA, as the record names it.
    pub authority: String,
    /// The bundle's sequence.
    pub sequence: u64,
}

/// How much of a reply has left the process. One that was written in part is neither: its certificate may be in use, and
/// its bundle may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// Its last byte was handed to the connection. That is not to say that it was received: HTTP/2 acknowledges nothing.
    Whole,
    /// No byte of it was, and none will be.
    Nothing,
}

/// What became of a reply after its record was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Which one.
    pub reply: Reply,
    /// How much of it was handed over.
    pub handover: Handover,
}

/// Holders that had been behind were counted as having a newer bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raise {
    /// The sequence that they had; of a first certificate, the one that came with it.
    pub before: u64,
    /// The sequence that they have.
    pub after: u64,
    /// When the last of them was counted.
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
    /// The issuing CAs of earlier certificates, one of which may still be the one in use: the reply with the newest has not
    /// been handed over in full, as far as is known.
    pub former: Vec<AuthorityId>,
    /// When the last of its certificates ends.
    pub not_after: OffsetDateTime,
    /// The newest bundle sequence it is known to have received; 0 for none.
    pub sequence: u64,
    /// Whether it acknowledges bundles itself. Otherwise a certificate reply counts that was handed over in full.
    pub acknowledges: bool,
    /// When it last acknowledged, or when its newest certificate was recorded.
    pub seen_at: OffsetDateTime,
    /// The bundle it refused last and why; cleared when it applies one.
    pub refused: Option<(u64, String)>,
    /// When its pod was found to be gone; `None` again after any sign of life.
    pub gone_at: Option<OffsetDateTime>,
}

/// A holder whose pod is gone from its cluster, as far as its API server tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Which one.
    pub key: HolderKey,
    /// The newest certificate that it had then. One with a newer one has given a sign of life.
    pub serial: String,
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
    /// How many have which sequence as their newest. Nobody waits for those whose pod is gone: they are not in it.
    pub by_sequence: BTreeMap<u64, Count>,
    /// How many have a newest certificate of which issuing CA. One whose newest certificate may not have reached it counts
    /// for the issuing CA of the one before as well. Those whose pod is gone are in it: whoever has copied such a
    /// certificate can use it until it ends.
    pub by_authority: BTreeMap<AuthorityId, u64>,
    /// How many have a pod that is gone.
    pub gone: u64,
    /// When holders that had been behind were counted, as far back as something waits for it.
    pub raised: Vec<Raise>,
    /// Where the bundle is published for those who learn roots in other ways, and which one is.
    pub published: Publications,
}

impl Coverage {
    /// Holders of unexpired certificates whose pod is not gone.
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

    /// When the last holder that had been behind `sequence` was counted as having it.
    #[must_use]
    pub fn caught_up_at(&self, sequence: u64) -> Option<OffsetDateTime> {
        let crosses = |raise: &&Raise| raise.before < sequence && sequence <= raise.after;
        self.raised.iter().filter(crosses).map(|raise| raise.at).max()
    }

    /// Of the holders that acknowledge, those that have not received `sequence`.
    #[must_use]
    pub fn acknowledging_behind(&self, sequence: u64) -> u64 {
        self.by_sequence.range(..sequence).map(|(_, count)| count.acknowledging).sum()
    }
}

/// Who lacks a bundle, and who refuses bundles, of the holders of unexpired certificates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Those that have refused a bundle, and applied none since.
    pub refusing: u64,
    /// When the last certificate ends of those that have not received the bundle in question; `None` when all have.
    pub last_end: Option<OffsetDateTime>,
}

/// The largest page of holders.
pub const MAX_HOLDERS: u32 = 1000;

/// Which holders of unexpired certificates to list, ordered by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderQuery {
    /// Certificates that end after this count as unexpired.
    pub now: OffsetDateTime,
    /// Only those whose newest sequence is below this one, and whose pod is not gone.
    pub behind: Option<u64>,
    /// Only those who use, or may use, a certificate of one of these issuing CAs; empty means any.
    pub authorities: Vec<AuthorityId>,
    /// Only those after this key: the cursor of the page before.
    pub after: Option<HolderKey>,
    /// How many at most, 1 to [`MAX_HOLDERS`].
    pub limit: u32,
}

impl HolderQuery {
    /// [`limit`](Self::limit) within its bounds.
    #[must_use]
    pub fn page_size(&self) -> usize {
        usize::try_from(self.limit.clamp(1, MAX_HOLDERS)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(counts: &[(u64, u64)]) -> Coverage {
        let count =
            |(sequence, holders): &(u64, u64)| (*sequence, Count { holders: *holders, acknowledging: *holders });
        Coverage { by_sequence: counts.iter().map(count).collect(), ..Coverage::default() }
    }

    #[test]
    fn only_holders_that_had_been_behind_a_bundle_say_when_it_was_caught_up_with() {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).ok();
        let raise =
            |(before, after, seconds)| Raise { before, after, at: at(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH) };
        let raised = [(1, 3, 10), (2, 3, 20), (3, 4, 90), (0, 2, 50), (1, 9, 40)].map(raise).to_vec();
        let coverage = Coverage { raised, ..Coverage::default() };
        for (sequence, expected) in
            [(0, None), (1, at(50)), (2, at(50)), (3, at(40)), (4, at(90)), (5, at(40)), (10, None)]
        {
            assert_eq!(coverage.caught_up_at(sequence), expected, "{sequence}");
        }
    }

    #[test]
    fn files_in_a_pod_are_no_part_of_what_its_proxy_holds() {
        let of = |pod, instance| HolderKey::of("id".to_owned(), pod, instance, "77").instance;
        for (pod, instance, expected) in [
            (Some("uid"), None, "uid"),
            (Some("uid"), Some("a1"), "uid"),
            (Some("uid"), Some("a1.files-b2"), "files-b2/uid"),
            // What is outside of pods is told apart by the process: directories of several machines have one name.
            (None, Some("a1.files-b2"), "a1.files-b2"),
            (None, Some("a1"), "a1"),
            (None, None, "77"),
        ] {
            assert_eq!(of(pod, instance), expected, "{pod:?} {instance:?}");
        }
    }

    #[test]
    fn what_a_kubelet_keeps_is_no_part_of_what_the_proxy_of_its_pod_holds() {
        let kubelets = HolderKey::of_kubelet("id".to_owned(), "a.b/c", Some("uid"), "77");
        assert_eq!((kubelets.instance.as_str(), kubelets.pod_uid()), ("kubelet/a.b:c/uid", "uid"));
        assert!(kubelets.learns_from_publication());
        assert_ne!(kubelets, HolderKey::of("id".to_owned(), Some("uid"), None, "77"));
        assert_eq!(HolderKey::of_kubelet("id".to_owned(), "a.b/c", None, "77").instance, "kubelet/a.b:c/77");
    }

    #[test]
    fn whoever_acknowledges_is_told_in_words() {
        let key = |instance: &str| HolderKey { spiffe_id: "id".to_owned(), instance: instance.to_owned() };
        let certificate = Acknowledger::Certificate { spiffe_id: "id".to_owned(), serial: "77".to_owned() };
        for (from, expected) in [
            (Acknowledger::Holder(key("uid")), "id (uid)"),
            (Acknowledger::Holder(key("")), "id"),
            (certificate, "id (certificate 77)"),
        ] {
            assert_eq!(from.to_string(), expected);
        }
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
