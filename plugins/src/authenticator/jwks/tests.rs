//! Tests that a good token is accepted and that every kind of bad one is refused for its own reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod bad_claims;
mod lifetimes;
mod published;

use super::*;
use crate::authenticator::jwt::MAX_TOKEN;
use crate::authenticator::{Published, Refreshed};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use proptest::prelude::*;
use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm};
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::traits::PublicKeyParts;
use serde_json::{Value, json};
use signet_core::caller::{AuthMethod, BoundNode, BoundObject, Claimed};
use signet_core::identity::{TrustDomain, WorkloadId};
use signet_core::seams::authenticator::Denial;
use std::sync::LazyLock;
use std::time::Duration;

const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);
const ISSUER: &str = "https://kubernetes.default.svc";
const OTHER_ISSUER: &str = "https://before.example";

/// A signing key of the cluster and its published half.
struct ClusterKey {
    jwk: Value,
    private: EncodingKey,
}

fn ec_key(kid: &str, algorithm: &'static SignatureAlgorithm, curve: &str) -> ClusterKey {
    let pair = KeyPair::generate_for(algorithm).unwrap();
    let point = pair.der_bytes();
    let (x, y) = point[1..].split_at(point.len() / 2);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    let jwk = json!({"kty": "EC", "crv": curve, "kid": kid, "use": "sig", "x": x, "y": y});
    ClusterKey { jwk, private: EncodingKey::from_ec_der(pair.serialized_der()) }
}

fn p256(kid: &str) -> ClusterKey {
    ec_key(kid, &rcgen::PKCS_ECDSA_P256_SHA256, "P-256")
}

/// An RSA key is slow to make, so the tests share one. What it publishes has no `alg`.
static RSA: LazyLock<ClusterKey> = LazyLock::new(|| {
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
    let (n, e) = (URL_SAFE_NO_PAD.encode(key.n().to_bytes_be()), URL_SAFE_NO_PAD.encode(key.e().to_bytes_be()));
    let jwk = json!({"kty": "RSA", "kid": "rsa", "use": "sig", "n": n, "e": e});
    ClusterKey { jwk, private: EncodingKey::from_rsa_der(key.to_pkcs1_der().unwrap().as_bytes()) }
});

fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "sub": "system:serviceaccount:default:web",
        "aud": ["istio-ca"],
        "exp": NOW.unix_timestamp() + 600,
        "nbf": NOW.unix_timestamp() - 10,
        "iat": NOW.unix_timestamp() - 10,
        "kubernetes.io": {
            "namespace": "default",
            "serviceaccount": {"name": "web", "uid": "sa-uid"},
            "pod": {"name": "web-0", "uid": "pod-uid"},
            "node": {"name": "node-1", "uid": "node-uid"},
        },
    })
}

/// Signs any header and any payload text.
fn mint(header: &Value, payload: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(payload));
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), key, algorithm).unwrap();
    format!("{signed}.{signature}")
}

struct World {
    key: ClusterKey,
    jwks: JwksAuthenticator,
}

fn config() -> TokenRules {
    TokenRules {
        cluster: "Kubernetes".into(),
        trust_domain: TrustDomain::parse("cluster.local").unwrap(),
        issuers: vec![ISSUER.into(), OTHER_ISSUER.into()],
        audiences: vec!["istio-ca".into(), "other-ca".into()],
        leeway: Duration::ZERO,
        max_age: Some(Duration::from_secs(24 * 3600)),
        method: AuthMethod::Jwks,
    }
}

fn set(keys: &[&ClusterKey]) -> Vec<u8> {
    let keys: Vec<_> = keys.iter().map(|key| &key.jwk).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}

fn authenticator(rules: TokenRules, content: &[u8]) -> JwksAuthenticator {
    JwksAuthenticator::new(rules, Arc::new(PublishedKeys::new(content).unwrap()))
}

fn world_with(config: TokenRules) -> World {
    let key = p256("ec");
    let jwks = authenticator(config, &set(&[&key, &RSA]));
    World { key, jwks }
}

