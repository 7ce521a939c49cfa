//! The serving certificate while roots change, as clients see it that hold files of roots.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use super::tests::{HOUR, Running, start};
use super::*;
use crate::operations::Operator;
use crate::signing_state;
use crate::world_tests::{DAY, NOW, World, application};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use signet_core::authority::KeyId;
use signet_core::rotation::{Authorities, Command, SETTLE};
use signet_core::seams::store::AuthorityJournal as _;

fn journal(world: &World) -> Authorities {
    signing_state::current(&world.state).unwrap().authorities.clone()
}

async fn command(world: &World, command: Command) {
    let operator = Operator { name: "uid 0".to_owned(), peer: None };
    world.operations.command(&operator, command, "a test").await.unwrap();
    world.rotator.turn().await.unwrap();
}

fn roots(authorities: &Authorities) -> Vec<CertificateDer<'static>> {
    authorities.roots.iter().map(|root| root.certificate.clone()).collect()
}

impl Running {
    /// Waits until the certificate is under this root.
    async fn under(&mut self, root: &AuthorityId) -> Arc<Serving> {
        let found = |serving: &Option<Arc<Serving>>| serving.as_ref().is_some_and(|one| one.issuer.0 == *root);
        let waited = tokio::time::timeout(HOUR, self.serving.wait_for(found)).await;
        waited.expect("a serving certificate under the root").unwrap().clone().unwrap()
    }

