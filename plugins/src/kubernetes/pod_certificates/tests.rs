//! The way of requests from the watch to their status, with an API server that does as it is told.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use async_trait::async_trait;
use serde_json::{Value, json};
use signet_core::clock::{Clock, SystemClock};
use signet_core::seams::store::StoreError;
use signet_test_servers::scripted::{Answer as Said, Asked, ScriptedApi};
use tokio::sync::mpsc;

use super::*;
use crate::kubernetes::{Credentials, Files};

const VERSION: &str = "/apis/certificates.k8s.io/v1beta1";

fn chain() -> String {
    let mut params = rcgen::CertificateParams::default();
    let now = SystemClock.now().replace_nanosecond(0).unwrap();
    (params.not_before, params.not_after) = (now, now + time::Duration::hours(2));
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}

/// Says what it was told to, call by call, and notes what it was asked.
#[derive(Default)]
struct Issuer {
    claims: Mutex<Vec<Result<Claim, StoreError>>>,
    issues: Mutex<Vec<Result<String, Unissued>>>,
    asked: Mutex<Vec<PodRequest>>,
    answered: Mutex<Vec<(String, bool)>>,
}

#[async_trait]
impl PodCertificateIssuer for Issuer {
    async fn claim(&self, _: &str) -> Result<Claim, StoreError> {
        let mut claims = self.claims.lock().unwrap();
        if claims.is_empty() { Ok(Claim::Claimed) } else { claims.remove(0) }
    }
    async fn issue(&self, request: PodRequest) -> Result<String, Unissued> {
        self.asked.lock().unwrap().push(request);
        self.issues.lock().unwrap().remove(0)
    }
    async fn answered(&self, uid: &str, chain: Option<&str>) {
        self.answered.lock().unwrap().push((uid.to_owned(), chain.is_some()));
    }
}

fn failure(code: u16) -> Said {
    Said::json(code, &json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "x", "code": code}))
}

/// An API server with one request, which answers writes of a status with these codes, one after the other.
async fn api(request: Value, codes: Vec<u16>) -> ScriptedApi {
    let codes = Mutex::new(codes);
    ScriptedApi::start(move |asked: Asked| {
        let path = asked.path.clone();
        let said = if asked.method == "PUT" {
            let code = codes.lock().unwrap().remove(0);
            if code == 200 { Said::json(200, &asked.body) } else { failure(code) }
        } else if path.contains("watch") {
            Said { more: Some(mpsc::unbounded_channel().1), ..Said::text(200, "application/json", "") }
        } else if path.trim_end_matches('?') == VERSION {
            let resource = json!({"name": "podcertificaterequests", "singularName": "", "namespaced": true, "kind": "x", "verbs": []});
            Said::json(200, &json!({"groupVersion": "certificates.k8s.io/v1beta1", "resources": [resource]}))
        } else if path.contains("/demo/podcertificaterequests/r1") {
            Said::json(200, &request)
        } else if path.contains("/podcertificaterequests") {
            assert!(path.contains("fieldSelector=spec.signerName%3Dsignet.internal%2Fworkload"), "{path}");
            Said::json(200, &json!({"metadata": {"resourceVersion": "9"}, "items": [request]}))
        } else if path.contains("/pods/web-1") {
            Said::json(200, &live::tests::pod())
        } else if path.contains("/serviceaccounts/web") {
            Said::json(200, &json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "web", "uid": "uid-web"}}))
        } else if path.contains("/nodes/node-a") {
            Said::json(200, &json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "node-a", "uid": "uid-a"}}))
        } else {
            failure(404)
        };
        std::future::ready(said)
    })
    .await
    .unwrap()
}

/// Runs a signer until as many attempts have ended as were expected; gives what became of them, and its health then.
async fn attempts(api: &ScriptedApi, issuer: &Issuer, expected: usize) -> (Vec<Attempt>, SignerHealth) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kubeconfig");
    std::fs::write(&file, api.kubeconfig()).unwrap();
    let server = ApiServer::open(Credentials::Kubeconfig(file), Files::plain()).await.unwrap();
    let rules = SignerRules {
        cluster: "Kubernetes".into(),
        trust_domain: TrustDomain::parse("cluster.local").unwrap(),
        signer: "signet.internal/workload".into(),
        at_once: 2,
    };
    let (sender, mut ended) = mpsc::unbounded_channel();
    let on_attempt = move |attempt, _| sender.send(attempt).unwrap_or(());
    let index = PodCertificates::new(rules, Arc::new(SystemClock), Box::new(on_attempt));
    let mut all = Vec::new();
    let collecting = async {
        while all.len() < expected {
            all.push(ended.recv().await.unwrap());
        }
        // What comes behind the last attempt is told after it.
        index.changed().await;
        while index.health().open > 0 {
            index.changed().await;
        }
    };
    tokio::select! {
        () = index.answer(&server, issuer) => panic!("it answers for ever"),
        over = tokio::time::timeout(Duration::from_secs(60), collecting) => over.unwrap(),
    }
    let health = index.health();
    (all, health)
}

