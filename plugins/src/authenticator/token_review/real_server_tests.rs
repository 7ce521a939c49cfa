//! What a real API server says of the tokens that it has made: `make test-kubernetes`.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;
use signet_core::clock::{Clock as _, SystemClock};
use signet_test_servers::kubernetes::{AccountKey, ApiServer as How, Cluster, ISSUER, Kubernetes, MadePod};

use super::tests::{LIMITS, rules};
use super::*;
use crate::authenticator::{ApiServerKeys, KeyLookup as _};
use crate::kubernetes::{Credentials, Files};

struct World {
    cluster: Cluster,
    namespace: String,
    node: String,
    pod: MadePod,
}

impl World {
    async fn new(kubernetes: &Kubernetes) -> Self {
        let cluster = kubernetes.cluster().await.unwrap();
        let namespace = cluster.namespace().await.unwrap();
        cluster.account(&namespace, "web").await.unwrap();
        let node = format!("node-of-{namespace}");
        cluster.node(&node).await.unwrap();
        let pod = cluster.pod(&namespace, "web-1", "web", &node).await.unwrap();
        Self { cluster, namespace, node, pod }
    }

    async fn reviews(&self, kubernetes: &Kubernetes) -> TokenReviewAuthenticator {
        // The server remembers a yes for 10 s by itself.
        reviews(kubernetes.admin_file(), ReviewLimits { remember: Duration::ZERO, ..LIMITS }).await
    }
}

async fn reviews(kubeconfig: std::path::PathBuf, limits: ReviewLimits) -> TokenReviewAuthenticator {
    let server = Arc::new(ApiServer::open(Credentials::Kubeconfig(kubeconfig), Files::plain()).await.unwrap());
    let on_review: Arc<OnReview> = Arc::new(|_, _| {});
    TokenReviewAuthenticator::new(rules(), limits, server, Arc::new(PublishedKeys::none()), on_review)
}

async fn ask(reviews: &TokenReviewAuthenticator, token: &str) -> Result<Caller, AuthenticationError> {
    reviews.authenticate(&Secret::new(token.as_bytes().to_vec()), SystemClock.now()).await
}

/// Asks until it is rejected: the server has to hear of what is gone from etcd, and remembers a yes for ten seconds.
async fn rejected(reviews: &TokenReviewAuthenticator, token: &str) {
    let end = Instant::now() + Duration::from_secs(60);
    while label(ask(reviews, token).await) != "token_rejected" {
        assert!(Instant::now() < end, "it is never rejected");
        tokio::task::yield_now().await;
    }
}

fn label(outcome: Result<Caller, AuthenticationError>) -> &'static str {
    outcome.map_or_else(|error| error.label(), |_| "authenticated")
}

#[tokio::test]
#[ignore = "asks a real API server; run it with: make test-kubernetes"]
async fn tokens_of_a_real_server_prove_what_they_are_bound_to() {
    let kubernetes = Kubernetes::shared().unwrap();
    let world = World::new(kubernetes).await;
    let reviews = world.reviews(kubernetes).await;
    let World { cluster, namespace, node, pod } = &world;

    let bound = cluster.token_of_pod(pod, "web", "istio-ca").await.unwrap();
    let caller = ask(&reviews, &bound).await.unwrap();
    assert_eq!(caller.identity.to_string(), format!("spiffe://cluster.local/ns/{namespace}/sa/web"));
    assert_eq!(caller.pod.unwrap().uid, pod.uid);
    let on = caller.node.unwrap();
    assert_eq!((&on.name, on.uid.is_some()), (node, true));

    let node_bound = json!({"audiences": ["istio-ca"], "expirationSeconds": 3600,
        "boundObjectRef": {"apiVersion": "v1", "kind": "Node", "name": node}});
    let node_bound = cluster.token_for(namespace, "web", node_bound).await.unwrap();
    let caller = ask(&reviews, &node_bound).await.unwrap();
    assert_eq!((caller.pod, caller.node.unwrap().name), (None, node.clone()));

    let unbound = cluster.token(namespace, "web", "istio-ca").await.unwrap();
    let caller = ask(&reviews, &unbound).await.unwrap();
    assert_eq!((caller.pod, caller.node), (None, None));

    let other = cluster.token(namespace, "web", "vault").await.unwrap();
    assert_eq!(label(ask(&reviews, &other).await), "audience_mismatch");
    let for_the_server = cluster.token(namespace, "web", ISSUER).await.unwrap();
    assert_eq!(label(ask(&reviews, &for_the_server).await), "audience_mismatch");

    cluster.phase(pod, "Failed").await.unwrap();
    assert_eq!(label(ask(&reviews, &bound).await), "authenticated", "a token does not end with the work of its pod");
}

