//! A copy of the storage, as a file that appears under its name when it is whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use signet_core::rotation::Refused;
use signet_plugins::store::sqlite::Copied;
use signet_runtime::files::{Draft, FileError};

use super::error::AppError;
use super::storage;
use crate::config::Config;

/// How often it is told how far a copy is.
const TELL: Duration = Duration::from_millis(500);

/// A copy that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backup {
    /// What it holds.
    pub held: Copied,
    /// Its size.
    pub bytes: u64,
}

/// Copies the storage into a new file (mode 0600), whether or not a CA is running on it. `progress` is told now and then
/// how many bytes are written, and about how many there will be.
///
/// # Errors
/// [`AppError`]; nothing is left of the file then, nor when this is dropped.
pub async fn backup(config: &Config, file: &Path, progress: impl Fn(u64, u64)) -> Result<Backup, AppError> {
    let failed = |error| AppError::Backup { path: file.to_owned(), source: Box::new(error) };
    let location = storage::location(&config.storage)?;
    let Some(database) = location.file() else { return Err(AppError::ServersBackup(config.storage.to_string())) };
    not_beside_another(file)?;
    let draft = Draft::begin(file).map_err(failed)?;
    let all = length(database);
    let temporary = draft.temporary().to_owned();
    let mut copying = std::pin::pin!(location.backup(storage::DEADLINE, &temporary));
    let held = loop {
        tokio::select! {
            held = &mut copying => {
                break held.map_err(|error| AppError::NoBackup { path: file.to_owned(), cause: error.to_string() })?;
            }
            () = tokio::time::sleep(TELL) => progress(length(&temporary), all),
        }
    };
    // A copy that restores to nothing would be taken for a backup.
    if held.journal == 0 {
        return Err(AppError::NoBackup { path: file.to_owned(), cause: Refused::NoAuthority.to_string() });
    }
    let bytes = length(&temporary);
    // To the disk, which takes a while.
    let published = tokio::task::spawn_blocking(move || draft.publish()).await;
    let ended = |_| FileError::Abandoned { path: file.to_owned() };
    published.map_err(ended).and_then(std::convert::identity).map_err(failed)?;
    Ok(Backup { held, bytes })
}

/// SQLite would take files of these names for parts of a database: neither may the copy have one, nor may one lie beside it.
fn not_beside_another(file: &Path) -> Result<(), AppError> {
    const SUFFIXES: [&str; 3] = ["-wal", "-shm", "-journal"];
    // Of a file that is there something else is said: nothing is ever overwritten.
    if file.symlink_metadata().is_ok() {
        return Ok(());
    }
    let name = file.to_string_lossy();
    if SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
        let cause = "SQLite would take a file of this name for a part of another database; choose another name";
        return Err(AppError::NoBackup { path: file.to_owned(), cause: cause.to_owned() });
    }
    let beside = SUFFIXES.iter().map(|suffix| PathBuf::from(format!("{name}{suffix}")));
    let Some(beside) = beside.into_iter().find(|path| path.symlink_metadata().is_ok()) else { return Ok(()) };
    let cause = format!("{} is there, which SQLite would take for a part of the copy; move it away", beside.display());
    Err(AppError::NoBackup { path: file.to_owned(), cause })
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}
