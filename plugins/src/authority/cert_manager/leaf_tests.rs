//! What a cert-manager that signs leaves is asked for, and that another CA behind its issuer is noticed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signet_core::bundle::TrustBundle;
use signet_core::csr::CertificateRequest;
use signet_core::identity::WorkloadId;
use signet_core::policy::{CsrNames, LeafPolicy, decide};
use signet_core::seams::upstream_authority::UpstreamAuthority as _;
use signet_core::source::Offer;
use signet_core::verify::{VerifiedPath, check_issued};

use super::super::super::test_pki::Ca;
use super::super::test_server::{Does, World};
use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";

fn now() -> OffsetDateTime {
    signet_core::clock::Clock::now(&signet_core::clock::SystemClock)
}

fn valid(name: &str) -> Ca {
    Ca::root_with(name, |params| (params.not_before, params.not_after) = (now() - 24 * HOUR, now() + 9000 * HOUR))
}

fn below(root: &Ca) -> Ca {
    root.below("middle", |params| (params.not_before, params.not_after) = (now() - HOUR, now() + 900 * HOUR))
}

async fn world(roots: &[&Ca], script: Vec<Does>) -> World {
    World::with(roots, script, |settings| settings.leaves = true).await
}

async fn offered(world: &World) -> Offer {
    world.authority.offer().await.unwrap().unwrap()
}

fn signs(ca: &Ca) -> Does {
    Does::Signs(Box::new(ca.clone()))
}

/// The decision to certify a workload whose CSR asks for its name.
fn request(leaves: &dyn CertificateAuthority) -> SigningRequest {
    let trust_domain = TrustDomain::parse("cluster.local").unwrap();
    let policy = LeafPolicy { trust_domain, default_ttl: HOUR, max_ttl: HOUR, csr_names: CsrNames::Ignore };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri(WEB).unwrap()];
    let csr = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    let csr = CertificateRequest::parse(&csr).unwrap();
    let serial = signet_core::certificate::Serial::new(now(), [9; 16]);
    decide(&policy, WorkloadId::parse(WEB).unwrap(), csr, None, leaves.limits(), serial, now()).unwrap()
}

#[tokio::test]
async fn a_trial_shows_what_signs_leaves_and_each_leaf_is_a_request_that_is_removed() {
    let root = valid("root");
    let middle = below(&root);
    let world = world(&[&root], vec![signs(&middle)]).await;
    let offer = offered(&world).await;
    let issuing = offer.given().unwrap();
    assert_eq!((&issuing.id, &issuing.key, &issuing.certificate), (&middle.id(), &None, &middle.der));
    assert_eq!((&offer.signer, world.made_and_left()), (&root.id(), (1, 0)));
    // What is known is not tried again.
    assert_eq!(offered(&world).await, offer);
    world.authority.with_state(|state| state.look_at = None);
    assert_eq!(offered(&world).await, offer);
    assert_eq!(world.made_and_left(), (1, 0));

    let leaves = Arc::clone(&world.authority).signer(issuing).unwrap();
    assert_eq!((leaves.signer(), leaves.limits().takes), (Signer::Elsewhere, CsrUse::Names));
    let request = request(&*leaves);
    let csr = request.key().request().unwrap().to_vec();
    let chain = leaves.sign(&request).await.unwrap();
    assert_eq!(world.made_and_left(), (2, 0));
    let asked = world.api.asked();
    let made = &asked.iter().rfind(|asked| asked.method == "POST").unwrap().body;
    assert_eq!(made["metadata"]["annotations"]["signet.dev/identity"], WEB);
    assert_eq!((&made["spec"]["isCA"], made["spec"]["duration"].as_str()), (&false.into(), Some("3599s")));
    assert_eq!(made["spec"]["usages"], serde_json::json!(["digital signature", "server auth", "client auth"]));
    assert_eq!(made["spec"]["request"], STANDARD.encode(pem_block("CERTIFICATE REQUEST", &csr)));
    let bundle = TrustBundle::new(TrustDomain::parse("cluster.local").unwrap(), 1, vec![root.der.clone()]).unwrap();
    let path = VerifiedPath::check(std::slice::from_ref(&middle.der), &middle.der, &bundle).unwrap();
    check_issued(request, chain, &path, Signer::Elsewhere).unwrap();
}

#[tokio::test]
async fn another_ca_behind_the_issuer_is_noticed_learned_and_followed() {
    let root = valid("root");
    let (one, other) = (below(&root), root.below("middle", |params| params.not_after = now() + 900 * HOUR));
    let world = world(&[&root], vec![signs(&one), signs(&other)]).await;
    let first = offered(&world).await;
    let leaves = Arc::clone(&world.authority).signer(first.given().unwrap()).unwrap();
    let error = leaves.sign(&request(&*leaves)).await.unwrap_err();
    assert!(matches!(&error, SignError::Unavailable(text) if text.contains("signs with another CA now")), "{error}");
    let next = offered(&world).await;
    assert_eq!(next.given().unwrap().certificate, other.der);
    assert_ne!(next.fingerprint, first.fingerprint);
    let leaves = Arc::clone(&world.authority).signer(next.given().unwrap()).unwrap();
    leaves.sign(&request(&*leaves)).await.unwrap();
}

#[tokio::test]
async fn an_issuer_under_a_root_that_nobody_knows_is_told_and_not_used() {
    let (root, stranger) = (valid("root"), valid("stranger"));
    let world = world(&[&root, &stranger], vec![signs(&stranger)]).await;
    let error = world.authority.offer().await.unwrap_err().to_string();
    assert!(error.contains("put that root first"), "{error}");
    let world = self::world(&[&root], vec![signs(&stranger)]).await;
    let error = world.authority.offer().await.unwrap_err().to_string();
    assert!(error.contains("has signed the leaf"), "{error}");
    assert_eq!(world.made_and_left(), (1, 0));
}

#[tokio::test]
async fn after_failures_in_a_row_nobody_counts_on_it_for_a_while() {
    let root = valid("root");
    let world = world(&[&root], vec![signs(&root), Does::Refuses(503, "ServiceUnavailable")]).await;
    let leaves = Arc::clone(&world.authority).signer(offered(&world).await.given().unwrap()).unwrap();
    for _ in 0..FAILURES {
        assert_eq!(leaves.ready(), Ok(()));
        let error = leaves.sign(&request(&*leaves)).await.unwrap_err();
        assert!(matches!(error, SignError::Unavailable(_)), "{error}");
    }
    assert!(matches!(leaves.ready(), Err(SignError::Unavailable(_))));
    world.authority.with_state(|state| state.trouble.note(Ok(()), Instant::now()));
    assert_eq!(leaves.ready(), Ok(()));
}
