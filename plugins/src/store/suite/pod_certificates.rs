//! Claims on requests for the certificates of pods, what is kept with them, and how their holders learn of bundles.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use signet_core::audit::{AuditEvent, AuditQuery};
use signet_core::holder::{Handover, Raise};
use signet_core::record_before_release::{ClaimName, Kept};
use signet_core::seams::pod_certificates::{Claim, PodCertificateStore};
use signet_core::seams::store::{AppendError, AuditStore, AuthorityJournal, HolderStore};
use time::Duration;

use super::holders::{counts, ended, hand_over, held, listed, mark};
use super::{START, everything, issued};

/// Runs the cases of this file.
pub(super) async fn every_case<S>(make: &impl AsyncFn() -> [Arc<S>; 2])
where
    S: AuditStore + AuthorityJournal + HolderStore + PodCertificateStore + 'static,
{
    one_of_all_processes_has_a_request_until_its_claim_ends(&make().await).await;
    a_certificate_is_kept_with_its_record_or_not_at_all(&make().await).await;
    of_two_attempts_at_once_one_is_recorded(&make().await).await;
    what_was_answered_stays_so_and_is_forgotten(&*make().await[0]).await;
    holders_of_kubelets_have_what_is_published_in_their_cluster(&*make().await[0]).await;
}

fn name(uid: &str, claimant: &str) -> ClaimName {
    ClaimName { uid: uid.to_owned(), claimant: claimant.to_owned() }
}

fn kept(uid: &str, claimant: &str, chain: &str) -> Option<Kept> {
    Some(Kept::new(name(uid, claimant), chain.to_owned()))
}

/// Claims for 30 seconds, so long after the start.
async fn claim(store: &impl PodCertificateStore, uid: &str, claimant: &str, at: i64) -> Claim {
    store.claim(&name(uid, claimant), "Kubernetes", ended(at), ended(at + 30)).await.unwrap()
}

async fn append(store: &impl AuditStore, records: Vec<(AuditEvent, Option<Kept>)>) -> Vec<Result<(), AppendError>> {
    let appended = store.append_keeping(records).await.unwrap();
    appended.into_iter().map(|one| one.map(drop)).collect()
}

async fn one_of_all_processes_has_a_request_until_its_claim_ends<S: PodCertificateStore>([here, there]: &[Arc<S>; 2]) {
    assert_eq!(claim(&**here, "r", "a", 0).await, Claim::Claimed);
    assert_eq!(claim(&**there, "r", "b", 5).await, Claim::HeldByAnother(ended(30)));
    assert_eq!(claim(&**here, "r", "a", 10).await, Claim::Claimed, "anew");
    assert_eq!(claim(&**there, "r", "b", 39).await, Claim::HeldByAnother(ended(40)));
    assert_eq!(claim(&**there, "r", "b", 40).await, Claim::Claimed);
    assert_eq!(claim(&**here, "r", "a", 41).await, Claim::HeldByAnother(ended(70)));
    assert_eq!(claim(&**here, "other", "a", 41).await, Claim::Claimed);
}

async fn a_certificate_is_kept_with_its_record_or_not_at_all<S>([here, there]: &[Arc<S>; 2])
where
    S: AuditStore + PodCertificateStore,
{
    claim(&**here, "r", "a", 0).await;
    claim(&**here, "s", "a", 0).await;
    // It slept for longer than it had the request.
    assert_eq!(claim(&**there, "r", "b", 30).await, Claim::Claimed);
    let batch = vec![
        (issued("a", 1, START), None),
        (issued("a", 2, START), kept("r", "a", "late")),
        (issued("a", 3, START), kept("s", "a", "chain of s")),
        (issued("a", 1, START), kept("s", "a", "taken")),
        (issued("a", 4, START), kept("nobody has claimed it", "a", "stray")),
    ];
    let lost = Err(AppendError::ClaimLost);
    assert_eq!(append(&**here, batch).await, [Ok(()), lost, Ok(()), lost, lost]);
    assert_eq!(claim(&**there, "s", "b", 90).await, Claim::Signed("chain of s".to_owned()));
    assert_eq!(claim(&**here, "s", "a", 91).await, Claim::Signed("chain of s".to_owned()));
    // A record that is not made keeps nothing either, and the claim goes on.
    let batch = vec![(issued("a", 3, START), kept("r", "b", "taken")), (issued("a", 9, START), None)];
    assert_eq!(append(&**there, batch).await, [Err(AppendError::SerialTaken), Ok(())]);
    let serials: Vec<Option<u64>> = everything(&**here).await.iter().map(|one| Some(one.sequence)).collect();
    assert_eq!(serials.len(), 3);
    let query = AuditQuery { serial: Some(super::serial(2)), ..AuditQuery::newest(1).unwrap() };
    assert!(here.query(&query).await.unwrap().items.is_empty(), "what lost its claim is not on record");
}

