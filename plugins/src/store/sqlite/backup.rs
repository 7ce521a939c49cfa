//! A complete copy of a database, also while CAs are at work on it: taken over a connection that only reads, in one read
//! transaction, so that nobody waits and the files stay as their guards know them.

use std::path::Path;
use std::time::Duration;

use signet_core::seams::store::StoreError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

use super::error::{is_missing_table, store_error};
use super::{SqliteSettings, SqliteStore, busy_timeout, open, verify};

/// What a copy holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Events on record.
    pub events: u64,
    /// The version of the authority journal, 0 when there are no authorities yet.
    pub journal: u64,
    /// Encrypted keys. The key that they are encrypted with is not in the database.
    pub keys: u64,
}

impl SqliteStore {
    /// Copies the database at `url` into `target`, an empty file, and makes sure that the copy is whole. It is a database of
    /// its own: whatever lies beside the original is not taken for its `-wal`.
    ///
    /// The copy holds everything that was committed when this was called, and of later commits some or none. While it is
    /// made, the `-wal` of the original can only grow; nobody is kept waiting. There is no deadline; dropped, it may go
    /// on writing into `target` for a while.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the database is not there, `target` cannot be written or the disk is full;
    /// [`StoreError::Damaged`] when the database or the copy is not whole; [`StoreError::Schema`] when the database
    /// belongs to another program.
    pub async fn backup(url: &str, settings: SqliteSettings, target: &Path) -> Result<Copied, StoreError> {
        let path = open::path(url)?;
        let busy = busy_timeout(settings);
        std::fs::metadata(&path)
            .map_err(|error| StoreError::Unavailable(format!("cannot look at {}: {error}", path.display())))?;
        verify::has_content(&path)?;
        let source = open::reader_options(&path, busy);
        verify::goes_together(&path, &source).await?;
        let reading = |error: sqlx::Error| store_error(&format!("reading {}", path.display()), &error);
        let mut connection = verify::open_whole(&source, &path, busy).await.map_err(reading)?;
        if !open::is_ours(&mut connection).await.map_err(reading)? {
            return Err(open::foreign(&path));
        }
        let before = counts(&mut connection).await.map_err(reading)?;
        let name = target.to_str();
        let name = name.ok_or_else(|| StoreError::Unavailable(format!("{} is not UTF-8", target.display())))?;
        let copying = |error: sqlx::Error| store_error(&format!("copying {}", path.display()), &error);
        // Not in any order of pages, but whole tables: what is damaged and read is noticed.
        sqlx::query("VACUUM INTO ?").bind(name).execute(&mut connection).await.map_err(copying)?;
        drop(connection.close().await);

        let mut copy = options(target, busy).connect().await.map_err(copying)?;
        become_another(&mut copy).await.map_err(copying)?;
        let damaged = verify::damage_in_all(&mut copy).await.map_err(copying)?;
        let held = counts(&mut copy).await.map_err(copying)?;
        copy.close().await.map_err(copying)?;
        let lacks = held.events < before.events || held.journal < before.journal;
        let damaged = damaged.or_else(|| lacks.then(|| "records are missing in the copy".to_owned()));
        damaged.map_or(Ok(held), |text| {
            Err(StoreError::Damaged(format!("the copy of {} is not whole: {text}", path.display())))
        })
    }
}

/// How the copy is opened: alone, and without a file beside it.
fn options(target: &Path, busy: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(target)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Memory)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(busy)
        .disable_statement_logging()
}

/// Gives the copy an identity of its own, whose file has no history: what is known of the original's file is not true of
/// it, and a `-wal` of the original that was left lying must be seen not to belong to it.
async fn become_another(copy: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let anew = "UPDATE storage_file SET store_id = randomblob(16), announced = 0, finished = 0, complete = 0, size = 0, \
        modified = 0";
    match sqlx::query(anew).execute(copy).await {
        // Made by an earlier version.
        Err(error) if is_missing_table(&error) => Ok(()),
        other => other.map(drop),
    }
}

async fn counts(connection: &mut SqliteConnection) -> Result<Copied, sqlx::Error> {
    let count = "SELECT (SELECT coalesce(max(seq) + 1, 0) FROM audit_event), \
        (SELECT coalesce(max(version), 0) FROM authority_journal), (SELECT count(*) FROM sealed_key)";
    let (events, journal, keys): (i64, i64, i64) = sqlx::query_as(count).fetch_one(connection).await?;
    Ok(Copied { events: events.unsigned_abs(), journal: journal.unsigned_abs(), keys: keys.unsigned_abs() })
}
