//! What is asked of a Vault, what of its answers is used, and what becomes of faults.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use serde_json::json;
use signet_core::certificate::Facts;
use signet_core::source::OfferedCa;

use super::super::test_pki::{Ca, DAY, NOW};
use super::test_server::{Answer, SECRET, TOKEN, TTL, Vault, World, auth, certify, denied, key};
use super::*;

#[tokio::test]
async fn the_issuer_is_offered_with_its_root_and_certifies_a_key_that_stays_here() {
    let root = Ca::root("root");
    let world = World::new(Vault::of(&root, &[])).await;
    let offer = world.vault.offer().await.unwrap().unwrap();
    assert_eq!((offer.roots.len(), &offer.roots[0].certificate, &offer.signer), (1, &root.der, &root.id()));
    assert_eq!((offer.roots[0].key.clone(), offer.revocation_lists.len()), (None, 1));
    assert_eq!(offer.issuing, OfferedCa::Certified { until: root.params.not_after });
    let paths = ["/v1/pki/issuer/default/json", "/v1/auth/approle/login", "/v1/sys/capabilities-self"];
    let of_lists = ["/v1/pki/issuers", "/v1/pki/issuer/id-0/json", "/v1/pki/issuer/id-0/crl"];
    let asked = world.server.asked();
    assert_eq!(asked.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), [paths, of_lists].concat());
    let without = |at: usize| asked[at].token.is_none();
    assert!(without(0) && (3..6).all(without), "anybody may read the issuers and their lists");
    assert_eq!(asked[1].body, json!({ "role_id": "signet", "secret_id": SECRET }));

    let key = key().await;
    let made = world.vault.certify(&offer.roots[0], &key, TTL, NOW).await.unwrap();
    let facts = Facts::read(&made.certificate).unwrap();
    assert_eq!((facts.spki_der.as_slice(), facts.uris), (key.spki_der(), vec!["spiffe://cluster.local".to_owned()]));
    assert_eq!((facts.not_after, made.intermediates.len()), (NOW + TTL, 0));
    let asked = world.server.asked();
    let sign = asked.last().unwrap();
    assert_eq!((sign.path.as_str(), sign.token.as_deref()), ("/v1/pki/root/sign-intermediate", Some(TOKEN)));
    let mut body = sign.body.clone();
    assert!(body["csr"].take().as_str().unwrap().starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
    let expected = json!({ "csr": null, "use_csr_values": true, "max_path_length": 0, "format": "pem", "ttl": "86400s",
                           "not_before_duration": "120s" });
    assert_eq!(body, expected);
    assert!(asked.iter().all(|one| !one.path.ends_with("login")), "one login is enough");
}

#[tokio::test]
async fn an_issuer_by_name_below_its_root_is_asked_in_its_namespace_and_bounds_what_it_signs() {
    let root = Ca::root("root");
    let middle = root.below("middle", |params| params.not_after = NOW + DAY / 2);
    let change = |settings: &mut VaultSettings| {
        settings.namespace = Some("team/a".to_owned());
        (settings.mount, settings.issuer) = ("team/pki".to_owned(), "middle".to_owned());
    };
    let world = World::with(Vault::of(&middle, &[&root]), change).await;
    let offer = world.vault.offer().await.unwrap().unwrap();
    assert_eq!((&offer.signer, &offer.roots[0].certificate), (&root.id(), &root.der));
    assert_eq!(offer.issuing, OfferedCa::Certified { until: NOW + DAY / 2 });
    let made = certify(&world, &root).await.unwrap();
    assert_eq!(made.intermediates, std::slice::from_ref(&middle.der), "from the nearest on, without the root");
    let asked = world.server.asked();
    assert!(asked.iter().all(|one| one.namespace.as_deref() == Some("team/a")), "{asked:?}");
    let sign = asked.last().unwrap();
    assert_eq!(
        (sign.path.as_str(), &sign.body["ttl"]),
        ("/v1/team/pki/issuer/middle/sign-intermediate", &json!("43200s"))
    );
}

