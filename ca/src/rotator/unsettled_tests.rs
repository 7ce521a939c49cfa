//! What operators are told is never better than what is: phase, next step, end, readiness and metrics in an emergency, and
//! while a holder's agent has stopped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use signet_core::clock::Clock;
use signet_core::holder::{Acknowledgement, Acknowledger};
use signet_core::publication::Report;
use signet_core::rotation::{Authorities, Command};
use signet_core::seams::store::{HolderStore, PublicationStore};
use signet_runtime::readiness::{Readiness, State};

use super::test_own_ca::{Directory, OwnCa};
use super::*;
use crate::issuance::Application;
use crate::operations::{Awaited, Done, Next as Told, OperationError, Operator, View};
use crate::signing_state;
use crate::world_tests::{DAY, NOW, World, application};

fn operator() -> Operator {
    Operator { name: "uid 0".to_owned(), peer: None }
}

/// An application of the client of this number: what it renews is its own.
fn client(number: u8) -> Application {
    Application { instance: Some(format!("{number:032x}")), ..application() }
}

async fn command(world: &World, command: Command) -> (Done, View) {
    let done = world.operations.command(&operator(), command, "a test").await.unwrap();
    world.rotator.turn().await.unwrap();
    done
}

fn journal(world: &World) -> Authorities {
    signing_state::current(&world.state).unwrap().authorities.clone()
}

/// What readiness says of the signer after a turn.
async fn readiness(world: &World) -> (State, String) {
    let readiness = Readiness::new();
    let condition = readiness.condition("signer");
    let found = world.rotator.turn_at().await.unwrap();
    world.rotator.report(&condition, None, &found.unsettled);
    let check = readiness.snapshot().checks.remove(0);
    (check.state, check.detail)
}

/// What dashboards show: holders cut off, holders that refuse, compromised roots and issuing CAs, and the phase.
fn gauges(world: &World) -> ([i64; 4], &'static str) {
    let rotation = &world.metrics.rotation;
    let tainted = |kind| rotation.tainted.with_label_values(&[kind]).get();
    let shown = [rotation.cut_off.get(), rotation.refusing.get(), tainted("root"), tainted("issuing")];
    let is_it = |phase: &&Phase| rotation.phases.with_label_values(&[phase.as_str()]).get() == 1;
    let phases: Vec<&Phase> = Phase::ALL.iter().filter(is_it).collect();
    assert_eq!(phases.len(), 1, "{phases:?}");
    (shown, phases[0].as_str())
}

#[tokio::test]
async fn after_a_forced_revocation_nothing_is_settled_until_everybody_has_renewed() {
    let world = World::new().await;
    world.receive(&client(1)).await.unwrap();
    let first = journal(&world).active().unwrap().id.clone();
    assert_eq!((readiness(&world).await.0, gauges(&world)), (State::Ready, ([0; 4], "settled")));
    let (said, view) = command(&world, Command::Taint { id: first.clone(), force: true }).await;
    let second = view.authorities.active().unwrap().id.clone();
    // It does not say that another root is to take its place: one has.
    assert_eq!(said, Done::Replaced { of: first.clone(), by: second.clone(), behind: 1 });
    assert_eq!((view.phase, view.next), (Phase::Emergency, Told::Renew(1)));
    let (state, text) = readiness(&world).await;
    assert!(state == State::Degraded && text.contains("still in the trust bundle"), "{text}");
    assert_eq!(gauges(&world), ([0, 0, 1, 0], "emergency"));
    let again = command(&world, Command::Taint { id: first.clone(), force: true }).await;
    assert_eq!(again.0, Done::Nothing, "it was replaced before");
    let (said, view) = command(&world, Command::Revoke { id: first.clone(), force: true }).await;
    assert_eq!(said, Done::Revoked(first, 1));
    assert_eq!((view.phase, view.next, view.unsettled.cut_off), (Phase::Emergency, Told::RenewCutOff(1), 1));
    assert_eq!(view.expected_at, Some(NOW + DAY), "then its certificate ends");
    // A CA that issues stays ready, and says what is wrong.
    let (state, text) = readiness(&world).await;
    assert!(state == State::Degraded && text.contains("cut off"), "{text}");
    assert_eq!(gauges(&world), ([1, 0, 0, 0], "emergency"));
    world.receive(&client(1)).await.unwrap();
    assert_eq!((readiness(&world).await.0, gauges(&world)), (State::Ready, ([0; 4], "settled")));
    let view = world.operations.view().await.unwrap();
    assert_eq!((view.phase, view.expected_at), (Phase::Settled, None));
    assert_eq!(view.authorities.active().unwrap().id, second);
}

