//! What is asked, how often, and what becomes of callers when the API server does not answer: with one that says what it is
//! told to.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use signet_core::caller::AuthMethod;
use signet_core::identity::TrustDomain;
use signet_core::seams::authenticator::Denial;
use signet_test_servers::scripted::{Answer, Asked, ScriptedApi};
use tokio::sync::Notify;

use super::*;
use crate::kubernetes::{Credentials, Files};

const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

pub(super) fn rules() -> TokenRules {
    TokenRules {
        cluster: "Kubernetes".into(),
        trust_domain: TrustDomain::parse("cluster.local").unwrap(),
        issuers: vec![ISSUER.into()],
        audiences: vec!["istio-ca".into()],
        leeway: Duration::from_secs(60),
        max_age: None,
        method: AuthMethod::TokenReview,
    }
}

pub(super) const LIMITS: ReviewLimits =
    ReviewLimits { remember: Duration::from_secs(60), deadline: Duration::from_secs(5), at_once: 4 };

fn claims(account: &str) -> Value {
    json!({
        "iss": ISSUER,
        "sub": format!("system:serviceaccount:demo:{account}"),
        "aud": ["istio-ca"],
        "exp": NOW.unix_timestamp() + 600,
        "iat": NOW.unix_timestamp() - 10,
        "nbf": NOW.unix_timestamp() - 10,
        "kubernetes.io": {"namespace": "demo", "serviceaccount": {"name": account, "uid": format!("uid-{account}")}},
    })
}

/// A token with these claims, signed by nobody.
fn token(claims: &Value) -> Secret {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    Secret::new(format!("{}.{}.AAAA", part(&json!({"alg": "RS256", "kid": "k"})), part(claims)).into_bytes())
}

/// The yes of an API server to whatever account the token names.
fn yes(asked: &Asked) -> Answer {
    let token = asked.body["spec"]["token"].as_str().unwrap();
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let user = json!({
        "username": claims["sub"],
        "uid": claims["kubernetes.io"]["serviceaccount"]["uid"],
        "groups": ["system:serviceaccounts", "system:serviceaccounts:demo", "system:authenticated"],
    });
    let status = json!({"authenticated": true, "user": user, "audiences": ["istio-ca"]});
    let review = json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "spec": {"token": token}, "status": status});
    Answer::json(201, &review)
}

type Heard = Arc<Mutex<Vec<&'static str>>>;

struct World {
    api: ScriptedApi,
    reviews: TokenReviewAuthenticator,
    heard: Heard,
    _directory: tempfile::TempDir,
}

/// A world with keys in it that the cluster publishes, or none.
async fn world_with<F>(
    limits: ReviewLimits,
    keys: PublishedKeys,
    answer: impl Fn(Asked) -> F + Send + Sync + 'static,
) -> World
where
    F: Future<Output = Answer> + Send + 'static,
{
    let (api, directory) = (ScriptedApi::start(answer).await.unwrap(), tempfile::tempdir().unwrap());
    let kubeconfig = directory.path().join("kubeconfig");
    std::fs::write(&kubeconfig, api.kubeconfig()).unwrap();
    let server = Arc::new(ApiServer::open(Credentials::Kubeconfig(kubeconfig), Files::plain()).await.unwrap());
    let (heard, hears) = {
        let heard = Heard::default();
        (Arc::clone(&heard), heard)
    };
    let on_review: Arc<OnReview> = Arc::new(move |outcome, _| {
        hears.lock().unwrap().push(outcome.as_ref().map_or_else(AuthenticationError::label, |_| "authenticated"));
    });
    let reviews = TokenReviewAuthenticator::new(rules(), limits, server, Arc::new(keys), on_review);
    World { api, reviews, heard, _directory: directory }
}

