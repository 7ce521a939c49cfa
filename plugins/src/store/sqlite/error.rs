//! From SQLite's result codes to the three ways in which storage fails.

use signet_core::seams::store::StoreError;

// Primary result codes, <https://www.sqlite.org/rescode.html>.
const ERROR: i32 = 1;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READ_ONLY: i32 = 8;
const INTERRUPTED: i32 = 9;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANNOT_OPEN: i32 = 14;
const NOT_A_DATABASE: i32 = 26;
// Extended result codes of a broken constraint.
const NOT_NULL: i32 = 1299;
const PRIMARY_KEY_TAKEN: i32 = 1555;
const UNIQUE_TAKEN: i32 = 2067;

/// The extended result code, when SQLite gave one.
fn code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

/// The primary result code: the low byte of the extended one.
fn primary(error: &sqlx::Error) -> Option<i32> {
    code(error).map(|code| code & 0xff)
}

/// Whether a row with this primary key or unique value exists already.
pub(super) fn is_taken(error: &sqlx::Error) -> bool {
    matches!(code(error), Some(PRIMARY_KEY_TAKEN | UNIQUE_TAKEN))
}

/// Whether the guard of the journal's version has failed.
pub(super) fn is_guarded(error: &sqlx::Error) -> bool {
    code(error) == Some(NOT_NULL)
}

/// Whether a unique value other than the primary key exists already.
pub(super) fn is_unique_taken(error: &sqlx::Error) -> bool {
    code(error) == Some(UNIQUE_TAKEN)
}

/// Whether somebody else holds a lock and it may work a moment later.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    matches!(primary(error), Some(BUSY | LOCKED))
}

/// Whether the files beside the database cannot be made.
pub(super) fn is_not_writable(error: &sqlx::Error) -> bool {
    matches!(primary(error), Some(READ_ONLY | CANNOT_OPEN))
}

/// Says what was being done and why it failed.
pub(super) fn store_error(doing: &str, error: &sqlx::Error) -> StoreError {
    let cause = match (primary(error), error) {
        (Some(NOT_A_DATABASE), _) => {
            return StoreError::Damaged(format!(
                "{doing}: the file is not an SQLite database; restore it from a backup"
            ));
        }
        (Some(CORRUPT), _) => return StoreError::Damaged(format!("{doing}: {error}; restore it from a backup")),
        (_, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => {
            return StoreError::Damaged(format!("{doing}: {error}"));
        }
        (Some(FULL), _) => "the disk is full; free some space".to_owned(),
        (Some(READ_ONLY), _) => "the database cannot be written; check its owner, its mode and the mount".to_owned(),
        (Some(BUSY | LOCKED), _) => "another process holds the lock for too long".to_owned(),
        (Some(CANNOT_OPEN), _) => {
            "a database file cannot be opened or made; check that its directory is writable".to_owned()
        }
        (_, sqlx::Error::PoolTimedOut) => "too many queries at once".to_owned(),
        _ => error.to_string(),
    };
    StoreError::Unavailable(format!("{doing}: {cause}"))
}

/// Whether a statement was stopped because it took too long.
pub(super) fn is_interrupted(error: &sqlx::Error) -> bool {
    primary(error) == Some(INTERRUPTED)
}

/// Whether a table does not exist. SQLite has no code of its own for that.
pub(super) fn is_missing_table(error: &sqlx::Error) -> bool {
    primary(error) == Some(ERROR) && error.to_string().contains("no such table")
}
