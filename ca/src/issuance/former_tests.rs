//! A backend that signs leaves itself is left in one step: it goes on until another root is known everywhere, whatever restarts
//! meanwhile; and who is not told of it changes nothing, and says so.

use signet_core::certificate::Serial;
use signet_core::identity::TrustDomain;
use signet_core::key_type::KeyType;
use signet_core::revocation::RevocationReason;
use signet_core::rotation::{Authorities, AuthorityState};
use signet_core::seams::store::AuthorityJournal as _;
use signet_plugins::authority::{SelfSignedRoot, WithFormer};
use signet_runtime::readiness::Readiness;

use super::*;
use crate::issuance::Application;

/// One holder, which knows the roots of the reply that it got last.
fn asks() -> Application {
    Application { instance: Some(format!("{:032x}", 1)), ..application() }
}

async fn journal(world: &World) -> Authorities {
    world.store.load().await.unwrap().unwrap().1
}

/// A backend whose leaves this world has had signed, and that revokes them.
async fn left() -> (Arc<Backend>, World) {
    let backend = Backend::new();
    backend.revokes.store(true, Ordering::SeqCst);
    let world = world(&backend).await;
    world.receive(&asks()).await.unwrap();
    (backend, world)
}

/// The same storage and time, in a process that makes its own roots, and has this backend for the former.
fn own_after(world: &World, former: &Arc<Backend>) -> World {
    let domain = TrustDomain::parse("cluster.local").unwrap();
    let own = SelfSignedRoot::new(domain, Arc::clone(&world.store) as _, KeyType::EcP256, 365 * DAY);
    world.another_on(Arc::new(WithFormer::new(Arc::new(own), Arc::clone(former) as _)))
}

fn said(world: &World) -> String {
    let readiness = Readiness::new();
    let condition = readiness.condition("signer");
    world.rotator.report(&condition, None, &Default::default());
    format!("{:?}", readiness.snapshot())
}

/// Who has signed: the backend, or this CA.
async fn signed_by(world: &World) -> Signer {
    let issued = world.receive(&asks()).await.unwrap();
    issued.state.authority.signer()
}

#[tokio::test]
async fn the_former_signs_until_the_root_of_the_next_is_known_everywhere_and_is_told_what_to_revoke_after_that() {
    let (backend, first) = left().await;
    let leaf = first.receive(&asks()).await.unwrap().chain.leaf().clone();
    let theirs = backend.ca.issuing().id;
    let mut world = own_after(&first, &backend);
    world.rotator.turn().await.unwrap();
    let published = journal(&world).await;
    assert!(published.roots.len() == 2 && published.prepared().is_some(), "{published:?}");
    assert_eq!(signed_by(&world).await, Signer::Elsewhere);
    // A replica that is not there yet goes on as well.
    first.rotator.turn().await.unwrap();
    assert_eq!(signed_by(&first).await, Signer::Elsewhere);
    world = own_after(&world, &backend);
    world.rotator.turn().await.unwrap();
    assert_eq!(signed_by(&world).await, Signer::Elsewhere);
    world.clock.advance(Duration::from_secs(30));
    world.rotator.turn().await.unwrap();
    assert_eq!(signed_by(&world).await, Signer::Here);
    // The serving certificate stays where clients know the root since long.
    let serving = |world: &World| world.state.borrow().as_ref().unwrap().serving.is.1.clone();
    assert_eq!(serving(&world), theirs);
    world = own_after(&world, &backend);
    world.rotator.turn().await.unwrap();
    assert_eq!((signed_by(&world).await, serving(&world)), (Signer::Here, theirs));
    // What it has signed is still its business.
    let operator = Operator { name: "uid 0".to_owned(), peer: None };
    let serial = Serial::parse(&Facts::read(&leaf).unwrap().serial_text()).unwrap();
    let reason = RevocationReason::KeyCompromise;
    world.operations.revoke_certificate(&operator, serial, reason, false).await.unwrap();
    world.rotator.turn().await.unwrap();
    world.ask_elsewhere().await;
    assert_eq!(*backend.revoked.lock().unwrap(), [leaf]);
    // The last of its leaves ends, and with them its root.
    world.clock.advance(2 * DAY);
    for _ in 0..3 {
        world.rotator.turn().await.unwrap();
        world.clock.advance(Duration::from_secs(60));
    }
    let roots = journal(&world).await.roots;
    assert!(roots.len() == 1 && roots[0].state == AuthorityState::Active && roots[0].key.is_some(), "{roots:?}");
    // With the section still there, and the backend away, nothing bad happens.
    backend.does(Does::IsAway);
    world = own_after(&world, &backend);
    world.rotator.turn().await.unwrap();
    assert_eq!(signed_by(&world).await, Signer::Here);
    assert!(said(&world).contains("Ready"), "{}", said(&world));
}

