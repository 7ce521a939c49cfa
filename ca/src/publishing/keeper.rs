//! Keeps one publisher at work in the replica whose turn it is. The turn saves work and nothing else: a replica that was asleep
//! and believes to have it still asks storage before each write, and replaces only what it has looked at.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use signet_core::bundle::Validation;
use signet_core::seams::publisher::{BundlePublisher, Found, PublishedTrust};
use signet_core::seams::store::StoreError;
use signet_core::time_math;
use signet_runtime::readiness::Condition;
use tokio::time::Instant;

use super::report::{AGAIN, Reporter, Surroundings};
use crate::signing_state::StateReader;

/// How long a turn lasts; it is renewed at a third of it.
const TURN: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(5);
/// How often the journal is asked whether there is something else to publish, should nobody tell.
const ASK: Duration = Duration::from_secs(2);
/// How long after the beginning of a turn a problem goes by without a line in the log: what is there is only being listed.
const LISTING: Duration = Duration::from_secs(5);
/// The shortest pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// What a publisher of this process has found last; nothing while another replica does the work.
#[derive(Debug, Default)]
pub struct Shown(Mutex<Option<Found>>);

impl Shown {
    /// What it is.
    #[must_use]
    pub fn found(&self) -> Option<Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, found: Option<Found>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }
}

/// Keeps one publisher at work.
pub struct Keeper {
    publisher: Arc<dyn BundlePublisher>,
    around: Surroundings,
    reporter: Reporter,
    condition: Condition,
    shown: Arc<Shown>,
}

impl Keeper {
    /// Does nothing yet. `condition` says how the publisher fares.
    #[must_use]
    pub fn new(
        publisher: Arc<dyn BundlePublisher>,
        around: Surroundings,
        condition: Condition,
        shown: Arc<Shown>,
    ) -> Self {
        let reporter = around.reporter(publisher.name());
        Self { publisher, around, reporter, condition, shown }
    }

    /// Publishes for ever, whenever it is this process's turn.
    pub async fn run(self) {
        loop {
            match self.take_turn().await {
                Ok(true) => self.lead().await,
                Ok(false) => self.condition.ready("another replica publishes"),
                Err(error) => self.condition.degraded(format!("whose turn it is, storage does not say: {error}")),
            }
            self.shown.set(None);
            tokio::time::sleep(RENEW).await;
        }
    }

    async fn take_turn(&self) -> Result<bool, StoreError> {
        let (now, name) = (self.around.clock.now(), self.publisher.name());
        self.around.store.take_turn(name, &self.around.who, now, time_math::after(now, TURN)).await
    }

    /// Publishes until the turn is another one's.
    async fn lead(&self) {
        let holding = async {
            loop {
                tokio::time::sleep(RENEW).await;
                // While storage does not say, nothing is written anyway, and what is followed stays known.
                if let Ok(false) = self.take_turn().await {
                    return tracing::info!(publisher = self.publisher.name(), "another replica publishes now");
                }
            }
        };
        let working = async {
            let (mut state, mut logged) = (self.around.state.clone(), Logged::new(Instant::now()));
            loop {
                state.mark_unchanged();
                let trust = self.trust().await;
                let found = self.publisher.look(self.around.trust.as_ref()).await;
                self.show(&found).await;
                let now = Instant::now();
                logged.tell(self.publisher.name(), &found, now);
                let until = now + found.again_in.unwrap_or(AGAIN).clamp(PAUSE, AGAIN);
                self.wait(logged.put_off(&found, now).map_or(until, |later| until.min(later)), &mut state, trust).await;
            }
        };
        tokio::select! {
            // First, so that a look does not see what was known in an earlier turn.
            biased;
            () = self.publisher.follow() => {}
            () = holding => {}
            () = working => {}
        }
    }

    async fn show(&self, found: &Found) {
        self.shown.set(Some(found.clone()));
        let told = self.reporter.tell(found).await;
        match (&found.problem, &told) {
            (Some(problem), _) => {
                let places = format!("{} of {} places have what they are to have", found.in_place, found.wanted);
                self.condition.degraded(format!("{places}: {problem}"));
            }
            (None, Err(error)) => self.condition.degraded(format!("what is in place cannot be noted: {error}")),
            (None, Ok(())) => match found.sequence {
                Some(sequence) => self.condition.ready(format!("bundle {sequence} in {} places", found.wanted)),
                None => self.condition.ready(format!("{} of {} places so far", found.in_place, found.wanted)),
            },
        }
    }

    async fn trust(&self) -> Option<Arc<Validation>> {
        self.around.trust.now().await.ok().flatten()
    }

    /// Waits until a look is worth its while, at the latest `until`: something has happened in the places, or there is another trust
    /// than `before`.
    async fn wait(&self, until: Instant, state: &mut StateReader, before: Option<Arc<Validation>>) {
        let another = async {
            loop {
                tokio::time::sleep(ASK).await;
                match (self.trust().await, &before) {
                    (Some(now), Some(before)) if Arc::ptr_eq(&now, before) => {}
                    (None, _) => {}
                    _ => return,
                }
            }
        };
        tokio::select! {
            () = self.publisher.changed() => {}
            Ok(()) = state.changed() => {}
            () = another => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }
}

/// What the log has heard of in this turn.
struct Logged {
    begun: Instant,
    /// The last problem, or that there was none; nothing at first.
    last: Option<Option<String>>,
}

impl Logged {
    fn new(begun: Instant) -> Self {
        Self { begun, last: None }
    }

    /// Until when a problem waits for its line, because it may be that things are only being listed.
    fn put_off(&self, found: &Found, now: Instant) -> Option<Instant> {
        let listed_by = self.begun + LISTING;
        (self.last.is_none() && found.problem.is_some() && now < listed_by).then_some(listed_by)
    }

    /// Tells what is new; whether there was anything.
    fn tell(&mut self, publisher: &str, found: &Found, now: Instant) -> bool {
        if self.put_off(found, now).is_some() || self.last.as_ref() == Some(&found.problem) {
            return false;
        }
        let had_problem = matches!(self.last, Some(Some(_)));
        self.last = Some(found.problem.clone());
        match &found.problem {
            Some(problem) => tracing::warn!(publisher, problem, "the trust bundle is not published everywhere"),
            None if had_problem => tracing::info!(publisher, "the trust bundle can be published again"),
            None => return false,
        }
        true
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
