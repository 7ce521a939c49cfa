//! How often a server is asked for its keys.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicUsize, Ordering};

use signet_core::identity::TrustDomain;
use signet_plugins::authenticator::KeyLookup;
use signet_runtime::readiness::Readiness;

use super::*;

/// The key of RFC 7517 appendix A.1.
const JWKS: &str = r#"{"keys": [{"kty": "EC", "crv": "P-256", "kid": "1",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

/// Fails the second time.
#[derive(Default)]
struct Failing(AtomicUsize);

#[async_trait::async_trait]
impl KeyLookup for Failing {
    async fn look_up(&self) -> Result<Vec<u8>, AuthenticationError> {
        match self.0.fetch_add(1, Ordering::SeqCst) {
            1 => Err(AuthenticationError::unavailable(Outage::ApiForbidden, "not now")),
            _ => Ok(JWKS.as_bytes().to_vec()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn keys_that_could_not_be_read_are_asked_for_again_soon_also_while_there_are_older_ones() {
    let cluster = Cluster {
        id: "a".into(),
        aliases: Vec::new(),
        trust_domain: TrustDomain::parse("cluster.local").unwrap(),
        audiences: vec!["istio-ca".into()],
        api_server: None,
        trusted_node_accounts: Vec::new(),
        tokens: Tokens::Jwks {
            issuers: vec!["i".into()],
            keys: KeySource::ApiServer,
            leeway: Duration::from_secs(60),
            max_age: Duration::from_secs(3600),
            live_objects: false,
        },
        client_certificates: None,
        pod_certificates: None,
        publish: crate::config::Publish::default(),
    };
    let (lookup, read, readiness) = (Arc::new(Failing::default()), Arc::default(), Readiness::new());
    let keys = Arc::new(PublishedKeys::looked_up(Arc::clone(&lookup) as _));
    let (notices, told) = crate::notices::tests::unheard();
    let followed = ClusterKeys::new(&cluster, keys, readiness.passing("keys"), Arc::clone(&read), notices);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(followed.keep());
    let problem = || read.lock().unwrap().problem.clone();
    let second = Duration::from_secs(1);
    // The first time there are none before, so that it is asked again soon, too.
    tokio::time::sleep(ASK_AGAIN + second).await;
    assert!(problem().is_some(), "{}", lookup.0.load(Ordering::SeqCst));
    tokio::time::sleep(ASK_AGAIN).await;
    assert_eq!((problem(), lookup.0.load(Ordering::SeqCst)), (None, 3));
    tokio::time::sleep(ASK).await;
    assert_eq!(lookup.0.load(Ordering::SeqCst), 4, "in order, it is asked each minute");
    let reasons: Vec<_> = told.all().into_iter().map(|told| (told.outcome, told.reason, told.cluster)).collect();
    let of_a = |outcome, reason| (outcome, reason, Some("a".to_owned()));
    let expected = [
        (Outcome::Done, "token_keys_changed"),
        (Outcome::Failed, "token_keys_unread"),
        (Outcome::Done, "token_keys_used"),
    ];
    assert_eq!(reasons, expected.map(|(outcome, reason)| of_a(outcome, reason)), "each change, and not each look");
}
