//! A database that is moved elsewhere: read by one connection that nobody has another one beside, and marked at the end so
//! that nothing is ever issued from it again.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use signet_core::seams::store::StoreError;
use sqlx::sqlite::{SqliteConnection, SqliteLockingMode, SqliteRow};
use sqlx::{AssertSqlSafe, Connection, Row as _};

use super::error::{is_busy, store_error};
use super::moved_mark::{self, Mark};
use super::{file_guard, open, verify};
use crate::store::tables::{Kind, Row, TABLES, Table, Value};

/// How long it is tried to be the only one that has the file open: a reader may be at its end.
const PATIENCE: Duration = Duration::from_secs(3);

/// The database that is moved. While this lives, no other connection to it can be opened, by any process.
pub(in crate::store) struct Source {
    connection: SqliteConnection,
    path: PathBuf,
}

impl Source {
    /// Opens it, waiting a little for others to end.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] while another process has it open, also one that is stopped (SIGSTOP), and when it is not
    /// there; [`StoreError::Damaged`]; [`StoreError::Schema`] when it is not ours.
    pub(in crate::store) async fn open(path: &Path) -> Result<Self, StoreError> {
        std::fs::metadata(path)
            .map_err(|error| StoreError::Unavailable(format!("cannot look at {}: {error}", path.display())))?;
        verify::has_content(path)?;
        verify::goes_together(path, &open::reader_options(path, PATIENCE)).await?;
        // Every connection to a database in WAL mode holds a shared lock on the file from its first look until its end,
        // which the exclusive one excludes and is excluded by. Locks of the kernel's: a stopped process has them still.
        let options = open::writer_options(path, Duration::ZERO).locking_mode(SqliteLockingMode::Exclusive);
        let mut connection = match open::connect(&options, PATIENCE).await {
            Ok(connection) => connection,
            Err(error) if is_busy(&error) || matches!(error, sqlx::Error::PoolTimedOut) => {
                return Err(StoreError::Unavailable(in_use(path)));
            }
            Err(error) => return Err(store_error(&format!("opening {}", path.display()), &error)),
        };
        let ours = open::is_ours(&mut connection).await;
        if !ours.map_err(|error| store_error(&format!("reading {}", path.display()), &error))? {
            return Err(open::foreign(path));
        }
        Ok(Self { connection, path: path.to_owned() })
    }

