//! What kubelets are told, and what is on record of it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use signet_core::caller::{AuthMethod, BoundObject, Caller, Credential};
use signet_core::csr::CertificateRequest;
use signet_core::identity::WorkloadId;
use signet_core::seams::authenticator::{AuthenticationError, Denial, Outage};
use signet_core::seams::store::HolderStore;
use signet_core::time_math::after;

use super::*;
use crate::world_tests::{DAY, NOW, WEB, World, csr};

fn answers(world: &World, claimant: &str) -> PodCertificateAnswers {
    PodCertificateAnswers {
        cluster: "Kubernetes".into(),
        claimant: claimant.into(),
        issuance: Arc::clone(&world.issuance),
        claims: Arc::clone(&world.store) as _,
        record: Arc::clone(&world.store) as _,
    }
}

fn request(uid: &str) -> PodRequest {
    PodRequest {
        signer: "signet.internal/workload".to_owned(),
        uid: uid.into(),
        caller: Ok(Caller {
            identity: WorkloadId::parse(WEB).unwrap(),
            service_account_uid: "uid".into(),
            pod: Some(BoundObject { name: "web-1".into(), uid: "uid-1".into() }),
            node: None,
            cluster: "Kubernetes".into(),
            method: AuthMethod::PodCertificate,
            credential: Credential::default(),
            made_at: None,
            until: None,
        }),
        csr: CertificateRequest::parse(&csr(&[])),
        problem: None,
        longest: DAY,
    }
}

/// Issues for a kubelet, which can read it.
pub(crate) async fn issue(world: &World, uid: &str) -> String {
    let answers = answers(world, "one");
    answers.claim(uid).await.unwrap();
    let chain = answers.issue(request(uid)).await.unwrap();
    answers.answered(uid, Some(&chain)).await;
    world.marks.lock().await.write_waiting().await;
    chain
}

async fn issued(world: &World) -> Vec<signet_core::audit::AuditEvent> {
    let events = world.events().await.into_iter().map(|stored| stored.event);
    events.filter(|event| event.outcome == Outcome::Issued).collect()
}

#[tokio::test]
async fn a_request_is_signed_once_whoever_comes_back_to_it() {
    let world = World::new().await;
    let (one, other) = (answers(&world, "one"), answers(&world, "other"));
    assert_eq!(one.claim("r").await.unwrap(), Claim::Claimed);
    assert_eq!(other.claim("r").await.unwrap(), Claim::HeldByAnother(after(NOW, CLAIM)));
    let chain = one.issue(request("r")).await.unwrap();
    let certificates = read_certificates(chain.as_bytes()).unwrap();
    assert_eq!(certificates.len(), 2, "leaf and issuing CA, and no root");
    let leaf = Facts::read(&certificates[0].1).unwrap();
    assert_eq!(
        (leaf.not_before, leaf.not_after),
        (NOW - Duration::from_secs(120), NOW - Duration::from_secs(120) + DAY)
    );

    // It dies before anybody hears of it.
    world.clock.advance(CLAIM);
    assert_eq!(other.claim("r").await.unwrap(), Claim::Signed(chain.clone()));
    // And whoever slept through all that signs nothing any more.
    let late = one.issue(request("r")).await.unwrap_err();
    assert!(matches!(&late, Unissued::Later(why) if why.contains("another process has taken over")), "{late:?}");
    let [event] = <[_; 1]>::try_from(issued(&world).await).unwrap();
    assert_eq!((event.request_id.as_str(), event.who.auth_method.as_deref()), ("r", Some("pod-certificate")));
    assert_eq!((event.who.spiffe_id.as_deref(), event.who.peer), (Some(WEB), None));
    other.answered("r", Some(&chain)).await;
    assert_eq!(one.claim("r").await.unwrap(), Claim::Done);
}

#[tokio::test]
async fn a_process_whose_claim_was_taken_over_while_it_signed_records_nothing() {
    let world = World::new().await;
    let (slow, quick) = (answers(&world, "slow"), answers(&world, "quick"));
    slow.claim("r").await.unwrap();
    world.clock.advance(CLAIM);
    assert_eq!(quick.claim("r").await.unwrap(), Claim::Claimed);
    assert!(matches!(slow.issue(request("r")).await, Err(Unissued::Later(_))));
    assert!(issued(&world).await.is_empty());
    assert!(quick.issue(request("r")).await.is_ok());
    assert_eq!(issued(&world).await.len(), 1);
}

#[tokio::test]
async fn the_holder_is_the_kubelets_and_has_no_roots_until_they_are_published() {
    let world = World::new().await;
    issue(&world, "r").await;
    let query = signet_core::holder::HolderQuery { now: NOW, behind: None, authorities: vec![], after: None, limit: 9 };
    let [holder] = <[_; 1]>::try_from(world.store.holders(&query).await.unwrap()).unwrap();
    assert_eq!((holder.key.instance.as_str(), holder.sequence), ("kubelet/signet.internal:workload/uid-1", 0));
}

#[tokio::test]
async fn what_may_be_otherwise_later_is_no_refusal() {
    let world = World::new().await;
    let answers = answers(&world, "one");
    let away = AuthenticationError::unavailable(Outage::ApiFailed, "away");
    let gone = AuthenticationError::denied(Denial::PodGone, "there is no pod");
    let names = CertificateRequest::parse(&csr(&["spiffe://cluster.local/ns/default/sa/admin"]));
    let weak = Err(CsrError::WeakKey("of type Ed25519".into()));
    for (number, (request, expected)) in [
        (PodRequest { caller: Err(away), ..request("") }, None),
        (PodRequest { caller: Err(gone), ..request("") }, Some(("PodGone", "there is no pod; replace the pod"))),
        (PodRequest { csr: weak, ..request("") }, Some((UNSUPPORTED_KEY_TYPE, "ECDSAP256"))),
        (PodRequest { csr: Err(CsrError::BadSignature), ..request("") }, Some(("CsrBadSignature", "replace the pod"))),
        (PodRequest { csr: names, ..request("") }, Some(("CsrNamesNotAllowed", "ask for exactly that URI"))),
        (PodRequest { problem: Some("no".into()), ..request("") }, Some(("RequestMalformed", "no"))),
        // The issuing CA lasts for 30 days, of which too little is left in the end.
        (PodRequest { longest: Duration::from_secs(3599), ..request("") }, None),
    ]
    .into_iter()
    .enumerate()
    {
        let uid = format!("r{number}");
        answers.claim(&uid).await.unwrap();
        let error = answers.issue(PodRequest { uid, ..request }).await.unwrap_err();
        match (&error, expected) {
            (Unissued::Later(_), None) => {}
            (Unissued::Denied { reason, message }, Some((word, words))) => {
                assert!(reason == word && message.contains(words), "{error:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    let refused = world.recorded(Outcome::Refused, "pod_gone").await;
    assert_eq!(refused.request_id, "r1");
    assert!(issued(&world).await.is_empty());
}
