//! Storage forgets the words of events that nobody needs any more, and keeps their hashes.

use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::store::StoreError;
use crate::audit::{Class, EventKind, Outcome};

/// Events that are looked at, or forgotten, at once, at most: what is appended meanwhile may wait for them.
pub const MAX_AT_ONCE: u32 = 256;

/// Names that are looked at at once, at most.
pub const NAMES_AT_ONCE: u32 = 64;

/// An event as retention sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aging {
    /// Its position in the log.
    pub sequence: u64,
    /// When it was, in microseconds since 1970.
    pub at_micros: i64,
    /// What kind of event it is.
    pub kind: EventKind,
    /// How it ended.
    pub outcome: Outcome,
    /// Its encoding, unless that is forgotten.
    pub body: Option<Vec<u8>>,
}

/// One step: what is forgotten, and how far that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgetting {
    /// The class that is looked through.
    pub class: Class,
    /// Up to where it was looked through before.
    pub from: u64,
    /// Up to where it is looked through after this.
    pub below: u64,
    /// The events that are forgotten, [`MAX_AT_ONCE`] at most.
    pub forgotten: Vec<u64>,
    /// Those that are to be looked at again, and when; also later than before.
    pub put_off: Vec<(u64, OffsetDateTime)>,
}

/// The words of events, as they grow old. Leaf hashes, positions, times, kinds, outcomes and serial numbers stay: nothing that
/// is proven or must be unique depends on words.
#[async_trait]
pub trait RecordRetention: Send + Sync {
    /// Below which position events of this class were looked at.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn looked_at_below(&self, class: Class) -> Result<u64, StoreError>;

    /// The events from `from` on, of all classes and in order, [`MAX_AT_ONCE`] at most.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn aging(&self, from: u64) -> Result<Vec<Aging>, StoreError>;

    /// Events of this class that were put off until `now` or before, [`MAX_AT_ONCE`] at most, the longest due first.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn put_off(&self, class: Class, now: OffsetDateTime) -> Result<Vec<Aging>, StoreError>;

    /// Does a step in one transaction; `false` when another process was faster, and nothing was changed. Holders have been told
    /// of all events before.
    ///
    /// # Errors
    /// [`StoreError`]; when a deadline has passed, it may have been done all the same.
    async fn forget(&self, step: &Forgetting) -> Result<bool, StoreError>;

    /// Forgets those of the SPIFFE IDs after `after`, in their order and [`NAMES_AT_ONCE`] at most, that nothing is on record of
    /// any more: a process that ended while it did a step has left their names. Gives the last that was looked at, and `None`
    /// at the end.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn sweep_names(&self, after: &str) -> Result<Option<String>, StoreError>;

    /// How long the longest certificate may live that is not over at `now`, when this process issues none that lives longer than
    /// `configured`. Processes that are configured otherwise, and what was configured before, count as long as what they have
    /// issued may live.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn longest_life(&self, configured: Duration, now: OffsetDateTime) -> Result<Duration, StoreError>;
}
