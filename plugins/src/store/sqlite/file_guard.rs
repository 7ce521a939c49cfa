//! Whether the files are still the ones that this process has opened, and hold what was put into them.
//!
//! In WAL mode a commit appends to the `-wal` file, and only a checkpoint writes into the database file. While anybody
//! has the database open, SQLite neither removes nor replaces `-wal` and `-shm`. So, while we are at work:
//!
//! - none of the three files may be missing or be another one (device and inode);
//! - the `-wal` file does not shrink, but to the limit that we set;
//! - the database file keeps its size and time of modification, except by a checkpoint. All processes that share it
//!   announce each checkpoint in the table `storage_file` and note there what the file was like after it; checkpoints
//!   that SQLite makes by itself are switched off.
//!
//! Looked at before each change, and again after its commit, before anything is told of it. What does not fit is never
//! forgiven: records may be gone, and writing on could destroy what is left.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use signet_core::seams::store::StoreError;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::error::store_error;
use super::open::{SIZE_LIMIT, beside};
use crate::store::columns::columns;

/// How many pages the `-wal` file holds, about, when it is written back into the database file. Fewer, larger
/// checkpoints write a page once for many commits.
const CHECKPOINT_PAGES: i64 = 4000;

/// How many commits there may be between two checkpoints at most, whatever their size.
const CHECKPOINT_COMMITS: i64 = 4000;

/// The number of commits before the first checkpoint, while their size is not known.
const FIRST_CHECKPOINT: i64 = 100;

/// A commit whose caller waits makes a checkpoint only when it is due so many times over.
const OVERDUE: u32 = 2;

/// How many bytes the `-wal` file may grow beyond its length at the last checkpoint.
const GROWTH: u64 = 16 << 20;

/// After how long another process's checkpoint that was announced counts as given up: the process has died.
const GIVEN_UP: Duration = Duration::from_secs(10);

/// How often the file and the announcement are compared anew when they do not go together.
const ATTEMPTS: usize = 20;

/// The pause between two of these.
const PAUSE: Duration = Duration::from_millis(5);

/// What an operator does about files that are not ours any more.
const STOPPED: &str = "nothing is written and no certificate is issued any more; restart the CA, which checks what is in \
                       the files now, or restore a backup first";

/// Device and inode.
type FileId = (u64, u64);

/// What the database file is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    size: i64,
    /// Nanoseconds since 1970.
    modified: i64,
}

/// The files as they were when last looked at.
#[derive(Debug)]
struct Known {
    shape: Shape,
    wal_length: u64,
    /// A checkpoint of another process that is going on, and since when that is known.
    pending: Option<(i64, Instant)>,
    /// Commits since the last checkpoint of ours, how many there may be, and how long the `-wal` was then.
    commits: i64,
    most: i64,
    wal_at_checkpoint: u64,
}

impl Known {
    /// Whether there were so many times the commits, or the bytes, after which a checkpoint is made.
    fn is_due(&self, times: u32) -> bool {
        let most = self.most.saturating_mul(times.into());
        let longest = self.wal_at_checkpoint.saturating_add(GROWTH.saturating_mul(times.into()));
        self.commits >= most || self.wal_length >= longest
    }
}

/// Watches the three files of one database that this process has open.
#[derive(Debug)]
pub(super) struct Guard {
    paths: [PathBuf; 3],
    ids: [FileId; 3],
    known: Mutex<Known>,
    lost: OnceLock<String>,
}

/// What a look at the files alone can tell.
enum Found {
    /// They are as they were.
    Same,
    /// The database file was written to: by a checkpoint, or by somebody who must not.
    Written(Shape),
    /// They are not what this process has open.
    Lost {
        what: String,
        /// Whether it is only that the `-wal` has no name any more: this process still has all of it.
        nameless: bool,
    },
}

/// The row of `storage_file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) store_id: Vec<u8>,
    pub(super) announced: i64,
    pub(super) finished: i64,
    pub(super) complete: i64,
    size: i64,
    modified: i64,
}

columns!(Row { store_id, announced, finished, complete, size, modified } from SqliteRow);

/// Reads the row.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn row(connection: &mut SqliteConnection) -> Result<Row, sqlx::Error> {
    let select = "SELECT store_id, announced, finished, complete, size, modified FROM storage_file WHERE id = 1";
    sqlx::query_as(select).fetch_one(connection).await
}

