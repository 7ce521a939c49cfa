//! Tokens: a compact one as it is sent, or two lines of JSON (header and claims) that are signed here, so that changes to
//! the claims get past the signature.
//!
//! Promises: who is believed has a signature of the test key over exactly these bytes, by ring alone; issuer, audience, end
//! and age are what they must be; the identity is that of the claims; memory says the same as verification; nobody is believed
//! after the end.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::Value;
use signet_core::caller::{AuthMethod, Caller};
use signet_core::identity::TrustDomain;
use signet_core::seams::authenticator::{AuthenticationError, TokenAuthenticator as _};
use signet_core::secret::Secret;
use signet_plugins::authenticator::{JwksAuthenticator, PublishedKeys, TokenRules};
use time::OffsetDateTime;

use super::{Verdict, promise, readable, wait_for};
use crate::world::{self, NOW};

pub(super) const WORDS: &[&str] = &[
    "alg",
    "kid",
    "crit",
    "none",
    "HS256",
    "RS256",
    "ES256",
    "ES384",
    "fuzz",
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "kubernetes.io",
    "namespace",
    "serviceaccount",
    "pod",
    "node",
    "name",
    "uid",
    "warnafter",
    "kubernetes.io/serviceaccount/secret.name",
    "kubernetes/serviceaccount",
    "https://before.example",
    "istio-ca",
    "https://issuer.example",
    "system:serviceaccount:default:web",
    "system:serviceaccount:",
    "default",
    "..",
    "a/b",
    ".",
    "eyJ",
];

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "istio-ca";
const LEEWAY: i64 = 10;
const MAX_AGE: i64 = 24 * 3600;
/// What a renewed token may be late, see the authenticator.
const RENEWAL_DELAY: i64 = 120;

pub(super) fn config() -> Option<TokenRules> {
    Some(TokenRules {
        cluster: "Kubernetes".to_owned(),
        trust_domain: TrustDomain::parse("cluster.local").ok()?,
        issuers: vec!["https://before.example".to_owned(), ISSUER.to_owned()],
        audiences: vec![AUDIENCE.to_owned()],
        leeway: Duration::from_secs(LEEWAY.unsigned_abs()),
        max_age: Some(Duration::from_secs(MAX_AGE.unsigned_abs())),
        method: AuthMethod::Jwks,
    })
}

fn authenticator() -> Option<JwksAuthenticator> {
    let keys = PublishedKeys::new(world::JWKS.as_bytes()).ok()?;
    Some(JwksAuthenticator::new(config()?, Arc::new(keys)))
}

/// The token that the input stands for.
pub(super) fn token(input: &[u8]) -> Vec<u8> {
    let mut lines = input.splitn(3, |byte| *byte == b'\n');
    let (Some(header @ [b'{', ..]), Some(claims)) = (lines.next(), lines.next()) else { return input.to_vec() };
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(world::signed_as_token(signed.as_bytes()));
    format!("{signed}.{signature}").into_bytes()
}

fn ask(
    to: &JwksAuthenticator,
    token: &[u8],
    now: OffsetDateTime,
) -> Result<Result<Caller, AuthenticationError>, String> {
    wait_for(to.authenticate(&Secret::new(token.to_vec()), now))
}

pub(super) fn run(input: &[u8]) -> Verdict {
    static SHARED: LazyLock<Option<JwksAuthenticator>> = LazyLock::new(authenticator);
    let shared = SHARED.as_ref().ok_or("the test keys are not accepted")?;
    let token = token(input);
    match ask(shared, &token, NOW)? {
        Err(denied) => {
            let words = denied.to_string();
            readable(&words)?;
            let text = String::from_utf8_lossy(&token);
            let secret = text.rsplit('.').next().filter(|part| part.len() > 40);
            promise(!secret.is_some_and(|secret| words.contains(secret)), || "a signature is shown".to_owned())?;
            Ok(format!("{denied:?}"))
        }
        Ok(caller) => {
            check(&caller, &token)?;
            let again = ask(shared, &token, NOW)?;
            promise(matches!(&again, Ok(same) if *same == caller), || format!("from memory: {again:?}"))?;
            Ok(format!("accepted, pod {} node {}", caller.pod.is_some(), caller.node.is_some()))
        }
    }
}

fn check(caller: &Caller, token: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(token).map_err(|_| "an accepted token is not text")?;
    let [header, payload, signature] = text.split('.').collect::<Vec<_>>()[..] else {
        return Err("an accepted token has no three parts".to_owned());
    };
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| "an accepted token is not base64url");
    let signed = format!("{header}.{payload}");
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, world::public_point());
    promise(key.verify(signed.as_bytes(), &decoded(signature)?).is_ok(), || "nobody signed this token".to_owned())?;
    // Claims that mean nothing to us are skipped without a look at their escapes, which this reader takes to heart.
    let Ok(claims) = serde_json::from_slice::<Value>(&decoded(payload)?) else { return Ok(()) };
    let says = |name: &str| claims.get(name).cloned().unwrap_or_default();
    let issuer = says("iss") == ISSUER || says("iss") == "https://before.example";
    promise(issuer, || format!("the issuer is {}", says("iss")))?;
    let secret = claims.get("kubernetes.io/serviceaccount/secret.name").is_some_and(|secret| !secret.is_null());
    promise(!secret, || "a legacy token is believed".to_owned())?;
    let audience = says("aud") == AUDIENCE
        || says("aud").as_array().is_some_and(|several| several.iter().any(|one| one == AUDIENCE));
    promise(audience, || format!("the audience is {}", says("aud")))?;
    let exp = says("exp").as_f64().ok_or("there is no end")?;
    let now = NOW.unix_timestamp();
    promise(exp + LEEWAY as f64 > now as f64, || format!("it ended at {exp}"))?;
    let oldest = says("iat").as_f64().ok_or("nobody says how old it is")? + (MAX_AGE + RENEWAL_DELAY + LEEWAY) as f64;
    promise(oldest > now as f64, || format!("it is older than {MAX_AGE} s"))?;
    let warnafter = claims.pointer("/kubernetes.io/warnafter").and_then(Value::as_f64);
    promise(warnafter.is_none_or(|end| end + LEEWAY as f64 > now as f64), || format!("{warnafter:?} has passed"))?;
    let identity =
        format!("system:serviceaccount:{}:{}", caller.identity.namespace(), caller.identity.service_account());
    promise(says("sub") == identity, || format!("{identity} was made of {}", says("sub")))?;
    let id = caller.identity.to_string();
    let back = signet_core::identity::WorkloadId::parse(&id);
    promise(back.as_ref() == Ok(&caller.identity), || format!("{id} reads back as {back:?}"))?;
    // Judged without what is remembered: a fresh one, just after the end.
    if exp < 4e9 {
        let end = OffsetDateTime::from_unix_timestamp((exp.ceil() as i64).saturating_add(LEEWAY))
            .map_err(|error| error.to_string())?;
        let fresh = authenticator().ok_or("the test keys are not accepted")?;
        let late = ask(&fresh, token, end)?;
        promise(late.is_err(), || format!("accepted {LEEWAY} s after its end, {end}"))?;
    }
    Ok(())
}
