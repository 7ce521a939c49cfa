//! The authority beside a scripted API server: what becomes of requests, and what is left of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use serde_json::{Value, json};
use signet_core::seams::upstream_authority::UpstreamAuthority as _;

use super::super::test_pki::Ca;
use super::test_server::{Does, World, issued};
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn root() -> Ca {
    // By the clock of this machine, which is what a process has.
    valid("mesh root")
}

fn valid(name: &str) -> Ca {
    let now = signet_core::clock::Clock::now(&signet_core::clock::SystemClock);
    Ca::root_with(name, |params| {
        params.not_before = now - 24 * HOUR;
        params.not_after = now + 9000 * HOUR;
    })
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({"conditions": [{"type": kind, "status": status, "reason": reason, "message": "because of x"}]})
}

async fn certify(world: &World) -> Result<Certified, SignError> {
    let offer = world.authority.offer().await?.unwrap();
    let (key, _) = LocalKey::generate(KeyType::EcP256).await.unwrap();
    let now = world.authority.clock.now();
    let signer = offer.roots.iter().find(|root| root.id == offer.signer).unwrap();
    let certified = world.authority.certify(signer, &key, HOUR, now).await?;
    let facts = Facts::read(&certified.certificate).unwrap();
    assert_eq!(facts.spki_der, key.spki_der());
    Ok(certified)
}

