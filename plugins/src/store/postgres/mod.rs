//! Storage in a PostgreSQL database, shared by any number of replicas.
//!
//! Whoever writes locks one row first, so there is one order of events on all replicas, and what a transaction goes by is read
//! after the lock. What was committed survives a crash of the server's machine (`synchronous_commit`, `fsync`).

mod access;
mod audit;
mod connect;
#[cfg(test)]
mod connect_tests;
mod coverage;
mod error;
mod fence;
mod holder_marks;
mod holder_projection;
#[cfg(test)]
mod holder_tests;
mod holders;
mod journal;
mod loaded_holders;
mod locked;
mod moved_mark;
mod notifications;
mod open;
#[cfg(test)]
mod outcome_tests;
mod pod_certificates;
mod pool;
mod publications;
mod published_holders;
mod record_tree;
mod retention;
mod rollback_guard;
#[cfg(test)]
mod rollback_guard_tests;
mod sealed_keys;
mod search;
mod segments;
mod signed_leaves;
#[cfg(feature = "sqlite")]
pub(super) mod storage_move;
#[cfg(test)]
mod test_cut;
#[cfg(test)]
pub(in crate::store) mod tests;
mod view;

use std::ops::Range;
use std::sync::Mutex as SyncMutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use signet_core::seams::store::StoreError;
use tokio::sync::Mutex;

pub use self::access::{PostgresAccess, Protection, Server};
use self::locked::Batches;
use self::notifications::Ear;
use self::pool::{Lease, Pool, Use};
use self::rollback_guard::Seen;
use super::journal::Known;

/// How a store behaves under trouble and load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostgresSettings {
    /// How long one call may take before it fails as unavailable.
    pub deadline: Duration,
    /// How many connections there are at most, at least two. Half of them are for queries.
    pub connections: u32,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(5), connections: 8 }
    }
}

/// An audit log, holders, an authority journal and sealed keys in one PostgreSQL database.
///
/// A call that runs into its deadline fails as unavailable although what it wrote may still be kept: the serial of an
/// event that was kept is then taken, so trying again is safe.
pub struct PostgresStore {
    access: PostgresAccess,
    settings: PostgresSettings,
    writes: bool,
    pool: Pool,
    seen: Seen,
    batches: Batches,
    /// What the journal lets out, unless it was changed since. Checked with every use.
    fence: ArcSwapOption<Known>,
    ear: Ear,
    /// Up to which position holders are entered, at least.
    entered: AtomicU64,
    /// What of the log has the words that it is found by, as far as this process knows.
    closed: SyncMutex<Range<u64>>,
    /// Whose turn it is to count holders.
    counting: Mutex<()>,
}

impl PostgresStore {
    /// Opens a database for writing, and makes its tables or brings them up to date.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the server cannot be reached, refuses the credentials, or would not keep what it has
    /// acknowledged; [`StoreError::Schema`] when the database was made by a newer version or another program.
    pub async fn open(access: &PostgresAccess, settings: PostgresSettings) -> Result<Self, StoreError> {
        let store = Self::new(access, settings, true)?;
        let mut connection = store.within("opening the database", connect::connect(access, settings, true)).await?;
        open::migrate(&mut connection, access).await?;
        moved_mark::refuse_incomplete(&mut connection, access).await?;
        drop(connection);
        let first = async { store.lease(Use::Writing).await.map(Lease::keep) };
        store.within("opening the database", first).await?;
        Ok(store)
    }

    /// Opens an existing database for queries only. Every change fails.
    ///
    /// # Errors
    /// As for [`open`](Self::open); [`StoreError::Schema`] also when the database was made by an older version.
    pub async fn open_read_only(access: &PostgresAccess, settings: PostgresSettings) -> Result<Self, StoreError> {
        let store = Self::new(access, settings, false)?;
        let first = async {
            let mut connection = connect::connect(access, settings, false).await?;
            open::check_schema(&mut connection, access).await?;
            moved_mark::refuse_incomplete(&mut connection, access).await?;
            store.lease(Use::Reading).await.map(Lease::keep)
        };
        store.within("opening the database", Box::pin(first)).await?;
        Ok(store)
    }

    /// Looks at a server and its database as [`open`](Self::open) does, without changing anything; one without tables is in
    /// order, since a start makes them.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub async fn check(access: &PostgresAccess, settings: PostgresSettings) -> Result<(), StoreError> {
        let store = Self::new(access, settings, true)?;
        let look = async {
            let mut connection = connect::connect(access, settings, true).await?;
            if !open::is_empty(&mut connection, access).await? {
                open::standing(&mut connection, access).await?;
                moved_mark::refuse_incomplete(&mut connection, access).await?;
            }
            Ok(())
        };
        store.within("checking the database", Box::pin(look)).await
    }

    /// Whether there is nothing of anybody in a database yet.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub async fn is_empty(access: &PostgresAccess, settings: PostgresSettings) -> Result<bool, StoreError> {
        let store = Self::new(access, settings, false)?;
        let look = async {
            let mut connection = connect::connect(access, settings, false).await?;
            open::is_empty(&mut connection, access).await
        };
        store.within("looking at the database", Box::pin(look)).await
    }

    /// Closes the connections that nobody uses. Every call after it fails.
    pub async fn close(&self) {
        self.ear.close();
        self.pool.close().await;
    }

    fn new(access: &PostgresAccess, settings: PostgresSettings, writes: bool) -> Result<Self, StoreError> {
        let pool = Pool::new(settings.connections);
        let batches = Batches::new()?;
        Ok(Self {
            access: access.clone(),
            settings,
            writes,
            pool,
            seen: Seen::default(),
            batches,
            fence: ArcSwapOption::empty(),
            ear: Ear::default(),
            entered: AtomicU64::new(0),
            closed: SyncMutex::default(),
            counting: Mutex::new(()),
        })
    }

    /// A connection, made anew if none is idle. Each new one is looked at: which server it leads to, and which database.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn lease(&self, what: Use) -> Result<Lease<'_>, StoreError> {
        self.seen.check()?;
        if what == Use::Writing && !self.writes {
            return Err(StoreError::Unavailable(format!("{} was opened for reading only", self.access)));
        }
        // Apart from the caller's future, which would be large for the sake of what is rare.
        let connect = || {
            Box::pin(async {
                let mut connection = connect::connect(&self.access, self.settings, self.writes).await?;
                self.seen.look(&mut connection).await?;
                Ok(connection)
            })
        };
        self.pool.lease(what, self.settings.idle(), connect).await
    }

    /// Runs `work` against the deadline.
    async fn within<T>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let deadline = self.settings.deadline;
        tokio::time::timeout(deadline, work)
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable(format!("{doing}: not done within {deadline:?}"))))
    }
}