#[tokio::test]
async fn what_stands_for_the_issuer_follows_from_its_chain_in_any_order_and_from_nothing_else() {
    let root = Ca::root("root");
    let (one, other) = (root.below("one", |_| {}), root.below("other", |_| {}));
    let print = async |vault: Vault| {
        let offer = World::new(vault).await.vault.offer().await.unwrap().unwrap();
        format!("{:?}", offer.fingerprint)
    };
    let first = print(Vault::of(&one, &[&root])).await;
    let mut reordered = Vault::of(&one, &[&root, &one, &root]);
    reordered.chain.reverse();
    assert_eq!(print(reordered).await, first);
    assert_ne!(print(Vault::of(&other, &[&root])).await, first);
    assert_ne!(print(Vault::of(&root, &[])).await, first);
}

#[tokio::test]
async fn a_token_that_is_not_accepted_any_more_is_replaced_with_the_secret_that_the_file_holds_by_then() {
    let root = Ca::root("root");
    let vault = Vault::of(&root, &[]);
    let world = World::new(vault.clone()).await;
    world.vault.offer().await.unwrap();
    world.server.asked();
    let later = vault.clone();
    world.server.says(move |asked| {
        let mut asked = asked.clone();
        if asked.path.ends_with("login") {
            return if asked.body["secret_id"] == "the-next-one" { auth("s.next", 60) } else { denied() };
        }
        // Only the new one is accepted.
        asked.token = match asked.token.as_deref() {
            Some("s.next") => Some(TOKEN.to_owned()),
            _ => None,
        };
        later.answer(&asked)
    });
    std::fs::write(world.directory.path().join("secret-id"), "the-next-one").unwrap();
    certify(&world, &root).await.unwrap();
    let paths = world.server.paths();
    assert_eq!(paths.iter().filter(|path| path.ends_with("login")).count(), 1, "{paths:?}");
    assert_eq!(paths.iter().filter(|path| path.ends_with("sign-intermediate")).count(), 2, "{paths:?}");
}

#[tokio::test]
async fn a_policy_that_lacks_the_line_is_named_before_and_while_it_is_needed_and_nothing_is_tried_over_and_over() {
    let root = Ca::root("root");
    let line = "path \"pki/root/sign-intermediate\" { capabilities = [\"update\"] }";
    let mut vault = Vault::of(&root, &[]);
    vault.capabilities = &["deny"];
    let world = World::new(vault.clone()).await;
    let said = world.vault.offer().await.unwrap_err().to_string();
    assert!(said.contains(line), "{said}");
    // It says that this CA may, and refuses.
    vault.capabilities = &["update"];
    world
        .server
        .says(move |asked| if asked.path.ends_with("sign-intermediate") { denied() } else { vault.answer(asked) });
    world.server.asked();
    let said = certify(&world, &root).await.unwrap_err().to_string();
    assert!(said.contains(line), "{said}");
    let paths = world.server.paths();
    assert_eq!(
        paths.iter().filter(|path| path.ends_with("sign-intermediate")).count(),
        2,
        "once more with a new token"
    );
    // What failed is what is offered for a while.
    assert_eq!(world.vault.offer().await.unwrap_err().to_string(), said);
    assert_eq!(world.server.paths(), Vec::<String>::new());
}