    /// Whether a client that trusts these roots alone connects at this time, once there was time to move.
    async fn accepted(&self, roots: &[CertificateDer<'static>], now: OffsetDateTime) -> bool {
        tokio::time::sleep(2 * LOOK).await;
        let mut store = RootCertStore::empty();
        roots.iter().for_each(|root| store.add(root.clone()).unwrap());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build().unwrap();
        let serving = self.serving.borrow().clone().unwrap();
        let (leaf, between) = serving.certified.cert.split_first().unwrap();
        let at = UnixTime::since_unix_epoch(Duration::from_secs(now.unix_timestamp().unsigned_abs()));
        verifier.verify_server_cert(leaf, between, &ServerName::try_from("ca.test").unwrap(), &[], at).is_ok()
    }
}

/// A CA whose first root signs, with a certificate below it that lives for a day; a second root is prepared.
async fn prepared() -> (World, [AuthorityId; 2]) {
    let world = World::new().await;
    world.issuance.issue(&application()).await.unwrap();
    command(&world, Command::Rotate).await;
    let both = journal(&world).roots.iter().map(|root| root.id.clone()).collect::<Vec<_>>();
    (world, both.try_into().unwrap())
}

/// The same after activation: the first root drains for a day.
async fn draining() -> (World, [AuthorityId; 2]) {
    let (world, both) = prepared().await;
    command(&world, Command::Activate { id: both[1].clone(), force: true }).await;
    (world, both)
}

#[tokio::test(start_paused = true)]
async fn in_a_planned_rotation_a_client_with_the_old_root_alone_connects_to_every_replica_until_that_is_left() {
    let (world, [first, second]) = prepared().await;
    let mut running = vec![start(&world)];
    let old = [journal(&world).root(&first).unwrap().certificate.clone()];
    let both = roots(&journal(&world));
    assert!(running[0].accepted(&old, NOW).await, "prepared");
    command(&world, Command::Activate { id: second.clone(), force: true }).await;
    assert_eq!(journal(&world).active().unwrap().id, second);
    // A replica that starts in the middle of it does the same.
    let other = world.another();
    other.rotator.turn().await.unwrap();
    running.push(start(&other));
    let end = NOW + DAY;
    for now in [NOW, NOW + DAY / 2, end - LOOK] {
        world.clock.set(now);
        for (world, running) in [&world, &other].into_iter().zip(&mut running) {
            world.rotator.turn().await.unwrap();
            running.under(&first).await;
            assert!(running.accepted(&old, now).await && running.accepted(&both, now).await, "{now}");
        }
    }
    // Left, and not yet dropped: everybody moves.
    world.clock.set(end);
    for (world, running) in [&world, &other].into_iter().zip(&mut running) {
        world.rotator.turn().await.unwrap();
        running.under(&second).await;
        assert_eq!(roots(&journal(world)), both, "the root is in the bundle when it has been left");
        assert!(running.accepted(&both, end).await && !running.accepted(&old, end).await);
    }
    world.clock.set(end + SETTLE);
    world.rotator.turn().await.unwrap();
    assert!(journal(&world).root(&first).is_none());
    assert!(running[0].accepted(&roots(&journal(&world)), end + SETTLE).await);
    // No workload's certificate is of the old issuing CA: each came from the root that signs.
    assert!(world.issuance.issue(&application()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_slept_through_the_leaving_moves_with_its_first_look() {
    let (world, [first, second]) = draining().await;
    let late = world.another();
    late.rotator.turn().await.unwrap();
    let mut running = start(&late);
    running.under(&first).await;
    for at in [NOW + DAY, NOW + DAY + SETTLE] {
        world.clock.set(at);
        world.rotator.turn().await.unwrap();
    }
    assert!(journal(&world).root(&first).is_none(), "dropped while nobody looked");
    late.rotator.turn().await.unwrap();
    running.under(&second).await;
}

#[tokio::test(start_paused = true)]
async fn away_from_a_compromised_root_it_moves_as_soon_as_another_one_signs_and_before_the_root_goes() {
    // The former root is declared compromised while it drains.
    let (world, [first, second]) = draining().await;
    let mut running = start(&world);
    running.under(&first).await;
    command(&world, Command::Taint { id: first.clone(), force: false }).await;
    running.under(&second).await;
    assert!(journal(&world).root(&first).is_some());
    // The one that signs is: it serves until its successor signs, since no certificate would be worse.
    let world = World::new().await;
    let first = journal(&world).active().unwrap().id.clone();
    world.issuance.issue(&application()).await.unwrap();
    let mut running = start(&world);
    command(&world, Command::Taint { id: first.clone(), force: false }).await;
    let old = roots(&journal(&world))[..1].to_vec();
    assert!(journal(&world).prepared().is_some() && running.accepted(&old, NOW).await);
    command(&world, Command::Taint { id: first.clone(), force: true }).await;
    let second = journal(&world).active().unwrap().id.clone();
    assert_ne!(second, first);
    running.under(&second).await;
    assert!(journal(&world).root(&first).is_some());
}

#[tokio::test(start_paused = true)]
async fn rolled_back_while_the_root_is_left_it_returns() {
    let (world, [first, second]) = draining().await;
    let mut running = start(&world);
    running.under(&first).await;
    world.clock.set(NOW + DAY);
    world.rotator.turn().await.unwrap();
    running.under(&second).await;
    command(&world, Command::Rollback).await;
    running.under(&first).await;
    assert_eq!(journal(&world).root(&first).unwrap().leaving_since(), None);
}

#[tokio::test(start_paused = true)]
async fn without_the_key_of_the_old_issuing_ca_it_moves_at_activation_and_nothing_is_published_again_and_again() {
    let (world, [first, second]) = prepared().await;
    let mut running = start(&world);
    running.under(&first).await;
    command(&world, Command::Activate { id: second.clone(), force: true }).await;
    let (version, mut authorities) = world.store.load().await.unwrap().unwrap();
    authorities.roots[0].issuing[0].ca.key = KeyId::parse("gone");
    world.store.inner.replace(version, &authorities).await.unwrap();
    let mut state = world.state.clone();
    world.rotator.turn().await.unwrap();
    running.under(&second).await;
    assert!(world.issuance.issue(&application()).await.is_ok());
    state.mark_unchanged();
    world.rotator.turn().await.unwrap();
    assert!(!state.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn while_the_key_of_the_old_issuing_ca_cannot_be_reached_it_stays_where_it_is() {
    let (world, [first, second]) = prepared().await;
    let mut running = start(&world);
    running.under(&first).await;
    let key = journal(&world).roots[0].issuing[0].key.clone();
    *world.store.key_away.lock().unwrap() = key;
    let operator = Operator { name: "uid 0".to_owned(), peer: None };
    let activate = Command::Activate { id: second.clone(), force: true };
    world.operations.command(&operator, activate, "a test").await.unwrap();
    assert!(world.rotator.turn().await.is_err(), "what is published goes on, and this is tried again");
    let old = roots(&journal(&world))[..1].to_vec();
    assert!(running.accepted(&old, NOW).await);
    *world.store.key_away.lock().unwrap() = None;
    world.rotator.turn().await.unwrap();
    assert_eq!(journal(&world).active().unwrap().id, second);
    assert!(running.accepted(&old, NOW).await);
}

#[tokio::test(start_paused = true)]
async fn the_root_it_stays_under_is_retired_all_the_same() {
    let (world, [first, second]) = draining().await;
    let mut running = start(&world);
    // Renewed again and again, its ends are no ends of certificates that the root is kept for.
    for hours in [0, 6, 12, 18, 23] {
        world.clock.set(NOW + HOUR * hours);
        world.rotator.turn().await.unwrap();
        running.under(&first).await;
        tokio::time::sleep(2 * LOOK).await;
    }
    assert!(running.serving.borrow().as_ref().unwrap().not_after > NOW + DAY + SETTLE, "it would live for longer");
    world.clock.set(NOW + DAY);
    world.rotator.turn().await.unwrap();
    running.under(&second).await;
    world.clock.set(NOW + DAY + SETTLE);
    world.rotator.turn().await.unwrap();
    assert!(journal(&world).root(&first).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_serving_certificate_that_is_revoked_is_replaced_at_once() {
    use signet_core::revocation::RevocationReason;
    let world = World::new().await;
    let mut running = start(&world);
    let first = running.under(&journal(&world).active().unwrap().id.clone()).await;
    let operator = Operator { name: "uid 0".to_owned(), peer: None };
    let revoked = world.operations.revoke_certificate(&operator, first.serial, RevocationReason::KeyCompromise, false);
    assert_eq!(revoked.await.unwrap().revoked, 1);
    world.rotator.turn().await.unwrap();
    let other = |serving: &Option<Arc<Serving>>| serving.as_ref().is_some_and(|one| one.serial != first.serial);
    let waited = tokio::time::timeout(2 * LOOK, running.serving.wait_for(other)).await;
    let second = waited.expect("another serving certificate at once").unwrap().clone().unwrap();
    // The list names the one of before, and nothing else happens.
    tokio::time::sleep(10 * LOOK).await;
    assert_eq!(running.serving.borrow().as_ref().unwrap().serial, second.serial);
}