#[tokio::test]
async fn while_the_former_is_away_nothing_is_signed_and_the_switch_goes_on() {
    let (backend, first) = left().await;
    let world = own_after(&first, &backend);
    backend.does(Does::IsAway);
    world.rotator.turn().await.unwrap();
    assert_eq!(world.issuance.issue(&asks()).await.unwrap_err().0.label(), "signer_unavailable");
    assert!(journal(&world).await.prepared().is_some());
    backend.does(Does::Signs);
    assert_eq!(signed_by(&world).await, Signer::Elsewhere);
}

#[tokio::test]
async fn another_backend_that_signs_leaves_takes_over_once_its_root_is_known_and_each_signs_its_own() {
    let (backend, first) = left().await;
    let ca = TheirCa::new("others");
    let next = Backend::with(&ca, vec![Arc::clone(&ca)]);
    let after =
        |world: &World| world.another_on(Arc::new(WithFormer::new(Arc::clone(&next) as _, Arc::clone(&backend) as _)));
    let world = after(&first);
    world.rotator.turn().await.unwrap();
    let by = async |world: &World| {
        let issued = world.receive(&asks()).await.unwrap();
        issued.state.authority.limits().authority.clone()
    };
    assert_eq!(by(&world).await, backend.ca.issuing().id);
    world.clock.advance(Duration::from_secs(30));
    world.rotator.turn().await.unwrap();
    assert_eq!(by(&world).await, ca.issuing().id);
    let world = after(&world);
    world.rotator.turn().await.unwrap();
    backend.does(Does::IsAway);
    assert_eq!(by(&world).await, ca.issuing().id);
}

#[tokio::test]
async fn without_the_former_nothing_changes_and_it_is_said_what_to_do() {
    let (backend, first) = left().await;
    let before = journal(&first).await;
    let world = first.another();
    world.rotator.turn().await.unwrap();
    assert_eq!(journal(&world).await, before, "nothing that others would follow");
    assert_eq!(world.issuance.issue(&asks()).await.unwrap_err().0.label(), "signer_unavailable");
    let text = said(&world);
    for part in ["Failing", "nothing can be issued here", "`authority.former`", "as it was", "`authority adopt`"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    // What it knows it serves.
    assert_eq!(world.state.borrow().as_ref().unwrap().bundle().sequence(), before.bundle_sequence);
    assert_eq!(signed_by(&first).await, Signer::Elsewhere);
    // An operator's word: that backend is gone for good.
    let operator = Operator { name: "uid 0".to_owned(), peer: None };
    world.operations.command(&operator, Command::Adopt, "it is gone").await.unwrap();
    world.rotator.turn().await.unwrap();
    assert!(journal(&world).await.prepared().is_some());
    // And with the former, the switch goes on from there.
    let world = own_after(&world, &backend);
    world.rotator.turn().await.unwrap();
    assert_eq!(signed_by(&world).await, Signer::Elsewhere);
    assert!(!said(&world).contains("Failing"), "{}", said(&world));
}

/// Until its root has left, the former comes back by an operator's word, as any backend that was adopted before.
#[tokio::test]
async fn the_way_back_is_the_former_configuration_and_a_word() {
    let (backend, first) = left().await;
    let operator = Operator { name: "uid 0".to_owned(), peer: None };
    for is_active in [false, true] {
        let world = own_after(&first, &backend);
        world.operations.command(&operator, Command::Adopt, "over there").await.unwrap();
        world.rotator.turn().await.unwrap();
        assert_eq!(signed_by(&world).await, Signer::Elsewhere);
        if is_active {
            world.clock.advance(Duration::from_secs(30));
            world.rotator.turn().await.unwrap();
            assert_eq!(signed_by(&world).await, Signer::Here);
        }
        let back = world.another_on(Arc::clone(&backend) as _);
        back.rotator.turn().await.unwrap();
        assert_eq!(signed_by(&back).await, if is_active { Signer::Here } else { Signer::Elsewhere });
        back.operations.command(&operator, Command::Adopt, "and back").await.unwrap();
        back.rotator.turn().await.unwrap();
        signed_by(&back).await;
        back.clock.advance(Duration::from_secs(30));
        back.rotator.turn().await.unwrap();
        assert_eq!(signed_by(&back).await, Signer::Elsewhere, "{is_active}");
        assert_eq!(journal(&back).await.active().unwrap().id, backend.ca.root.id);
    }
}
