//! A Vault that fails: each fault is told for what it is, harms nothing but its own call, and is over by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use serde_json::json;

use super::super::test_pki::Ca;
use super::test_server::{Answer, SECRET, TOKEN, Vault, World, certify};
use super::*;

#[tokio::test]
async fn each_fault_is_told_for_what_it_is_and_no_secret_with_it() {
    let root = Ca::root("root");
    let errors = |status, text: &str| Answer::Json(status, json!({ "errors": [text] }));
    let nonsense = || Answer::Text(200, format!("{SECRET} {TOKEN} <html>"));
    for (fault, expected, is_outage) in [
        (errors(429, "slow down"), "HTTP 429): slow down", true),
        (errors(500, "broken"), "HTTP 500): broken", true),
        (errors(503, "Vault is sealed"), "sealed", true),
        (Answer::Reset, "cannot be reached", true),
        (Answer::Silence, "has not answered", true),
        (Answer::Text(502, format!("<html>{SECRET}{TOKEN}")), "without saying why", true),
        (errors(400, "no such thing"), "refuses to", false),
        (Answer::Text(307, String::new()), "name the one that serves", false),
        (nonsense(), "cannot be used", false),
        (Answer::Endless, "it has more than 1048576 bytes", false),
    ] {
        for at in ["json", "login", "capabilities-self", "sign-intermediate"] {
            let vault = Vault::of(&root, &[]);
            let world = World::with(vault.clone(), |settings| settings.timeout = Duration::from_millis(300)).await;
            let fault = fault.clone();
            world.server.says(move |asked| if asked.path.ends_with(at) { fault.clone() } else { vault.answer(asked) });
            let error = certify(&world, &root).await.unwrap_err();
            assert_eq!(matches!(error, SignError::Unavailable(_)), is_outage, "{at}: {error}");
            let said = format!("{error} {error:?} {:?}", world.vault);
            // A login that makes no sense is told without a word of it.
            assert!(said.contains(expected), "{at}: {expected}: {said}");
            assert!(!said.contains(SECRET) && !said.contains(TOKEN), "{at}: {said}");
            // It is over by itself.
            world.server.says(Vault::of(&root, &[]).script());
            certify(&world, &root).await.unwrap();
            world.vault.offer().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_server_in_trouble_is_left_alone_and_that_is_to_be_seen() {
    let root = Ca::root("root");
    let world = World::new(Vault::of(&root, &[])).await;
    world.server.says(|_| Answer::Json(503, json!({ "errors": ["Vault is sealed"] })));
    for _ in 0..3 {
        world.vault.look().await.unwrap_err();
    }
    assert_eq!(world.server.paths().len(), 3);
    let said = world.vault.look().await.unwrap_err();
    assert!(matches!(&said, VaultError::Paused { last, .. } if last.contains("sealed")), "{said}");
    assert_eq!(world.server.paths().len(), 0);
    let status = world.vault.status().await;
    assert_eq!((status.circuit, status.failed, status.answered), (CircuitState::Open, 3, 0));
    let problem = status.problem.unwrap();
    assert!(problem.contains("sealed") && !problem.contains("not asked before"), "{problem}");
}

#[tokio::test]
async fn a_call_whose_caller_is_gone_is_no_failure_and_keeps_no_place() {
    let root = Ca::root("root");
    let world = World::new(Vault::of(&root, &[])).await;
    world.server.says(|_| Answer::Silence);
    for _ in 0..20 {
        drop(tokio::time::timeout(Duration::from_millis(20), world.vault.look()).await);
    }
    assert_eq!(world.vault.status().await.failed, 0);
    world.server.says(Vault::of(&root, &[]).script());
    world.vault.look().await.unwrap();
}

#[tokio::test]
async fn many_at_once_share_one_login() {
    let root = Ca::root("root");
    let world = World::new(Vault::of(&root, &[])).await;
    let all = futures::future::join_all((0..50).map(|_| certify(&world, &root))).await;
    assert!(all.iter().all(Result::is_ok), "{:?}", all.iter().find(|one| one.is_err()));
    let paths = world.server.paths();
    assert_eq!(paths.iter().filter(|path| path.ends_with("login")).count(), 1);
    assert_eq!(paths.iter().filter(|path| path.ends_with("sign-intermediate")).count(), 50);
}
