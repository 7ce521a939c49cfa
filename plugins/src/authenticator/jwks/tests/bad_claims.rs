//! Tests that every bad claim under a good signature is refused for its own reason.

use super::*;

#[tokio::test]
async fn every_bad_claim_is_refused_for_its_own_reason() {
    let world = world();
    let at = |seconds: i64| json!(NOW.unix_timestamp() + seconds);
    let good = claims();
    let by_position = ["iss", "sub", "aud", "exp", "nbf", "iat", "kubernetes.io"].map(|name| good[name].clone());
    let by_position = json!([&by_position[..], &[Value::Null]].concat());
    let subject = |subject: &str| changed(&["sub"], json!(subject));
    let table = [
        (Denial::IssuerMismatch, changed(&["iss"], json!("https://kubernetes.default.svc/"))),
        (Denial::IssuerMismatch, changed(&["iss"], json!("x".repeat(5000)))),
        (Denial::IssuerMismatch, without(&["iss"])),
        (Denial::AudienceMismatch, changed(&["aud"], json!(["vault"]))),
        (Denial::AudienceMismatch, changed(&["aud"], json!("istio-ca,other-ca"))),
        (Denial::AudienceMismatch, changed(&["aud"], json!([]))),
        (Denial::AudienceMismatch, changed(&["aud"], json!(vec!["x".repeat(90); 90]))),
        (Denial::AudienceMismatch, without(&["aud"])),
        (Denial::TokenExpired, changed(&["exp"], at(0))),
        (Denial::TokenExpired, changed(&["exp"], at(-1))),
        (Denial::TokenExpired, changed(&["exp"], json!(0))),
        (Denial::TokenExpired, changed(&["exp"], json!(-62_135_596_800_i64))),
        (Denial::TokenNotYetValid, changed(&["nbf"], at(1))),
        (Denial::TokenNotYetValid, changed(&["nbf"], json!(253_402_300_799_i64))),
        (Denial::TokenNotYetValid, changed(&["iat"], at(1))),
        (Denial::TokenTooOld, changed(&["kubernetes.io", "warnafter"], at(0))),
        (Denial::TokenTooOld, changed(&["iat"], at(-86_400 - 120))),
        (Denial::TokenTooOld, changed(&["iat"], json!(0))),
        (Denial::TokenLegacy, changed(&["iss"], json!("kubernetes/serviceaccount"))),
        (Denial::TokenLegacy, changed(&["kubernetes.io/serviceaccount/secret.name"], json!("web-token-x2x4v"))),
        (Denial::ClaimsInvalid, without(&["iat"])),
        (Denial::ClaimsInvalid, changed(&["iat"], Value::Null)),
        (Denial::ClaimsInvalid, changed(&["kubernetes.io", "warnafter"], json!("soon"))),
        (Denial::ClaimsInvalid, without(&["exp"])),
        (Denial::ClaimsInvalid, changed(&["exp"], json!("tomorrow"))),
        (Denial::ClaimsInvalid, changed(&["exp"], Value::Null)),
        (Denial::ClaimsInvalid, changed(&["exp"], json!(1e300))),
        (Denial::ClaimsInvalid, changed(&["exp"], json!(u64::MAX))),
        (Denial::ClaimsInvalid, changed(&["exp"], json!(i64::MAX))),
        (Denial::ClaimsInvalid, changed(&["iat"], json!(-1e300))),
        (Denial::ClaimsInvalid, changed(&["nbf"], json!(i64::MIN))),
        (Denial::ClaimsInvalid, changed(&["aud"], json!({"a": 1}))),
        (Denial::ClaimsInvalid, changed(&["aud"], json!(["istio-ca", 5]))),
        (Denial::ClaimsInvalid, changed(&["iss"], json!([ISSUER]))),
        (Denial::ClaimsInvalid, without(&["sub"])),
        (Denial::ClaimsInvalid, subject("")),
        (Denial::ClaimsInvalid, subject("system:serviceaccount")),
        (Denial::ClaimsInvalid, subject("system:serviceaccount:default")),
        (Denial::ClaimsInvalid, subject("system:serviceaccount::web")),
        (Denial::ClaimsInvalid, subject("system:serviceaccount:default:")),
        (Denial::ClaimsInvalid, subject("system:serviceaccount:default:web:more")),
        (Denial::ClaimsInvalid, subject("system:serviceaccounts:default:web")),
        (Denial::ClaimsInvalid, subject(" system:serviceaccount:default:web")),
        (Denial::ClaimsInvalid, subject("system:serviceaccount:default:web/../admin")),
        (Denial::ClaimsInvalid, subject("system:serviceaccount:default:WEB")),
        (Denial::ClaimsInvalid, subject("system:serviceaccount:de.fault:web")),
        (Denial::ClaimsInvalid, subject("system:serviceaccount:default:admin")),
        (Denial::ClaimsInvalid, subject("system:serviceaccount:kube-system:web")),
        (Denial::ClaimsInvalid, subject("system:node:node-1")),
        (Denial::ClaimsInvalid, without(&["kubernetes.io"])),
        (Denial::ClaimsInvalid, changed(&["kubernetes.io"], json!("default"))),
        (Denial::ClaimsInvalid, without(&["kubernetes.io", "namespace"])),
        (Denial::ClaimsInvalid, changed(&["kubernetes.io", "namespace"], json!("other"))),
        (Denial::ClaimsInvalid, without(&["kubernetes.io", "serviceaccount"])),
        (Denial::ClaimsInvalid, changed(&["kubernetes.io", "serviceaccount", "name"], json!("other"))),
        (Denial::ClaimsInvalid, without(&["kubernetes.io", "serviceaccount", "uid"])),
        (Denial::ClaimsInvalid, changed(&["kubernetes.io", "serviceaccount", "uid"], json!(""))),
        (Denial::ClaimsInvalid, changed(&["kubernetes.io", "serviceaccount", "uid"], json!("u".repeat(129)))),
        (Denial::ClaimsInvalid, changed(&["kubernetes.io", "pod", "uid"], json!("a\nb"))),
        (Denial::ClaimsInvalid, without(&["kubernetes.io", "pod", "uid"])),
        (Denial::ClaimsInvalid, changed(&["kubernetes.io", "pod", "name"], json!("../web"))),
        (Denial::ClaimsInvalid, changed(&["kubernetes.io", "pod", "name"], json!("p".repeat(254)))),
        (Denial::ClaimsInvalid, changed(&["kubernetes.io", "node", "name"], json!(""))),
        (Denial::ClaimsInvalid, json!([])),
        (Denial::ClaimsInvalid, by_position),
        (Denial::ClaimsInvalid, json!("text")),
        (Denial::ClaimsInvalid, Value::Null),
    ];
    for (expected, claims) in table {
        assert_eq!(world.refused(&world.token(&claims)).await, expected, "{claims}");
    }
}

