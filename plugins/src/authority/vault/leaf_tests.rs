//! What is asked of a Vault that signs leaves, with which of its issuers, and what is said when a role lacks something.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use serde_json::{Value, json};
use signet_core::bundle::TrustBundle;
use signet_core::identity::TrustDomain;
use signet_core::seams::upstream_authority::UpstreamAuthority as _;
use signet_core::source::OfferedCa;
use signet_core::verify::{VerifiedPath, check_issued};

use super::super::super::test_pki::{Ca, NOW, request_of};
use super::super::test_server::{Answer, Asked, Vault, World, denied};
use super::super::{LeafRoles, VaultSettings};
use super::*;

fn leaf_mode(settings: &mut VaultSettings) {
    let (workloads, serving) = ("mesh".to_owned(), "own".to_owned());
    settings.leaves = Some(LeafRoles { workloads, serving, at_once: 8 });
}

/// What a Vault with the documented role answers to a leaf.
fn leaf_of(issuer: &Ca, asked: &Asked) -> Answer {
    let csr = asked.body["csr"].as_str().unwrap();
    let life = Duration::from_secs(3600);
    let leaf = issuer.certifies(csr, life, |params| {
        let uri = asked.body["uri_sans"].as_str().unwrap();
        params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    });
    Answer::Json(200, json!({ "data": { "certificate": leaf.pem(), "issuing_ca": issuer.pem() } }))
}

async fn world(issuer: &Ca, above: &[&Ca]) -> World {
    let vault = Vault::of(issuer, above);
    let world = World::with(vault.clone(), leaf_mode).await;
    let signer = issuer.clone();
    world.server.says(move |asked| match asked.path.contains("/sign/") && asked.body["csr"] != "" {
        true => leaf_of(&signer, asked),
        false => vault.answer(asked),
    });
    world
}

async fn offered(world: &World) -> signet_core::source::Offer {
    world.vault.offer().await.unwrap().unwrap()
}

#[tokio::test]
async fn the_issuer_itself_is_offered_and_signs_what_was_decided_with_a_call_for_each_leaf() {
    let root = Ca::root("root");
    let middle = root.below("middle", |_| {});
    let world = world(&middle, &[&root]).await;
    let offer = offered(&world).await;
    let OfferedCa::Given(issuing) = &offer.issuing else { panic!("{offer:?}") };
    assert_eq!((&issuing.id, &issuing.key, &issuing.certificate), (&middle.id(), &None, &middle.der));
    assert_eq!((&offer.signer, issuing.not_after), (&root.id(), root.params.not_after));
    let asked = world.server.asked();
    let paths: Vec<&Value> =
        asked.iter().filter(|one| one.path.ends_with("capabilities-self")).map(|one| &one.body["paths"][0]).collect();
    assert_eq!(paths, ["pki/issuer/the-id/sign/mesh", "pki/issuer/the-id/sign/own"]);

    let leaves = Arc::clone(&world.vault).signer(issuing).unwrap();
    assert_eq!((leaves.signer(), leaves.ready()), (Signer::Elsewhere, Ok(())));
    let request = request_of(&*leaves, NOW);
    let (csr, end) = (request.key().request().unwrap().to_vec(), rfc3339(request.not_after()));
    let chain = leaves.sign(&request).await.unwrap();
    assert_eq!(chain.intermediates(), std::slice::from_ref(&middle.der));
    let asked = world.server.asked();
    let [sign] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!(sign.path, "/v1/pki/issuer/the-id/sign/mesh");
    let expected = json!({
        "csr": pem_block("CERTIFICATE REQUEST", &csr), "format": "pem", "exclude_cn_from_sans": true, "not_after": end,
        "uri_sans": request.spiffe_id().as_str(), "alt_names": "", "ip_sans": "",
    });
    assert_eq!(sign.body, expected);
    let bundle = TrustBundle::new(TrustDomain::parse("cluster.local").unwrap(), 1, vec![root.der.clone()]).unwrap();
    let path = VerifiedPath::check(std::slice::from_ref(&middle.der), &middle.der, &bundle).unwrap();
    check_issued(request, chain, &path, Signer::Elsewhere).unwrap();
}

#[tokio::test]
async fn what_stands_for_an_issuer_that_signs_leaves_is_not_what_stands_for_one_that_certifies_cas() {
    let root = Ca::root("root");
    let leaf = offered(&world(&root, &[]).await).await;
    let intermediate = offered(&World::new(Vault::of(&root, &[])).await).await;
    assert_eq!((&leaf.signer, &leaf.roots), (&intermediate.signer, &intermediate.roots));
    assert_ne!(leaf.fingerprint, intermediate.fingerprint);
    // A root that signs leaves itself lies between them and nothing.
    let leaves = Arc::clone(&world(&root, &[]).await.vault).signer(leaf.given().unwrap()).unwrap();
    assert_eq!(leaves.limits().authority, root.id());
}