#[tokio::test]
async fn a_former_root_that_is_declared_compromised_is_not_said_to_be_replaced() {
    let world = World::new().await;
    world.receive(&client(1)).await.unwrap();
    let first = journal(&world).active().unwrap().id.clone();
    command(&world, Command::Rotate).await;
    let second = journal(&world).prepared().unwrap().id.clone();
    command(&world, Command::Activate { id: second, force: true }).await;
    let (said, _) = command(&world, Command::Taint { id: first.clone(), force: true }).await;
    assert_eq!(said, Done::FormerTainted(first));
}

#[tokio::test]
async fn a_compromised_issuing_ca_and_a_refused_bundle_are_told_until_they_are_over() {
    let world = World::new().await;
    world.receive(&client(1)).await.unwrap();
    let issuing = journal(&world).active().unwrap().issuing[0].id.clone();
    command(&world, Command::RenewIssuing).await;
    let (said, view) = command(&world, Command::Taint { id: issuing.clone(), force: false }).await;
    assert_eq!(said, Done::IssuingTainted(issuing.clone()));
    assert_eq!((view.phase, view.next), (Phase::Emergency, Told::Renew(1)));
    assert_eq!(gauges(&world), ([0, 0, 0, 1], "emergency"));
    world.receive(&client(1)).await.unwrap();
    let view = world.operations.view().await.unwrap();
    assert_eq!(view.next, Told::RevokeByCommand(vec![issuing.clone()]), "nobody uses it any more");
    assert!(readiness(&world).await.1.contains("compromised and still accepted"));
    command(&world, Command::Revoke { id: issuing, force: false }).await;
    assert_eq!((readiness(&world).await.0, gauges(&world)), (State::Ready, ([0; 4], "settled")));
    // The bundle with the list is refused by one that acknowledges.
    world.receive(&Application { acknowledges: true, ..client(2) }).await.unwrap();
    let holders = world.operations.view().await.unwrap().laggards;
    let key = holders.into_iter().find(|holder| holder.acknowledges).unwrap().key;
    let sequence = journal(&world).bundle_sequence;
    let answer = |refused: Option<&str>| Acknowledgement {
        from: Acknowledger::Holder(key.clone()),
        sequence,
        refused: refused.map(str::to_owned),
        at: world.clock.now(),
    };
    world.store.acknowledge(&[answer(Some("unknown algorithm"))]).await.unwrap();
    let (state, text) = readiness(&world).await;
    assert!(state == State::Degraded && text.contains("bundles refused"), "{text}");
    assert_eq!(gauges(&world), ([0, 1, 0, 0], "degraded"));
    let view = world.operations.view().await.unwrap();
    assert_eq!((view.phase, view.next, view.expected_at), (Phase::Degraded, Told::Accept(1), None));
    world.store.acknowledge(&[answer(None)]).await.unwrap();
    assert_eq!((readiness(&world).await.0, gauges(&world)), (State::Ready, ([0; 4], "settled")));
}

/// The CA works until nothing is in progress; when everything is over, and all that was said of that before.
async fn work(world: &World, until: OffsetDateTime) -> (OffsetDateTime, Vec<OffsetDateTime>) {
    let mut said = Vec::new();
    for _ in 0..1000 {
        let due = world.rotator.turn().await.unwrap();
        let view = world.operations.view().await.unwrap();
        if view.phase == Phase::Settled {
            return (world.clock.now(), said);
        }
        said.push(view.expected_at.expect("time alone brings it about"));
        // Holders are looked at every second; what matters of them here is when a certificate ends.
        let next = [due, until].into_iter().filter(|at| *at > world.clock.now()).min().unwrap();
        world.clock.set(next);
    }
    panic!("it is not over");
}

#[tokio::test]
async fn with_a_stopped_agent_the_end_is_told_with_every_phase_to_come_and_never_too_early() {
    let world = World::new().await;
    world.receive(&client(1)).await.unwrap();
    let (_, view) = command(&world, Command::Rotate).await;
    let lapse = NOW + DAY;
    let waits = Awaited::Holders { holders: 1, refusing: 0, until: Some(lapse) };
    let second = view.authorities.prepared().unwrap().id.clone();
    assert_eq!(view.next, Told::Activate(second.clone(), waits));
    // Just before the end of its certificate another one gets a certificate of the old root, for as long as there are.
    world.clock.set(lapse - Duration::from_secs(3600));
    world.rotator.turn().await.unwrap();
    world.receive(&Application { ttl: Some(20 * 86_400), ..client(2) }).await.unwrap();
    let (over, mut said) = work(&world, lapse).await;
    said.push(view.expected_at.unwrap());
    let earliest = *said.iter().min().unwrap();
    assert!(over <= earliest, "over at {over}, and {earliest} was said");
    assert!(over > lapse + 19 * DAY, "the former root was waited for: {over}");
    assert_eq!(journal(&world).active().unwrap().id, second);
}

