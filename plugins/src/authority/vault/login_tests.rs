//! What is told of logins, and what is not in it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::{Mutex, PoisonError};

use serde_json::json;

use super::super::super::test_pki::Ca;
use super::super::test_server::{Answer, SECRET, TOKEN, Vault, World, denied};
use super::*;

type Told = Arc<Mutex<Vec<VaultLogin>>>;

async fn world(vault: &Vault) -> (World, Told) {
    let (world, told) = (World::new(vault.clone()).await, Told::default());
    let heard = Arc::clone(&told);
    world.vault.tell_logins(Arc::new(move |login| heard.lock().unwrap_or_else(PoisonError::into_inner).push(login)));
    (world, told)
}

fn take(told: &Told) -> Vec<VaultLogin> {
    std::mem::take(&mut told.lock().unwrap())
}

#[tokio::test]
async fn each_login_is_told_with_what_vault_calls_the_token_and_a_renewal_is_none() {
    let vault = Vault::of(&Ca::root("root"), &[]);
    let (world, told) = world(&vault).await;
    let accessors = vault.clone();
    world.server.says(move |asked| match asked.path.ends_with("login") {
        true => {
            let auth = json!({ "client_token": TOKEN, "accessor": "acc-1", "lease_duration": 60, "renewable": true });
            Answer::Json(200, json!({ "auth": auth }))
        }
        false => accessors.answer(asked),
    });
    for _ in 0..3 {
        world.vault.session.keep().await.unwrap();
    }
    let [one] = take(&told).try_into().unwrap();
    let lease = Some(Duration::from_secs(60));
    let accepted = LoggedIn::Accepted { accessor: Some("acc-1".to_owned()), lease, renewable: true };
    assert_eq!(one.result, accepted);
    let text = one.to_string();
    assert!(
        text.ends_with("auth/approle as an AppRole: logged in, token accessor acc-1, lease 60s, renewable"),
        "{text}"
    );
    assert!(!text.contains(TOKEN) && !text.contains(SECRET) && !text.contains("signet"), "{text}");
    // One that says less is a login as well.
    world.vault.session.forget().await;
    world.server.says(vault.script());
    world.vault.session.keep().await.unwrap();
    let [one] = take(&told).try_into().unwrap();
    assert!(one.to_string().ends_with(": logged in, lease 3600s, renewable"), "{one}");
}

#[tokio::test]
async fn a_login_that_is_refused_is_told_apart_from_a_vault_that_cannot_be_asked_and_a_file_that_is_gone() {
    let vault = Vault::of(&Ca::root("root"), &[]);
    let (world, told) = world(&vault).await;
    let refused =
        |found: &VaultLogin| matches!(&found.result, LoggedIn::Refused(why) if why.contains("permission denied"));
    let failed = |found: &VaultLogin, word: &str| matches!(&found.result, LoggedIn::Failed(why) if why.contains(word));
    world.server.says(|_| denied());
    assert!(world.vault.session.keep().await.is_err());
    world.server.says(|_| Answer::Reset);
    for _ in 0..5 {
        assert!(world.vault.session.keep().await.is_err());
    }
    let all = take(&told);
    assert!(all.len() == 6 && refused(&all[0]), "{all:?}");
    // Also while it is not asked: in the same words.
    assert!(all[1..].iter().all(|one| failed(one, "cannot be reached") && *one == all[1]), "{all:?}");
    assert!(!format!("{all:?}").contains(SECRET), "{all:?}");
    std::fs::remove_file(world.directory.path().join("secret-id")).unwrap();
    assert!(world.vault.session.keep().await.is_err());
    let [one] = take(&told).try_into().unwrap();
    assert!(failed(&one, "secret-id"), "{one:?}");
}