async fn refused(world: &World) -> String {
    certify(world).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_request_is_signed_and_removed_and_one_that_fails_is_made_again_but_not_for_ever() {
    let root = root();
    let signs = Does::Signs(Box::new(root.clone()));
    let failed = Does::Says(condition("Ready", "False", "Failed"));
    for (script, made) in [
        (vec![signs.clone()], 1),
        (vec![failed.clone(), signs.clone()], 2),
        (vec![Does::Removes, failed.clone(), signs.clone()], 3),
        (vec![Does::Refuses(500, "InternalError"), signs.clone()], 2),
        (vec![Does::Refuses(429, ""), Does::Refuses(503, "ServiceUnavailable"), signs.clone()], 3),
        // What happened while nobody watched is found.
        (vec![Does::EndsWatch(Box::new(signs.clone()))], 1),
    ] {
        let world = World::new(&[&root], script).await;
        let certified = certify(&world).await.unwrap();
        assert!(certified.intermediates.is_empty());
        assert_eq!((world.made_and_left(), world.authority.problem()), ((made, 0), None));
    }
    let world = World::new(&[&root], vec![failed]).await;
    let told = refused(&world).await;
    assert!(told.contains("the issuer has failed to sign the CertificateRequest: because of x"), "{told}");
    assert_eq!(world.made_and_left(), (3, 0));
}

#[tokio::test]
async fn what_is_final_is_not_tried_again_and_says_what_to_do() {
    let root = root();
    for (does, words) in [
        (Does::Says(condition("Denied", "True", "policy")), "was denied: because of x; look at the policy"),
        (Does::Says(condition("InvalidRequest", "True", "x")), "calls the CertificateRequest invalid: because of x"),
        (Does::Says(condition("Ready", "False", "Denied")), "was denied: because of x"),
        (Does::Refuses(403, "Forbidden"), "making a CertificateRequest: the API server answered 403"),
        (Does::Refuses(422, "Invalid"), "making a CertificateRequest: the API server answered 422"),
        (Does::Refuses(404, "NotFound"), "is cert-manager installed?"),
        (Does::Says(issued("garbage", "")), "holds text, but no PEM block"),
        (Does::Signs(Box::new(valid("other"))), "to a root in ca.crt of ConfigMap mesh/roots"),
    ] {
        let world = World::new(&[&root], vec![does]).await;
        let told = refused(&world).await;
        assert!(told.contains(words), "{words:?} is not in {told:?}");
        assert_eq!(world.made_and_left(), (1, 0), "{told}");
        assert!(world.authority.problem().unwrap().contains(words));
    }
}

#[tokio::test]
async fn nobody_who_answers_is_guessed_at_when_time_is_up() {
    let (root, second) = (root(), Duration::from_secs(1));
    for (does, words) in [
        (Does::Nothing, "nobody approves it"),
        (Does::Says(condition("Approved", "True", "x")), "it is approved, and nobody signs it"),
        (Does::Says(condition("Ready", "False", "Pending")), "Issuer ca has not signed it, and says: because of x"),
        // Its answer is lost, and it is removed all the same.
        (Does::Loses, "the API server has not answered"),
    ] {
        let world = World::with(&[&root], vec![does], |settings| settings.deadline = second).await;
        let told = refused(&world).await;
        assert!(told.contains(words) && told.contains("within 1s"), "{words:?} is not in {told:?}");
        assert_eq!(world.made_and_left(), (1, 0), "{told}");
    }
}

#[tokio::test]
async fn after_a_failure_nothing_is_offered_nor_asked_for_a_while() {
    let root = root();
    let world = World::new(&[&root], vec![Does::Refuses(403, "Forbidden")]).await;
    let first = refused(&world).await;
    assert_eq!(world.authority.offer().await.unwrap_err().to_string(), first);
    let (key, _) = LocalKey::generate(KeyType::EcP256).await.unwrap();
    let ours = Root::new(root.der.clone(), None).unwrap();
    let again = world.authority.certify(&ours, &key, HOUR, world.authority.clock.now()).await;
    assert_eq!(again.unwrap_err().to_string(), first);
    assert_eq!(world.made_and_left(), (1, 0));
}

#[tokio::test]
async fn other_roots_end_the_pause_since_they_may_be_what_was_missing() {
    let (one, two) = (root(), valid("two"));
    let world = World::new(&[&one], vec![Does::Signs(Box::new(two.clone()))]).await;
    assert!(refused(&world).await.contains("no way leads from the certificate"));
    world.authority.offer().await.unwrap_err();
    world.inner().roots = two.pem();
    world.authority.with_state(|state| state.look_at = None);
    let certified = certify(&world).await.unwrap();
    assert_eq!((certified.intermediates.len(), world.authority.problem()), (0, None));
}

#[tokio::test]
async fn our_own_approval_comes_from_us_and_a_refusal_of_it_is_told() {
    let root = root();
    let signs = vec![Does::Signs(Box::new(root.clone()))];
    let world = World::with(&[&root], signs, |settings| settings.approve = true).await;
    certify(&world).await.unwrap();
    let asked = world.api.asked();
    let approvals: Vec<_> = asked.iter().filter(|asked| asked.method == "PUT").collect();
    assert_eq!(approvals.len(), 1);
    let (path, body) = (&approvals[0].path, &approvals[0].body);
    assert!(path.contains("/status"));
    assert_eq!(body["status"]["conditions"][0]["type"], "Approved");
    // The whole object, with what it was asked for.
    assert_eq!(body["spec"]["isCA"], true);
    // Somebody else writes to it in between, and approves it or not.
    for (overtaken, approvals) in [((1, true), 1), ((1, false), 2), ((2, false), 3)] {
        let signs = vec![Does::Signs(Box::new(root.clone()))];
        let world = World::with(&[&root], signs, |settings| settings.approve = true).await;
        world.inner().overtaken = overtaken;
        certify(&world).await.unwrap();
        let tried = world.api.asked().iter().filter(|asked| asked.method == "PUT").count();
        assert_eq!((tried, world.made_and_left()), (approvals, (1, 0)), "{overtaken:?}");
    }
    let plain = World::new(&[&root], vec![Does::Signs(Box::new(root.clone()))]).await;
    certify(&plain).await.unwrap();
    assert!(plain.api.asked().iter().all(|asked| asked.method != "PUT"));
}

#[tokio::test(start_paused = true)]
async fn roots_are_followed_and_those_before_go_on_while_they_cannot_be_read() {
    let (one, two) = (root(), valid("two"));
    let world = World::new(&[&one], vec![Does::Nothing]).await;
    let signer = async || world.authority.offer().await.map(|offer| offer.unwrap().signer);
    let later = || tokio::time::advance(Duration::from_secs(11));
    assert_eq!(signer().await, Ok(one.id()));
    world.inner().roots = format!("{}{}", two.pem(), one.pem());
    assert_eq!(signer().await, Ok(one.id()), "not looked at again at once");
    later().await;
    assert_eq!(signer().await, Ok(two.id()));
    // Away: what was there goes on, and is told.
    world.inner().roots_refused = Some(503);
    later().await;
    assert_eq!(signer().await, Ok(two.id()));
    assert!(world.authority.problem().unwrap().contains("answered 503"));
    // Gone, or no roots: that is what somebody did.
    for (status, content, words) in [
        (Some(404), "", "there is none; make it"),
        (None, "", "there is no certificate"),
        (Some(403), "", "answered 403"),
    ] {
        (world.inner().roots_refused, world.inner().roots) = (status, content.to_owned());
        later().await;
        let told = signer().await.unwrap_err().to_string();
        assert!(told.contains(words) && told.contains("ca.crt of ConfigMap mesh/roots"), "{told}");
    }
    (world.inner().roots_refused, world.inner().roots) = (None, two.pem());
    later().await;
    assert_eq!((signer().await, world.authority.problem()), (Ok(two.id()), None));
}

#[tokio::test]
async fn status_ca_is_the_root_only_where_it_is_asked_for_and_is_one() {
    let root = root();
    let middle = root.below("middle", |params| {
        (params.not_before, params.not_after) = (root.params.not_before, root.params.not_after)
    });
    let asks = |by: &Ca| {
        World::with(&[], vec![Does::Signs(Box::new(by.clone()))], |settings| settings.roots = RootsFrom::Requests)
    };
    let world = asks(&root).await;
    assert_eq!(world.authority.offer().await.unwrap().unwrap().signer, root.id());
    certify(&world).await.unwrap();
    // One for the trial, whose certificate lasts a minute, and one for the issuing CA.
    assert_eq!(world.made_and_left(), (2, 0));
    let world = asks(&middle).await;
    let told = world.authority.offer().await.unwrap_err().to_string();
    assert!(told.contains("CN=middle is not a root") && told.contains("authority.cert_manager.roots"), "{told}");
    // It is not tried again and again.
    world.authority.offer().await.unwrap_err();
    assert_eq!(world.made_and_left(), (1, 0));
}

#[tokio::test]
async fn left_overs_of_ours_are_removed_when_nobody_can_wait_for_them() {
    let root = root();
    let world = World::new(&[&root], vec![Does::Nothing]).await;
    let now = world.authority.clock.now();
    let object = |name: &str, ends: i64, domain: &str| {
        let settings = CertManagerSettings {
            trust_domain: signet_core::identity::TrustDomain::parse(domain).unwrap(),
            ..world.authority.settings.clone()
        };
        let ends = now + time::Duration::seconds(ends);
        let mut object =
            serde_json::to_value(request::object(&settings, "csr", Asks::Ca, HOUR, ends).unwrap()).unwrap();
        object["metadata"]["name"] = json!(name);
        world.inner().objects.insert(name.to_owned(), object);
    };
    object("left", -60, "cluster.local");
    object("of-a-replica", -10, "cluster.local");
    object("of-another-mesh", -60, "other");
    world.authority.offer().await.unwrap();
    let left: Vec<String> = world.inner().objects.keys().cloned().collect();
    assert_eq!(left, ["of-a-replica", "of-another-mesh"]);
    // It is looked at again when that may be removed, too: twenty seconds from now.
    let at = world.authority.with_state(|state| state.collect_at).unwrap();
    let left = at.saturating_duration_since(Instant::now());
    assert!(Duration::from_secs(15) < left && left <= Duration::from_secs(21), "{left:?}");
}