#[tokio::test]
async fn a_certificate_that_is_not_what_was_asked_for_is_not_used() {
    let (root, stranger) = (Ca::root("root"), Ca::root("stranger"));
    let middle = root.below("middle", |_| {});
    let vault = Vault::of(&middle, &[&root]);
    let name = |text: &str| rcgen::SanType::URI(text.try_into().unwrap());
    let uri = move |text: &str| {
        let san = name(text);
        move |params: &mut rcgen::CertificateParams| params.subject_alt_names = vec![san]
    };
    let other_key = middle.below("other", |_| {});
    let (one, alone) = (vault.clone(), vault.clone());
    type Sign = Box<dyn Fn(&str) -> Answer + Send>;
    let cases: Vec<(&str, Sign)> = vec![
        ("for another key", Box::new(move |_| one.signed(&other_key))),
        ("is not one of a CA", {
            let vault = vault.clone();
            Box::new(move |csr| {
                vault.signed(&vault.issuer.certifies(csr, TTL, |params| params.is_ca = rcgen::IsCa::ExplicitNoCa))
            })
        }),
        ("the URI", {
            let vault = vault.clone();
            Box::new(move |csr| vault.signed(&vault.issuer.certifies(csr, TTL, uri("spiffe://other"))))
        }),
        ("were not asked for", {
            let vault = vault.clone();
            Box::new(move |csr| {
                let more = rcgen::SanType::DnsName("example.com".try_into().unwrap());
                vault.signed(&vault.issuer.certifies(csr, TTL, |params| params.subject_alt_names.push(more)))
            })
        }),
        ("ended at", {
            let vault = vault.clone();
            Box::new(move |csr| {
                vault.signed(&vault.issuer.certifies(csr, TTL, |params| params.not_after = NOW - DAY / 24))
            })
        }),
        ("longer than the 86400 s", {
            let vault = vault.clone();
            Box::new(move |csr| {
                vault.signed(&vault.issuer.certifies(csr, TTL, |params| params.not_after = NOW + 2 * TTL))
            })
        }),
        ("its path length is not 0", {
            let vault = vault.clone();
            Box::new(move |csr| {
                let free = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
                vault.signed(&vault.issuer.certifies(csr, TTL, |params| params.is_ca = free))
            })
        }),
        ("may not sign revocation lists", {
            let vault = vault.clone();
            Box::new(move |csr| {
                let alone = vec![rcgen::KeyUsagePurpose::KeyCertSign];
                vault.signed(&vault.issuer.certifies(csr, TTL, |params| params.key_usages = alone))
            })
        }),
        ("starts only at", {
            let vault = vault.clone();
            Box::new(move |csr| {
                vault.signed(&vault.issuer.certifies(csr, TTL, |params| params.not_before = NOW + DAY / 24))
            })
        }),
        ("the issuer has changed meanwhile", {
            let theirs = Vault::of(&stranger, &[]);
            Box::new(move |csr| theirs.signed(&theirs.issuer.certifies(csr, TTL, |_| {})))
        }),
        ("is in neither", {
            let unknown = stranger.below("unknown", |_| {});
            let theirs = Vault { chain: Vec::new(), ..Vault::of(&unknown, &[]) };
            Box::new(move |csr| theirs.signed(&theirs.issuer.certifies(csr, TTL, |_| {})))
        }),
        ("certificates in the place of one", {
            Box::new(move |csr| {
                let made = alone.issuer.certifies(csr, TTL, |_| {}).pem();
                let data = json!({ "certificate": format!("{made}{made}"), "ca_chain": [] });
                Answer::Json(200, json!({ "data": data }))
            })
        }),
        ("a certificate cannot be read", {
            let data = json!({ "certificate": "-----BEGIN CERTIFICATE-----\nAAAA", "ca_chain": [] });
            Box::new(move |_| Answer::Json(200, json!({ "data": data })))
        }),
        ("it has no data", Box::new(|_| Answer::Json(200, json!({ "data": null })))),
    ];
    for (expected, sign) in cases {
        let world = World::new(vault.clone()).await;
        let answers = vault.clone();
        world.server.says(move |asked| match asked.path.ends_with("sign-intermediate") {
            true => sign(asked.body["csr"].as_str().unwrap()),
            false => answers.answer(asked),
        });
        match certify(&world, &root).await {
            Err(SignError::Unusable(said)) => assert!(said.contains(expected), "{expected}: {said}"),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_chain_that_was_cut_is_completed_with_what_the_issuer_has() {
    let root = Ca::root("root");
    let middle = root.below("middle", |_| {});
    let vault = Vault::of(&middle, &[&root]);
    let world = World::new(vault.clone()).await;
    world.server.says(move |asked| match asked.path.ends_with("sign-intermediate") {
        true => {
            let made = vault.issuer.certifies(asked.body["csr"].as_str().unwrap(), TTL, |_| {});
            Answer::Json(200, json!({ "data": { "certificate": made.pem() } }))
        }
        false => vault.answer(asked),
    });
    assert_eq!(certify(&world, &root).await.unwrap().intermediates, [middle.der]);
}

#[tokio::test]
async fn an_issuer_that_cannot_certify_is_refused_in_words() {
    let root = Ca::root("root");
    let ended = Ca::root_with("ended", |params| params.not_after = NOW - DAY);
    let short = Ca::root_with("short", |params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    });
    let lonely = Vault { chain: Vec::new(), ..Vault::of(&root.below("lonely", |_| {}), &[]) };
    for (vault, expected) in [
        (Vault::of(&ended, &[]), "ended at"),
        (Vault::of(&short, &[]), "pathLenConstraint"),
        (lonely, "which is `CN=root`, is in neither"),
        (Vault::of(&root.leaf(), &[&root]), "is not the certificate of a CA"),
    ] {
        match World::new(vault).await.vault.offer().await {
            Err(SignError::Unusable(said)) => assert!(said.contains(expected), "{said}"),
            other => panic!("{expected}: {other:?}"),
        }
    }
    let soon = Ca::root_with("soon", |params| params.not_after = NOW + LEAST / 2);
    let refused = certify(&World::new(Vault::of(&soon, &[])).await, &soon).await.unwrap_err();
    assert!(refused.to_string().contains("about to end"), "{refused}");
}

#[tokio::test]
async fn each_way_to_log_in_says_what_vault_wants_to_hear() {
    let root = Ca::root("root");
    let token = |name: &str, content: &str, world: &World| {
        let file = world.directory.path().join(name);
        std::fs::write(&file, content).unwrap();
        file
    };
    // The settings name files in a directory that is made before.
    let outer = World::new(Vault::of(&root, &[])).await;
    let jwt = token("jwt", "a.b.c\n", &outer);
    let (mount, role, token_file) = ("k8s".to_owned(), "signet".to_owned(), jwt);
    let login = Login::Kubernetes { mount, role, token_file };
    let world = World::with(Vault::of(&root, &[]), |settings| settings.login = login).await;
    world.vault.offer().await.unwrap();
    let asked = world.server.asked().into_iter().find(|asked| asked.path.ends_with("login")).unwrap();
    assert_eq!((asked.path.as_str(), asked.method.as_str()), ("/v1/auth/k8s/login", "POST"));
    assert_eq!(asked.body, json!({ "role": "signet", "jwt": "a.b.c" }));

    let given = token("token", TOKEN, &outer);
    let world = World::with(Vault::of(&root, &[]), |settings| settings.login = Login::TokenFile(given.clone())).await;
    let vault = Vault::of(&root, &[]);
    world.server.says(move |asked| match asked.path.ends_with("lookup-self") {
        true => Answer::Json(200, json!({ "data": { "ttl": 7, "renewable": false } })),
        false => vault.answer(asked),
    });
    certify(&world, &root).await.unwrap();
    let ends = world.vault.status().await.token_ends;
    assert_eq!(ends, Some(NOW + Duration::from_secs(7)));
    for (content, expected) in [("", "it is empty"), ("two words", "is no token"), ("\u{fc}", "is no token")] {
        std::fs::write(&given, content).unwrap();
        let world =
            World::with(Vault::of(&root, &[]), |settings| settings.login = Login::TokenFile(given.clone())).await;
        let said = world.vault.offer().await.unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
        assert!(world.vault.files().await.is_err() == content.is_empty());
    }
}
