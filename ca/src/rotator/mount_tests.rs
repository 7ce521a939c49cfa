//! Revocation where somebody else certifies our issuing CAs: its list and ours make the complete set.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use signet_core::audit::{EventKind, Outcome};
use signet_core::certificate::{Facts, Serial};
use signet_core::revocation::{LIST_MARGIN, RevocationReason};
use signet_core::rotation::{Authorities, Command};
use signet_core::seams::store::AuthorityJournal;

use super::mount_backend_tests::Mount;
use super::*;
use crate::issuance::Application;
use crate::operations::Operator;
use crate::world_tests::{DAY, NOW, World, application};

async fn journal(world: &World) -> Authorities {
    world.store.load().await.unwrap().unwrap().1
}

fn operator() -> Operator {
    Operator { name: "uid 0".to_owned(), peer: None }
}

/// A CA on such a backend, and a leaf of it.
async fn backed() -> (Arc<Mount>, World, Serial) {
    let mount = Mount::new().await;
    let world = World::empty().another_on(Arc::clone(&mount) as _);
    world.make_authority().await;
    world.rotator.turn().await.unwrap();
    let issued = world.receive(&holder()).await.unwrap();
    let serial = Serial::parse(&Facts::read(issued.chain.leaf()).unwrap().serial_text()).unwrap();
    (mount, world, serial)
}

/// One holder, whose certificates live for long.
fn holder() -> Application {
    Application { ttl: Some(20 * 86_400), instance: Some(format!("{:032x}", 1)), ..application() }
}

