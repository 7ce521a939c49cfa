//! Whose turn it is to publish, and when a look is taken.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use signet_core::seams::store::PublicationStore;
use signet_plugins::store::memory::MemoryStore;
use signet_runtime::readiness::{Readiness, State};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::super::tests::{beside, clock};
use super::*;

/// Notes who works.
#[derive(Default)]
struct Fake {
    looks: AtomicUsize,
    followed: AtomicUsize,
    found: Mutex<Found>,
    changed: Notify,
}

/// Counts those who follow.
struct Following<'f>(&'f Fake);

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.0.followed.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl BundlePublisher for Fake {
    fn name(&self) -> &str {
        "config-map/a"
    }

    async fn follow(&self) {
        self.followed.fetch_add(1, Ordering::SeqCst);
        let _following = Following(self);
        std::future::pending().await
    }

    async fn look(&self, _: &dyn PublishedTrust) -> Found {
        assert_eq!(self.followed.load(Ordering::SeqCst), 1, "followed first");
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.found.lock().unwrap().clone()
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Fake {
    fn looks(&self) -> usize {
        self.looks.load(Ordering::SeqCst)
    }

    fn leads(&self) -> bool {
        self.followed.load(Ordering::SeqCst) > 0
    }
}

fn keeper(publisher: &Arc<Fake>, around: Surroundings, readiness: &Readiness) -> (Keeper, Arc<Shown>) {
    let shown: Arc<Shown> = Arc::default();
    let condition = readiness.passing("publisher config-map/a");
    (Keeper::new(Arc::clone(publisher) as _, around, condition, Arc::clone(&shown)), shown)
}

fn detail(readiness: &Readiness) -> (State, String) {
    let check = readiness.snapshot().checks.into_iter().next().unwrap();
    (check.state, check.detail)
}

#[tokio::test(start_paused = true)]
async fn one_replica_publishes_and_another_takes_over_when_it_is_gone() {
    let (store, clock): (Arc<MemoryStore>, _) = (Arc::default(), clock());
    let publishers: [Arc<Fake>; 2] = Default::default();
    let readiness = [Readiness::new(), Readiness::new()];
    let mut tasks = [JoinSet::new(), JoinSet::new()];
    for (index, who) in ["one", "two"].into_iter().enumerate() {
        let around = beside(&store, who, Arc::clone(&clock));
        let (keeper, _) = keeper(&publishers[index], around, &readiness[index]);
        tasks[index].spawn(keeper.run());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(publishers.each_ref().map(|one| one.leads()), [true, false], "a turn is renewed");
    assert!(publishers[1].looks() == 0 && detail(&readiness[1]).1 == "another replica publishes");
    tasks[0].shutdown().await;
    assert!(!publishers[0].leads());
    tokio::time::sleep(TURN + RENEW).await;
    assert!(publishers[1].leads() && publishers[1].looks() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_has_slept_through_its_turn_stops_when_it_hears_so() {
    let (store, clock): (Arc<MemoryStore>, _) = (Arc::default(), clock());
    let (publisher, readiness) = (Arc::<Fake>::default(), Readiness::new());
    let (keeper, shown) = keeper(&publisher, beside(&store, "one", Arc::clone(&clock)), &readiness);
    let mut tasks = JoinSet::new();
    tasks.spawn(keeper.run());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(publisher.leads() && shown.found().is_some());
    // As if it had been asleep: another one has had the turn since.
    let late = time_math::after(clock.now(), TURN);
    assert!(store.take_turn("config-map/a", "two", late, time_math::after(late, TURN)).await.unwrap());
    tokio::time::sleep(RENEW).await;
    assert!(!publisher.leads() && shown.found().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_look_is_taken_when_something_changes_or_is_to_be_tried_again_and_readiness_says_what_was_found() {
    let store: Arc<MemoryStore> = Arc::default();
    let (publisher, readiness) = (Arc::<Fake>::default(), Readiness::new());
    *publisher.found.lock().unwrap() = Found { sequence: Some(4), wanted: 3, in_place: 3, ..Found::default() };
    let (keeper, shown) = keeper(&publisher, beside(&store, "one", clock()), &readiness);
    let mut tasks = JoinSet::new();
    tasks.spawn(keeper.run());
    tokio::time::sleep(AGAIN * 2 - Duration::from_secs(1)).await;
    assert_eq!(publisher.looks(), 2, "now and then");
    assert_eq!(detail(&readiness), (State::Ready, "bundle 4 in 3 places".to_owned()));
    let problem = Some("namespace x: forbidden".to_owned());
    let again_in = Some(Duration::from_secs(5));
    *publisher.found.lock().unwrap() = Found { sequence: None, wanted: 3, in_place: 2, problem, again_in };
    publisher.changed.notify_one();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(publisher.looks(), 3);
    let (state, text) = detail(&readiness);
    assert!(state == State::Degraded && text.contains("2 of 3 places") && text.contains("namespace x"), "{text}");
    assert_eq!(shown.found().unwrap().in_place, 2);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(publisher.looks(), 4, "as it has said");
}

#[tokio::test(start_paused = true)]
async fn the_log_hears_of_a_problem_once_and_not_while_things_are_being_listed() {
    let begun = Instant::now();
    let found = |problem: Option<&str>| Found { problem: problem.map(str::to_owned), ..Found::default() };
    let (unknown, forbidden, right) = (found(Some("not known yet")), found(Some("forbidden")), found(None));
    let mut logged = Logged::new(begun);
    assert_eq!(logged.put_off(&unknown, begun), Some(begun + LISTING));
    assert!(!logged.tell("p", &unknown, begun) && !logged.tell("p", &right, begun), "a start is no news");
    assert!(logged.tell("p", &forbidden, begun) && !logged.tell("p", &forbidden, begun), "once it was listed, at once");
    assert!(
        logged.put_off(&unknown, begun).is_none()
            && logged.tell("p", &right, begun)
            && !logged.tell("p", &right, begun)
    );
    let mut logged = Logged::new(begun);
    assert!(
        !logged.tell("p", &forbidden, begun) && logged.tell("p", &forbidden, begun + LISTING),
        "what stays is told"
    );
}
