//! Whether a database is whole, found out before anything is changed in it: by connections that only read, since the
//! last writing one to close would write the `-wal` into the database file.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use signet_core::seams::store::StoreError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use super::error::{is_interrupted, is_missing_table, is_not_writable, store_error};
use super::file_guard::{self, Row};
use super::open::{self, beside};

/// How long a start looks for damage at most. What a larger database holds beyond that is looked at by
/// `signet-ca check`, which takes its time.
pub(super) const AT_START: Duration = Duration::from_secs(20);

/// How often, in SQLite's virtual instructions, the time is compared with the limit.
const INSTRUCTIONS: i32 = 10_000;

/// How often database file and `-wal` are compared at least before they are refused, how often at most while they
/// change, and the pause between.
const LEAST_ATTEMPTS: u32 = 3;
const ATTEMPTS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// What an operator does about a database that is not whole.
const RESTORE: &str = "move it away together with its -wal and -shm files, and put a backup in its place";

/// Refuses a database file without content beside a `-wal` with some: SQLite would delete that.
///
/// # Errors
/// [`StoreError::Damaged`].
pub(super) fn has_content(path: &Path) -> Result<(), StoreError> {
    if length(path) == 0 && length(&beside(path, "-wal")) > 0 {
        let text = "is missing or empty, but there is a -wal file with records beside it";
        return Err(StoreError::Damaged(format!("{} {text}; {RESTORE}", path.display())));
    }
    Ok(())
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}

/// Looks for damage for as long as `limit` allows, if there is one.
///
/// # Errors
/// [`StoreError::Damaged`], and [`StoreError::Unavailable`] when the database cannot be read.
pub(super) async fn verify(path: &Path, busy: Duration, limit: Option<Duration>) -> Result<(), StoreError> {
    let failed = |error: sqlx::Error| store_error(&format!("looking at {}", path.display()), &error);
    let options = open::reader_options(path, busy);
    goes_together(path, &options).await?;
    let mut connection = open_whole(&options, path, busy).await.map_err(failed)?;
    if let Some(limit) = limit {
        let end = Instant::now() + limit;
        let mut handle = connection.lock_handle().await.map_err(failed)?;
        handle.set_progress_handler(INSTRUCTIONS, move || Instant::now() < end);
    }
    let found = match damage(&mut connection).await {
        Err(error) if is_interrupted(&error) => {
            tracing::warn!(
                path = %path.display(),
                seconds = limit.unwrap_or_default().as_secs(),
                "the database is too large to be looked at as a whole at each start; `signet-ca check` does that"
            );
            None
        }
        other => other.map_err(failed)?,
    };
    // Its end is waited for, so that it does not come between the steps of a start.
    drop(connection.close().await);
    match found {
        Some(text) => Err(StoreError::Damaged(format!("{}: {text}; {RESTORE}", path.display()))),
        None => Ok(()),
    }
}

/// Makes sure that the database file belongs to the `-wal` beside it.
pub(super) async fn goes_together(path: &Path, options: &SqliteConnectOptions) -> Result<(), StoreError> {
    for attempt in 1.. {
        let before = seen(path);
        let told = match compare(path, options).await {
            Ok(None) => return Ok(()),
            Ok(Some(text)) => StoreError::Damaged(format!("{} {text}; {RESTORE}", path.display())),
            Err(error) => store_error(&format!("looking at {}", path.display()), &error),
        };
        // Without locks a file in the middle of another process's checkpoint looks damaged.
        if attempt >= ATTEMPTS || attempt >= LEAST_ATTEMPTS && before == seen(path) {
            return Err(told);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// What shows that somebody is at work on the files.
fn seen(path: &Path) -> [Option<(u64, i64, i64)>; 2] {
    let look = |path: &Path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.len(), found.mtime(), found.mtime_nsec()))
    };
    [look(path), look(&beside(path, "-wal"))]
}