fn world() -> World {
    world_with(config())
}

impl World {
    fn token(&self, claims: &Value) -> String {
        self.token_text(&claims.to_string())
    }

    fn token_text(&self, payload: &str) -> String {
        mint(&json!({"alg": "ES256", "kid": "ec", "typ": "JWT"}), payload, &self.key.private, Algorithm::ES256)
    }

    async fn ask(&self, token: &str, now: OffsetDateTime) -> Result<Caller, Denial> {
        self.jwks.authenticate(&Secret::new(token.as_bytes().to_vec()), now).await.map_err(|error| match error {
            AuthenticationError::Denied { reason, detail, .. } => {
                assert!(detail.len() < 1000, "{detail}");
                assert!(token.len() < 40 || !detail.contains(token), "the detail shows the token");
                reason
            }
            other => panic!("{other}"),
        })
    }

    async fn claimed(&self, token: &str) -> Option<Claimed> {
        match self.jwks.authenticate(&Secret::new(token.as_bytes().to_vec()), NOW).await {
            Err(AuthenticationError::Denied { claimed, .. }) => claimed.map(|claimed| *claimed),
            other => panic!("{other:?}"),
        }
    }

    async fn refused(&self, token: &str) -> Denial {
        self.ask(token, NOW).await.expect_err(token)
    }
}

fn changed(path: &[&str], value: Value) -> Value {
    let mut claims = claims();
    let (last, parents) = path.split_last().unwrap();
    let parent = parents.iter().fold(&mut claims, |at, step| &mut at[*step]);
    parent[*last] = value;
    claims
}

fn without(path: &[&str]) -> Value {
    let mut claims = claims();
    let (last, parents) = path.split_last().unwrap();
    parents.iter().fold(&mut claims, |at, step| &mut at[*step]).as_object_mut().unwrap().remove(*last);
    claims
}

#[tokio::test]
async fn a_good_token_proves_its_service_account_pod_and_node() {
    let world = world();
    let caller = world.ask(&world.token(&claims()), NOW).await.unwrap();
    assert_eq!(caller.identity.to_string(), "spiffe://cluster.local/ns/default/sa/web");
    assert_eq!((caller.service_account_uid.as_str(), caller.cluster.as_str()), ("sa-uid", "Kubernetes"));
    assert_eq!(caller.pod, Some(BoundObject { name: "web-0".into(), uid: "pod-uid".into() }));
    assert_eq!(caller.node, Some(BoundNode { name: "node-1".into(), uid: Some("node-uid".into()) }));
}

#[tokio::test]
async fn tokens_without_pod_or_node_with_one_audience_or_with_claims_of_newer_versions_are_good() {
    let world = world();
    let good = [
        without(&["kubernetes.io", "pod"]),
        without(&["kubernetes.io", "node"]),
        without(&["kubernetes.io", "node", "uid"]),
        without(&["nbf"]),
        changed(&["iss"], json!(OTHER_ISSUER)),
        changed(&["aud"], json!("other-ca")),
        changed(&["aud"], json!(["https://kubernetes.default.svc", "istio-ca"])),
        changed(&["exp"], json!(NOW.unix_timestamp() as f64 + 0.5 + 1.0)),
        changed(&["iat"], json!(NOW.unix_timestamp())),
        changed(&["jti"], json!("x")),
        changed(&["kubernetes.io", "warnafter"], json!(NOW.unix_timestamp() + 1)),
        changed(&["kubernetes.io", "warnafter"], Value::Null),
        changed(&["kubernetes.io", "pod"], Value::Null),
    ];
    for claims in good {
        assert!(world.ask(&world.token(&claims), NOW).await.is_ok(), "{claims}");
    }
}

