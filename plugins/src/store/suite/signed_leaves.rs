//! Leaves that are kept because their backend can revoke them: with their records or not at all, and until they have ended.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use signet_core::audit::AuditEvent;
use signet_core::record_before_release::{ClaimName, Kept};
use signet_core::seams::pod_certificates::{Claim, PodCertificateStore};
use signet_core::seams::signed_leaves::SignedLeafStore;
use signet_core::seams::store::{AppendError, AuditStore};
use time::{Duration, OffsetDateTime};

use super::{START, ended, issued, serial};

/// Runs the cases of this file.
pub(super) async fn every_case<S>(make: &impl AsyncFn() -> [Arc<S>; 2])
where
    S: AuditStore + PodCertificateStore + SignedLeafStore + 'static,
{
    a_leaf_is_kept_with_its_record_or_not_at_all(&make().await).await;
    of_those_that_have_ended_as_many_are_forgotten_as_is_said(&*make().await[0]).await;
}

fn leaf(content: &str) -> CertificateDer<'static> {
    content.as_bytes().to_vec().into()
}

fn kept(content: &str) -> Option<Kept> {
    Some(Kept::of_leaf(leaf(content)))
}

async fn append(store: &impl AuditStore, records: Vec<(AuditEvent, Option<Kept>)>) -> Vec<Result<(), AppendError>> {
    let appended = store.append_keeping(records).await.unwrap();
    appended.into_iter().map(|one| one.map(drop)).collect()
}

async fn found(store: &impl SignedLeafStore, number: u64) -> Option<CertificateDer<'static>> {
    store.signed_leaf(serial(number)).await.unwrap()
}

async fn a_leaf_is_kept_with_its_record_or_not_at_all<S>([here, there]: &[Arc<S>; 2])
where
    S: AuditStore + PodCertificateStore + SignedLeafStore,
{
    assert_eq!(found(&**here, 1).await, None);
    // An authority that signs no more.
    let mut fenced = issued("a", 5, START);
    fenced.what.as_mut().unwrap().authority = "ef01".repeat(10);
    let name = ClaimName { uid: "r".to_owned(), claimant: "a".to_owned() };
    here.claim(&name, "Kubernetes", ended(0), ended(30)).await.unwrap();
    let claimed = Kept::new(name.clone(), "chain".to_owned());
    let stray = Kept::new(ClaimName { uid: "nobody has claimed it".to_owned(), ..name.clone() }, "chain".to_owned());
    let batch = vec![
        (issued("a", 1, START), kept("one")),
        (issued("a", 2, START), None),
        (issued("a", 1, START), kept("taken")),
        (fenced, kept("fenced")),
        (issued("a", 3, START), Some(claimed.and(Kept::of_leaf(leaf("three"))))),
        (issued("a", 4, START), Some(stray.and(Kept::of_leaf(leaf("lost"))))),
    ];
    let expected =
        [Ok(()), Ok(()), Err(AppendError::SerialTaken), Err(AppendError::Fenced), Ok(()), Err(AppendError::ClaimLost)];
    assert_eq!(append(&**here, batch).await, expected);
    for (number, content) in [(1, Some("one")), (2, None), (3, Some("three")), (4, None), (5, None)] {
        assert_eq!(found(&**there, number).await, content.map(leaf), "{number}");
    }
    assert_eq!(
        there.claim(&name, "Kubernetes", ended(31), ended(60)).await.unwrap(),
        Claim::Signed("chain".to_owned())
    );
    assert_eq!(append(&**there, vec![(issued("a", 1, START), kept("later"))]).await, [Err(AppendError::SerialTaken)]);
    assert_eq!(found(&**here, 1).await, Some(leaf("one")), "the first stays");
}

async fn of_those_that_have_ended_as_many_are_forgotten_as_is_said<S: AuditStore + SignedLeafStore>(store: &S) {
    let ending = |number: u64, seconds: i64| {
        let mut event = issued("a", number, START);
        event.what.as_mut().unwrap().not_after = seconds;
        (event, kept("leaf"))
    };
    let batch = (0..70).map(|number| ending(number, 1000)).chain([ending(80, 2000), ending(81, 3000)]).collect();
    assert_eq!(append(store, batch).await, [Ok(()); 72]);
    let at = |seconds: i64| OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds);
    for (before, limit, forgotten) in [(1000, 99, 0), (1001, 30, 30), (1001, 99, 40), (2500, 99, 1), (2500, 99, 0)] {
        assert_eq!(store.forget_signed(at(before), limit).await.unwrap(), forgotten, "{before} {limit}");
    }
    assert_eq!((found(store, 3).await, found(store, 80).await), (None, None));
    assert_eq!(found(store, 81).await, Some(leaf("leaf")));
}