fn request() -> Value {
    serde_json::to_value(request::tests::object(&json!({}))).unwrap()
}

fn writes(api: &ScriptedApi) -> Vec<Value> {
    api.asked().into_iter().filter(|asked| asked.method == "PUT").map(|asked| asked.body).collect()
}

#[tokio::test]
async fn a_request_is_held_against_the_live_objects_and_answered_once() {
    let (api, issuer) = (api(request(), vec![200]).await, Issuer::default());
    issuer.issues.lock().unwrap().push(Ok(chain()));
    let (all, health) = attempts(&api, &issuer, 1).await;
    assert_eq!((all, health.issued, health.denied, health.open), (vec![Attempt::Issued], 1, 0, 0));
    assert_eq!((health.version.as_deref(), health.problem), (Some("v1beta1"), None));
    let asked = issuer.asked.lock().unwrap().remove(0);
    assert_eq!(asked.caller.unwrap().identity.to_string(), "spiffe://cluster.local/ns/demo/sa/web");
    assert!(asked.csr.is_ok());
    let [written] = <[Value; 1]>::try_from(writes(&api)).unwrap();
    assert_eq!((&written["metadata"]["uid"], &written["metadata"]["resourceVersion"]), (&json!("uid-r1"), &json!("9")));
    assert_eq!(written["status"]["conditions"][0]["type"], "Issued");
    assert_eq!(*issuer.answered.lock().unwrap(), [("uid-r1".to_owned(), true)]);
}

#[tokio::test]
async fn what_was_signed_before_is_written_and_nothing_is_asked_or_signed_again() {
    let (api, issuer) = (api(request(), vec![200]).await, Issuer::default());
    let signed = chain();
    issuer.claims.lock().unwrap().push(Ok(Claim::Signed(signed.clone())));
    let (all, _) = attempts(&api, &issuer, 1).await;
    assert_eq!((all, issuer.asked.lock().unwrap().len()), (vec![Attempt::Issued], 0));
    assert_eq!(writes(&api)[0]["status"]["certificateChain"], signed);
    assert!(api.asked().iter().all(|asked| !asked.path.contains("/pods/")));
}

#[tokio::test]
async fn a_refusal_is_written_with_its_reason_and_counts_as_one() {
    let (api, issuer) = (api(request(), vec![200]).await, Issuer::default());
    let denied = Unissued::Denied { reason: "PodGone".into(), message: "why".into() };
    issuer.issues.lock().unwrap().push(Err(denied));
    let (all, health) = attempts(&api, &issuer, 1).await;
    assert_eq!((all, health.denied), (vec![Attempt::Denied], 1));
    assert_eq!(writes(&api)[0]["status"]["conditions"][0]["reason"], "PodGone");
    assert_eq!(*issuer.answered.lock().unwrap(), [("uid-r1".to_owned(), false)]);
}

#[tokio::test]
async fn what_cannot_be_answered_now_is_later() {
    let (api, issuer) = (api(request(), vec![503, 200]).await, Issuer::default());
    let signed = chain();
    issuer.claims.lock().unwrap().extend([
        Err(StoreError::Unavailable("full".into())),
        Ok(Claim::HeldByAnother(time::OffsetDateTime::UNIX_EPOCH)),
        Ok(Claim::Claimed),
        Ok(Claim::Signed(signed.clone())),
    ]);
    issuer.issues.lock().unwrap().push(Ok(signed.clone()));
    let (all, health) = attempts(&api, &issuer, 4).await;
    let later = Attempt::Later;
    assert_eq!((all, health.problem), (vec![later, later, later, Attempt::Issued], None));
    let chains: Vec<Value> = writes(&api).into_iter().map(|body| body["status"]["certificateChain"].clone()).collect();
    assert_eq!(chains, [json!(signed), json!(signed)], "the same after a write that failed");
    assert_eq!(issuer.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_conflict_is_looked_at_and_what_the_server_never_takes_is_given_up() {
    let (conflicted, issuer) = (api(request(), vec![409, 200]).await, Issuer::default());
    issuer.issues.lock().unwrap().push(Ok(chain()));
    assert_eq!(attempts(&conflicted, &issuer, 1).await.0, [Attempt::Issued]);
    assert_eq!(writes(&conflicted).len(), 2);

    let (strict, issuer) = (api(request(), vec![422]).await, Issuer::default());
    issuer.issues.lock().unwrap().push(Ok(chain()));
    let (all, health) = attempts(&strict, &issuer, 1).await;
    assert_eq!((all, health.open), (vec![Attempt::GivenUp], 0));
    assert!(health.problem.unwrap().contains("demo/r1: the API server does not take the answer: no"));
    assert_eq!(*issuer.answered.lock().unwrap(), [("uid-r1".to_owned(), false)]);

    let (gone, issuer) = (api(request(), vec![404]).await, Issuer::default());
    issuer.issues.lock().unwrap().push(Ok(chain()));
    assert_eq!(attempts(&gone, &issuer, 1).await.0, [Attempt::Over]);
}