/// Why the database file does not go with its `-wal`, if that has anything.
async fn compare(path: &Path, options: &SqliteConnectOptions) -> Result<Option<&'static str>, sqlx::Error> {
    if length(&beside(path, "-wal")) == 0 {
        return Ok(None);
    }
    // First without the -wal, then as it is with it: in this order, since another process may be at work.
    let alone = match alone(options).await {
        Ok(alone) => alone,
        // Nothing is wrong with a file in which a checkpoint was cut off, by a kill or a crash: what is missing in it is in
        // the -wal. Whether the two make a whole is looked at afterwards, page by page.
        Err(error) if matches!(store_error("", &error), StoreError::Damaged(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut connection = options.connect().await?;
    let whole = row(&mut connection).await?;
    drop(connection.close().await);
    Ok(mismatch(alone.as_ref(), whole.as_ref()))
}

/// What the database file knows without its `-wal`.
async fn alone(options: &SqliteConnectOptions) -> Result<Option<Row>, sqlx::Error> {
    let mut connection = options.clone().immutable(true).connect().await?;
    let alone = row(&mut connection).await;
    drop(connection.close().await);
    alone
}

/// A connection that only reads, also where the directory may not be written and nobody else is at work.
pub(super) async fn open_whole(
    options: &SqliteConnectOptions,
    path: &Path,
    busy: Duration,
) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = open::connect(options, busy).await?;
    match sqlx::query("SELECT count(*) FROM sqlite_schema").execute(&mut connection).await {
        Err(error) if is_not_writable(&error) && length(&beside(path, "-wal")) == 0 => {
            options.clone().immutable(true).connect().await
        }
        Err(error) => Err(error),
        Ok(_) => Ok(connection),
    }
}

/// What the database knows of its file; nothing, if it was made by an earlier version or is new.
async fn row(connection: &mut SqliteConnection) -> Result<Option<Row>, sqlx::Error> {
    match file_guard::row(connection).await {
        Ok(row) => Ok(Some(row)),
        Err(sqlx::Error::RowNotFound) => Ok(None),
        Err(error) if is_missing_table(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Why a database file `alone` does not go with what it is `whole`, with its `-wal`.
fn mismatch(alone: Option<&Row>, whole: Option<&Row>) -> Option<&'static str> {
    match (alone, whole) {
        // A -wal that knows nothing of this has been there from the beginning, or is of an earlier version.
        (None, Some(whole)) if whole.complete == 0 => None,
        (None, None) => None,
        (Some(alone), Some(whole)) if alone.store_id != whole.store_id => {
            Some("is another database than the one that the -wal file beside it belongs to")
        }
        (Some(alone), Some(whole)) if alone.announced > whole.announced => {
            Some("is newer than the -wal file beside it, which does not belong to it")
        }
        (Some(alone), Some(whole)) if alone.announced >= whole.complete => None,
        _ => Some("is older than the -wal file beside it: records between the two are missing"),
    }
}

/// What SQLite finds to be damaged, and whether the log has all of its records: none is ever removed.
async fn damage(connection: &mut SqliteConnection) -> Result<Option<String>, sqlx::Error> {
    damage_by("PRAGMA quick_check(3)", connection).await
}

/// As [`damage`], but each index is held against its table as well, which takes several times as long.
pub(super) async fn damage_in_all(connection: &mut SqliteConnection) -> Result<Option<String>, sqlx::Error> {
    damage_by("PRAGMA integrity_check(3)", connection).await
}

async fn damage_by(check: &'static str, connection: &mut SqliteConnection) -> Result<Option<String>, sqlx::Error> {
    let found: Vec<String> = sqlx::query_scalar(check).fetch_all(&mut *connection).await?;
    if found.iter().any(|text| text != "ok") {
        let text = found.join("; ").replace('\n', " ");
        return Ok(Some(format!("the database is damaged: {text}")));
    }
    let count = "SELECT count(*), coalesce(max(seq) + 1, 0) FROM audit_event";
    let (records, end): (i64, i64) = match sqlx::query_as(count).fetch_one(connection).await {
        Ok(found) => found,
        Err(error) if is_missing_table(&error) => (0, 0),
        Err(error) => return Err(error),
    };
    let missing = end.saturating_sub(records);
    Ok((missing != 0).then(|| format!("the audit log ends at {end}, but {missing} of its records are missing")))
}