/// While another issuer is the default already, the one that holders know goes on.
#[tokio::test]
async fn an_issuer_that_is_not_the_default_any_more_is_found_by_its_certificate_and_asked_by_its_id() {
    let (one, other) = (Ca::root("one"), Ca::root("other"));
    let before = world(&one, &[]).await;
    let issuing = offered(&before).await.given().unwrap().clone();
    let world = world(&other, &[]).await;
    let (vault, signer) = (Vault::of(&other, &[]), one.clone());
    let all = [("id-1", other.clone()), ("id-2", one.clone())];
    world.server.says(move |asked| match asked.path.as_str() {
        "/v1/pki/issuers" => {
            assert_eq!((asked.method.as_str(), &asked.token), ("LIST", &None));
            Answer::Json(200, json!({ "data": { "keys": ["id-1", "id-2"] } }))
        }
        path if path.contains("/sign/") => leaf_of(&signer, asked),
        path => match all.iter().find(|(id, _)| path.ends_with(&format!("issuer/{id}/json"))) {
            Some((id, ca)) => Answer::Json(200, json!({ "data": { "certificate": ca.pem(), "issuer_id": id } })),
            None => vault.answer(asked),
        },
    });
    assert_eq!(offered(&world).await.signer, other.id());
    world.server.asked();
    let leaves = Arc::clone(&world.vault).signer(&issuing).unwrap();
    for calls in [4, 1] {
        leaves.sign(&request_of(&*leaves, NOW)).await.unwrap();
        let paths = world.server.paths();
        assert_eq!(
            (paths.len(), paths.last().unwrap().as_str()),
            (calls, "/v1/pki/issuer/id-2/sign/mesh"),
            "{paths:?}"
        );
    }
    // One that was removed from the mount.
    let gone = Ca::root("gone");
    let leaves = Arc::clone(&world.vault).signer(&IssuingCa::new(gone.der.clone(), None).unwrap()).unwrap();
    let said = leaves.sign(&request_of(&*leaves, NOW)).await.unwrap_err().to_string();
    assert!(said.contains("is not among the issuers of \"pki\""), "{said}");
}

#[tokio::test]
async fn a_policy_or_a_role_that_lacks_something_is_named() {
    let root = Ca::root("root");
    let world = world(&root, &[]).await;
    let leaves = Arc::clone(&world.vault).signer(offered(&world).await.given().unwrap()).unwrap();
    let vault = Vault::of(&root, &[]);
    let refused = |said: &str| Answer::Json(400, json!({ "errors": [said] }));
    for (answer, expected) in [
        (denied(), "path \"pki/issuer/the-id/sign/mesh\" { capabilities = [\"update\"] }"),
        (refused("unknown role: mesh"), "\"mesh\" of the mount: there is no such role"),
        (refused("URI Subject Alternative Names were provided, but are not allowed"), "allowed_uri_sans"),
        (refused("role requires keys of type rsa"), "key_type=any"),
        (refused("the common_name field is required"), "require_cn=false"),
        (refused("something else"), "is it as documented?"),
    ] {
        let vault = vault.clone();
        world.server.says(move |asked| match asked.path.contains("/sign/") {
            true => answer.clone(),
            false => vault.answer(asked),
        });
        let error = leaves.sign(&request_of(&*leaves, NOW)).await.unwrap_err();
        assert!(matches!(error, SignError::Unusable(_)) && error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_vault_that_is_away_is_not_asked_after_some_calls_and_says_so_before() {
    let root = Ca::root("root");
    let world = world(&root, &[]).await;
    let leaves = Arc::clone(&world.vault).signer(offered(&world).await.given().unwrap()).unwrap();
    world.server.says(|_| Answer::Json(503, json!({ "errors": ["Vault is sealed"] })));
    for _ in 0..3 {
        assert_eq!(leaves.ready(), Ok(()));
        let error = leaves.sign(&request_of(&*leaves, NOW)).await.unwrap_err();
        assert!(matches!(error, SignError::Unavailable(_)), "{error}");
    }
    let error = leaves.ready().unwrap_err();
    assert!(matches!(&error, SignError::Unavailable(said) if said.contains("sealed")), "{error}");
}
