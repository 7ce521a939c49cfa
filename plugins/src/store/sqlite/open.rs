//! Opening a database file: where it is, who may read it, which schema it has.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::geteuid;
use signet_core::seams::store::StoreError;
use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

use super::error::{is_busy, is_missing_table, store_error};
use super::moved_mark;
use crate::store::migrations::migrator;
use crate::store::schema::{Readers, Standing, judge};

pub(super) static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| migrator(|pair| pair.sqlite));

/// The length to which a longer `-wal` file is cut when it is begun anew, in bytes.
pub(super) const SIZE_LIMIT: u64 = 64 << 20;

/// Between two attempts to get the exclusive lock that the change to WAL mode needs and SQLite does not wait for.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The file that a URL names.
///
/// # Errors
/// [`StoreError::Unavailable`] for anything but `sqlite:///absolute/path`.
pub(super) fn path(url: &str) -> Result<PathBuf, StoreError> {
    let path = url.strip_prefix("sqlite://").filter(|path| path.starts_with('/') && !path.ends_with('/'));
    path.map(PathBuf::from)
        .ok_or_else(|| StoreError::Unavailable(format!("{url} is not of the form sqlite:///absolute/path")))
}

/// Makes the file when it is missing, readable by its owner only; SQLite gives its `-wal` and `-shm` the same mode.
///
/// # Errors
/// [`StoreError::Unavailable`] that says what is wrong with which directory.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let unavailable = |cause: String| Err(StoreError::Unavailable(cause));
    match fs::metadata(directory) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return unavailable(format!("{} is not a directory", directory.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return unavailable(format!("the directory {} does not exist; create it", directory.display()));
        }
        Err(error) => {
            allowed(path, Access::EXISTS)?;
            return unavailable(format!("cannot look into {}: {error}", directory.display()));
        }
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {
            unavailable(format!("{} is a directory, not a database", path.display()))
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => allowed(path, Access::READ_OK | Access::WRITE_OK),
        Err(error) => {
            allowed(directory, Access::WRITE_OK | Access::EXEC_OK)?;
            unavailable(format!("cannot create {}: {error}; is its directory writable?", path.display()))
        }
    }
}

/// Refuses a file or directory that this user may not use in this way, and says whose it is: SQLite only says that it cannot. Nothing is
/// opened: closing a database's file gives up the locks that this process has on it.
///
/// # Errors
/// [`StoreError::Unavailable`].
pub(super) fn allowed(path: &Path, wanted: Access) -> Result<(), StoreError> {
    if access(path, wanted) != Err(Errno::ACCESS) {
        return Ok(());
    }
    let uid = geteuid().as_raw();
    let visible = path.ancestors().find_map(|at| fs::metadata(at).ok().map(|found| (at, found)));
    let Some((at, found)) = visible else {
        return Err(StoreError::Unavailable(format!("uid {uid} may not use {}", path.display())));
    };
    let what = if at == path { "it" } else { "a directory above it" };
    Err(StoreError::Unavailable(format!(
        "uid {uid} may not use {}: {what} ({}) belongs to uid {} and gid {}, mode {:04o}; run this as the user of the CA, or \
         mend its owner and mode",
        path.display(),
        at.display(),
        found.uid(),
        found.gid(),
        found.mode() & 0o7777
    )))
}

/// The file that SQLite keeps beside a database under its name and this suffix.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// How the one writer connects.
pub(super) fn writer_options(path: &Path, busy: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        // NORMAL would lose the last commits when the machine crashes.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(busy)
        // Room for the hot pages of the serial index.
        .pragma("cache_size", "-8000")
        // Checkpoints are announced, see the guard.
        .pragma("wal_autocheckpoint", "0")
        .pragma("journal_size_limit", SIZE_LIMIT.to_string())
        // What it takes to undo one statement of a transaction is never worth a file.
        .pragma("temp_store", "MEMORY")
        // One statement per size of a batch for the log, for holders and for both, and a few others.
        .statement_cache_capacity(256)
        .disable_statement_logging()
}

/// How queries connect.
pub(super) fn reader_options(path: &Path, busy: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .read_only(true)
        .busy_timeout(busy)
        .disable_statement_logging()
}

