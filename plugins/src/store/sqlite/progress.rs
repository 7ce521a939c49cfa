//! How far what is done behind the log has come, as far as this process knows: it tells whether there is something to do, and
//! never what is true. Other processes may have come further.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use signet_core::seams::store::StoreError;
use sqlx::sqlite::SqliteConnection;

use super::error::store_error;
use super::{SqliteStore, entries, holder_projection};
use crate::store::terms;

/// Positions in the log.
#[derive(Debug, Default)]
pub(super) struct Progress {
    head: AtomicU64,
    entered: AtomicU64,
    /// What has the words that it is found by.
    closed: Mutex<Range<u64>>,
}

impl Progress {
    /// How far everything has come.
    ///
    /// # Errors
    /// [`sqlx::Error`].
    pub(super) async fn read(connection: &mut SqliteConnection) -> Result<Self, sqlx::Error> {
        let bounds = holder_projection::Bounds::read(connection).await?;
        let closed = entries::ends(connection).await?.closed;
        Ok(Self { head: bounds.head.into(), entered: bounds.below.into(), closed: Mutex::new(closed) })
    }

    /// The log goes up to this position.
    pub(super) fn appended(&self, head: u64) {
        self.head.fetch_max(head, Ordering::Relaxed);
    }

    /// Holders are entered up to this position.
    pub(super) fn entered(&self, below: u64) {
        self.entered.fetch_max(below, Ordering::Relaxed);
    }

    /// These positions have the words that they are found by.
    pub(super) fn closed(&self, closed: Range<u64>) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = closed;
    }

    /// Events whose holders are not entered.
    pub(super) fn to_enter(&self) -> u64 {
        self.head.load(Ordering::Relaxed).saturating_sub(self.entered.load(Ordering::Relaxed))
    }

    /// Whether a piece of the log is full and has no words.
    pub(super) fn is_open(&self) -> bool {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        terms::next(&closed, self.head.load(Ordering::Relaxed)).is_some()
    }
}

/// Does one piece of what is due, if anything is.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn settle(store: &SqliteStore) -> Result<bool, StoreError> {
    const DOING: &str = "settling the audit log";
    if let Some(guard) = store.guard.as_ref().filter(|guard| guard.is_due()) {
        let work = async {
            let mut writer = store.writer().await?;
            let done = guard.checkpoint_due(&mut writer.session.connection).await;
            done.map_err(|error| store_error(DOING, &error))?;
            writer.give_back();
            // Another process may be at it.
            Ok(!guard.is_due())
        };
        return store.within(DOING, Box::pin(work)).await;
    }
    if store.progress.to_enter() > holder_projection::WAITING {
        let work = async { store.enter_piece(store.writer().await?).await.map(|_| true) };
        return store.within(DOING, Box::pin(work)).await;
    }
    if store.progress.is_open() {
        let work = async { store.close_piece().await.map(|()| true) };
        return store.within(DOING, Box::pin(work)).await;
    }
    Ok(false)
}
