//! What real API servers have answered, and answers that none of them has given.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use serde_json::{Value, json};
use signet_core::caller::AuthMethod;
use signet_core::identity::TrustDomain;
use signet_core::seams::authenticator::AuthenticationError;

use super::*;
use crate::authenticator::jwt::claims;

macro_rules! exchange {
    ($name:literal) => {
        (
            include_str!(concat!("../../../../tests/kubernetes/exchanges/token-", $name, ".json")),
            include_str!(concat!("../../../../tests/kubernetes/exchanges/tokenreview-", $name, ".json")),
        )
    };
}

fn rules() -> TokenRules {
    TokenRules {
        cluster: "Kubernetes".into(),
        trust_domain: TrustDomain::parse("cluster.local").unwrap(),
        issuers: Vec::new(),
        audiences: vec!["istio-ca".into()],
        leeway: Duration::from_secs(60),
        max_age: None,
        method: AuthMethod::TokenReview,
    }
}

/// The caller that a recorded token claims to be, as it was made.
fn claimed(token: &str) -> Caller {
    let claims: Value = serde_json::from_str::<Value>(token).unwrap()["claims"].clone();
    let made = time::OffsetDateTime::from_unix_timestamp(claims["iat"].as_i64().unwrap()).unwrap();
    claims::judge(claims.to_string().as_bytes(), &rules(), made).unwrap().0
}

fn status(review: &str) -> Value {
    serde_json::from_str::<Value>(review).unwrap()["response"]["body"]["status"].clone()
}

fn judged(token: &str, status: Value) -> Result<Caller, AuthenticationError> {
    caller(serde_json::from_value(status).unwrap(), &claimed(token), &rules())
}

#[test]
fn what_a_real_server_says_of_a_good_token_proves_its_account_with_the_pod_and_node_that_it_has() {
    for ((token, review), pod, node, node_uid) in [
        (exchange!("bound"), true, true, true),
        (exchange!("zt"), true, true, true),
        (exchange!("dots"), true, true, true),
        (exchange!("long"), true, true, true),
        (exchange!("warnafter"), true, true, true),
        (exchange!("several"), true, true, true),
        (exchange!("ghostnode"), true, true, false),
        (exchange!("unscheduled"), true, false, false),
        (exchange!("nodebound"), false, true, true),
        (exchange!("unbound"), false, false, false),
        (exchange!("secretbound"), false, false, false),
    ] {
        let status = status(review);
        let caller = judged(token, status.clone()).unwrap();
        let name =
            format!("system:serviceaccount:{}:{}", caller.identity.namespace(), caller.identity.service_account());
        assert_eq!(
            (name.as_str(), caller.method),
            (status["user"]["username"].as_str().unwrap(), AuthMethod::TokenReview)
        );
        let id = &status["user"]["extra"]["authentication.kubernetes.io/credential-id"][0];
        let known = caller.credential.token_id.as_ref().map(|id| format!("JTI={id}"));
        assert_eq!(known.as_deref(), id.as_str(), "{name}");
        let uid = caller.node.as_ref().and_then(|node| node.uid.as_ref()).is_some();
        assert_eq!((caller.pod.is_some(), caller.node.is_some(), uid), (pod, node, node_uid), "{name}");
    }
}

#[test]
fn what_a_real_server_does_not_know_is_rejected_with_its_reason() {
    let token = exchange!("bound").0;
    for (review, why) in [
        (include_str!("../../../../tests/kubernetes/exchanges/tokenreview-deleted-pod.json"), "invalidated"),
        (include_str!("../../../../tests/kubernetes/exchanges/tokenreview-deleted-account.json"), "not found"),
        (include_str!("../../../../tests/kubernetes/exchanges/tokenreview-recreated-pod.json"), "does not match"),
        (include_str!("../../../../tests/kubernetes/exchanges/tokenreview-recreated-account.json"), "does not match"),
        (include_str!("../../../../tests/kubernetes/exchanges/tokenreview-expired.json"), "expired"),
        (include_str!("../../../../tests/kubernetes/exchanges/tokenreview-other-audience.json"), "audiences"),
        (include_str!("../../../../tests/kubernetes/exchanges/tokenreview-bad-signature.json"), "primitive"),
        (include_str!("../../../../tests/kubernetes/exchanges/tokenreview-garbage.json"), "invalid bearer token"),
    ] {
        let error = judged(token, status(review)).unwrap_err();
        assert_eq!(error.label(), "token_rejected");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn an_answer_that_does_not_fit_the_token_or_our_audiences_proves_nobody() {
    let (token, review) = exchange!("bound");
    let with = |pointer: &str, value: Value| {
        let mut status = status(review);
        *status.pointer_mut(pointer).unwrap() = value;
        status
    };
    let without = |parent: &str, name: &str| {
        let mut status = status(review);
        status.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        status
    };
    let extra = "/user/extra/authentication.kubernetes.io~1pod-uid";
    for (what, status, label) in [
        ("authenticated: false", with("/authenticated", json!(false)), "token_rejected"),
        ("no authenticated", without("", "authenticated"), "token_rejected"),
        ("other audiences", with("/audiences", json!(["vault"])), "audience_mismatch"),
        ("no audiences", without("", "audiences"), "audience_mismatch"),
        ("empty audiences", with("/audiences", json!([])), "audience_mismatch"),
        ("no user", without("", "user"), "claims_invalid"),
        ("another account", with("/user/username", json!("system:serviceaccount:demo:other")), "claims_invalid"),
        ("five parts", with("/user/username", json!("system:serviceaccount:demo:web:x")), "claims_invalid"),
        ("a user", with("/user/username", json!("admin")), "claims_invalid"),
        ("another UID", with("/user/uid", json!("x")), "claims_invalid"),
        ("no UID", without("/user", "uid"), "claims_invalid"),
        ("no groups", without("/user", "groups"), "claims_invalid"),
        ("not all groups", with("/user/groups", json!(["system:serviceaccounts"])), "claims_invalid"),
        ("another namespace's group", with("/user/groups/1", json!("system:serviceaccounts:kube")), "claims_invalid"),
        ("another pod", with(extra, json!(["x"])), "claims_invalid"),
        ("no pod", with("/user/extra", json!({})), "claims_invalid"),
        (
            "an error beside a yes",
            with("", {
                let mut both = status(review);
                both["error"] = json!("webhook: time-out");
                both
            }),
            "token_rejected",
        ),
        ("nothing", Value::Null, "api_failed"),
    ] {
        let error = judged(token, status).unwrap_err();
        assert_eq!(error.label(), label, "{what}: {error}");
    }
}