#[tokio::test]
async fn the_id_of_a_token_is_known_when_it_is_of_the_shape_of_one_and_is_no_reason_to_refuse() {
    let world = world();
    let long = "x".repeat(129);
    for (jti, known) in [
        (json!("6844d090-9128-4cbf-8b6a-5252524f2eec"), Some("6844d090-9128-4cbf-8b6a-5252524f2eec")),
        (json!("x"), Some("x")),
        (json!(""), None),
        (json!("a b"), None),
        (json!(long), None),
        (json!(5), None),
        (Value::Null, None),
    ] {
        let caller = world.ask(&world.token(&changed(&["jti"], jti.clone())), NOW).await.unwrap();
        assert_eq!(caller.credential.token_id.as_deref(), known, "{jti}");
    }
}

#[tokio::test]
async fn every_accepted_algorithm_verifies_with_its_own_kind_of_key() {
    let p384 = ec_key("p384", &rcgen::PKCS_ECDSA_P384_SHA384, "P-384");
    let ec = p256("ec");
    let jwks = authenticator(config(), &set(&[&p384, &ec, &RSA]));
    let rsa =
        [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];
    let table = rsa.iter().map(|algorithm| (*algorithm, "rsa", &RSA.private));
    let table = table.chain([(Algorithm::ES256, "ec", &ec.private), (Algorithm::ES384, "p384", &p384.private)]);
    let world = World { key: ec_key("unused", &rcgen::PKCS_ECDSA_P256_SHA256, "P-256"), jwks };
    for (algorithm, kid, key) in table {
        let header = json!({"alg": format!("{algorithm:?}"), "kid": kid});
        let token = mint(&header, &claims().to_string(), key, algorithm);
        assert!(world.ask(&token, NOW).await.is_ok(), "{algorithm:?}");
        for other in ["ec", "rsa", "p384"].iter().filter(|other| **other != kid) {
            let header = json!({"alg": format!("{algorithm:?}"), "kid": other});
            let token = mint(&header, &claims().to_string(), key, algorithm);
            assert_eq!(world.refused(&token).await, Denial::AlgorithmRefused, "{algorithm:?} with {other}");
        }
    }
}