#[tokio::test]
async fn a_claim_given_twice_is_refused_whatever_its_values() {
    let world = world();
    let good = claims().to_string();
    let body = good.strip_prefix('{').unwrap();
    for extra in [
        format!("\"iss\":\"{ISSUER}\""),
        "\"sub\":\"system:serviceaccount:default:web\"".to_owned(),
        "\"sub\":\"system:serviceaccount:kube-system:admin\"".to_owned(),
        "\"aud\":[\"istio-ca\"]".to_owned(),
        "\"exp\":99999999999".to_owned(),
        "\"kubernetes.io\":null".to_owned(),
        // The same name in another spelling.
        "\"\\u0073ub\":\"system:serviceaccount:kube-system:admin\"".to_owned(),
    ] {
        let token = world.token_text(&format!("{{{extra},{body}"));
        assert_eq!(world.refused(&token).await, Denial::ClaimsInvalid, "{extra}");
    }
    let nested = good.replace("\"namespace\":\"default\"", "\"namespace\":\"default\",\"namespace\":\"default\"");
    assert_ne!(nested, good);
    assert_eq!(world.refused(&world.token_text(&nested)).await, Denial::ClaimsInvalid);
}

#[tokio::test]
async fn deep_nesting_neither_overflows_the_stack_nor_proves_anything() {
    let world = world();
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let payload = format!("{{\"aud\":{deep},\"iss\":\"{ISSUER}\"}}");
    assert_eq!(world.refused(&world.token_text(&payload)).await, Denial::TokenMalformed);
    let payload = format!("{{\"unknown\":{deep},\"iss\":\"{ISSUER}\"}}");
    assert_eq!(world.refused(&world.token_text(&payload)).await, Denial::AudienceMismatch);
}

