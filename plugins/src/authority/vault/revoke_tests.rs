//! What a Vault is asked to revoke, and how its list comes to say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::{Arc, Mutex};

use serde_json::json;
use signet_core::seams::upstream_authority::UpstreamAuthority as _;

use super::super::super::test_pki::{Ca, DAY, NOW};
use super::super::test_server::{Answer, TOKEN, Vault, World, denied};
use super::*;

/// A Vault whose list says what it has revoked only when it is made anew, unless `at_once`. It answers this to these two calls
/// in the place of doing what they say.
struct Said {
    at_once: bool,
    revoke: Option<Answer>,
    rebuild: Option<Answer>,
}

async fn world(root: &Ca, below: &Ca, said: Said) -> World {
    let vault = Vault::of(root, &[]);
    let world = World::new(vault.clone()).await;
    world.vault.look().await.unwrap();
    world.server.asked();
    let listed = root.crl_of(NOW - DAY, NOW + DAY, &[below]);
    let list = Arc::new(Mutex::new(vault.lists.clone()));
    world.server.says(move |asked| {
        let mut answers = vault.clone();
        answers.lists.clone_from(&list.lock().unwrap());
        let rebuilt = |is_rebuilt: bool| {
            if is_rebuilt {
                *list.lock().unwrap() = vec![Some(listed.clone())];
            }
            Answer::Json(200, json!({ "data": { "state": "revoked" } }))
        };
        match asked.path.as_str() {
            "/v1/pki/revoke" => said.revoke.clone().unwrap_or_else(|| rebuilt(said.at_once)),
            "/v1/pki/crl/rotate" => said.rebuild.clone().unwrap_or_else(|| rebuilt(true)),
            _ => answers.answer(asked),
        }
    });
    world
}

#[tokio::test]
async fn a_certificate_is_revoked_by_itself_and_its_list_made_anew_only_where_that_lacks_it() {
    let root = Ca::root("root");
    let below = root.below("issuing", |_| {});
    for (at_once, rebuilt) in [(true, 0), (false, 1)] {
        let world = world(&root, &below, Said { at_once, revoke: None, rebuild: None }).await;
        world.vault.revoke(&below.der).await.unwrap();
        let asked = world.server.asked();
        let revoke = asked.iter().find(|one| one.path == "/v1/pki/revoke").unwrap();
        assert_eq!((revoke.method.as_str(), revoke.token.as_deref()), ("POST", Some(TOKEN)));
        assert_eq!(revoke.body, json!({ "certificate": below.pem() }));
        assert_eq!(asked.iter().filter(|one| one.path == "/v1/pki/crl/rotate").count(), rebuilt, "{at_once}");
        // What it says now is offered.
        let serial = Facts::read(&below.der).unwrap().serial_text();
        let lists = world.vault.offer().await.unwrap().unwrap().revocation_lists;
        assert!(lists.len() == 1 && lists[0].revokes(&serial) && lists[0].revokes_something());
    }
}

#[tokio::test]
async fn what_keeps_it_from_being_revoked_is_told_and_what_keeps_it_from_the_list_does_not_undo_it() {
    let root = Ca::root("root");
    let below = root.below("issuing", |_| {});
    let errors = |status, text: &str| Some(Answer::Json(status, json!({ "errors": [text] })));
    let foreign = "unable to verify signature on presented cert from any present issuer in this mount";
    for (revoke, expected) in [
        (Some(denied()), "path \"pki/revoke\" { capabilities = [\"update\"] }"),
        (errors(503, "Vault is sealed"), "sealed"),
        (errors(500, foreign), "HTTP 500): unable to verify"),
    ] {
        let world = world(&root, &below, Said { at_once: true, revoke, rebuild: None }).await;
        let error = world.vault.revoke(&below.der).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(matches!(error, SignError::Unavailable(_)), expected == "sealed", "{error}");
    }
    for (rebuild, is_done) in [(Some(denied()), true), (errors(503, "Vault is sealed"), false)] {
        let world = world(&root, &below, Said { at_once: false, revoke: None, rebuild }).await;
        assert_eq!(world.vault.revoke(&below.der).await.is_ok(), is_done);
    }
}

#[tokio::test]
async fn a_probe_names_the_lines_that_revocation_lacks() {
    let root = Ca::root("root");
    let vault = Vault::of(&root, &[]);
    let world = World::new(vault.clone()).await;
    world.server.says(move |asked| match asked.body["paths"][0].as_str() {
        Some(path @ ("pki/revoke" | "pki/crl/rotate")) => Answer::Json(200, json!({ "data": { path: ["deny"] } })),
        _ => vault.answer(asked),
    });
    let lines = world.vault.lines_for_revocation().await;
    assert_eq!(lines.len(), 2, "{lines:?}");
    for (line, path) in lines.iter().zip(["path \"pki/revoke\"", "path \"pki/crl/rotate\""]) {
        assert!(line.contains(path) && line.contains("only revocation needs that"), "{line}");
    }
}
