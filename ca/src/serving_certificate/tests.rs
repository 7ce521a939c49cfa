//! The serving certificate under clocks that were ahead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::signing_state;
use crate::world_tests::{DAY, NOW, World, application};
use signet_core::clock::Clock as _;
use signet_runtime::readiness::Readiness;
use tokio::task::JoinSet;

pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// By how much clocks are ahead: less than a life, more than one of the serving certificate, of the issuing CA, of the
/// root.
const AHEAD: [Duration; 5] = [HOUR, DAY, DAY.saturating_mul(2), DAY.saturating_mul(40), DAY.saturating_mul(5 * 365)];

pub(super) struct Running {
    pub(super) serving: ServingReader,
    readiness: Readiness,
    _task: JoinSet<()>,
}

/// A renewer at work on the authorities of `world`.
pub(super) fn start(world: &World) -> Running {
    let readiness = Readiness::new();
    let names = ServingConfig { dns_names: vec!["ca.test".to_owned()], ip_addresses: Vec::new(), ttl: DAY };
    let (renewer, serving) = ServingRenewer::new(
        &world.issuance.policy,
        names,
        world.state.clone(),
        world.issuance.audit.clone(),
        Arc::new(world.clock.clone()),
        Arc::clone(&world.metrics),
        readiness.condition("serving certificate"),
    )
    .unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move { renewer.run(CancellationToken::new()).await.unwrap() });
    Running { serving, readiness, _task: task }
}

impl Running {
    /// Waits for a certificate that is valid at `now`; how long that took by a clock that nobody sets.
    async fn valid(&mut self, now: OffsetDateTime) -> Duration {
        let begun = tokio::time::Instant::now();
        let valid = |serving: &Option<Arc<Serving>>| {
            serving.as_ref().is_some_and(|serving| serving.not_before <= now && now < serving.not_after)
        };
        let waited = tokio::time::timeout(HOUR, self.serving.wait_for(valid)).await;
        drop(waited.expect("a valid certificate").unwrap());
        begun.elapsed()
    }

    fn is_ready(&self) -> bool {
        self.readiness.snapshot().ready
    }
}

/// Sets the wall clock alone.
fn jump(world: &World, to: OffsetDateTime) {
    let seconds = (to - world.clock.now()).whole_seconds();
    world.jumps.fetch_add(seconds, std::sync::atomic::Ordering::SeqCst);
    world.clock.set(to);
}

/// Takes what steps there are.
async fn turn(world: &World) {
    drop(world.rotator.turn().await);
}

#[tokio::test(start_paused = true)]
async fn the_first_certificate_is_no_renewal() {
    let world = World::new().await;
    let mut running = start(&world);
    running.valid(NOW).await;
    assert_eq!(world.metrics.serving_renewals.get(), 0);
    let due = running.serving.borrow().as_ref().unwrap().renews_at();
    world.clock.set(due);
    let renewed = |serving: &Option<Arc<Serving>>| serving.as_ref().is_some_and(|serving| serving.renews_at() > due);
    drop(tokio::time::timeout(HOUR, running.serving.wait_for(renewed)).await.expect("a renewal").unwrap());
    assert_eq!(world.metrics.serving_renewals.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_jump_ahead_and_back_connections_and_certificates_work_within_seconds() {
    for ahead in AHEAD {
        let world = World::new().await;
        let mut running = start(&world);
        running.valid(NOW).await;
        jump(&world, NOW + ahead);
        turn(&world).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        jump(&world, NOW);
        turn(&world).await;
        let took = running.valid(NOW).await;
        assert!(took <= 2 * RETRY, "{ahead:?}: {took:?}");
        assert!(world.issuance.issue(&application()).await.is_ok(), "{ahead:?}");
        tokio::time::sleep(2 * LOOK).await;
        assert!(running.is_ready(), "{ahead:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_with_a_clock_ahead_leaves_nothing_behind_when_it_is_set_right() {
    // Later than that the root has ended, so that nothing is made.
    for ahead in AHEAD.into_iter().filter(|ahead| *ahead < 300 * DAY) {
        let first = World::new().await;
        jump(&first, NOW + ahead);
        let world = first.another();
        turn(&world).await;
        let mut running = start(&world);
        running.valid(NOW + ahead).await;
        let serial = running.serving.borrow().as_ref().unwrap().serial;
        jump(&world, NOW);
        turn(&world).await;
        let took = running.valid(NOW).await;
        assert!(took <= 2 * RETRY, "{ahead:?}: {took:?}");
        assert_ne!(running.serving.borrow().as_ref().unwrap().serial, serial);
        assert!(world.issuance.issue(&application()).await.is_ok(), "{ahead:?}");
        let issuer = signing_state::current(&world.state).unwrap().authority.limits().not_before;
        assert!(issuer <= NOW, "{ahead:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_fails_while_the_certificate_is_not_valid_and_cannot_be_made_again() {
    let world = World::new().await;
    jump(&world, NOW + 2 * DAY);
    let mut running = start(&world);
    running.valid(NOW + 2 * DAY).await;
    world.store.down.store(true, std::sync::atomic::Ordering::SeqCst);
    for (now, words) in [(NOW, "starts only at"), (NOW + 4 * DAY, "ended at")] {
        jump(&world, now);
        tokio::time::sleep(2 * RETRY).await;
        let snapshot = running.readiness.snapshot();
        let said = format!("{snapshot:?}");
        assert!(!snapshot.ready && said.contains(words), "{said}");
    }
    world.store.down.store(false, std::sync::atomic::Ordering::SeqCst);
    running.valid(NOW + 4 * DAY).await;
    tokio::time::sleep(2 * LOOK).await;
    assert!(running.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_root_from_the_future_is_told_with_what_to_do_and_an_operator_replaces_it() {
    use crate::operations::Operator;
    use signet_core::rotation::{Command, Unsettled};
    let first = World::empty();
    jump(&first, NOW + 2 * DAY);
    first.make_authority().await;
    turn(&first).await;
    jump(&first, NOW);
    let world = first.another();
    world.rotator.turn().await.expect("nothing fails: there is nothing that could be made");
    let readiness = Readiness::new();
    let condition = readiness.condition("signer");
    world.rotator.report(&condition, None, &Unsettled::default());
    let said = format!("{:?}", readiness.snapshot());
    let (told, helped) = (said.contains("starts only at 2026-03-03T11:58:00Z"), said.contains("authority rotate"));
    assert!(!readiness.snapshot().ready && told && helped, "{said}");
    assert!(world.issuance.issue(&application()).await.is_err());
    let operator = Operator { name: "uid 0".to_owned(), peer: None };
    let (_, view) = world.operations.command(&operator, Command::Rotate, "").await.unwrap();
    let id = view.authorities.prepared().unwrap().id.clone();
    let activate = Command::Activate { id: id.clone(), force: true };
    world.operations.command(&operator, activate, "the clock was ahead").await.unwrap();
    turn(&world).await;
    world.rotator.report(&condition, None, &Unsettled::default());
    assert!(readiness.snapshot().ready);
    assert!(world.issuance.issue(&application()).await.is_ok());
    assert_eq!(signing_state::current(&world.state).unwrap().authorities.active().unwrap().id, id);
}
