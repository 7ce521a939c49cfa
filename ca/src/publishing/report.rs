//! Reports of publishers to storage: at once when a bundle is in place, now and then when nothing has changed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use signet_core::clock::SharedClock;
use signet_core::publication::Report;
use signet_core::seams::publisher::Found;
use signet_core::seams::store::{PublicationStore, StoreError};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::StoredTrust;
use crate::signing_state::StateReader;

/// After how long the same is reported again.
pub(super) const AGAIN: Duration = Duration::from_secs(30);
/// How soon something else may be reported, unless it is that a bundle is in place.
const SOONEST: Duration = Duration::from_secs(1);
/// The longest text of a problem that is kept, in characters.
const LONGEST: usize = 1000;

/// What publishers of one process share.
#[derive(Clone)]
pub struct Surroundings {
    /// Where they report, and who has the turn.
    pub store: Arc<dyn PublicationStore>,
    /// What is to be published.
    pub trust: Arc<StoredTrust>,
    /// Changes when that may have changed.
    pub state: StateReader,
    /// The time.
    pub clock: SharedClock,
    /// Wakes the rotator, which may wait for a report.
    pub wake_up: Arc<Notify>,
    /// This process, as nobody else is called.
    pub who: String,
}

impl Surroundings {
    /// Who reports for the publisher of this name.
    #[must_use]
    pub fn reporter(&self, publisher: &str) -> Reporter {
        let Self { store, clock, wake_up, .. } = self;
        let publisher = publisher.to_owned();
        let (store, clock, wake_up) = (Arc::clone(store), Arc::clone(clock), Arc::clone(wake_up));
        Reporter { store, clock, wake_up, publisher, told: Mutex::default() }
    }
}

/// Reports for one publisher.
pub struct Reporter {
    store: Arc<dyn PublicationStore>,
    clock: SharedClock,
    wake_up: Arc<Notify>,
    publisher: String,
    told: Mutex<Option<(Found, Instant)>>,
}

impl Reporter {
    /// Reports this, unless the same, or anything but a bundle that is in place, was reported a moment ago.
    ///
    /// # Errors
    /// [`StoreError`]; it is reported the next time.
    pub async fn tell(&self, found: &Found) -> Result<(), StoreError> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_new = told.as_ref().is_none_or(|(before, _)| before.sequence != found.sequence);
        if let Some((before, at)) = told {
            let what = |found: &Found| Found { again_in: None, ..found.clone() };
            let wait = if what(&before) == what(found) { AGAIN } else { SOONEST };
            if !is_new && at.elapsed() < wait {
                return Ok(());
            }
        }
        let problem = found.problem.as_ref().map(|text| text.chars().take(LONGEST).collect());
        let report = Report {
            publisher: self.publisher.clone(),
            sequence: found.sequence,
            wanted: found.wanted,
            in_place: found.in_place,
            problem,
            at: self.clock.now(),
        };
        self.store.report(&report).await?;
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some((found.clone(), Instant::now()));
        if is_new && found.sequence.is_some() {
            self.wake_up.notify_one();
        }
        Ok(())
    }
}
