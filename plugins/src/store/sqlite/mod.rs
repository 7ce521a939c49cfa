//! Storage in one SQLite file: a single writer connection and a few readers that never block it (WAL).
//!
//! What was committed survives a crash of the machine (`synchronous=FULL`). Several processes may share the file.

mod audit;
mod backup;
#[cfg(test)]
mod backup_tests;
mod entries;
#[cfg(test)]
mod entries_tests;
mod error;
mod fence;
#[cfg(test)]
mod fence_tests;
mod file_guard;
#[cfg(test)]
mod file_guard_tests;
mod holder_marks;
mod holder_projection;
#[cfg(test)]
mod holder_projection_tests;
#[cfg(test)]
mod holder_tests;
mod holders;
mod journal;
pub(super) mod moved_mark;
#[cfg(all(test, feature = "postgres"))]
mod moved_mark_tests;
mod open;
mod pod_certificates;
mod progress;
mod publications;
mod published_holders;
mod recent;
mod record_tree;
mod retention;
#[cfg(test)]
mod schema_tests;
mod sealed_keys;
#[cfg(test)]
mod sealed_keys_tests;
mod search;
mod signed_leaves;
#[cfg(feature = "postgres")]
pub(super) mod storage_move;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod upgrade_tests;
mod verify;
mod view;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::Duration;

use rustix::fs::Access;
use signet_core::seams::store::StoreError;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePool, SqlitePoolOptions};
use tokio::sync::{Mutex, MutexGuard};

pub use self::backup::Copied;
use self::error::{is_not_writable, store_error};
use self::file_guard::Guard;
use self::open::beside;
use self::progress::Progress;
use self::recent::Recent;
use super::journal::Known;
use super::rows::Head;

/// How a store behaves under trouble and load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqliteSettings {
    /// How long one call may take before it fails as unavailable.
    pub deadline: Duration,
    /// How many queries run at once.
    pub readers: u32,
}

impl Default for SqliteSettings {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(5), readers: 2 }
    }
}

/// An audit log, holders, an authority journal and sealed keys in one SQLite file.
///
/// A call that runs into its deadline fails as unavailable although what it wrote may still be kept: the serial of an
/// event that was kept is then taken, so trying again is safe.
pub struct SqliteStore {
    path: PathBuf,
    settings: SqliteSettings,
    /// Absent when the database was opened for reading only.
    guard: Option<Arc<Guard>>,
    anchor: Option<Anchor>,
    /// The writer while nobody uses it. It is taken out for each use and put back only after success: whatever goes
    /// wrong, or whoever stops waiting, the connection closes, which ends its transaction.
    writer: Mutex<Option<Session>>,
    writer_options: Option<SqliteConnectOptions>,
    readers: SqlitePool,
    progress: Progress,
    #[cfg(test)]
    max_pages: std::sync::atomic::AtomicU32,
}

/// The writing connection and what it knows.
struct Session {
    connection: SqliteConnection,
    /// Where the log ends, unless another process has appended since. Checked with every use: the primary key refuses
    /// a position that is taken.
    head: Option<Head>,
    /// What the journal lets out, unless it was changed since. Checked with every use, too.
    fence: Option<Known>,
    /// What was appended lately.
    recent: Recent,
}

/// The writer in use.
struct Writer<'a> {
    slot: MutexGuard<'a, Option<Session>>,
    session: Session,
    guard: Arc<Guard>,
}

impl Writer<'_> {
    /// Gives the writer back for the next use; only when no transaction is open and nothing went wrong.
    ///
    /// # Errors
    /// [`StoreError::Lost`]: what was committed may be gone, since the files were not ours any more at the end of it.
    async fn keep(mut self) -> Result<(), StoreError> {
        let connection = &mut self.session.connection;
        self.guard.look(connection).await?;
        match self.guard.committed(connection).await {
            Ok(()) => self.give_back(),
            // What was committed stays so; the next checkpoint comes with the next commit, on another connection.
            Err(error) => tracing::warn!(%error, "a checkpoint of the database failed; it is tried again"),
        }
        Ok(())
    }

    fn give_back(mut self) {
        *self.slot = Some(self.session);
    }
}

/// A connection that only keeps the files open: while it does, `-wal` and `-shm` have no reason to go. One that could
/// write, because the last one to close puts the files in order.
struct Anchor {
    connection: SyncMutex<Option<SqliteConnection>>,
    guard: Arc<Guard>,
}

