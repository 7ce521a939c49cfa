//! Holders follow the log: what its events say about them is entered behind it, in its order, each event once, in pieces
//! that nobody waits for long.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use signet_core::holder::{HolderKey, Mark};
use signet_core::seams::store::StoreError;
use sqlx::postgres::PgConnection;

use super::PostgresStore;
use super::error::store_error;
use super::loaded_holders::{Loaded, kept_key};
use super::pool::Use;
use crate::store::holder_projection::{CertificateRow, Entered};
use crate::store::holders::column;

/// Events that one transaction enters at most. What is appended meanwhile waits for it.
pub(super) const PIECE: u64 = 512;

/// Events that wait to be entered before a piece of them is, when nobody asks for holders: a row is then written once for
/// several renewals.
pub(super) const WAITING: u64 = 2048;

/// Events that may wait at most; an append that finds more enters a piece first, whoever waits.
pub(super) const MOST_WAITING: u64 = 4 * WAITING;

const DOING: &str = "entering holders of the record";

const BOUNDS: &str = "SELECT below, coalesce((SELECT max(seq) + 1 FROM audit_event), 0), counted_for \
    FROM holder_fold WHERE id = 1";

/// The kind and outcome are those of a certificate that was issued to a workload.
const READ: &str = "SELECT seq, at_micros, serial, leaf_hash, body FROM audit_event \
    WHERE seq >= $1 AND seq < $2 AND kind = 0 AND outcome = 0 ORDER BY seq";

/// Up to which position events are entered, and where the log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Events below it are entered.
    pub(super) below: u64,
    /// The position after the last event.
    pub(super) head: u64,
    /// For which moment holders were counted last, seconds since 1970.
    pub(super) counted_for: Option<i64>,
    /// Whether `below` is to be written.
    pub(super) has_moved: bool,
}

impl Bounds {
    /// Reads both, of one moment.
    ///
    /// # Errors
    /// [`sqlx::Error`].
    pub(super) async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let (below, head, counted_for): (i64, i64, Option<i64>) = sqlx::query_as(BOUNDS).fetch_one(connection).await?;
        Ok(Self { below: below.unsigned_abs(), head: head.unsigned_abs(), counted_for, has_moved: false })
    }

    /// Whether everything is entered.
    pub(super) fn is_whole(self) -> bool {
        self.below >= self.head
    }
}

/// The next events to enter, and where the log is entered to with them.
pub(super) struct Piece {
    pub(super) entered: Vec<Entered>,
    pub(super) bounds: Bounds,
}

impl Piece {
    /// Reads the next events, [`PIECE`] at most.
    ///
    /// # Errors
    /// [`sqlx::Error`].
    pub(super) async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let bounds = Bounds::read(connection).await?;
        Self::after(connection, bounds).await
    }

    /// Reads the events that follow those that `bounds` have.
    ///
    /// # Errors
    /// [`sqlx::Error`].
    pub(super) async fn after(connection: &mut PgConnection, bounds: Bounds) -> Result<Self, sqlx::Error> {
        if bounds.is_whole() {
            return Ok(Self { entered: Vec::new(), bounds });
        }
        let below = bounds.head.min(bounds.below.saturating_add(PIECE));
        let read = sqlx::query_as(READ).bind(column(bounds.below)).bind(column(below));
        let rows: Vec<CertificateRow> = read.fetch_all(connection).await?;
        let entered = rows.into_iter().map(CertificateRow::entered).collect();
        Ok(Self { entered, bounds: Bounds { below, has_moved: true, ..bounds } })
    }

    /// The names under which its holders are kept.
    pub(super) fn keys(&self) -> impl Iterator<Item = HolderKey> {
        self.entered.iter().filter_map(|one| one.event().holder()).map(|key| kept_key(&key))
    }

    /// Enters it together with what became of replies, within a transaction that has the lock; `false` when these change
    /// nothing.
    ///
    /// # Errors
    /// [`sqlx::Error`].
    pub(super) async fn enter(
        self,
        connection: &mut PgConnection,
        marks: &[&Mark],
        at: i64,
    ) -> Result<bool, sqlx::Error> {
        let keys: BTreeSet<HolderKey> =
            self.keys().chain(marks.iter().map(|mark| kept_key(&mark.reply.holder))).collect();
        let mut loaded = Loaded::read(connection, &keys).await?;
        loaded.renew(&self.entered);
        let changed = loaded.mark(marks.iter().copied(), at);
        loaded.write(connection, self.bounds).await?;
        Ok(changed)
    }
}

/// Enters whatever is not entered yet, within a transaction that has the lock, and gives where the log ends.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn enter_all(connection: &mut PgConnection) -> Result<Bounds, sqlx::Error> {
    loop {
        let piece = Piece::read(connection).await?;
        let bounds = piece.bounds;
        if !bounds.has_moved {
            return Ok(bounds);
        }
        piece.enter(connection, &[], 0).await?;
        if bounds.is_whole() {
            return Ok(Bounds { has_moved: false, ..bounds });
        }
    }
}

impl PostgresStore {
    /// Makes sure that holders say all that is on record at the time of the call, in pieces. What comes meanwhile may wait.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn catch_up(&self) -> Result<(), StoreError> {
        let mut lease = self.lease(Use::Reading).await?;
        let bounds = Bounds::read(&mut lease).await.map_err(|error| store_error(DOING, &error))?;
        lease.keep();
        let mut below = bounds.below;
        while below < bounds.head {
            below = self.enter_piece().await?;
        }
        Ok(())
    }

    /// Enters a piece of what waits, in a transaction of its own, and gives how far that is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn enter_piece(&self) -> Result<u64, StoreError> {
        let failed = |error: sqlx::Error| store_error(DOING, &error);
        let mut locked = self.locked(DOING).await?;
        let piece = Piece::read(locked.connection()).await.map_err(failed)?;
        let bounds = piece.bounds;
        if bounds.has_moved {
            piece.enter(locked.connection(), &[], 0).await.map_err(failed)?;
            locked.commit(DOING).await?;
        } else {
            locked.roll_back().await;
        }
        self.entered.fetch_max(bounds.below, Ordering::Relaxed);
        Ok(bounds.below)
    }

    /// Enters a piece when more events than `most` wait; `false` when there are not so many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn enter_due(&self, most: u64) -> Result<bool, StoreError> {
        let waiting = self.seen.next().saturating_sub(self.entered.load(Ordering::Relaxed));
        if waiting <= most {
            return Ok(false);
        }
        // What others have entered meanwhile is found out by this, too.
        self.within(DOING, Box::pin(self.enter_piece())).await.map(|_| true)
    }
}
