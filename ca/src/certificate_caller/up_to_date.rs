//! The state that this process works with, once it is what the journal says: another process may have revoked something a
//! moment ago.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use signet_core::seams::store::{AuthorityJournal, JournalVersion, StoreError};
use tokio::sync::Notify;

use crate::signing_state::{SigningState, StateReader};

/// Compares the state with the journal; the document itself is read only when one of the two has changed.
pub(super) struct UpToDate {
    journal: Arc<dyn AuthorityJournal>,
    state: StateReader,
    wake_up: Arc<Notify>,
    /// The state that was the same as the journal in this version.
    same: Mutex<Option<(JournalVersion, Weak<SigningState>)>>,
}

impl UpToDate {
    pub(super) fn new(journal: Arc<dyn AuthorityJournal>, state: StateReader, wake_up: Arc<Notify>) -> Self {
        Self { journal, state, wake_up, same: Mutex::default() }
    }

    /// The state, at least as new as whatever was in the journal when this was called. Waits for as long as this process is
    /// behind.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn state(&self) -> Result<Arc<SigningState>, StoreError> {
        let mut reader = self.state.clone();
        loop {
            // Before storage is asked, so that no later state is missed.
            let state = reader.borrow_and_update().clone();
            if let Some(state) = state
                && self.is_same(&state).await?
            {
                return Ok(state);
            }
            self.wake_up.notify_one();
            if reader.changed().await.is_err() {
                // Nobody is left who could change anything: the process ends.
                std::future::pending::<()>().await;
            }
        }
    }

    async fn is_same(&self, state: &Arc<SigningState>) -> Result<bool, StoreError> {
        let version = self.journal.version().await?;
        let known = |same: &(JournalVersion, Weak<SigningState>)| {
            same.0 == version && std::ptr::eq(same.1.as_ptr(), Arc::as_ptr(state))
        };
        if self.same.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(known) {
            return Ok(true);
        }
        let Some((version, authorities)) = self.journal.load().await? else { return Ok(false) };
        let is_same = state.authorities == authorities;
        if is_same {
            let same = Some((version, Arc::downgrade(state)));
            *self.same.lock().unwrap_or_else(PoisonError::into_inner) = same;
        }
        Ok(is_same)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use signet_core::rotation::Command;

    use super::*;
    use crate::operations::Operator;
    use crate::signing_state::current;
    use crate::world_tests::World;

    #[tokio::test]
    async fn a_state_from_before_a_change_is_not_taken_for_the_one_after_it() {
        let world = World::new().await;
        let up_to_date =
            UpToDate::new(Arc::clone(&world.store) as _, world.state.clone(), Arc::clone(&world.rotator.wake_up));
        let before = up_to_date.state().await.unwrap();
        world.operations.command(&Operator::of_this_process(), Command::Prepare, "").await.unwrap();
        assert!(!up_to_date.is_same(&before).await.unwrap());
        world.rotator.turn().await.unwrap();
        // One request has seen the change, another one has begun before it.
        let after = up_to_date.state().await.unwrap();
        assert!(Arc::ptr_eq(&after, &current(&world.state).unwrap()));
        assert!(up_to_date.is_same(&after).await.unwrap() && !up_to_date.is_same(&before).await.unwrap());
    }
}
