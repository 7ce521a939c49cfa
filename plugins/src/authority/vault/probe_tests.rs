//! What `check --connect` finds of a Vault, and the CA that it has certified on trial.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use serde_json::json;
use signet_core::certificate::Facts;

use super::super::test_pki::{Ca, NOW};
use super::test_server::{Answer, Server, TTL, Vault, World};
use super::*;

#[tokio::test]
async fn a_probe_finds_what_is_missing_and_makes_nothing() {
    let root = Ca::root("root");
    let vault = Vault::of(&root, &[]);
    let health = |ahead: i64| json!({ "server_time_utc": NOW.unix_timestamp() + ahead, "version": "2.7.2" });
    let probed = async |vault: Vault, ahead| {
        let world = World::with(vault.clone(), |settings| settings.namespace = Some("team".to_owned())).await;
        world.server.says(move |asked| match asked.path.as_str() {
            // As OpenBao does.
            "/v1/sys/health" if asked.namespace.is_some() => Answer::Json(400, json!({ "errors": ["unavailable"] })),
            "/v1/sys/health" => Answer::Json(200, health(ahead)),
            _ => vault.answer(asked),
        });
        let found = world.vault.probe(TTL).await;
        let signed = world
            .server
            .asked()
            .into_iter()
            .filter(|asked| asked.body["csr"] != json!("") && asked.path.ends_with("sign-intermediate"));
        assert_eq!(signed.count(), 0);
        found
    };
    let good = probed(vault.clone(), 20).await;
    assert_eq!(good, Probed { may_sign: true, ..Probed::default() });
    let unset = probed(Vault { longest: 0, ..vault.clone() }, 0).await;
    assert_eq!((unset.problems.len(), unset.unseen.len(), unset.may_sign), (0, 1, true));
    let cut = probed(Vault { longest: TTL.as_secs() - 1, ..vault.clone() }, 0).await;
    assert!(cut.problems[0].contains("secrets tune -max-lease-ttl=86400s pki") && cut.may_sign, "{cut:?}");
    for ahead in [-90, 90] {
        let problems = probed(vault.clone(), ahead).await.problems;
        assert!(problems.len() == 1 && problems[0].contains("90 s apart"), "{problems:?}");
    }
    let denied = Vault { capabilities: &["read"], ..vault };
    let denied = probed(denied, 0).await;
    let problems = denied.problems;
    assert!(problems.len() == 2 && problems[0].contains("its policy needs"), "{problems:?}");
    assert!(!denied.may_sign);
    let leaves = World::with(Vault { capabilities: &["create"], ..Vault::of(&root, &[]) }, |settings| {
        settings.leaves = Some(LeafRoles { workloads: "mesh".to_owned(), serving: "own".to_owned(), at_once: 8 });
    })
    .await;
    let problems = leaves.vault.probe(TTL).await.problems;
    for line in
        ["path \"pki/revoke\" { capabilities = [\"update\"] }", "path \"pki/crl/rotate\" { capabilities = [\"read\"] }"]
    {
        assert!(problems.iter().any(|problem| problem.contains(line)), "{line}: {problems:?}");
    }
    let gone = World::with(Vault::of(&root, &[]), |settings| settings.address = "http://127.0.0.1:9".to_owned()).await;
    let problems = gone.vault.probe(TTL).await.problems;
    assert!(problems.len() == 1 && problems[0].contains("cannot be reached"), "{problems:?}");
    let _server: &Server = &gone.server;
}

#[tokio::test]
async fn a_trial_has_a_ca_certified_for_a_minute_that_is_no_issuing_ca_and_is_judged_like_one() {
    let root = Ca::root("root");
    let middle = root.below("middle", |_| {});
    let vault = Vault::of(&middle, &[&root]);
    let world = World::new(vault.clone()).await;
    let tried = world.vault.try_out().await.unwrap();
    let facts = Facts::read(&tried.certified.certificate).unwrap();
    assert_eq!(
        (facts.uris.as_slice(), facts.not_after),
        (&["spiffe://cluster.local/signet/trial".to_owned()][..], NOW + trial::LIFE)
    );
    assert_eq!(facts.spki_der, tried.key.spki_der());
    assert_eq!((tried.root.id, tried.certified.intermediates.len()), (root.id(), 1));
    assert_eq!(world.server.asked().last().unwrap().body["ttl"], json!("60s"));
    let free = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    world.server.says(move |asked| match asked.path.ends_with("sign-intermediate") {
        true => {
            let csr = asked.body["csr"].as_str().unwrap();
            vault.signed(&vault.issuer.certifies(csr, trial::LIFE, |params| params.is_ca = free))
        }
        false => vault.answer(asked),
    });
    let refused = world.vault.try_out().await.err().unwrap().to_string();
    assert!(refused.contains("max_path_length"), "{refused}");
}