/// Connects the writer, waiting for locks no longer than `busy`.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn connect(options: &SqliteConnectOptions, busy: Duration) -> Result<SqliteConnection, sqlx::Error> {
    let attempts = async {
        loop {
            match options.connect().await {
                Err(error) if is_busy(&error) => tokio::time::sleep(LOCK_PAUSE).await,
                other => return other,
            }
        }
    };
    tokio::time::timeout(busy, attempts).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Brings the schema up to date in one transaction, so that of two processes one waits for the other.
///
/// # Errors
/// [`StoreError::Schema`] when the database belongs to something else or to a newer version; nothing is changed then.
pub(super) async fn migrate(connection: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let doing = format!("preparing {}", path.display());
    let failed = |error: sqlx::Error| store_error(&doing, &error);
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let tables = "SELECT count(*), coalesce(sum(name = '_sqlx_migrations'), 0) FROM sqlite_schema WHERE type = 'table'";
    let (all, ours): (i64, i64) = sqlx::query_as(tables).fetch_one(&mut *transaction).await.map_err(failed)?;
    if all > 0 && ours == 0 {
        return Err(foreign(path));
    }
    moved_mark::refuse_moved(&mut transaction, path).await?;
    let newer = if ours > 0 { standing(&mut transaction, path).await?.newer } else { Vec::new() };
    // With newer ones there, none is missing.
    if newer.is_empty() {
        MIGRATIONS.run_direct(None, &mut *transaction, false).await.map_err(|error| match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => store_error(&doing, &error),
            other => StoreError::Schema(format!("{doing}: {other}")),
        })?;
    }
    // SQLite opens a file that may not be written all the same, and says so only at the first change.
    let write = sqlx::query("UPDATE storage_probe SET writes = writes + 1 WHERE id = 1");
    write.execute(&mut *transaction).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    if !newer.is_empty() {
        tracing::warn!(
            path = %path.display(),
            migrations = newer.iter().map(i64::to_string).collect::<Vec<_>>().join(", "),
            "the storage has migrations of a newer version, which allow this one to run on it"
        );
    }
    Ok(())
}

/// Checks the schema of a database that may not be changed.
///
/// # Errors
/// [`StoreError::Schema`] for any schema that this version cannot run on as it is.
pub(super) async fn check_schema(connection: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let failed = |error: sqlx::Error| store_error(&reading(path), &error);
    if !is_ours(connection).await.map_err(failed)? {
        let empty = is_empty(connection).await.map_err(failed)?;
        let text = format!("{} has none of the tables of a CA; start the CA, which makes them", path.display());
        return Err(if empty { StoreError::Schema(text) } else { foreign(path) });
    }
    let missing = standing(connection, path).await?.missing;
    missing.first().map_or(Ok(()), |missing| {
        Err(StoreError::Schema(format!(
            "{} lacks migration {missing}: it was made by an older version; start the CA, which brings it up to date",
            path.display(),
        )))
    })
}

/// How the schema of one of our databases stands to the one of this version.
///
/// # Errors
/// [`StoreError::Schema`] when this version cannot run on it.
async fn standing(connection: &mut SqliteConnection, path: &Path) -> Result<Standing, StoreError> {
    let applied = connection.list_applied_migrations("_sqlx_migrations").await;
    let applied = applied.map_err(|error| StoreError::Schema(format!("{}: {error}", reading(path))))?;
    let readers = sqlx::query_as("SELECT version, oldest_reader FROM schema_reader").fetch_all(connection).await;
    let readers: Vec<(i64, i64)> = match readers {
        Err(error) if is_missing_table(&error) => Vec::new(),
        other => other.map_err(|error| store_error(&reading(path), &error))?,
    };
    judge(&MIGRATIONS, &applied, &Readers::from_iter(readers))
        .map_err(|unfit| StoreError::Schema(format!("{}: {unfit}", path.display())))
}

fn reading(path: &Path) -> String {
    format!("reading the schema of {}", path.display())
}

/// Whether the database was made by this program.
pub(super) async fn is_ours(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'";
    let ours: i64 = sqlx::query_scalar(tables).fetch_one(connection).await?;
    Ok(ours != 0)
}

/// Whether there is nothing of anybody in the database, as in a file that another process has just made.
pub(super) async fn is_empty(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(connection).await?;
    Ok(tables == 0)
}

pub(super) fn foreign(path: &Path) -> StoreError {
    StoreError::Schema(format!("{} is a database of another program", path.display()))
}
