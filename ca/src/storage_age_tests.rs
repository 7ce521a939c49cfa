//! What agents show, against what storage has.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use signet_core::audit::Outcome;
use signet_core::rotation::Command;
use signet_runtime::readiness::{Readiness, State};

use super::*;
use crate::operations::{Done, Operator};
use crate::world_tests::World;

struct Watched {
    age: Arc<StorageAge>,
    readiness: Readiness,
    _tasks: tokio::task::JoinSet<()>,
}

impl Watched {
    fn new(world: &World) -> Self {
        let (age, readiness) = (test_age(), Readiness::new());
        let (journal, executor) = (Arc::clone(&world.store) as _, Arc::clone(&world.operations.executor));
        let (state, metrics) = (world.state.clone(), Arc::clone(&world.metrics));
        let condition = readiness.condition("storage history");
        let mut tasks = tokio::task::JoinSet::new();
        let watched = Arc::clone(&age);
        tasks.spawn(async move {
            watched.watch(journal, executor, state, metrics, condition, CancellationToken::new()).await.unwrap();
        });
        Self { age, readiness, _tasks: tasks }
    }

    /// Lets everything that is due be done, and tells how it looks.
    async fn settled(&self) -> (State, String) {
        tokio::time::sleep(AGAIN).await;
        let check = self.readiness.snapshot().checks.pop().unwrap();
        (check.state, check.detail)
    }
}

async fn stored(world: &World) -> u64 {
    world.store.load().await.unwrap().unwrap().1.bundle_sequence
}

#[tokio::test(start_paused = true)]
async fn only_a_proof_of_a_higher_sequence_than_storage_has_makes_a_backup_and_going_on_ends_it() {
    let world = World::new().await;
    let watched = Watched::new(&world);
    let at = stored(&world).await;
    for nothing in ["", "junk", "9999", "proof-", "proof-x", &format!("proof-{at}"), "proof-0"] {
        watched.age.note(nothing);
        assert_eq!(watched.settled().await.0, State::Ready, "{nothing}");
    }
    assert_eq!((watched.age.shown(), world.metrics.rotation.restored.get()), (None, 0));
    watched.age.note("proof-40");
    watched.age.note("proof-30");
    let (state, text) = watched.settled().await;
    assert!(state == State::Degraded && watched.readiness.snapshot().ready, "degraded, never failing");
    let both = [format!("trust bundle 40 of this CA, the storage only {at}"), "signet-ca authority resume".to_owned()];
    assert!(both.iter().all(|part| text.contains(part.as_str())), "{text}");
    assert_eq!((watched.age.shown(), world.metrics.rotation.restored.get()), (Some(40), 1));
    assert!(!world.operations.executor.observe().await.unwrap().clock_is_steady, "nothing is removed by itself");

    let operator = Operator { name: "uid 0".to_owned(), peer: None };
    let resume = async || {
        let shown = watched.age.shown().unwrap_or_default();
        world.operations.command(&operator, Command::Resume { shown }, "restored").await.unwrap()
    };
    let (done, view) = resume().await;
    assert_eq!(done, Done::Resumed(40));
    let after = u64::try_from(crate::world_tests::NOW.unix_timestamp()).unwrap() + 1;
    assert_eq!(view.authorities.bundle_sequence, after, "above the clock");
    world.rotator.turn().await.unwrap();
    assert_eq!(watched.settled().await.0, State::Ready);
    assert_eq!((watched.age.shown(), world.metrics.rotation.restored.get()), (None, 0));
    let record = world.recorded(Outcome::Done, "resume").await.detail.unwrap();
    assert!(record.contains("uid 0") && record.contains("restored"), "{record}");
    let (done, view) = resume().await;
    assert_eq!(done, Done::NothingToResume);
    assert_eq!(view.authorities.bundle_sequence, after, "said again, it changes nothing");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_lags_behind_storage_is_no_backup() {
    let world = World::new().await;
    let watched = Watched::new(&world);
    let before = stored(&world).await;
    let operator = Operator { name: "uid 0".to_owned(), peer: None };
    // In storage, but not served here yet.
    world.operations.command(&operator, Command::Prepare, "").await.unwrap();
    assert_eq!(stored(&world).await, before + 1);
    watched.age.note(&format!("proof-{}", before + 1));
    assert_eq!(watched.settled().await.0, State::Ready);
    watched.age.note(&format!("proof-{}", before + 2));
    assert_eq!(watched.settled().await.0, State::Degraded);
    // The other side of it: storage is right after all, as when a file system was late.
    world.operations.command(&operator, Command::Rollback, "").await.unwrap();
    assert_eq!(watched.settled().await.0, State::Ready, "without anybody's doing here");
}
