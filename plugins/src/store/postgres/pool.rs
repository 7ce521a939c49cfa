//! Connections: a bounded number, each taken out for one use and given back only after success. Whatever goes wrong, or
//! whoever stops waiting, the connection closes, which ends its transaction.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex as SyncMutex, PoisonError};
use std::time::Duration;

use signet_core::seams::store::StoreError;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// After this time without a use a connection is asked whether it is still there.
const FRESH: Duration = Duration::from_secs(1);

/// What a connection is for. Readers never take the places of writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Reading,
    Writing,
}

/// Connections of one store.
pub(super) struct Pool {
    readers: Semaphore,
    writers: Semaphore,
    idle: SyncMutex<Vec<Idle>>,
}

struct Idle {
    connection: PgConnection,
    since: Instant,
}

/// A connection in use.
pub(super) struct Lease<'a> {
    connection: PgConnection,
    was_idle: bool,
    pool: &'a Pool,
    place: SemaphorePermit<'a>,
}

impl Pool {
    /// Room for this number of connections, but at least one reader and one writer.
    pub(super) fn new(connections: u32) -> Self {
        let connections = usize::try_from(connections).unwrap_or(usize::MAX).clamp(2, Semaphore::MAX_PERMITS);
        let readers = connections / 2;
        let (readers, writers) = (Semaphore::new(readers), Semaphore::new(connections - readers));
        Self { readers, writers, idle: SyncMutex::default() }
    }

    /// Takes a connection, made by `connect` if none is idle, as soon as there is a place. One that does not answer within
    /// `patience` is gone.
    ///
    /// # Errors
    /// Those of `connect`.
    pub(super) async fn lease<F>(
        &self,
        what: Use,
        patience: Duration,
        connect: impl FnOnce() -> F,
    ) -> Result<Lease<'_>, StoreError>
    where
        F: Future<Output = Result<PgConnection, StoreError>>,
    {
        let places = match what {
            Use::Reading => &self.readers,
            Use::Writing => &self.writers,
        };
        let closed = |_| StoreError::Unavailable("the storage was closed".to_owned());
        let place = places.acquire().await.map_err(closed)?;
        while let Some(Idle { mut connection, since }) = self.pop() {
            let is_fresh = since.elapsed() < FRESH;
            if is_fresh || matches!(tokio::time::timeout(patience, connection.ping()).await, Ok(Ok(()))) {
                return Ok(Lease { connection, was_idle: true, pool: self, place });
            }
            // What was idle for longer has hardly survived what this one has not.
            self.clear();
        }
        let connection = connect().await?;
        Ok(Lease { connection, was_idle: false, pool: self, place })
    }

    fn pop(&self) -> Option<Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Closes what is idle.
    pub(super) fn clear(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
    }

    /// Closes all connections that nobody uses. From then on none is given out, and what is in use ends with its use.
    pub(super) async fn close(&self) {
        self.readers.close();
        self.writers.close();
        while let Some(Idle { connection, .. }) = self.pop() {
            if let Err(error) = connection.close().await {
                tracing::debug!(%error, "a connection to the database could not be closed");
            }
        }
    }
}

impl Lease<'_> {
    /// Whether it was made for an earlier use, and may have been lost since.
    pub(super) fn was_idle(&self) -> bool {
        self.was_idle
    }

    /// Gives the connection back for the next use; only when no transaction is open and nothing went wrong.
    pub(super) fn keep(self) {
        let Self { connection, pool, place, .. } = self;
        let idle = Idle { connection, since: Instant::now() };
        if !pool.writers.is_closed() {
            pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(idle);
        }
        drop(place);
    }
}

impl Deref for Lease<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