    /// Where it was moved to, if it was.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::store) async fn mark(&mut self) -> Result<Option<Mark>, StoreError> {
        let read = moved_mark::mark(&mut self.connection).await;
        read.map_err(|error| store_error(&format!("reading {}", self.path.display()), &error))
    }

    /// Makes sure that it is whole, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::store) async fn prepare(&mut self) -> Result<(), StoreError> {
        let damaged = verify::damage_in_all(&mut self.connection).await.map_err(|error| self.failed(&error))?;
        if let Some(text) = damaged {
            return Err(StoreError::Damaged(format!("{}: {text}", self.path.display())));
        }
        open::migrate(&mut self.connection, &self.path).await
    }

    /// Which database it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::store) async fn id(&mut self) -> Result<Vec<u8>, StoreError> {
        let row = file_guard::row(&mut self.connection).await.map_err(|error| self.failed(&error))?;
        Ok(row.store_id)
    }

    /// How many rows a table has.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::store) async fn count(&mut self, table: &Table) -> Result<u64, StoreError> {
        let count = AssertSqlSafe(format!("SELECT count(*) FROM {}", table.name));
        let count: Result<i64, _> = sqlx::query_scalar(count).fetch_one(&mut self.connection).await;
        count.map(i64::unsigned_abs).map_err(|error| self.failed(&error))
    }

    /// The rows of a table that come after one, in the order of its key: a page of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::store) async fn page(&mut self, table: &Table, after: Option<&Row>) -> Result<Vec<Row>, StoreError> {
        let (columns, key) = (table.names().join(", "), table.key().join(", "));
        let after = after.map(|row| table.key_of(row)).unwrap_or_default();
        let from = if after.is_empty() {
            String::new()
        } else {
            format!("WHERE ({key}) > ({})", vec!["?"; after.len()].join(", "))
        };
        let select = format!("SELECT {columns} FROM {} {from} ORDER BY {key} LIMIT {}", table.name, table.page);
        let mut query = sqlx::query(AssertSqlSafe(select));
        for value in after {
            query = match value {
                Value::Null => query.bind(None::<i64>),
                Value::Number(number) => query.bind(*number),
                Value::Text(text) => query.bind(text.as_str()),
                Value::Bytes(bytes) => query.bind(bytes.as_slice()),
            };
        }
        let rows = query.fetch_all(&mut self.connection).await;
        let values = |row: SqliteRow| -> Result<Row, sqlx::Error> {
            table.columns.iter().enumerate().map(|(index, column)| value(&row, index, column.kind)).collect()
        };
        let rows = rows.and_then(|rows| rows.into_iter().map(values).collect());
        rows.map_err(|error| store_error(&format!("reading {} of {}", table.name, self.path.display()), &error))
    }

    /// Up to which position of the log its events are entered in holders.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::store) async fn entered(&mut self) -> Result<u64, StoreError> {
        let entered = "SELECT below FROM holder_fold WHERE id = 1";
        let entered: Result<i64, _> = sqlx::query_scalar(entered).fetch_one(&mut self.connection).await;
        entered.map(i64::unsigned_abs).map_err(|error| self.failed(&error))
    }

    /// Leaves the mark. When this has returned, it is on disk.
    ///
    /// # Errors
    /// [`StoreError`]; then the mark may be there or not.
    pub(in crate::store) async fn leave_mark(&mut self, mark: &Mark) -> Result<(), StoreError> {
        let tables: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
        let marked = mark.leave(&mut self.connection, &tables).await;
        marked.map_err(|error| store_error(&format!("marking {} as moved", self.path.display()), &error))
    }

    /// Puts the file in order: everything is in it, and nothing beside it.
    ///
    /// # Errors
    /// [`StoreError`]; the mark is in its `-wal` then.
    pub(in crate::store) async fn close(self) -> Result<(), StoreError> {
        let Self { connection, path } = self;
        connection.close().await.map_err(|error| store_error(&format!("closing {}", path.display()), &error))
    }

    fn failed(&self, error: &sqlx::Error) -> StoreError {
        store_error(&format!("reading {}", self.path.display()), error)
    }
}

fn value(row: &SqliteRow, index: usize, kind: Kind) -> Result<Value, sqlx::Error> {
    Ok(match kind {
        Kind::Number | Kind::Flag => row.try_get::<Option<i64>, _>(index)?.map_or(Value::Null, Value::Number),
        Kind::Text => row.try_get::<Option<String>, _>(index)?.map_or(Value::Null, Value::Text),
        Kind::Bytes => row.try_get::<Option<Vec<u8>>, _>(index)?.map_or(Value::Null, Value::Bytes),
    })
}

/// Says who has the file open, as far as that can be seen.
fn in_use(path: &Path) -> String {
    let processes = processes(path).unwrap_or_default();
    let who = match processes.as_slice() {
        [] => "another process has it open".to_owned(),
        [one] => format!("process {one} has it open"),
        all => format!("processes {} have it open", all.join(", ")),
    };
    format!(
        "{}: {who}; stop every CA on it, in order and not by SIGSTOP, and wait for commands that read it",
        path.display()
    )
}

/// The processes with a lock on the file (proc_locks(5)), as far as this one may see them.
fn processes(path: &Path) -> Option<Vec<String>> {
    let found = std::fs::metadata(path).ok()?;
    let (major, minor) = (rustix::fs::major(found.dev()), rustix::fs::minor(found.dev()));
    let file = format!("{major:02x}:{minor:02x}:{}", found.ino());
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let mut processes: Vec<String> = locks
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter_map(|words| match words.as_slice() {
            [_, "POSIX", _, _, process, place, ..] if *place == file && !process.starts_with('-') => {
                Some((*process).to_owned())
            }
            _ => None,
        })
        .collect();
    processes.sort_unstable();
    processes.dedup();
    Some(processes)
}