/// The connections that keep open what was lost: closing the last one would write a `-wal` into a database file that
/// it may not belong to, and remove it. They end with the process.
static LEFT_OPEN: SyncMutex<Vec<SqliteConnection>> = SyncMutex::new(Vec::new());

impl Drop for Anchor {
    fn drop(&mut self) {
        if self.guard.lost().is_some() {
            let connection = self.connection.get_mut().unwrap_or_else(PoisonError::into_inner).take();
            LEFT_OPEN.lock().unwrap_or_else(PoisonError::into_inner).extend(connection);
        }
    }
}

impl SqliteStore {
    /// Opens the database at `url` (`sqlite:///absolute/path`) for writing, makes it when it is missing (mode 0600) and
    /// brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when directory or file cannot be used, [`StoreError::Damaged`] when the file is not
    /// a database or not whole, in which case nothing is changed, [`StoreError::Schema`] when it was made by a newer
    /// version or another program.
    pub async fn open(url: &str, settings: SqliteSettings) -> Result<Self, StoreError> {
        let path = open::path(url)?;
        verify::has_content(&path)?;
        open::create(&path)?;
        let busy = busy_timeout(settings);
        verify::verify(&path, busy, Some(verify::AT_START)).await?;
        let options = open::writer_options(&path, busy);
        let connected = open::connect(&options, busy).await;
        let mut connection = connected.map_err(|error| store_error(&format!("opening {}", path.display()), &error))?;
        open::migrate(&mut connection, &path).await?;
        let failed = |error| store_error(&format!("opening {}", path.display()), &error);
        let mut anchor = open::connect(&options, busy).await.map_err(failed)?;
        file_guard::row(&mut anchor).await.map_err(failed)?;
        let progress = Progress::read(&mut anchor).await.map_err(failed)?;
        let guard = Arc::new(Guard::new(&path)?);
        let anchor = Anchor { connection: SyncMutex::new(Some(anchor)), guard: Arc::clone(&guard) };
        let readers = pool(settings, open::reader_options(&path, busy));
        let session = Session { connection, head: None, fence: None, recent: Recent::default() };
        let store = Self::new(path, settings, Some(session), Some(options), readers);
        Ok(Self { guard: Some(guard), anchor: Some(anchor), progress, ..store })
    }

    /// Closes the database so that its file is complete: whichever connection is the last one writes back what is in
    /// `-wal` and removes it, and connections that close at the same time leave that to each other. Files that were lost
    /// stay open, since closing them would write into what may be somebody else's.
    pub async fn close(&self) {
        // With a last look: what was lost without anybody noticing must not be written to either.
        let Ok(Writer { session, .. }) = self.writer().await else { return };
        self.readers.close().await;
        let anchor = self.anchor.as_ref();
        let anchor = anchor.and_then(|it| it.connection.lock().unwrap_or_else(PoisonError::into_inner).take());
        for connection in [session.connection].into_iter().chain(anchor) {
            if let Err(error) = connection.close().await {
                tracing::warn!(%error, "a connection to the database could not be closed");
            }
        }
    }