impl Guard {
    /// Watches the files of a database from now on. A connection must have read from it before, and stay open.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when they cannot be looked at.
    pub(super) fn new(path: &Path) -> Result<Self, StoreError> {
        let paths = [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")];
        let [database, wal, shm] = paths.each_ref().map(|path| stat(path).map_err(|error| unseen(path, &error)));
        let (database, wal, shm) = (database?, wal?, shm?);
        let known = Known {
            shape: shape(&database),
            wal_length: wal.len(),
            pending: None,
            commits: 0,
            most: FIRST_CHECKPOINT,
            wal_at_checkpoint: wal.len(),
        };
        Ok(Self { paths, ids: [id(&database), id(&wal), id(&shm)], known: Mutex::new(known), lost: OnceLock::new() })
    }

    /// What happened to the files, if they are not ours any more.
    pub(super) fn lost(&self) -> Option<StoreError> {
        self.lost.get().cloned().map(StoreError::Lost)
    }

    /// Whether the files are as this process knows them; otherwise [`look`](Self::look) tells why.
    pub(super) fn is_same(&self) -> bool {
        self.lost.get().is_none() && matches!(self.compare(), Ok(Found::Same))
    }

    /// Makes sure that all files have the names that SQLite would open them by.
    ///
    /// # Errors
    /// [`StoreError::Lost`], from then on for ever; [`StoreError::Unavailable`] when it cannot be found out.
    pub(super) fn look_at_names(&self) -> Result<(), StoreError> {
        if let Some(lost) = self.lost() {
            return Err(lost);
        }
        match self.compare()? {
            Found::Lost { what, .. } => Err(self.lose(what, "")),
            Found::Same | Found::Written(_) => Ok(()),
        }
    }

    /// Makes sure that the files are ours, and that nobody but us and our like has written to the database file.
    /// `connection` has no transaction open.
    ///
    /// # Errors
    /// [`StoreError::Lost`], from then on for ever; [`StoreError::Unavailable`] when it cannot be found out.
    pub(super) async fn look(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        if let Some(lost) = self.lost() {
            return Err(lost);
        }
        for _ in 0..ATTEMPTS {
            let shape = match self.compare()? {
                Found::Same => return Ok(()),
                Found::Lost { what, nameless } => {
                    let saved = if nameless { save(connection).await } else { "" };
                    return Err(self.lose(what, saved));
                }
                Found::Written(shape) => shape,
            };
            let row = match row(connection).await {
                Ok(row) => row,
                Err(error) => match store_error("looking whether the database file is still ours", &error) {
                    StoreError::Damaged(text) => return Err(self.lose(self.written(&text), "")),
                    other => return Err(other),
                },
            };
            if row.announced > row.finished {
                self.wait_for(row.announced);
                return Ok(());
            }
            // Again, because the one who made the checkpoint may have ended it between the two looks.
            let now = self.shape()?;
            if (Shape { size: row.size, modified: row.modified }) == now {
                let mut known = self.known();
                (known.shape, known.pending) = (now, None);
                return Ok(());
            }
            if now == shape {
                return Err(self.lose(self.written("not by a checkpoint"), ""));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(StoreError::Unavailable("the database file is being written to all the time".to_owned()))
    }

    /// Counts a commit. Makes a checkpoint if it was time for one long ago, and nobody has made it while nobody waited.
    ///
    /// # Errors
    /// [`sqlx::Error`]; what was committed before stays so.
    pub(super) async fn committed(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let is_overdue = {
            let mut known = self.known();
            known.commits = known.commits.saturating_add(1);
            known.is_due(OVERDUE)
        };
        if is_overdue { self.checkpoint_due(connection).await } else { Ok(()) }
    }

    /// Whether it is time for a checkpoint.
    pub(super) fn is_due(&self) -> bool {
        self.known().is_due(1)
    }

    /// Makes the checkpoint that is due, unless another process is at it.
    ///
    /// # Errors
    /// [`sqlx::Error`].
    pub(super) async fn checkpoint_due(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let given_up = self.known().pending.filter(|(_, since)| since.elapsed() > GIVEN_UP);
        self.checkpoint(connection, given_up.map_or(-1, |(number, _)| number)).await
    }

    /// Makes a checkpoint, in place of the one numbered `given_up` if that is still going on.
    pub(super) async fn checkpoint(&self, connection: &mut SqliteConnection, given_up: i64) -> Result<(), sqlx::Error> {
        let announce = "UPDATE storage_file SET announced = announced + 1 \
            WHERE id = 1 AND (announced = finished OR announced = ?) RETURNING announced";
        let announce = sqlx::query_scalar(announce).bind(given_up).fetch_all(&mut *connection).await?;
        let Some(number) = announce.first().copied() else {
            let announced = row(connection).await?.announced;
            self.wait_for(announced);
            return Ok(());
        };
        let checkpoint = sqlx::query_as("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&mut *connection).await?;
        let (busy, pages, written): (i64, i64, i64) = checkpoint;
        if busy != 0 {
            // Whose turn was thought to be given up is at it still; this one is finished by whoever comes next.
            self.wait_for(number);
            return Ok(());
        }
        let Ok(shape) = self.shape() else { return Ok(()) };
        let finish = "UPDATE storage_file SET finished = ?1, complete = iif(?2, ?1, complete), size = ?3, modified = ?4 \
            WHERE id = 1 AND announced = ?1";
        let finish = sqlx::query(finish).bind(number).bind(pages == written).bind(shape.size).bind(shape.modified);
        if finish.execute(connection).await?.rows_affected() == 1 {
            let mut known = self.known();
            (known.shape, known.pending) = (shape, None);
            let most = known.commits.saturating_mul(CHECKPOINT_PAGES).checked_div(pages.max(1)).unwrap_or(i64::MAX);
            known.most = most.clamp(1, CHECKPOINT_COMMITS);
            (known.commits, known.wal_at_checkpoint) = (0, known.wal_length);
        }
        Ok(())
    }

    /// Notes that another process's checkpoint is going on.
    fn wait_for(&self, number: i64) {
        let mut known = self.known();
        if known.pending.is_none_or(|(pending, _)| pending != number) {
            known.pending = Some((number, Instant::now()));
        }
    }

    /// Compares the files with what is known of them.
    fn compare(&self) -> Result<Found, StoreError> {
        let [database, wal, _] = &self.paths;
        // Held from the first look on, so that what is known is never newer than what is seen.
        let mut known = self.known();
        let mut found = Vec::with_capacity(self.paths.len());
        for (path, ours) in self.paths.iter().zip(self.ids) {
            // What is in a -wal must never get into a database file that it does not belong to.
            let nameless = path == wal && found.iter().all(|database| shape(database) == known.shape);
            let lost = |how: &str, nameless| {
                Ok(Found::Lost { what: format!("{} was {how} while in use", path.display()), nameless })
            };
            match stat(path) {
                Ok(now) if id(&now) == ours => found.push(now),
                Ok(_) => return lost("replaced", false),
                Err(error) if error.kind() == ErrorKind::NotFound => return lost("removed", nameless),
                Err(error) => return Err(unseen(path, &error)),
            }
        }
        let [now, log, _] = found.as_slice() else { return Ok(Found::Same) };
        if log.len() < known.wal_length && log.len() < SIZE_LIMIT {
            return Ok(Found::Lost { what: format!("{} was cut short while in use", wal.display()), nameless: false });
        }
        known.wal_length = log.len();
        if shape(now).size < known.shape.size {
            let what = format!("{} was overwritten or cut short while in use", database.display());
            return Ok(Found::Lost { what, nameless: false });
        }
        Ok(if shape(now) == known.shape { Found::Same } else { Found::Written(shape(now)) })
    }

    fn shape(&self) -> Result<Shape, StoreError> {
        let [database, ..] = &self.paths;
        stat(database).map(|found| shape(&found)).map_err(|error| unseen(database, &error))
    }

    fn written(&self, how: &str) -> String {
        let [database, ..] = &self.paths;
        format!("{} was overwritten by another program while in use ({how})", database.display())
    }

    /// Stops for ever, and says so once.
    fn lose(&self, what: String, saved: &str) -> StoreError {
        let text = format!("{what}{saved}; {STOPPED}");
        if self.lost.set(text.clone()).is_ok() {
            tracing::error!(reason = text, "the storage is not what this process has written to");
        }
        self.lost().unwrap_or(StoreError::Lost(text))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what is in a `-wal` without a name into the database file, before it is gone with this process. Nobody else
/// can have opened another one: that would have the name.
async fn save(connection: &mut SqliteConnection) -> &'static str {
    let checkpoint = sqlx::query_as("PRAGMA wal_checkpoint(FULL)").fetch_one(connection).await;
    match checkpoint {
        Ok((0_i64, pages, written)) if (pages, written) != (-1_i64, -1_i64) && pages == written => {
            "; all records that were in it have been written into the database file"
        }
        Ok(_) | Err(_) => "; the records in it could not be written into the database file and are lost",
    }
}

fn stat(path: &Path) -> Result<fs::Metadata, std::io::Error> {
    fs::metadata(path)
}

fn id(found: &fs::Metadata) -> FileId {
    (found.dev(), found.ino())
}

fn shape(found: &fs::Metadata) -> Shape {
    let modified = found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec());
    Shape { size: i64::try_from(found.len()).unwrap_or(i64::MAX), modified }
}

fn unseen(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("cannot look at {}: {error}", path.display()))
}
