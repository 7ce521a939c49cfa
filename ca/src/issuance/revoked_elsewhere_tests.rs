//! Leaves of a backend that are to be revoked: by the backend, which is told for as long as it takes, or by nobody.

use signet_core::certificate::Serial;
use signet_core::revocation::RevocationReason;
use signet_core::rotation::{Authorities, Phase};
use signet_core::seams::signed_leaves::SignedLeafStore as _;
use signet_core::seams::store::AuthorityJournal as _;
use signet_runtime::readiness::Readiness;

use super::*;
use crate::operations::Next;

/// A CA on a backend that revokes leaves.
async fn revoking() -> (Arc<Backend>, World) {
    let backend = Backend::new();
    backend.revokes.store(true, Ordering::SeqCst);
    let world = world(&backend).await;
    (backend, world)
}

/// A leaf that was issued, and its serial number.
async fn issued(world: &World) -> (CertificateDer<'static>, Serial) {
    let leaf = world.receive(&application()).await.unwrap().chain.leaf().clone();
    let serial = Serial::parse(&Facts::read(&leaf).unwrap().serial_text()).unwrap();
    (leaf, serial)
}

async fn journal(world: &World) -> Authorities {
    world.store.load().await.unwrap().unwrap().1
}

async fn revoke(world: &World, serial: Serial, clear: bool) -> Result<usize, String> {
    let operator = Operator { name: "uid 0".to_owned(), peer: None };
    let reason = RevocationReason::KeyCompromise;
    let revoked = world.operations.revoke_certificate(&operator, serial, reason, clear).await;
    revoked.map(|revoked| revoked.revoked).map_err(|error| error.to_string())
}

async fn ask(backend: &Backend, world: &World) -> usize {
    world.rotator.turn().await.unwrap();
    world.ask_elsewhere().await;
    backend.revoked.lock().unwrap().len()
}

/// What readiness says.
async fn said(world: &World) -> String {
    let (readiness, view) = (Readiness::new(), world.operations.view().await.unwrap());
    let condition = readiness.condition("signer");
    world.rotator.report(&condition, None, &view.unsettled);
    format!("{:?}", readiness.snapshot())
}

#[tokio::test]
async fn a_backend_that_revokes_leaves_is_told_until_it_has_and_by_whoever_knows_nothing_but_the_storage() {
    let (backend, world) = revoking().await;
    let (leaf, serial) = issued(&world).await;
    assert_eq!(world.store.signed_leaf(serial).await.unwrap(), Some(leaf.clone()));
    let (_, other) = issued(&world).await;
    backend.does(Does::IsAway);
    assert_eq!(revoke(&world, serial, false).await, Ok(1));
    let now = journal(&world).await;
    let wanted = &now.revocations.elsewhere[0];
    assert_eq!((wanted.leaf, &wanted.certificate, now.revocations.awaited_leaves()), (true, &None, 1));
    assert_eq!(wanted.issuer, backend.ca.issuing().id);
    // A compromised issuing CA it is not.
    let view = world.operations.view().await.unwrap();
    assert_eq!((view.unsettled.tainted_issuing, view.unsettled.unrevoked), (0, 1));
    assert_eq!((view.phase, view.next), (Phase::Degraded, Next::RevokeElsewhere));
    assert_eq!(ask(&backend, &world).await, 0);
    let told = said(&world).await;
    for words in
        [&format!("{serial} (leaf of"), "it is away", "tried again until it is done", "so on no list: leaves: 1"]
    {
        assert!(told.contains(words), "{words}: {told}");
    }
    // Its holder is accepted by this CA no more, whatever the backend does.
    assert!(now.revocations.find(&serial.to_string(), &backend.ca.issuing().id).is_some());
    // Another process asks, which has not issued it; one that had asked before it died would have changed nothing.
    backend.does(Does::Signs);
    let restarted = world.another_on(Arc::clone(&backend) as _);
    assert_eq!(ask(&backend, &restarted).await, 1);
    assert_eq!(*backend.revoked.lock().unwrap(), [leaf]);
    let now = journal(&world).await;
    assert_eq!((now.revocations.awaited_leaves(), now.revocations.entries.len()), (0, 1));
    let view = world.operations.view().await.unwrap();
    assert_eq!((view.unsettled.unrevoked, view.phase), (0, Phase::Settled));
    assert_eq!(ask(&backend, &world).await, 1, "once");
    let count = async |outcome, words: &str| {
        let events = world.events().await;
        let is =
            |event: &AuditEvent| event.outcome == outcome && event.detail.as_ref().is_some_and(|it| it.contains(words));
        events.iter().filter(|stored| is(&stored.event)).count()
    };
    assert_eq!(count(Outcome::Intended, "about to be revoked by whoever has certified them").await, 1);
    assert_eq!(count(Outcome::Done, "is revoked by whoever has certified it").await, 1);
    // Said again it is done, and nothing takes it back.
    assert_eq!(revoke(&world, serial, false).await, Ok(1));
    let refused = revoke(&world, serial, true).await.unwrap_err();
    assert!(refused.contains("nothing takes that back"), "{refused}");
    assert_eq!(revoke(&world, other, false).await, Ok(2));
}

