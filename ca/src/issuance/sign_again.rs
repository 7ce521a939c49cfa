//! What a replica does when the journal does not let out what it has signed: it has not heard of a change yet.

use std::sync::Arc;
use std::time::Duration;

use signet_core::seams::store::AppendError;

use super::Issuance;
use crate::issue_error::{IssueError, RecordError};
use crate::signing_state::SigningState;

/// How long a request waits until the change has arrived: many times of what it takes to read the journal.
const RELOAD: Duration = Duration::from_secs(3);

impl Issuance {
    /// Waits until what signs is another state than the one that was used.
    ///
    /// # Errors
    /// [`IssueError::AuthorityChanged`] when that takes too long.
    pub(super) async fn newer_than(&self, used: &Arc<SigningState>) -> Result<Arc<SigningState>, IssueError> {
        let is_newer =
            |state: &Option<Arc<SigningState>>| state.as_ref().is_some_and(|state| !Arc::ptr_eq(state, used));
        let mut reader = self.state.clone();
        if !is_newer(&reader.borrow()) {
            tracing::debug!(authority.id = %used.authority.limits().authority, "the journal has changed; signing again");
            self.wake_up.notify_one();
        }
        let newer = tokio::time::timeout(RELOAD, reader.wait_for(is_newer)).await;
        let newer = newer.ok().and_then(Result::ok).and_then(|state| state.clone());
        newer.ok_or(IssueError::AuthorityChanged)
    }
}

/// The error of a second attempt: the caller is to try again later.
pub(super) fn again(error: IssueError) -> IssueError {
    match error {
        IssueError::Record(RecordError::Append(AppendError::Fenced)) => IssueError::AuthorityChanged,
        other => other,
    }
}

#[cfg(test)]
#[path = "sign_again_tests.rs"]
mod tests;