#[tokio::test]
async fn with_files_a_rotation_is_what_was_put_there_and_may_be_watched_again_until_it_is_over() {
    let empty = World::empty();
    let (old_root, new_root) = (OwnCa::root("old"), OwnCa::root("new"));
    let old = old_root.below("old signer").set(&empty, &old_root, vec![]).await;
    let new = new_root.below("new signer").set(&empty, &new_root, vec![]).await;
    let directory = Directory::with(&old);
    let world = empty.another_on(directory.clone());
    world.make_authority().await;
    world.rotator.turn().await.unwrap();
    world.receive(&client(1)).await.unwrap();
    let refused = world.operations.command(&operator(), Command::Rotate, "").await.unwrap_err();
    assert!(refused.to_string().contains("put the new CA into that directory"), "{refused}");
    // Said before this process has looked at the files by itself.
    directory.put(&new);
    let (said, view) = command(&world, Command::Rotate).await;
    assert_eq!((said, view.phase), (Done::FilesAwaited(new_root.id()), Phase::Propagate));
    assert_eq!(command(&world, Command::Rotate).await.0, Done::Nothing, "it is under way");
    let (over, said) = work(&world, NOW + DAY).await;
    assert!(said.iter().all(|at| over <= *at), "over at {over}: {said:?}");
    assert_eq!(journal(&world).active().unwrap().id, new_root.id());
    let refused = world.operations.command(&operator(), Command::Rotate, "").await;
    assert!(matches!(refused, Err(OperationError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn a_place_where_the_bundle_is_not_published_is_waited_for_by_name_and_forgotten_once_nobody_speaks_of_it() {
    let world = World::new().await;
    let name = "config-map/a".to_owned();
    let report = async |sequence, problem: Option<&str>| {
        let (publisher, problem) = (name.clone(), problem.map(str::to_owned));
        let at = world.clock.now();
        world.store.report(&Report { publisher, sequence, wanted: 2, in_place: 1, problem, at }).await.unwrap();
    };
    let unpublished = || world.metrics.rotation.unpublished.get();
    world.rotator.executor.publishers.replace(vec![name.clone()]);
    let (state, text) = readiness(&world).await;
    assert!(state == State::Degraded && text.contains("not published everywhere"), "{text}");
    let view = world.operations.view().await.unwrap();
    assert_eq!((view.phase, view.next), (Phase::Degraded, Told::Publish(vec![name.clone()])));
    report(Some(1), None).await;
    assert_eq!((readiness(&world).await.0, unpublished(), gauges(&world).1), (State::Ready, 0, "settled"));

    let (_, view) = command(&world, Command::Rotate).await;
    let next = view.authorities.prepared().unwrap().id.clone();
    report(None, Some("forbidden")).await;
    let view = world.operations.view().await.unwrap();
    assert_eq!(
        (view.expected_at, view.next),
        (None, Told::Activate(next.clone(), Awaited::Publishers(vec![name.clone()])))
    );
    let activate = Command::Activate { id: next.clone(), force: false };
    let refused = world.operations.command(&operator(), activate, "").await;
    let Err(OperationError::Refused(text)) = refused else { panic!() };
    assert!(text.contains("not published everywhere yet: config-map/a"), "{text}");
    world.clock.advance(DAY / 24);
    readiness(&world).await;
    assert_eq!((journal(&world).prepared().map(|root| root.id.clone()), unpublished()), (Some(next.clone()), 1));
    report(Some(2), None).await;
    let view = world.operations.view().await.unwrap();
    assert!(matches!(view.next, Told::Activate(_, Awaited::Propagation(Some(_)))), "{:?}", view.next);
    world.clock.advance(DAY / 24);
    readiness(&world).await;
    assert_eq!((journal(&world).active().unwrap().id.clone(), unpublished()), (next, 0));

    // It is configured no more: it is told of for a while, since another replica may publish there.
    world.rotator.executor.publishers.replace(Vec::new());
    world.rotator.forget().await;
    assert!(world.store.publications().await.unwrap().all().is_empty(), "nothing was heard of it for an hour");
    report(Some(2), None).await;
    world.rotator.forget().await;
    assert_eq!(world.store.publications().await.unwrap().all().len(), 1);
}
