//! Publishers put the trust bundle where others look for it: into the objects of a cluster, or a file.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::store::StoreError;
use crate::bundle::Validation;

/// What is to be published, as storage has it.
#[async_trait]
pub trait PublishedTrust: Send + Sync {
    /// What is to be published now; `None` while there is no authority. Asked before each write: what a process remembers is
    /// what it had read, and it may have slept since. The same `Arc` as before means that nothing has changed.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    async fn now(&self) -> Result<Option<Arc<Validation>>, StoreError>;
}

/// What a look at all places has found, and left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The bundle that is in every place; `None` when it is not in all of them, or when that could not be seen.
    pub sequence: Option<u64>,
    /// Places that are to have it.
    pub wanted: u64,
    /// Those of them that have it.
    pub in_place: u64,
    /// What keeps it from being in all of them, or what else an operator should know.
    pub problem: Option<String>,
    /// When to look again although nothing has changed; `None` for not before something has.
    pub again_in: Option<Duration>,
}

/// Puts the trust bundle into places of one kind. Whoever has the turn calls [`follow`](Self::follow) and
/// [`look`](Self::look) beside each other; both may be dropped at any time.
#[async_trait]
pub trait BundlePublisher: Send + Sync {
    /// Which one: its kind and where it publishes, as in [`Report`](crate::publication::Report).
    fn name(&self) -> &str;

    /// Follows what is in the places, for ever. What was known before is forgotten.
    async fn follow(&self);

    /// Puts the trust into the places where it is not, as far as that can be done in a few seconds, and tells what is there then.
    /// A write replaces only what was looked at, so that two processes at once never undo what the other has done.
    async fn look(&self, trust: &dyn PublishedTrust) -> Found;

    /// Returns when something has changed since the last look, so that another one is worth its while.
    async fn changed(&self);
}