/// What the claims of [`claims`] say.
fn says() -> Claimed {
    let text = |text: &str| Some(text.to_owned());
    Claimed {
        cluster: "Kubernetes".into(),
        identity: Some(WorkloadId::new(config().trust_domain, "default", "web").unwrap()),
        service_account_uid: text("sa-uid"),
        pod: text("web-0"),
        pod_uid: text("pod-uid"),
        node: text("node-1"),
        node_uid: text("node-uid"),
        certificate: None,
    }
}

#[tokio::test]
async fn a_refusal_names_whom_a_good_signature_vouches_for_and_nobody_else() {
    let world = world();
    let nobody = Claimed { identity: None, service_account_uid: None, ..says() };
    let nothing = Claimed { pod: None, pod_uid: None, node: None, node_uid: None, ..nobody.clone() };
    let account = |says: Claimed| Claimed { pod: None, pod_uid: None, node: None, node_uid: None, ..says };
    let table = [
        (changed(&["exp"], json!(0)), says()),
        (changed(&["nbf"], json!(253_402_300_799_i64)), says()),
        (changed(&["aud"], json!(["vault"])), says()),
        (changed(&["iss"], json!("https://other.example")), says()),
        (without(&["exp"]), says()),
        // Two accounts are named, or none.
        (changed(&["kubernetes.io", "serviceaccount", "name"], json!("other")), nobody.clone()),
        (changed(&["sub"], json!("system:node:node-1")), nobody.clone()),
        (without(&["sub"]), nobody),
        // A legacy token has no more than an account.
        (without(&["kubernetes.io"]), Claimed { service_account_uid: None, ..account(says()) }),
        // What is not of its shape, or too long, is left out; the rest is told.
        (
            changed(&["kubernetes.io", "serviceaccount", "uid"], json!("u".repeat(129))),
            Claimed { service_account_uid: None, ..says() },
        ),
        (changed(&["kubernetes.io", "pod", "name"], json!("p".repeat(254))), Claimed { pod: None, ..says() }),
        (changed(&["kubernetes.io", "pod", "uid"], json!("a\nb")), Claimed { pod_uid: None, ..says() }),
        (changed(&["kubernetes.io", "node", "name"], json!("../x")), Claimed { node: None, ..says() }),
        (changed(&["aud"], json!({"a": 1})), nothing.clone()),
        (json!("text"), nothing),
    ];
    for (claims, expected) in table {
        assert_eq!(world.claimed(&world.token(&claims)).await, Some(expected), "{claims}");
    }
    // Nothing is said for a token whose signature is not good, whatever stands in it.
    let expired = world.token(&changed(&["exp"], json!(0)));
    let (signed, _) = expired.rsplit_once('.').unwrap();
    let foreign =
        mint(&json!({"alg": "ES256", "kid": "ec"}), &claims().to_string(), &p256("ec").private, Algorithm::ES256);
    for token in [format!("{signed}.AAAA"), foreign, "abc".to_owned(), String::new()] {
        assert_eq!(world.claimed(&token).await, None, "{token}");
    }
}

/// What Kubernetes put into the Secrets of service accounts before 1.24.
#[tokio::test]
async fn a_legacy_token_is_told_what_to_use_instead_before_its_issuer_is_judged() {
    let world = world();
    let legacy = json!({
        "iss": "kubernetes/serviceaccount",
        "kubernetes.io/serviceaccount/namespace": "default",
        "kubernetes.io/serviceaccount/secret.name": "web-token-x2x4v",
        "kubernetes.io/serviceaccount/service-account.name": "web",
        "kubernetes.io/serviceaccount/service-account.uid": "sa-uid",
        "sub": "system:serviceaccount:default:web",
    });
    let mut moved = legacy.clone();
    moved["iss"] = json!(ISSUER);
    let only_account =
        Claimed { service_account_uid: None, pod: None, pod_uid: None, node: None, node_uid: None, ..says() };
    for claims in [legacy, moved] {
        let token = Secret::new(world.token(&claims).into_bytes());
        let Err(AuthenticationError::Denied { reason, detail, claimed }) = world.jwks.authenticate(&token, NOW).await
        else {
            panic!("{claims}")
        };
        assert_eq!((reason, claimed), (Denial::TokenLegacy, Some(Box::new(only_account.clone()))));
        assert!(detail.contains("projected service-account token with the audience"), "{detail}");
    }
    let forged = format!("{}x", world.token(&json!({"iss": "kubernetes/serviceaccount"})));
    assert_ne!(world.refused(&forged).await, Denial::TokenLegacy, "the signature comes first");
}
