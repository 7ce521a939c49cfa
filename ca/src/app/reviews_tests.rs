//! What is said of an API server before any token, in trouble, and after it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;

use signet_core::seams::authenticator::Denial;
use signet_runtime::readiness::{Readiness, State as Shown};

use super::*;

struct World {
    readiness: Readiness,
    told: Arc<Told>,
    last: Arc<Mutex<LastReview>>,
}

fn outage(reason: Outage) -> AuthenticationError {
    AuthenticationError::unavailable(reason, "why")
}

impl World {
    fn new() -> Self {
        let (readiness, last) = (Readiness::new(), Arc::default());
        let told = Told::new("a".into(), readiness.passing("tokens of a"), Arc::clone(&last));
        Self { readiness, told: Arc::new(told), last }
    }

    /// The state of the condition, whether status has a problem, and what is said.
    fn says(&self) -> (Shown, bool, String) {
        let check = self.readiness.snapshot().checks.remove(0);
        (check.state, self.last.lock().unwrap().problem.is_some(), check.detail)
    }

    /// A judgement of the API server.
    fn refuse(&self) {
        self.told.reviewed(&Err(AuthenticationError::denied(Denial::TokenRejected, "no")));
    }

    fn fail(&self, reason: Outage) {
        self.told.reviewed(&Err(outage(reason)));
    }
}

#[test]
fn before_any_token_no_more_is_said_than_what_is_known() {
    let world = World::new();
    let (state, problem, text) = world.says();
    assert!(state == Shown::Degraded && !problem && text.contains("not known yet"), "{text}");
    world.told.looked(Err(outage(Outage::ApiUnreachable)));
    let (state, problem, text) = world.says();
    assert!(state == Shown::Degraded && problem && text.contains("api_unreachable: why"), "{text}");
    assert_eq!(world.last.lock().unwrap().at, None, "no review");
    for (told, words) in [(true, "may be asked about each token"), (false, "does not say")] {
        world.told.looked(Ok(told));
        let (state, problem, text) = world.says();
        assert!(state == Shown::Ready && !problem && text.contains(words), "{text}");
        assert!(text.contains("not asked about any yet"), "{text}");
    }
    world.refuse();
    assert_eq!(world.says(), (Shown::Ready, false, "the API server is asked about each token".to_owned()));
    world.told.looked(Ok(true));
    assert!(world.says().2.contains("lately"), "{:?}", world.says());
}

#[test]
fn trouble_of_a_review_is_over_with_a_look_unless_that_says_nothing_of_it() {
    let world = World::new();
    world.fail(Outage::ApiTimedOut);
    assert!(world.says().1);
    world.told.looked(Ok(false));
    assert!(!world.says().1, "it answers");
    world.fail(Outage::ApiForbidden);
    world.told.looked(Ok(false));
    assert!(world.says().1, "whether it is allowed was not said");
    world.told.looked(Ok(true));
    assert!(!world.says().1);
    let before = world.says();
    world.fail(Outage::Busy);
    assert_eq!(world.says(), before, "it was not asked");
}

/// Runs looks that find these, and says at which seconds they were made. After the last one nothing more is heard.
async fn looks(world: &World, found: impl IntoIterator<Item = Looked>, reviews: &[(u64, Outage)]) -> Vec<u64> {
    let (begun, made, end) = (Instant::now(), Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()));
    let found = Mutex::new(found.into_iter().collect::<VecDeque<_>>());
    let (noting, ending) = (Arc::clone(&made), Arc::clone(&end));
    let look = move || {
        noting.lock().unwrap().push(begun.elapsed().as_secs());
        let found = found.lock().unwrap().pop_front();
        if found.is_none() {
            ending.notify_one();
        }
        async move { found.unwrap_or(Ok(true)) }.boxed()
    };
    let reviewing = async {
        for (at, reason) in reviews {
            tokio::time::sleep_until(begun + Duration::from_secs(*at)).await;
            world.fail(*reason);
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = Arc::clone(&world.told).look_for_ever(look) => {}
        () = reviewing => {}
        () = end.notified() => {}
    }
    made.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn it_is_looked_at_once_soon_after_trouble_and_seldom_when_all_is_well() {
    let gone = || Err(outage(Outage::ApiUnreachable));
    let world = World::new();
    assert_eq!(looks(&world, [gone(), gone(), Ok(true), Ok(true)], &[]).await, [0, 5, 10, 70, 130]);

    // Trouble that each look takes for over is looked at less and less often.
    let world = World::new();
    let failing = [3, 9, 20, 41].map(|at| (at, Outage::ApiFailed));
    assert_eq!(looks(&world, [Ok(true), Ok(true), Ok(true), Ok(true)], &failing).await, [0, 8, 19, 40, 81]);
}

#[tokio::test(start_paused = true)]
async fn while_tokens_are_reviewed_nothing_is_looked_at() {
    let world = World::new();
    let reviewing = async {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(30)).await;
            world.refuse();
        }
    };
    let made = Arc::new(Mutex::new(0));
    let counting = Arc::clone(&made);
    let look = move || {
        *counting.lock().unwrap() += 1;
        async { Ok(true) }.boxed()
    };
    tokio::select! {
        () = reviewing => {}
        () = Arc::clone(&world.told).look_for_ever(look) => {}
    }
    assert_eq!(*made.lock().unwrap(), 1);
}
