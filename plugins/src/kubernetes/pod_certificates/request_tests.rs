//! What is read of requests, and what is written into their status.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use proptest::prelude::*;
use serde_json::json;

use super::*;

const POD_UID: &str = "fd4f133c-64e9-4c7d-b91b-8bac7af77d61";
/// Recorded with a real API server, which checks it: a key, and a signature by it over the UID of the pod.
const KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEHlqvqrApPvecYQaOafD63CJtRQEiy4XdDvzsyOubBxd8KJ0BnkzHS4V+FNFfXZvw5TFpdmOAuF8s0Tpsxz3tiw==";
const PROOF: &str = "MEUCIAW6roilIRTfmkM144OjiYMWb/7ReRE1RUDExBpYnq8AAiEA/GdIN/m6uIXDpYCUPyhZZjtAu8AD0bObxfNprlILFIY=";
/// The same: an Ed25519 request.
const ED25519: &str = "MH8wMwIBADAAMCowBQYDK2VwAyEAcGra/PKpgSHwz+ZFUPs4GdHmKlHEM9VzhsqAjr5xW6agADAFBgMrZXADQQB5/l5p4RGe8guWt5QLN9leYAuF9nXiTJwq9raOKQqh8MngnjoSYBIa4C5tFfIW/5Fgh/CFjXH3/ixKnFS3F1QO";

/// A request in an API server, with these parts of its spec changed.
pub(in crate::kubernetes::pod_certificates) fn object(changes: &Value) -> DynamicObject {
    let mut spec = json!({
        "signerName": "signet.internal/workload", "podName": "web-1", "podUID": POD_UID,
        "serviceAccountName": "web", "serviceAccountUID": "uid-web", "nodeName": "node-a", "nodeUID": "uid-a",
        "maxExpirationSeconds": 7200, "pkixPublicKey": KEY, "proofOfPossession": PROOF,
    });
    for (name, value) in changes.as_object().into_iter().flatten() {
        spec[name] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "certificates.k8s.io/v1beta1", "kind": "PodCertificateRequest",
        "metadata": {"namespace": "demo", "name": "r1", "uid": "uid-r1", "resourceVersion": "9"},
        "spec": spec,
    }))
    .unwrap()
}

#[test]
fn a_request_of_either_form_proves_its_key() {
    let open = Open::of(&object(&json!({}))).unwrap();
    assert_eq!((open.uid.as_str(), open.longest, open.problem.as_ref()), ("uid-r1", Duration::from_secs(7200), None));
    assert!(open.csr().is_ok());
    let other_pod = Open::of(&object(&json!({"podUID": "other"}))).unwrap();
    assert_eq!(other_pod.csr(), Err(CsrError::BadSignature));
    let no_proof = Open::of(&object(&json!({"proofOfPossession": null}))).unwrap();
    assert_eq!(no_proof.csr(), Err(CsrError::BadSignature));
    let stub = json!({"pkixPublicKey": null, "proofOfPossession": null, "stubPKCS10Request": ED25519});
    assert!(
        matches!(Open::of(&object(&stub)).unwrap().csr(), Err(CsrError::WeakKey(kind)) if kind.contains("Ed25519"))
    );
    let nothing = json!({"pkixPublicKey": null, "proofOfPossession": null});
    assert_eq!(Open::of(&object(&nothing)).unwrap().csr(), Err(CsrError::NotPkcs10));
    let annotated = Open::of(&object(&json!({"unverifiedUserAnnotations": {"a.b/c": "d"}}))).unwrap();
    assert!(annotated.problem.unwrap().contains("\"a.b/c\""));
}

#[test]
fn what_was_answered_is_not_open_and_what_cannot_be_read_neither() {
    for (kind, open) in [("Issued", false), ("Denied", false), ("Failed", false), ("Other", true)] {
        let mut object = object(&json!({}));
        object.data["status"] = json!({"conditions": [{"type": kind, "status": "True"}]});
        assert_eq!(Open::of(&object).is_some(), open, "{kind}");
    }
    assert!(Open::of(&object(&json!({"podName": 7}))).is_none());
}

#[test]
fn a_chain_is_answered_with_its_own_times_and_a_refusal_with_its_reason() {
    let now = time::macros::datetime!(2026-03-01 12:00:00.5 UTC);
    let mut params = rcgen::CertificateParams::default();
    params.not_before = time::macros::datetime!(2026-03-01 11:58 UTC);
    params.not_after = time::macros::datetime!(2026-03-01 13:58 UTC);
    let chain = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    let status = Answer::Issued(chain.clone()).status(now).unwrap();
    assert_eq!(
        (&status["notBefore"], &status["notAfter"]),
        (&json!("2026-03-01T11:58:00Z"), &json!("2026-03-01T13:58:00Z"))
    );
    assert_eq!(status["certificateChain"], chain);
    assert_eq!(status["conditions"][0]["type"], "Issued");
    assert_eq!(status["conditions"][0]["lastTransitionTime"], "2026-03-01T12:00:00Z");
    let refresh = status["beginRefreshAt"].as_str().unwrap();
    assert!(("2026-03-01T12:45:00Z".."2026-03-01T13:11:00Z").contains(&refresh), "{refresh}");
    let denied = Answer::Denied { reason: "PodGone".into(), message: "it is".into() }.status(now).unwrap();
    assert_eq!(denied.as_object().unwrap().len(), 1, "nothing but the condition");
    assert_eq!(
        (&denied["conditions"][0]["reason"], &denied["conditions"][0]["status"]),
        (&json!("PodGone"), &json!("True"))
    );
    assert_eq!(Answer::Issued("no certificate".into()).status(now), None);
}

proptest! {
    /// What the API server demands of `beginRefreshAt`.
    #[test]
    fn kubelet_is_to_ask_again_at_about_half_of_the_life_and_never_within_ten_minutes_of_its_ends(
        life in 3600i64..7_862_400, hash in any::<[u8; 32]>()
    ) {
        let start = time::macros::datetime!(2026-03-01 12:00 UTC);
        let end = start + time::Duration::seconds(life);
        let at = refresh_at(start, end, &hash);
        prop_assert!(at >= start + MARGIN && at <= end - MARGIN && at.nanosecond() == 0);
        let share = (at - start).as_seconds_f64() / life as f64;
        prop_assert!((0.39..=0.61).contains(&share), "{share}");
        prop_assert_eq!(at, refresh_at(start, end, &hash));
    }
}
