//! Transactions that change something: each locks the head row first, and has a name under which it can be looked up when
//! the connection is lost before the answer to its COMMIT.

use std::sync::atomic::{AtomicU64, Ordering};

use ring::rand::{SecureRandom, SystemRandom};
use signet_core::seams::store::StoreError;
use sqlx::postgres::PgConnection;

use super::PostgresStore;
use super::error::{is_lost, store_error};
use super::pool::{Lease, Use};
use crate::store::holders::column;
use crate::store::rows::Head;

/// Begins, and waits for the lock. Everything that the transaction goes by is read by later statements.
const LOCK: &str = "BEGIN; SELECT id FROM log_head WHERE id = 1 FOR UPDATE";

/// Where the log ends, and the version of the journal.
const ENDS: &str = "SELECT e.seq, e.high_micros, coalesce(j.version, 0) FROM log_head AS h \
    LEFT JOIN LATERAL (SELECT seq, high_micros FROM audit_event ORDER BY seq DESC LIMIT 1) AS e ON true \
    LEFT JOIN authority_journal AS j ON j.id = 1 WHERE h.id = 1";

/// The name of one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batch([u8; 16]);

impl Batch {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Names of transactions: by chance per process, counted within, so that neighbours in the index follow each other.
pub(super) struct Batches {
    process: [u8; 10],
    count: AtomicU64,
}

impl Batches {
    /// # Errors
    /// [`StoreError::Unavailable`] when the system has no randomness.
    pub(super) fn new() -> Result<Self, StoreError> {
        let mut process = [0; 10];
        let filled = SystemRandom::new().fill(&mut process);
        filled.map_err(|_| StoreError::Unavailable("the system gives no random numbers".to_owned()))?;
        Ok(Self { process, count: AtomicU64::new(0) })
    }

    pub(super) fn next(&self) -> Batch {
        let [_, _, count @ ..] = self.count.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut name = [0; 16];
        for (byte, value) in name.iter_mut().zip(self.process.iter().chain(&count)) {
            *byte = *value;
        }
        Batch(name)
    }
}

/// A transaction that has locked the head row. Dropped, it is rolled back.
pub(super) struct Locked<'a> {
    store: &'a PostgresStore,
    lease: Lease<'a>,
    batch: Batch,
    /// Where the log ended when the lock was got.
    pub(super) head: Head,
    /// The version of the journal at that time; 0 when there is none.
    pub(super) journal: i64,
}

impl Locked<'_> {
    /// The connection, for statements within the transaction.
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.lease
    }

    /// Commits. When it is not known whether that happened, it is looked up.
    ///
    /// # Errors
    /// [`StoreError`]: nothing was kept, unless the deadline passes first.
    pub(super) async fn commit(mut self, doing: &str) -> Result<(), StoreError> {
        let name = self.batch.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let first = column(self.head.next);
        // Numbers of our own making: a statement of several parts takes no parameters.
        let commit = format!(
            "INSERT INTO committed_batch (id, kept, first_seq) VALUES (decode('{name}', 'hex'), true, {first}); COMMIT"
        );
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(commit)).execute(&mut *self.lease).await;
        match done {
            Ok(_) => self.lease.keep(),
            Err(error) if is_lost(&error) => {
                let Self { store, lease, batch, .. } = self;
                drop(lease);
                if store.looked_up(batch).await?.is_none() {
                    return Err(store_error(doing, &error));
                }
            }
            Err(error) => return Err(store_error(doing, &error)),
        }
        Ok(())
    }

    /// Ends the transaction, of which nothing is kept.
    pub(super) async fn roll_back(mut self) {
        // A connection that fails to do that closes, which does it.
        if sqlx::raw_sql("ROLLBACK").execute(&mut *self.lease).await.is_ok() {
            self.lease.keep();
        }
    }
}

impl PostgresStore {
    /// Begins a transaction that has locked the head row, when nobody else has.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn locked(&self, doing: &str) -> Result<Locked<'_>, StoreError> {
        loop {
            let mut lease = self.lease(Use::Writing).await?;
            let was_idle = lease.was_idle();
            match sqlx::raw_sql(LOCK).execute(&mut *lease).await {
                Ok(_) => return self.begun(doing, lease).await,
                // One that was lost while nobody looked says nothing about the server; a new one does.
                Err(error) if is_lost(&error) && was_idle => drop(lease),
                Err(error) => return Err(store_error(doing, &error)),
            }
        }
    }

    async fn begun<'a>(&'a self, doing: &str, mut lease: Lease<'a>) -> Result<Locked<'a>, StoreError> {
        let ends = sqlx::query_as(ENDS).fetch_optional(&mut *lease).await;
        let ends: Option<(Option<i64>, Option<i64>, i64)> = ends.map_err(|error| store_error(doing, &error))?;
        let Some((last, high_micros, journal)) = ends else {
            let gone = "the row of log_head is missing; restore the database from a backup";
            return Err(StoreError::Damaged(format!("{doing}: {gone}")));
        };
        // Before the first event every time is the largest.
        let next = last.map_or(0, |last| last.unsigned_abs().saturating_add(1));
        let head = Head { next, high_micros: high_micros.unwrap_or(i64::MIN) };
        self.seen.judge(head.next, journal)?;
        self.seen.note_log(head.next, None);
        self.seen.note_journal(journal);
        Ok(Locked { store: self, lease, batch: self.batches.next(), head, journal })
    }

    /// What became of a transaction whose connection was lost: the position of its first event, or `None` when it was not
    /// committed, and never will be.
    ///
    /// # Errors
    /// [`StoreError`]: it is still not known.
    pub(super) async fn looked_up(&self, batch: Batch) -> Result<Option<u64>, StoreError> {
        const DOING: &str = "looking up what became of a commit";
        loop {
            match self.look_up(batch).await {
                Ok(found) => return Ok(found),
                // The lock goes to whoever waits; the server may be back a moment later. The deadline is the caller's.
                Err(StoreError::Unavailable(why)) => {
                    tracing::debug!(%why, "{DOING} is tried again");
                    tokio::time::sleep(self.settings.idle() / 10).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn look_up(&self, batch: Batch) -> Result<Option<u64>, StoreError> {
        const DOING: &str = "looking up what became of a commit";
        let failed = |error: sqlx::Error| store_error(DOING, &error);
        let mut locked = self.locked(DOING).await?;
        let connection = locked.connection();
        let find = "SELECT kept, first_seq FROM committed_batch WHERE id = $1";
        let found: Option<(bool, i64)> =
            sqlx::query_as(find).bind(batch.as_bytes()).fetch_optional(&mut *connection).await.map_err(failed)?;
        if found.is_none() {
            // It may still be under way, and fails on this row when it arrives.
            let give_up = sqlx::query("INSERT INTO committed_batch (id, kept, first_seq) VALUES ($1, false, 0)");
            give_up.bind(batch.as_bytes()).execute(&mut *connection).await.map_err(failed)?;
        } else {
            // Found is not yet safe where standbys are waited for: the session that waited for them is gone. This change
            // comes after it, and is waited for.
            let after = sqlx::query("UPDATE storage_probe SET writes = writes + 1 WHERE id = 1");
            after.execute(&mut *connection).await.map_err(failed)?;
        }
        let committed = sqlx::raw_sql("COMMIT").execute(&mut *connection).await;
        committed.map_err(failed)?;
        locked.lease.keep();
        Ok(found.filter(|(kept, _)| *kept).map(|(_, first)| first.unsigned_abs()))
    }
}