#[tokio::test]
async fn one_leaf_that_cannot_be_shown_to_the_backend_keeps_no_other_from_being_revoked() {
    let (backend, world) = revoking().await;
    let leaves = [issued(&world).await, issued(&world).await, issued(&world).await];
    for (_, serial) in &leaves {
        revoke(&world, *serial, false).await.unwrap();
    }
    // What storage has lost cannot be shown to it; the others can.
    let (_, first) = leaves[0];
    *world.store.lost_leaf.lock().unwrap() = Some(first);
    assert_eq!(ask(&backend, &world).await, 2);
    assert!(said(&world).await.contains("is not kept any more"));
    let elsewhere = journal(&world).await.revocations.elsewhere;
    assert!(elsewhere.iter().all(|one| one.leaf && one.certificate.is_none()), "the journal holds no leaves");
    assert_eq!(elsewhere.len(), 3);
}

#[tokio::test]
async fn what_nobody_can_revoke_is_refused_with_what_to_do_and_keeps_nothing() {
    let backend = Backend::new();
    let world = world(&backend).await;
    let (_, serial) = issued(&world).await;
    assert_eq!(world.store.signed_leaf(serial).await.unwrap(), None, "nobody needs it");
    let refused = revoke(&world, serial, false).await.unwrap_err();
    for words in ["signed by cert-manager", "nobody can revoke it: it is accepted until 2026-", "`authority taint`"] {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    // The same backend learns it: what it had signed before was not kept.
    backend.revokes.store(true, Ordering::SeqCst);
    let refused = revoke(&world, serial, false).await.unwrap_err();
    assert!(refused.contains("bao write pki/revoke certificate=@leaf.pem"), "{refused}");
    // It is the backend no more.
    let (_, kept) = issued(&world).await;
    let refused = revoke(&world.another(), kept, false).await.unwrap_err();
    assert!(refused.contains("neither authority.backend nor authority.former names"), "{refused}");
    let now = journal(&world).await;
    assert_eq!((now.revocations.entries.len(), now.revocations.elsewhere.len()), (0, 0));
    let issuing = Command::Revoke { id: backend.ca.issuing().id, force: true };
    let operator = Operator { name: "uid 0".to_owned(), peer: None };
    assert!(world.operations.command(&operator, issuing, "x").await.is_err());
}

#[tokio::test]
async fn no_more_than_a_thousand_leaves_wait_for_a_backend() {
    let (_, world) = revoking().await;
    let (_, serial) = issued(&world).await;
    let (version, mut full) = world.store.load().await.unwrap().unwrap();
    let issuer = full.active_issuer(NOW).unwrap().id.clone();
    for number in 0..1000 {
        full.revocations.ask_for_leaf(&format!("{number:x}"), &issuer);
    }
    world.store.replace(version, &full).await.unwrap();
    let refused = revoke(&world, serial, false).await.unwrap_err();
    assert!(refused.contains("1000 leaves wait for the backend"), "{refused}");
    let told = full.revocations.elsewhere_alert(None).unwrap();
    assert!(told.contains("and 995 more") && told.len() < 2000, "{told}");
}

#[tokio::test]
async fn leaves_are_forgotten_some_time_after_their_end_and_not_by_a_clock_that_has_jumped() {
    let (_, world) = revoking().await;
    let (_, serial) = issued(&world).await;
    world.clock.advance(DAY + Duration::from_secs(3600));
    world.rotator.forget().await;
    assert!(world.store.signed_leaf(serial).await.unwrap().is_some(), "its revocation may be wanted still");
    world.clock.advance(Duration::from_secs(2 * 3600));
    world.jumps.fetch_add(2 * 3600, Ordering::SeqCst);
    world.rotator.forget().await;
    assert!(world.store.signed_leaf(serial).await.unwrap().is_some(), "is it that time?");
    world.clock.advance(Duration::from_secs(3600));
    world.rotator.forget().await;
    assert_eq!(world.store.signed_leaf(serial).await.unwrap(), None);
}
