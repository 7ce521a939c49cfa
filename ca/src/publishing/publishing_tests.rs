//! What publishers report, and what storage says is to be published.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use signet_core::clock::Clock;
use signet_core::seams::publisher::{Found, PublishedTrust};
use signet_core::seams::store::{AuthorityJournal, PublicationStore};
use signet_core::time_math;
use signet_plugins::store::memory::MemoryStore;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::*;
use crate::world_tests::{NOW, World};

/// Goes with the timers of a test.
struct TestClock(Instant);

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> OffsetDateTime {
        time_math::after(NOW, self.0.elapsed())
    }

    async fn sleep_until(&self, at: OffsetDateTime) {
        tokio::time::sleep(time_math::until(self.now(), at)).await;
    }
}

/// Of a process that shares this storage.
pub(crate) fn beside(store: &Arc<MemoryStore>, who: &str, clock: Arc<dyn Clock>) -> Surroundings {
    let domain = signet_core::identity::TrustDomain::parse("cluster.local").unwrap();
    let (_, state) = tokio::sync::watch::channel(None);
    Surroundings {
        store: Arc::clone(store) as _,
        trust: Arc::new(StoredTrust::new(Arc::clone(store) as _, domain)),
        state,
        clock,
        wake_up: Arc::default(),
        who: who.to_owned(),
    }
}

/// Of a process of its own.
pub(crate) fn surroundings() -> Surroundings {
    beside(&Arc::default(), "one", clock())
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(TestClock(Instant::now()))
}

fn in_place(sequence: u64) -> Found {
    Found { sequence: Some(sequence), wanted: 2, in_place: 2, problem: None, again_in: None }
}

#[tokio::test(start_paused = true)]
async fn a_bundle_in_place_is_reported_at_once_and_the_rest_now_and_then() {
    let store: Arc<MemoryStore> = Arc::default();
    let around = beside(&store, "one", clock());
    let reporter = around.reporter("config-map/a");
    let heard = async || store.publications().await.unwrap().all().first().map(|one| one.heard_at);
    let woken = async || tokio::time::timeout(Duration::ZERO, around.wake_up.notified()).await.is_ok();
    let lacking = Found { sequence: None, in_place: 1, problem: Some("away".into()), ..in_place(1) };
    reporter.tell(&lacking).await.unwrap();
    assert_eq!((heard().await, woken().await), (Some(NOW), false));
    let one = store.publications().await.unwrap().all().first().unwrap().clone();
    assert_eq!((one.wanted, one.in_place, one.problem.as_deref(), one.sequence()), (2, 1, Some("away"), 0));
    // Nobody needs to know each step on the way.
    reporter.tell(&Found { in_place: 2, ..lacking.clone() }).await.unwrap();
    assert_eq!(heard().await, Some(NOW));
    reporter.tell(&in_place(3)).await.unwrap();
    assert!(woken().await, "the rotator");
    assert_eq!(store.publications().await.unwrap().all().first().unwrap().sequence(), 3);
    tokio::time::advance(Duration::from_secs(29)).await;
    reporter.tell(&Found { again_in: Some(Duration::from_secs(1)), ..in_place(3) }).await.unwrap();
    assert_eq!(heard().await, Some(NOW));
    tokio::time::advance(Duration::from_secs(1)).await;
    reporter.tell(&in_place(3)).await.unwrap();
    assert_eq!((heard().await, woken().await), (Some(NOW + Duration::from_secs(30)), false));
    tokio::time::advance(Duration::from_secs(1)).await;
    reporter.tell(&Found { problem: Some("x".repeat(5000)), ..in_place(3) }).await.unwrap();
    let one = store.publications().await.unwrap().all().first().unwrap().clone();
    assert_eq!(one.problem.unwrap().len(), 1000);
}

#[tokio::test]
async fn what_is_to_be_published_is_read_again_when_the_journal_has_changed_and_is_the_same_until_it_is_another() {
    let world = World::empty();
    let domain = signet_core::identity::TrustDomain::parse("cluster.local").unwrap();
    let trust = StoredTrust::new(Arc::clone(&world.store) as _, domain);
    assert!(trust.now().await.unwrap().is_none(), "no authority");
    world.make_authority().await;
    let first = trust.now().await.unwrap().unwrap();
    let (version, authorities) = world.store.load().await.unwrap().unwrap();
    assert_eq!(first.bundle.sequence(), authorities.bundle_sequence);
    // A change that is about something else.
    world.store.replace(version, &authorities).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &trust.now().await.unwrap().unwrap()));
    let (version, mut authorities) = world.store.load().await.unwrap().unwrap();
    authorities.bundle_sequence += 1;
    world.store.replace(version, &authorities).await.unwrap().unwrap();
    let second = trust.now().await.unwrap().unwrap();
    assert_eq!(second.bundle.sequence(), first.bundle.sequence() + 1);
    world.store.unreadable.store(true, Ordering::SeqCst);
    assert!(trust.now().await.is_err(), "what it remembers is not what is");
}

#[test]
fn every_process_has_a_name_of_its_own() {
    let host = host();
    assert!(!host.is_empty() && !host.contains('\n'));
    let clock = signet_core::clock::ManualClock::at(NOW);
    let before = who("a", &clock);
    assert!(before.starts_with("a/") && before != who("b", &clock));
}