    /// Looks at an existing database as [`open`](Self::open) does, but at all of it however long that takes, whether or
    /// not a CA is running on it; one that does not exist yet is in order.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub async fn check(url: &str, settings: SqliteSettings) -> Result<(), StoreError> {
        let path = open::path(url)?;
        open::allowed(&path, Access::READ_OK | Access::WRITE_OK)?;
        verify::has_content(&path)?;
        if !path.exists() {
            let directory = path.parent().unwrap_or(Path::new("/"));
            return open::allowed(directory, Access::WRITE_OK | Access::EXEC_OK);
        }
        verify::verify(&path, busy_timeout(settings), None).await?;
        let failed = |error| store_error(&format!("looking at {}", path.display()), &error);
        let options = open::reader_options(&path, busy_timeout(settings));
        let mut connection = verify::open_whole(&options, &path, busy_timeout(settings)).await.map_err(failed)?;
        moved_mark::refuse_moved(&mut connection, &path).await?;
        connection.close().await.map_err(failed)
    }

    /// Opens an existing database for queries only, whether or not a CA is running on it. Every change fails.
    ///
    /// # Errors
    /// As for [`open`](Self::open); [`StoreError::Schema`] also when the database was made by an older version.
    pub async fn open_read_only(url: &str, settings: SqliteSettings) -> Result<Self, StoreError> {
        let path = open::path(url)?;
        open::allowed(&path, Access::READ_OK)?;
        std::fs::metadata(&path)
            .map_err(|error| StoreError::Unavailable(format!("cannot look at {}: {error}", path.display())))?;
        let options = open::reader_options(&path, busy_timeout(settings));
        let mut readers = pool(settings, options.clone());
        let first = sqlx::query("SELECT count(*) FROM sqlite_schema").execute(&readers).await;
        if first.is_err_and(|error| is_not_writable(&error)) && !beside(&path, "-wal").exists() {
            // SQLite wants to make a -shm file and may not. Without a -wal file there is nobody to coordinate with.
            readers = pool(settings, options.immutable(true));
        }
        let acquired = readers.acquire().await;
        let mut connection = acquired.map_err(|error| store_error(&format!("opening {}", path.display()), &error))?;
        open::check_schema(&mut connection, &path).await?;
        drop(connection);
        Ok(Self::new(path, settings, None, None, readers))
    }

    /// Whether there is nothing in an existing database yet: another process may have made the file a moment ago.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it cannot be looked at.
    pub async fn is_empty(url: &str, settings: SqliteSettings) -> Result<bool, StoreError> {
        let path = open::path(url)?;
        let failed = |error| store_error(&format!("looking at {}", path.display()), &error);
        let options = open::reader_options(&path, busy_timeout(settings));
        let mut connection = open::connect(&options, busy_timeout(settings)).await.map_err(failed)?;
        let empty = open::is_empty(&mut connection).await.map_err(failed)?;
        connection.close().await.map_err(failed)?;
        Ok(empty)
    }

    fn new(
        path: PathBuf,
        settings: SqliteSettings,
        session: Option<Session>,
        writer_options: Option<SqliteConnectOptions>,
        readers: SqlitePool,
    ) -> Self {
        Self {
            path,
            settings,
            guard: None,
            anchor: None,
            writer: Mutex::new(session),
            writer_options,
            readers,
            progress: Progress::default(),
            #[cfg(test)]
            max_pages: 0.into(),
        }
    }

    /// The writer, as soon as nobody else of this process uses it.
    async fn writer(&self) -> Result<Writer<'_>, StoreError> {
        let (Some(options), Some(guard)) = (&self.writer_options, &self.guard) else {
            return Err(StoreError::Unavailable(format!("{} was opened for reading only", self.path.display())));
        };
        let mut slot = self.writer.lock().await;
        let mut session = match slot.take() {
            Some(session) => session,
            None => {
                guard.look_at_names()?;
                let connected = open::connect(options, busy_timeout(self.settings)).await;
                let connection =
                    connected.map_err(|error| store_error(&format!("opening {}", self.path.display()), &error))?;
                Session { connection, head: None, fence: None, recent: Recent::default() }
            }
        };
        guard.look(&mut session.connection).await?;
        #[cfg(test)]
        let session = self.limit(session).await;
        Ok(Writer { slot, session, guard: Arc::clone(guard) })
    }

    /// Makes sure that what is read now is what was written.
    ///
    /// # Errors
    /// [`StoreError::Lost`].
    async fn readable(&self) -> Result<(), StoreError> {
        if let Some(guard) = &self.guard
            && !guard.is_same()
        {
            self.writer().await?.give_back();
        }
        Ok(())
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

    /// Pretends that the disk has room for this many pages only; 0 lifts the limit.
    #[cfg(test)]
    fn limit_pages(&self, pages: u32) {
        self.max_pages.store(pages, std::sync::atomic::Ordering::SeqCst);
    }

    #[cfg(test)]
    async fn limit(&self, mut session: Session) -> Session {
        let pages = match self.max_pages.load(std::sync::atomic::Ordering::SeqCst) {
            0 => 4_294_967_294,
            pages => pages,
        };
        let pragma = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
        drop(sqlx::raw_sql(pragma).execute(&mut session.connection).await);
        session
    }
}

/// SQLite gives up a little before the deadline, for the sake of a better message.
fn busy_timeout(settings: SqliteSettings) -> Duration {
    settings.deadline.mul_f32(0.75)
}

fn pool(settings: SqliteSettings, options: SqliteConnectOptions) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(settings.readers.max(1))
        .acquire_timeout(settings.deadline)
        // A file does not go away like a network peer: no need to ping before each query or to renew connections.
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(options)
}
