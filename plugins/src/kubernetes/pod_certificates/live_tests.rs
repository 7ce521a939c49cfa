//! Each way in which a request and the cluster's objects can differ.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use serde_json::json;

use super::super::request::tests::object;
use super::*;

const SIGNER: &str = "signet.internal/workload";
const POD_UID: &str = "fd4f133c-64e9-4c7d-b91b-8bac7af77d61";

/// The pod of the request, as it should be.
pub(in crate::kubernetes::pod_certificates) fn pod() -> Value {
    json!({
        "metadata": {"namespace": "demo", "name": "web-1", "uid": POD_UID},
        "spec": {
            "serviceAccountName": "web", "nodeName": "node-a",
            "volumes": [
                {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
                {"name": "identity", "projected": {"sources": [
                    {"podCertificate": {"signerName": "other.internal/x", "keyType": "ECDSAP256"}},
                    {"podCertificate": {"signerName": SIGNER, "keyType": "ECDSAP256"}},
                ]}},
            ],
        },
        "status": {"phase": "Pending"},
    })
}

fn found() -> Found {
    Found { pod: Some(pod()), account: Some("uid-web".into()), node: Some("uid-a".into()) }
}

fn judged(found: &Found) -> Result<Caller, AuthenticationError> {
    let trust_domain = TrustDomain::parse("cluster.local").unwrap();
    let expected = Expected { cluster: "Kubernetes", trust_domain: &trust_domain, signer: SIGNER };
    judge(&expected, &Open::of(&object(&json!({}))).unwrap(), found)
}

#[test]
fn whoever_is_as_the_request_says_gets_its_own_identity() {
    let caller = judged(&found()).unwrap();
    assert_eq!(caller.identity.to_string(), "spiffe://cluster.local/ns/demo/sa/web");
    assert_eq!(caller.method, AuthMethod::PodCertificate);
    assert_eq!(caller.pod, Some(BoundObject { name: "web-1".into(), uid: POD_UID.into() }));
    assert_eq!(caller.node, Some(BoundNode { name: "node-a".into(), uid: Some("uid-a".into()) }));
    assert_eq!((caller.cluster.as_str(), caller.service_account_uid.as_str()), ("Kubernetes", "uid-web"));
}

#[test]
fn whatever_is_otherwise_is_denied_with_what_it_is() {
    type Change = fn(&mut Found);
    fn set(found: &mut Found, pointer: &str, value: Value) {
        *found.pod.as_mut().unwrap().pointer_mut(pointer).unwrap() = value;
    }
    let table: [(Change, Denial, &str); 13] = [
        (|f| f.pod = None, Denial::PodGone, "there is no pod demo/web-1"),
        (|f| set(f, "/metadata/uid", json!("x")), Denial::PodGone, "another UID"),
        (
            |f| set(f, "/metadata", json!({"uid": POD_UID, "deletionTimestamp": "2026-03-01T12:00:00Z"})),
            Denial::PodGone,
            "is being deleted",
        ),
        (|f| set(f, "/status/phase", json!("Succeeded")), Denial::PodGone, "has ended: Succeeded"),
        (|f| set(f, "/status/phase", json!("Failed")), Denial::PodGone, "has ended: Failed"),
        (
            |f| set(f, "/spec/serviceAccountName", json!("admin")),
            Denial::AccountGone,
            "has the service account \"admin\"",
        ),
        (|f| f.account = None, Denial::AccountGone, "there is no service account demo/web"),
        (|f| f.account = Some("x".into()), Denial::AccountGone, "another UID"),
        (|f| set(f, "/spec/nodeName", json!("node-b")), Denial::NodeGone, "does not run on the node node-a"),
        (|f| f.node = None, Denial::NodeGone, "there is no node node-a"),
        (|f| f.node = Some("x".into()), Denial::NodeGone, "another UID"),
        (|f| set(f, "/spec/volumes", json!([])), Denial::VolumeMissing, "add one to it"),
        (
            |f| set(f, "/spec/volumes/1/projected/sources/1/podCertificate/signerName", json!("other.internal/y")),
            Denial::VolumeMissing,
            SIGNER,
        ),
    ];
    for (change, denial, words) in table {
        let mut found = found();
        change(&mut found);
        let error = judged(&found).unwrap_err();
        let AuthenticationError::Denied { reason, detail, claimed } = &error else { panic!("{error}") };
        assert!(*reason == denial && detail.contains(words), "{error}");
        let claimed = claimed.as_ref().unwrap();
        assert_eq!((claimed.pod.as_deref(), claimed.cluster.as_str()), (Some("web-1"), "Kubernetes"));
    }
}