async fn world<F>(answer: impl Fn(Asked) -> F + Send + Sync + 'static) -> World
where
    F: Future<Output = Answer> + Send + 'static,
{
    world_with(LIMITS, PublishedKeys::none(), answer).await
}

impl World {
    async fn ask(&self, token: &Secret, now: OffsetDateTime) -> Result<Caller, AuthenticationError> {
        self.reviews.authenticate(token, now).await
    }
}

#[tokio::test]
async fn only_our_audiences_are_asked_for_and_a_yes_is_remembered_for_the_configured_time() {
    let world = world(|asked| async move { yes(&asked) }).await;
    let web = token(&claims("web"));
    let at = |seconds: i64| NOW + time::Duration::seconds(seconds);
    for (seconds, asked) in [(0, 1), (0, 1), (59, 1), (60, 2), (119, 2), (120, 3)] {
        let caller = world.ask(&web, at(seconds)).await.unwrap();
        assert_eq!(caller.identity.to_string(), "spiffe://cluster.local/ns/demo/sa/web");
        assert_eq!(caller.until, Some(at(660)), "the token's end with its leeway");
        assert_eq!(world.api.asked().len(), asked, "after {seconds} s");
    }
    let first = world.api.asked().remove(0);
    assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", "/apis/authentication.k8s.io/v1/tokenreviews?"));
    assert_eq!(first.body["spec"]["audiences"], json!(["istio-ca"]));
    assert_eq!(world.reviews.cache_hits(), 3);
}

#[tokio::test]
async fn a_yes_is_never_remembered_beyond_the_end_of_the_token_nor_where_nothing_is_to_be() {
    let world = world(|asked| async move { yes(&asked) }).await;
    let mut short = claims("web");
    short["exp"] = json!(NOW.unix_timestamp() + 5);
    let short = token(&short);
    for (seconds, asked) in [(0, 1), (4, 1), (5, 2), (64, 3)] {
        world.ask(&short, NOW + Duration::from_secs(seconds)).await.unwrap();
        assert_eq!(world.api.asked().len(), asked, "after {seconds} s");
    }
    assert_eq!(world.ask(&short, NOW + Duration::from_secs(65)).await.unwrap_err().label(), "token_expired");
    let world =
        world_with(ReviewLimits { remember: Duration::ZERO, ..LIMITS }, PublishedKeys::none(), |asked| async move {
            yes(&asked)
        })
        .await;
    for asked in 1..4 {
        world.ask(&token(&claims("web")), NOW).await.unwrap();
        assert_eq!(world.api.asked().len(), asked);
    }
}

#[tokio::test]
async fn what_cannot_be_good_is_refused_without_asking() {
    let world = world(|asked| async move { yes(&asked) }).await;
    let with = |name: &str, value: Value| {
        let mut changed = claims("web");
        changed[name] = value;
        token(&changed)
    };
    for (what, token, reason) in [
        ("nothing", Secret::new(Vec::new()), Denial::TokenMissing),
        ("no token", Secret::new(b"a word".to_vec()), Denial::TokenMalformed),
        ("four parts", Secret::new(b"e30.e30.e30.e30".to_vec()), Denial::TokenMalformed),
        ("endless", Secret::new(vec![b'a'; 17 * 1024]), Denial::TokenTooLong),
        ("another issuer", with("iss", json!("https://other")), Denial::IssuerMismatch),
        ("no issuer", with("iss", Value::Null), Denial::IssuerMismatch),
        ("another audience", with("aud", json!(["vault"])), Denial::AudienceMismatch),
        ("the API server's audience", with("aud", json!([ISSUER])), Denial::AudienceMismatch),
        ("past its end", with("exp", json!(NOW.unix_timestamp() - 60)), Denial::TokenExpired),
        ("not yet", with("nbf", json!(NOW.unix_timestamp() + 61)), Denial::TokenNotYetValid),
        ("legacy", with("iss", json!("kubernetes/serviceaccount")), Denial::TokenLegacy),
        ("no account", with("sub", json!("admin")), Denial::ClaimsInvalid),
    ] {
        match world.ask(&token, NOW).await {
            Err(AuthenticationError::Denied { reason: found, claimed, .. }) => {
                assert_eq!((found, claimed), (reason, None), "{what}");
            }
            other => unreachable!("{what}: {other:?}"),
        }
    }
    assert_eq!(world.api.asked().len(), 0);
    assert!(world.heard.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_token_that_no_published_key_has_signed_is_refused_without_asking() {
    let keys = PublishedKeys::new(include_bytes!("../../../../tests/kubernetes/exchanges/one-key.jwks")).unwrap();
    let world = world_with(LIMITS, keys, |asked| async move { yes(&asked) }).await;
    assert_eq!(world.ask(&token(&claims("web")), NOW).await.unwrap_err().label(), "key_unknown");
    assert_eq!(world.api.asked().len(), 0);
}

/// Answers nobody who looks for keys.
struct Away;

#[async_trait]
impl crate::authenticator::KeyLookup for Away {
    async fn look_up(&self) -> Result<Vec<u8>, AuthenticationError> {
        Err(AuthenticationError::unavailable(Outage::ApiForbidden, "no right to read keys any more"))
    }
}

#[tokio::test]
async fn where_newer_keys_cannot_be_looked_up_the_api_server_is_asked_about_the_token() {
    let keys = PublishedKeys::looked_up(Arc::new(Away));
    keys.refresh(include_bytes!("../../../../tests/kubernetes/exchanges/one-key.jwks")).unwrap();
    let world = world_with(LIMITS, keys, |asked| async move { yes(&asked) }).await;
    assert!(world.ask(&token(&claims("web")), NOW).await.is_ok());
    assert_eq!(world.api.asked().len(), 1);
}

#[tokio::test]
async fn one_review_serves_all_who_show_the_same_token_at_the_same_time() {
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let world = world(move |asked| {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            yes(&asked)
        }
    })
    .await;
    let web = token(&claims("web"));
    // Twice as many as may be reviewed at a time wait; one more is told to retry at once.
    let all = futures::future::join_all((0..=2 * LIMITS.at_once).map(|_| world.ask(&web, NOW)));
    let (all, ()) = tokio::join!(all, async {
        while world.api.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        go.notify_one();
    });
    let (good, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
    assert_eq!(good.len(), 2 * LIMITS.at_once);
    assert!(rest.iter().all(|outcome| outcome.as_ref().is_err_and(|error| error.label() == "api_busy")), "{rest:?}");
    assert_eq!(world.api.asked().len(), 1);
    assert_eq!(*world.heard.lock().unwrap(), ["authenticated"]);
}

#[tokio::test]
async fn more_than_may_be_on_the_way_are_told_to_retry_at_once_and_a_caller_who_leaves_makes_room() {
    let world = world(|_| std::future::pending()).await;
    let tokens: Vec<Secret> = (0..5).map(|number| token(&claims(&format!("web-{number}")))).collect();
    let (last, first) = tokens.split_last().unwrap();
    let mut waiting = Box::pin(futures::future::join_all(first.iter().map(|token| world.ask(token, NOW))));
    while world.api.asked().len() < 4 {
        tokio::select! {
            biased;
            _ = &mut waiting => unreachable!("nobody answers"),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(world.ask(last, NOW).await.unwrap_err().label(), "api_busy");
    drop(waiting);
    let mut now = Box::pin(world.ask(last, NOW));
    while world.api.asked().len() < 5 {
        tokio::select! {
            biased;
            _ = &mut now => unreachable!("nobody answers"),
            () = tokio::task::yield_now() => {}
        }
    }
}

/// 401 and 403 are about us; what the caller shows may be good.
#[tokio::test]
async fn our_own_trouble_never_refuses_a_caller() {
    for (answer, label) in [
        (
            include_str!("../../../../tests/kubernetes/exchanges/tokenreview-caller-unauthenticated.json"),
            "api_unauthorized",
        ),
        (include_str!("../../../../tests/kubernetes/exchanges/tokenreview-caller-forbidden.json"), "api_forbidden"),
        (include_str!("../../../../tests/kubernetes/exchanges/tokenreview-caller-anonymous.json"), "api_forbidden"),
        (include_str!("../../../../tests/kubernetes/exchanges/throttled-429.json"), "api_throttled"),
    ] {
        let answer = Answer::recorded(answer).unwrap();
        let world = world(move |_| std::future::ready(answer.clone())).await;
        check_unavailable(&world, label).await;
    }
    for (answer, label) in [
        (Answer::text(500, "text/plain", "no"), "api_failed"),
        (Answer::text(502, "text/html", "<html>"), "api_failed"),
        (Answer::text(503, "text/plain", ""), "api_failed"),
        (Answer::text(504, "text/plain", "late"), "api_timed_out"),
        (Answer::text(201, "application/json", "{\"kind\": "), "api_failed"),
        (Answer::text(201, "text/html", "<html>a proxy</html>"), "api_failed"),
        (Answer::json(201, &json!({"kind": "TokenReview", "spec": {"token": ""}})), "api_failed"),
    ] {
        let world = world(move |_| std::future::ready(answer.clone())).await;
        check_unavailable(&world, label).await;
    }
}

async fn check_unavailable(world: &World, label: &str) {
    let web = token(&claims("web"));
    for times in 1..3 {
        let error = world.ask(&web, NOW).await.unwrap_err();
        assert!(matches!(error, AuthenticationError::Unavailable { .. }), "{error}");
        assert_eq!(error.label(), label, "{error}");
        assert!(!error.to_string().contains(web.expose_str().unwrap()), "{error}");
        assert_eq!(world.api.asked().len(), times, "asked once each time, and nothing is remembered");
    }
    assert_eq!(*world.heard.lock().unwrap(), [label, label]);
}

#[tokio::test]
async fn a_server_that_does_not_answer_costs_no_more_than_the_deadline() {
    let limits = ReviewLimits { deadline: Duration::from_millis(50), ..LIMITS };
    let world = world_with(limits, PublishedKeys::none(), |_| std::future::pending()).await;
    assert_eq!(world.ask(&token(&claims("web")), NOW).await.unwrap_err().label(), "api_timed_out");
}

#[tokio::test]
async fn a_server_that_is_gone_is_an_outage() {
    let World { api, reviews, heard, .. } = world(|asked| async move { yes(&asked) }).await;
    drop(api);
    assert_eq!(reviews.authenticate(&token(&claims("web")), NOW).await.unwrap_err().label(), "api_unreachable");
    assert_eq!(*heard.lock().unwrap(), ["api_unreachable"]);
}