#[tokio::test]
async fn every_broken_envelope_is_refused_for_its_own_reason() {
    let world = world();
    let good = world.token(&claims());
    let parts: Vec<_> = good.split('.').collect();
    let header = |header: Value| mint(&header, &claims().to_string(), &world.key.private, Algorithm::ES256);
    let hmac = |secret: &[u8]| {
        let key = EncodingKey::from_secret(secret);
        mint(&json!({"alg": "HS256", "kid": "ec"}), &claims().to_string(), &key, Algorithm::HS256)
    };
    let none = URL_SAFE_NO_PAD.encode("{\"alg\":\"none\",\"kid\":\"ec\"}");
    let stranger =
        mint(&json!({"alg": "ES256", "kid": "ec"}), &claims().to_string(), &p256("ec").private, Algorithm::ES256);
    let other_payload =
        URL_SAFE_NO_PAD.encode(changed(&["sub"], json!("system:serviceaccount:kube-system:admin")).to_string());
    let public = world.key.jwk.to_string();
    let table = [
        ("missing", String::new(), Denial::TokenMissing),
        ("64 KiB", "a".repeat(64 * 1024), Denial::TokenTooLong),
        ("just too long", format!("{good}{}", "A".repeat(MAX_TOKEN + 1 - good.len())), Denial::TokenTooLong),
        ("no parts", "token".into(), Denial::TokenMalformed),
        ("two parts", format!("{}.{}", parts[0], parts[1]), Denial::TokenMalformed),
        ("four parts", format!("{good}.{}", parts[2]), Denial::TokenMalformed),
        ("five parts (JWE)", "e30.e30.e30.e30.e30".into(), Denial::TokenMalformed),
        ("padding", format!("{}=.{}.{}", parts[0], parts[1], parts[2]), Denial::TokenMalformed),
        ("trailing newline", format!("{good}\n"), Denial::TokenMalformed),
        ("standard base64", format!("{}.{}.{}", parts[0], parts[1], "+/+/"), Denial::TokenMalformed),
        ("header not JSON", format!("AAAA.{}.{}", parts[1], parts[2]), Denial::TokenMalformed),
        ("payload not JSON", world.token_text("not json"), Denial::TokenMalformed),
        ("payload cut", world.token_text("{\"iss\":"), Denial::TokenMalformed),
        ("header by position", header(json!(["ES256", "ec"])), Denial::TokenMalformed),
        ("no alg", header(json!({"kid": "ec"})), Denial::TokenMalformed),
        ("crit", header(json!({"alg": "ES256", "kid": "ec", "crit": ["exp"]})), Denial::TokenMalformed),
        ("crit null", header(json!({"alg": "ES256", "kid": "ec", "crit": null})), Denial::TokenMalformed),
        ("none", format!("{none}.{}.", parts[1]), Denial::AlgorithmRefused),
        ("none with signature", format!("{none}.{}.{}", parts[1], parts[2]), Denial::AlgorithmRefused),
        ("HMAC with the public key", hmac(public.as_bytes()), Denial::AlgorithmRefused),
        ("ES256 as ES384", header(json!({"alg": "ES384", "kid": "ec"})), Denial::AlgorithmRefused),
        ("ES256 for an RSA key", header(json!({"alg": "ES256", "kid": "rsa"})), Denial::AlgorithmRefused),
        ("RS256 for an EC key", header(json!({"alg": "RS256", "kid": "ec"})), Denial::AlgorithmRefused),
        ("unknown kid", header(json!({"alg": "ES256", "kid": "other"})), Denial::KeyUnknown),
        ("no kid among several", header(json!({"alg": "ES256"})), Denial::KeyUnknown),
        ("its own key", header(json!({"alg": "ES256", "kid": "x", "jwk": world.key.jwk})), Denial::KeyUnknown),
        ("no signature", format!("{}.{}.", parts[0], parts[1]), Denial::SignatureInvalid),
        ("another's signature", stranger, Denial::SignatureInvalid),
        ("another payload", format!("{}.{other_payload}.{}", parts[0], parts[2]), Denial::SignatureInvalid),
        ("zero signature", format!("{}.{}.{}", parts[0], parts[1], "A".repeat(86)), Denial::SignatureInvalid),
    ];
    for (what, token, expected) in table {
        assert_eq!(world.refused(&token).await, expected, "{what}");
    }
    assert!(world.ask(&good, NOW).await.is_ok());
    assert_eq!(world.jwks.cache_hits(), 0, "no failure was remembered");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn authenticating_anything_is_total_and_proves_nobody(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let refused = futures_block(WORLD.jwks.authenticate(&Secret::new(bytes), NOW));
        prop_assert!(refused.is_err());
    }

    #[test]
    fn three_parts_of_anything_are_refused(header in "\\PC{0,40}", payload in "\\PC{0,80}", signature in "[A-Za-z0-9_-]{0,90}") {
        let token = format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        prop_assert!(futures_block(WORLD.jwks.authenticate(&Secret::new(token.into_bytes()), NOW)).is_err());
    }

    #[test]
    fn any_payload_under_a_good_signature_is_judged_without_panic(payload in "\\PC{0,120}") {
        let token = WORLD.token_text(&payload);
        prop_assert!(futures_block(WORLD.jwks.authenticate(&Secret::new(token.into_bytes()), NOW)).is_err());
    }

    #[test]
    fn no_changed_byte_of_a_good_token_is_accepted(position in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut token = GOOD.clone().into_bytes();
        let position = position.index(token.len());
        prop_assume!(cut || token[position] != byte);
        if cut { token.truncate(position) } else { token[position] = byte }
        prop_assert!(futures_block(WORLD.jwks.authenticate(&Secret::new(token), NOW)).is_err());
    }
}

static WORLD: LazyLock<World> = LazyLock::new(world);
static GOOD: LazyLock<String> = LazyLock::new(|| WORLD.token(&claims()));

fn futures_block<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