async fn revoke(world: &World, serial: Serial, clear: bool) -> Result<(), String> {
    let reason = RevocationReason::KeyCompromise;
    let revoked = world.operations.revoke_certificate(&operator(), serial, reason, clear).await;
    revoked.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_leaf_is_revoked_with_our_list_beside_that_of_the_root_and_only_while_there_is_one_of_it() {
    let (mount, world, serial) = backed().await;
    let refused = revoke(&world, serial, false).await.unwrap_err();
    assert!(refused.contains(mount.root().id.as_str()) && refused.contains("with Vault, `status` says"), "{refused}");
    // It has a list, and nobody needs one.
    let of_root = mount.list(NOW - DAY, &[]).await;
    mount.said().list = Some(of_root.clone());
    world.rotator.turn().await.unwrap();
    assert_eq!(journal(&world).await.revocations.lists.len(), 0);
    revoke(&world, serial, false).await.unwrap();
    let now = journal(&world).await;
    let issuing = now.active_issuer(NOW).unwrap().id.clone();
    let ours = now.revocations.list_of(&issuing).unwrap();
    assert_eq!((now.revocations.lists.len(), now.revocations.list_of(&mount.root().id)), (2, Some(&of_root)));
    assert!(ours.revokes(&serial.to_string()) && !ours.revokes("ab"));
    // A newer one takes its place, and the set goes with the last entry.
    let newer = mount.list(NOW - DAY / 2, &[]).await;
    mount.said().list = Some(newer.clone());
    world.rotator.turn().await.unwrap();
    assert_eq!(journal(&world).await.revocations.list_of(&mount.root().id), Some(&newer));
    revoke(&world, serial, true).await.unwrap();
    assert_eq!(journal(&world).await.revocations.lists.len(), 0);
    // What it has revoked itself is a reason to have them.
    mount.said().list = Some(mount.list(NOW - DAY / 3, &["0a"]).await);
    world.rotator.turn().await.unwrap();
    assert_eq!(journal(&world).await.revocations.lists.len(), 2);
}

#[tokio::test]
async fn while_it_is_away_our_list_is_renewed_beside_its_own_until_shortly_before_that_ends() {
    let (mount, world, serial) = backed().await;
    let of_root = mount.list(NOW, &[]).await;
    mount.said().list = Some(of_root.clone());
    revoke(&world, serial, false).await.unwrap();
    mount.said().is_away = true;
    let restarted = world.another_on(Arc::clone(&mount) as _);
    let issuing = journal(&world).await.active_issuer(NOW).unwrap().id.clone();
    let mut last = journal(&world).await.revocations.list_of(&issuing).unwrap().clone();
    for (days, world) in [(1, &world), (2, &restarted), (6, &world)] {
        world.clock.set(NOW + days * DAY);
        world.rotator.turn().await.unwrap();
        let now = journal(world).await.revocations;
        let ours = now.list_of(&issuing).unwrap();
        assert!(ours.is_newer_than(&last) && !last.is_newer_than(ours) && !ours.is_newer_than(ours), "day {days}");
        assert_eq!(now.list_of(&mount.root().id), Some(&of_root));
        last = ours.clone();
    }
    let end = NOW + 7 * DAY - LIST_MARGIN;
    world.clock.set(end - Duration::from_secs(1));
    world.rotator.turn().await.unwrap();
    assert_eq!(journal(&world).await.revocations.lists.len(), 2);
    world.clock.set(end);
    world.rotator.turn().await.unwrap();
    let now = journal(&world).await;
    assert_eq!((now.revocations.lists.len(), now.revocations.entries.len()), (0, 1));
    let told = now.revocations.alert(&now.lists_of(end), end).unwrap();
    assert!(told.contains("no revocation lists are served") && told.contains(mount.root().id.as_str()), "{told}");
    // It is back, with a list that is good.
    {
        let newer = mount.list(end, &[]).await;
        let mut said = mount.said();
        (said.is_away, said.list) = (false, Some(newer));
    }
    world.clock.set(end + Duration::from_secs(60));
    world.rotator.turn().await.unwrap();
    assert_eq!(journal(&world).await.revocations.lists.len(), 2);
}

#[tokio::test]
async fn replicas_that_have_read_the_list_at_different_times_use_the_newest_that_any_of_them_has() {
    let (mount, world, serial) = backed().await;
    mount.said().list = Some(mount.list(NOW - DAY, &[]).await);
    revoke(&world, serial, false).await.unwrap();
    let behind = world.another_on(Arc::clone(&mount) as _);
    behind.rotator.turn().await.unwrap();
    let older = mount.said().list.clone();
    let newer = mount.list(NOW - DAY / 2, &[]).await;
    mount.said().list = Some(newer.clone());
    world.rotator.turn().await.unwrap();
    mount.said().list = older;
    let before = world.store.version().await.unwrap();
    behind.rotator.turn().await.unwrap();
    assert_eq!(world.store.version().await.unwrap(), before);
    assert_eq!(journal(&world).await.revocations.list_of(&mount.root().id), Some(&newer));
    // One that it does not have any more is no reason to give up the one in use.
    mount.said().list = None;
    behind.rotator.turn().await.unwrap();
    assert_eq!(world.store.version().await.unwrap(), before);
}

#[tokio::test]
async fn a_new_issuing_ca_signs_when_its_list_has_travelled_while_lists_are_in_use() {
    let (mount, world, serial) = backed().await;
    mount.said().list = Some(mount.list(NOW - DAY, &[]).await);
    revoke(&world, serial, false).await.unwrap();
    let before = journal(&world).await;
    world.operations.command(&operator(), Command::RenewIssuing, "").await.unwrap();
    let now = journal(&world).await;
    let newest = now.active().unwrap().issuing.last().unwrap();
    assert_eq!(newest.after_sequence, before.bundle_sequence + 1);
    assert_eq!((now.revocations.lists.len(), now.revocations.list_of(&newest.id).is_some()), (3, true));
}

/// What is to be revoked elsewhere, as the journal has it, and asked for once.
async fn ask(mount: &Mount, world: &World) -> usize {
    world.rotator.turn().await.unwrap();
    world.ask_elsewhere().await;
    mount.said().revoked.len()
}

/// The former of two issuing CAs.
async fn former(world: &World) -> IssuingCa {
    let former = journal(world).await.active_issuer(NOW).unwrap().ca.clone();
    world.operations.command(&operator(), Command::RenewIssuing, "").await.unwrap();
    former
}

async fn authority_events(world: &World) -> Vec<(Outcome, String)> {
    let events = world.events().await.into_iter().map(|stored| stored.event);
    let mut events: Vec<_> = events
        .filter(|event| event.kind == EventKind::Authority)
        .map(|event| (event.outcome, event.detail.unwrap_or_default()))
        .collect();
    events.reverse();
    events
}

fn told(world: &World, unsettled: &Unsettled) -> String {
    let readiness = signet_runtime::readiness::Readiness::new();
    let condition = readiness.condition("authority");
    world.rotator.report(&condition, None, unsettled);
    format!("{:?}", readiness.snapshot())
}

#[tokio::test]
async fn an_issuing_ca_is_revoked_by_who_has_certified_it_as_soon_as_that_answers_and_it_is_told_until_then() {
    let (mount, world, _) = backed().await;
    mount.said().list = Some(mount.list(NOW - DAY, &[]).await);
    let former = former(&world).await;
    mount.said().is_away = true;
    let revoke = Command::Revoke { id: former.id.clone(), force: true };
    world.operations.command(&operator(), revoke.clone(), "stolen").await.unwrap();
    let serial = Facts::read(&former.certificate).unwrap().serial_text();
    let now = journal(&world).await;
    assert_eq!((now.revocations.entries.len(), now.revocations.awaited().count()), (1, 1));
    // The wish is on record with the order, before anybody asks.
    let events = authority_events(&world).await;
    let [(done, revoked), (intended, about)] = &events[events.len() - 2..] else { panic!("{events:?}") };
    assert_eq!((*done, *intended), (Outcome::Done, Outcome::Intended));
    assert!(revoked.contains("revoked") && about.contains(&serial), "{events:?}");
    for _ in 0..2 {
        assert_eq!(ask(&mount, &world).await, 0);
        let said = told(&world, &Unsettled::default());
        assert!(said.contains(&serial) && said.contains("tried again until it is done: "), "{said}");
        assert!(said.contains("it is sealed"), "{said}");
    }
    let seen = world.operations.view().await.unwrap();
    assert_eq!((seen.unsettled.tainted_issuing, seen.phase), (1, Phase::Emergency), "it is not over");
    assert_eq!(authority_events(&world).await.len(), events.len(), "what fails is not put on record each time");
    // It is back; another replica asks, which knows nothing but the journal. One that has asked before the crash changes nothing.
    mount.said().is_away = false;
    let other = world.another_on(Arc::clone(&mount) as _);
    assert_eq!(ask(&mount, &other).await, 1);
    assert_eq!(mount.said().revoked, std::slice::from_ref(&former.certificate));
    let now = journal(&world).await;
    assert_eq!((now.revocations.awaited().count(), now.revocations.elsewhere[0].certificate.is_none()), (0, true));
    let events = authority_events(&world).await;
    let noted = format!("certificate {serial} is revoked by whoever has certified it");
    assert_eq!(events.iter().filter(|(outcome, text)| *outcome == Outcome::Done && text.contains(&noted)).count(), 1);
    assert_eq!(ask(&mount, &world).await, 1, "nothing is asked for any more");
    // Its list has it, and travels; until then it is told.
    world.rotator.turn().await.unwrap();
    let said = told(&world, &Unsettled::default());
    assert!(said.contains("not on the list of there yet"), "{said}");
    let listed = mount.list(NOW - DAY / 2, &[&serial]).await;
    mount.said().list = Some(listed.clone());
    world.clock.set(NOW + DAY / 24);
    world.rotator.turn().await.unwrap();
    assert_eq!(journal(&world).await.revocations.list_of(&mount.root().id), Some(&listed));
    let said = told(&world, &Unsettled::default());
    assert!(!said.contains(&serial), "{said}");
    // Said again, it is done; and nothing takes it back.
    world.operations.command(&operator(), revoke, "stolen").await.unwrap();
    assert_eq!(ask(&mount, &world).await, 1);
    let refused = revoke_serial(&world, &serial).await;
    assert!(refused.contains("nothing takes that back"), "{refused}");
}

async fn revoke_serial(world: &World, serial: &str) -> String {
    // Serial numbers of CAs are as long as their issuer makes them.
    let Some(serial) = Serial::parse(serial) else { return "nothing takes that back".to_owned() };
    revoke(world, serial, true).await.unwrap_err()
}

#[tokio::test]
async fn a_compromised_issuing_ca_is_revoked_where_it_was_certified_once_nobody_uses_it_any_more() {
    let (mount, world, _) = backed().await;
    mount.said().list = Some(mount.list(NOW - DAY, &[]).await);
    let former = former(&world).await;
    world.operations.command(&operator(), Command::Taint { id: former.id.clone(), force: false }, "").await.unwrap();
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(ask(&mount, &world).await, 0, "a holder has a certificate of it");
    // Its holder renews.
    world.receive(&holder()).await.unwrap();
    assert_eq!(ask(&mount, &world).await, 1);
    assert_eq!(mount.said().revoked, [former.certificate]);
}

#[tokio::test]
async fn what_another_backend_is_to_revoke_stays_wanted_and_is_told() {
    let (mount, world, _) = backed().await;
    let former = former(&world).await;
    let revoke = Command::Revoke { id: former.id.clone(), force: true };
    world.operations.command(&operator(), revoke, "stolen").await.unwrap();
    let native = world.another();
    native.rotator.turn().await.unwrap();
    assert_eq!((journal(&native).await.revocations.awaited().count(), mount.said().revoked.len()), (1, 0));
    let said = told(&native, &Unsettled::default());
    assert!(said.contains("by a replica whose authority.backend is the one that has certified them"), "{said}");
}