#[tokio::test]
#[ignore = "asks a real API server; run it with: make test-kubernetes"]
async fn a_token_ends_with_its_pod_and_its_account_also_when_others_of_their_names_come() {
    let kubernetes = Kubernetes::shared().unwrap();
    let World { cluster, namespace, node, pod } = World::new(kubernetes).await;
    let reviews = reviews(kubernetes.admin_file(), ReviewLimits { remember: Duration::ZERO, ..LIMITS }).await;
    let of_pod = cluster.token_of_pod(&pod, "web", "istio-ca").await.unwrap();
    cluster.delete_pod(&pod).await.unwrap();
    rejected(&reviews, &of_pod).await;
    cluster.pod(&namespace, "web-1", "web", &node).await.unwrap();
    let again = cluster.token_of_pod(&pod, "web", "istio-ca").await;
    assert!(again.is_err(), "a UID that is gone");
    assert_eq!(label(ask(&reviews, &of_pod).await), "token_rejected");

    let of_account = cluster.token(&namespace, "web", "istio-ca").await.unwrap();
    let second = cluster.token(&namespace, "web", "istio-ca").await.unwrap();
    cluster.delete_account(&namespace, "web").await.unwrap();
    rejected(&reviews, &of_account).await;
    cluster.account(&namespace, "web").await.unwrap();
    rejected(&reviews, &second).await;
}

#[tokio::test]
#[ignore = "asks a real API server; run it with: make test-kubernetes"]
async fn without_the_right_to_ask_nobody_is_refused_and_with_it_everything_works() {
    let kubernetes = Kubernetes::shared().unwrap();
    let World { cluster, namespace, pod, .. } = World::new(kubernetes).await;
    cluster.account(&namespace, "ca").await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (token_file, kubeconfig) = (directory.path().join("token"), directory.path().join("kubeconfig"));
    std::fs::write(&token_file, cluster.token(&namespace, "ca", ISSUER).await.unwrap()).unwrap();
    std::fs::write(&kubeconfig, kubernetes.kubeconfig_for(&token_file)).unwrap();
    let reviews = reviews(kubeconfig, LIMITS).await;
    let token = cluster.token_of_pod(&pod, "web", "istio-ca").await.unwrap();
    assert_eq!(label(ask(&reviews, &token).await), "api_forbidden");
    let rules = json!([{"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}]);
    cluster.allow(&namespace, "ca", rules).await.unwrap();
    // A new right is there when the server has heard of it.
    let end = Instant::now() + Duration::from_secs(30);
    while label(ask(&reviews, &token).await) == "api_forbidden" {
        assert!(Instant::now() < end, "the right never came");
        tokio::task::yield_now().await;
    }
    assert_eq!(label(ask(&reviews, &token).await), "authenticated");

    std::fs::write(&token_file, "nonsense").unwrap();
    let another = cluster.token_of_pod(&pod, "web", "istio-ca").await.unwrap();
    let fresh = self::reviews(directory.path().join("kubeconfig"), LIMITS).await;
    assert_eq!(label(ask(&fresh, &another).await), "api_unauthorized");
}

#[tokio::test]
#[ignore = "asks a real API server; run it with: make test-kubernetes"]
async fn a_real_server_publishes_its_keys_changes_them_stops_and_comes_again() {
    let kubernetes = Kubernetes::start(&How::default()).unwrap();
    let World { cluster, pod, .. } = World::new(&kubernetes).await;
    let server =
        Arc::new(ApiServer::open(Credentials::Kubeconfig(kubernetes.admin_file()), Files::plain()).await.unwrap());
    let keys = Arc::new(PublishedKeys::looked_up(Arc::new(ApiServerKeys(Arc::clone(&server)))));
    let on_review: Arc<OnReview> = Arc::new(|_, _| {});
    let limits = ReviewLimits { remember: Duration::ZERO, ..LIMITS };
    let reviews = TokenReviewAuthenticator::new(rules(), limits, Arc::clone(&server), Arc::clone(&keys), on_review);
    keys.look_up().await.unwrap();
    let first = cluster.token_of_pod(&pod, "web", "istio-ca").await.unwrap();
    assert_eq!(label(ask(&reviews, &first).await), "authenticated");

    kubernetes.stop().unwrap();
    let offline = ask(&reviews, &first).await.unwrap_err();
    assert!(matches!(offline, AuthenticationError::Unavailable { .. }), "{offline}");

    // A new key signs, the old one still verifies; ours were read before.
    let how = How { keys: vec![AccountKey::Ec, AccountKey::Rsa], ..How::default() };
    kubernetes.start_again(&how).unwrap();
    let second = cluster.token_of_pod(&pod, "web", "istio-ca").await.unwrap();
    assert_eq!(label(ask(&reviews, &second).await), "authenticated", "an unknown key is looked up at once");
    assert_eq!(keys.published().unwrap().keys, 2);
    assert_eq!(label(ask(&reviews, &first).await), "authenticated");

    // The old key is gone.
    kubernetes.start_again(&How { keys: vec![AccountKey::Ec], ..How::default() }).unwrap();
    keys.look_up().await.unwrap();
    assert_eq!(label(ask(&reviews, &first).await), "key_unknown");
    assert_eq!(label(ask(&reviews, &second).await), "authenticated");

    // It hangs with its connections open.
    kubernetes.hold(true).unwrap();
    let held = TokenReviewAuthenticator::new(
        rules(),
        ReviewLimits { deadline: Duration::from_millis(300), ..limits },
        Arc::clone(&server),
        keys,
        Arc::new(|_, _| {}),
    );
    assert_eq!(label(ask(&held, &second).await), "api_timed_out");
    kubernetes.hold(false).unwrap();
    assert_eq!(label(ask(&reviews, &second).await), "authenticated");
    assert!(ApiServerKeys(server).look_up().await.is_ok());
}