/// Whatever the claims say of who is at it: a process may have two attempts on the way, one of which it has given up.
async fn of_two_attempts_at_once_one_is_recorded<S>([here, there]: &[Arc<S>; 2])
where
    S: AuditStore + PodCertificateStore + 'static,
{
    for number in 0..10 {
        let uid = format!("r{number}");
        claim(&**here, &uid, "a", 0).await;
        let attempt = async |store: &Arc<S>, serial, chain: &str| {
            append(&**store, vec![(issued("a", serial, START), kept(&uid, "a", chain))]).await
        };
        let (one, other) = tokio::join!(attempt(here, 100 + number, "one"), attempt(there, 200 + number, "other"));
        let expected = match (one.as_slice(), other.as_slice()) {
            ([Ok(())], [Err(AppendError::ClaimLost)]) => "one",
            ([Err(AppendError::ClaimLost)], [Ok(())]) => "other",
            both => panic!("{both:?}"),
        };
        assert_eq!(claim(&**here, &uid, "a", 1).await, Claim::Signed(expected.to_owned()));
    }
    assert_eq!(everything(&**here).await.len(), 10);
    let twice = vec![(issued("a", 1, START), kept("t", "a", "1")), (issued("a", 2, START), kept("t", "a", "2"))];
    claim(&**here, "t", "a", 0).await;
    assert_eq!(append(&**here, twice).await, [Ok(()), Err(AppendError::ClaimLost)], "in one batch");
}

async fn what_was_answered_stays_so_and_is_forgotten<S: AuditStore + PodCertificateStore>(store: &S) {
    claim(store, "denied", "a", 0).await;
    claim(store, "issued", "a", 0).await;
    claim(store, "young", "a", 50).await;
    append(store, vec![(issued("a", 1, START), kept("issued", "a", "chain"))]).await;
    for uid in ["denied", "issued", "unknown"] {
        store.finish(uid, ended(1)).await.unwrap();
        store.finish(uid, ended(2)).await.unwrap();
    }
    for uid in ["denied", "issued"] {
        assert_eq!(claim(store, uid, "b", 100).await, Claim::Done);
    }
    let late = vec![(issued("a", 2, START), kept("denied", "a", "chain"))];
    assert_eq!(append(store, late).await, [Err(AppendError::ClaimLost)]);
    assert_eq!(store.forget_claims(ended(0), 9).await.unwrap(), 0);
    assert_eq!(store.forget_claims(ended(50), 1).await.unwrap(), 1);
    assert_eq!(store.forget_claims(ended(50), 9).await.unwrap(), 1);
    assert_eq!(claim(store, "young", "b", 60).await, Claim::HeldByAnother(ended(80)));
    assert_eq!(claim(store, "issued", "b", 60).await, Claim::Claimed);
}

const SIGNER: &str = "signet.internal/workload";

/// The same, and a kubelet has asked for it in this cluster.
fn of_kubelet(mut event: AuditEvent, cluster: &str) -> AuditEvent {
    event.who.auth_method = Some("pod-certificate".to_owned());
    event.who.instance = Some(SIGNER.to_owned());
    event.who.cluster = Some(cluster.to_owned());
    event
}

async fn holders_of_kubelets_have_what_is_published_in_their_cluster<S: AuditStore + HolderStore>(store: &S) {
    let mut of_agent = held("a", "both", 3, 1, 100);
    of_agent.who.cluster = Some("one".to_owned());
    hand_over(store, vec![of_agent]).await;
    let kubelets = [
        of_kubelet(held("a", "both", 1, 1, 100), "one"),
        of_kubelet(held("a", "young", 2, 3, 100), "one"),
        of_kubelet(held("a", "elsewhere", 4, 1, 100), "two"),
    ];
    let records = kubelets.iter().cloned().map(|event| (event, None)).collect();
    assert_eq!(append(store, records).await, [Ok(()); 3]);
    let sequences = async || -> Vec<(String, u64)> {
        listed(store).await.into_iter().map(|one| (one.key.instance, one.sequence)).collect()
    };
    let all = |of: [u64; 4]| -> Vec<(String, u64)> {
        let names = [
            "both",
            "kubelet/signet.internal:workload/both",
            "kubelet/signet.internal:workload/elsewhere",
            "kubelet/signet.internal:workload/young",
        ];
        names.iter().zip(of).map(|(name, sequence)| ((*name).to_owned(), sequence)).collect()
    };
    assert_eq!(sequences().await, all([1, 0, 0, 0]), "their certificates came without roots");
    // That a certificate was handed over says nothing of roots.
    let marks: Vec<_> = kubelets.iter().map(|event| mark(event, Handover::Whole)).collect();
    let marks: Vec<_> = marks
        .into_iter()
        .map(|mut mark| {
            mark.reply.sequence = 0;
            mark
        })
        .collect();
    store.mark(&marks, ended(1)).await.unwrap();
    assert_eq!(sequences().await, all([1, 0, 0, 0]));
    assert_eq!(store.coverage(ended(0)).await.unwrap().covered(1), 1);

    let other = store.published_to("one", "signet.internal/other", 3, ended(5)).await.unwrap();
    assert_eq!(other, 0, "roots of another signer are no roots of theirs");
    assert_eq!(store.published_to("one", SIGNER, 3, ended(5)).await.unwrap(), 2);
    assert_eq!(sequences().await, all([1, 3, 0, 3]));
    let coverage = store.coverage(ended(0)).await.unwrap();
    assert_eq!(coverage.by_sequence, counts(&[(0, 1, 0), (1, 1, 0), (3, 2, 0)]));
    // Whoever got its first certificate under this bundle was never behind it.
    assert_eq!(
        coverage.raised.iter().filter(|raise| raise.after == 3).collect::<Vec<_>>(),
        [&Raise { before: 1, after: 3, at: ended(5) }]
    );
    for (cluster, sequence) in [("one", 2), ("one", 3), ("none", 9)] {
        assert_eq!(store.published_to(cluster, SIGNER, sequence, ended(6)).await.unwrap(), 0, "{cluster} {sequence}");
    }
    assert_eq!(store.published_to("two", SIGNER, 4, ended(5) + Duration::seconds(1)).await.unwrap(), 1);
    assert_eq!(sequences().await, all([1, 3, 4, 3]));
}
