//! Which revocation lists of a Vault are offered, and what is said of those that are of no use.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use signet_core::revocation::GivenLists;
use signet_core::seams::upstream_authority::UpstreamAuthority as _;

use super::super::super::test_pki::{Ca, DAY, NOW};
use super::super::test_server::{Answer, Vault, World};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

async fn offered(world: &World) -> Vec<RevocationList> {
    world.vault.look().await.unwrap();
    let offer = world.vault.offer().await.unwrap().unwrap();
    assert!(matches!(offer.given_lists(), GivenLists::OnDemand(_)));
    offer.revocation_lists
}

fn issuers(lists: &[RevocationList]) -> BTreeSet<AuthorityId> {
    lists.iter().map(|list| list.issuer.clone()).collect()
}

#[tokio::test]
async fn the_lists_of_the_chain_and_of_the_other_issuers_are_offered_and_issuers_are_read_once() {
    let (root, former, keyless) = (Ca::root("root"), Ca::root("former"), Ca::root("keyless"));
    let middle = root.below("middle", |_| {});
    let mut vault = Vault::of(&middle, &[&root]);
    vault.others = vec![former.clone(), keyless, root.clone()];
    vault.lists.push(Some(former.crl(NOW - DAY, NOW + DAY)));
    let world = World::new(vault).await;
    let lists = offered(&world).await;
    assert_eq!(issuers(&lists), BTreeSet::from([root.id(), middle.id(), former.id()]));
    assert_eq!(world.vault.status().await.lists, None, "there need be none of those outside of the chain");
    world.server.asked();
    assert_eq!(offered(&world).await, lists);
    let paths = world.server.paths();
    let read = |end: &str| paths.iter().filter(|path| path.contains("/issuer/id-") && path.ends_with(end)).count();
    // The root is an issuer twice, and has one list.
    assert_eq!((read("json"), read("crl")), (0, 4), "{paths:?}");
    assert!(world.vault.status().await.circuit == super::super::CircuitState::Closed);
}

#[tokio::test]
async fn a_new_list_is_used_once_it_is_old_enough_for_hosts_whose_clocks_are_behind() {
    let root = Ca::root("root");
    let mut vault = Vault::of(&root, &[]);
    let world = World::new(vault.clone()).await;
    let before = offered(&world).await;
    vault.lists = vec![Some(root.crl(NOW - SETTLES + SECOND, NOW + DAY))];
    let (mut first, script) = (vault.clone(), vault.clone().script());
    world.server.says(script);
    assert_eq!(offered(&world).await, before);
    assert_eq!(world.vault.status().await.lists, None);
    assert_eq!(world.vault.state().lists.settles_at, Some(NOW + SECOND));
    world.clock.set(NOW + SECOND);
    let after = offered(&world).await;
    assert!(after.len() == 1 && after != before);
    assert_eq!(world.vault.state().lists.settles_at, None);
    // Where there was none before, there is none until then; that is no trouble.
    first.lists = vec![Some(root.crl(NOW, NOW + DAY))];
    let fresh = World::new(first).await;
    assert_eq!((offered(&fresh).await, fresh.vault.status().await.lists), (Vec::new(), None));
    fresh.clock.set(NOW + SETTLES);
    assert_eq!(offered(&fresh).await.len(), 1);
}

#[tokio::test]
async fn the_first_list_of_a_new_ca_is_used_at_once_so_that_those_of_others_stay_in_use() {
    for (age, lists) in [(2 * SETTLES - SECOND, 1), (2 * SETTLES, 0)] {
        let root = Ca::root_with("root", |params| params.not_before = NOW - age);
        let mut vault = Vault::of(&root, &[]);
        vault.lists = vec![Some(root.crl(NOW, NOW + DAY))];
        assert_eq!(offered(&World::new(vault).await).await.len(), lists, "{age:?}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_list_is_told_with_what_to_set_and_the_one_before_goes_on() {
    let (root, other) = (Ca::root("root"), Ca::root("other"));
    let middle = root.below("middle", |_| {});
    let good = Vault::of(&middle, &[&root]);
    let of_root = |list: Option<String>| Vault { lists: vec![good.lists[0].clone(), list], ..good.clone() };
    let without_root = Vault { chain: vec![middle.clone()], ..good.clone() };
    for (vault, expected) in [
        (of_root(None), "unable to find CRL"),
        (of_root(Some(root.crl(NOW - DAY, NOW - SECOND))), "expired at"),
        (of_root(Some(root.crl(NOW + SETTLES + SECOND, NOW + DAY))), "is a clock wrong"),
        (of_root(Some(other.crl(NOW - DAY, NOW + DAY))), "is of no CA"),
        (of_root(Some(String::new())), "publishes none"),
        (of_root(Some("nonsense".to_owned())), "there is no list in it"),
    ] {
        let world = World::new(vault.clone()).await;
        assert_eq!(issuers(&offered(&world).await), BTreeSet::from([middle.id()]), "{expected}");
        let said = world.vault.status().await.lists.unwrap();
        for part in ["`CN=root`", expected, "auto_rebuild=true"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let world = World::new(good.clone()).await;
        let before = offered(&world).await;
        world.server.says(vault.script());
        assert_eq!(offered(&world).await, before, "{expected}");
        assert!(world.vault.status().await.lists.unwrap().contains(expected));
    }
    // It shows the root as part of the chain, and does not have it as an issuer.
    let world = World::new(good.clone()).await;
    world.server.says(move |asked| match asked.path.ends_with("default/json") {
        true => good.answer(asked),
        false => without_root.answer(asked),
    });
    assert_eq!(issuers(&offered(&world).await), BTreeSet::from([middle.id()]));
    let said = world.vault.status().await.lists.unwrap();
    assert!(said.contains("no issuer of the mount"), "{said}");
}

#[tokio::test]
async fn a_mount_whose_issuers_cannot_be_listed_keeps_what_it_had_and_certifies_all_the_same() {
    let root = Ca::root("root");
    let vault = Vault::of(&root, &[]);
    let world = World::new(vault.clone()).await;
    let before = offered(&world).await;
    world.server.says(move |asked| match asked.path.ends_with("issuers") {
        true => Answer::Json(403, serde_json::json!({ "errors": ["permission denied"] })),
        false => vault.answer(asked),
    });
    assert_eq!(offered(&world).await, before);
    assert!(world.vault.status().await.lists.unwrap().contains("permission denied"));
    super::super::test_server::certify(&world, &root).await.unwrap();
}
