//! From PostgreSQL's error codes and broken connections to the ways in which storage fails.

use std::io::ErrorKind;

use signet_core::seams::store::StoreError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

// What our own function raises, see migrations/postgres/0006_authority_fence.sql.
const OTHER_JOURNAL: &str = "SG001";
const SHORTER_LOG: &str = "SG002";
const NO_HEAD: &str = "SG003";
// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
const UNIQUE_TAKEN: &str = "23505";
const MISSING_TABLE: &str = "42P01";

/// The SQLSTATE, when the server gave one.
fn code(error: &sqlx::Error) -> Option<&str> {
    database_error(error).map(PgDatabaseError::code)
}

fn database_error(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}

/// Whether a row with this unique value exists already.
pub(super) fn is_taken(error: &sqlx::Error) -> bool {
    code(error) == Some(UNIQUE_TAKEN)
}

/// Whether the journal has another version than was said.
pub(super) fn is_other_journal(error: &sqlx::Error) -> bool {
    code(error) == Some(OTHER_JOURNAL)
}

/// Whether the log is shorter than this process has seen it.
pub(super) fn is_shorter_log(error: &sqlx::Error) -> bool {
    code(error) == Some(SHORTER_LOG)
}

/// Whether a table does not exist.
pub(super) fn is_missing_table(error: &sqlx::Error) -> bool {
    code(error) == Some(MISSING_TABLE)
}

/// Whether the server refuses the credentials.
pub(super) fn is_refused(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| code.starts_with("28"))
}

/// Whether the connection ended with this error, so that what became of a commit under way is not known: anything but the
/// server's word that a statement failed. With FATAL it ends the session, also after a commit.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    match (error, database_error(error)) {
        (_, Some(error)) => matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic),
        (sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::RowNotFound, None) => false,
        (sqlx::Error::Encode(_) | sqlx::Error::Configuration(_), None) => false,
        (_, None) => true,
    }
}

/// Says what was being done and why it failed.
pub(super) fn store_error(doing: &str, error: &sqlx::Error) -> StoreError {
    let cause = match (database_error(error), error) {
        (Some(error), _) => match of_server(error) {
            Ok(cause) => cause,
            Err(damage) => return StoreError::Damaged(format!("{doing}: {damage}")),
        },
        (None, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => {
            return StoreError::Damaged(format!("{doing}: {error}"));
        }
        (None, sqlx::Error::Io(error)) => of_connection(error),
        (None, sqlx::Error::Tls(error)) => format!(
            "no TLS connection with the server: {error}; check the host name, ca_file and the server's certificate"
        ),
        (None, _) => format!("the connection to the server failed: {error}"),
    };
    StoreError::Unavailable(format!("{doing}: {cause}"))
}

fn of_connection(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::NotFound => {
            format!("the server cannot be reached: {error}; is it running, and are host and port right?")
        }
        ErrorKind::InvalidData => {
            format!(
                "no TLS connection with the server: {error}; check the host name, ca_file and the server's certificate"
            )
        }
        _ => format!("the connection to the server was lost: {error}"),
    }
}

/// What the server's word means: a cause, or else damage.
fn of_server(error: &PgDatabaseError) -> Result<String, String> {
    let (code, said) = (error.code(), error.message());
    Ok(match code {
        NO_HEAD => return Err("the row of log_head is missing; restore the database from a backup".to_owned()),
        // Internal error, damaged page, damaged index.
        "XX000" | "XX001" | "XX002" => {
            return Err(format!("{said} ({code}); look into the server's log, and restore the database from a backup"));
        }
        "25006" => format!("the database cannot be written: {said}; is it a standby, or read-only by its settings?"),
        "3D000" => format!("{said}; create the database"),
        "42501" => format!("{said}; the role needs this right"),
        "40001" | "40P01" => format!("another transaction was in the way: {said}"),
        "53100" => format!("the server's disk is full: {said}; free some space"),
        "53300" => format!("the server has no connection left: {said}; raise max_connections or lower `connections`"),
        "55P03" => "another connection holds the lock for too long".to_owned(),
        "57014" => format!("the server did not finish in time: {said}"),
        "57P01" | "57P02" | "57P03" => format!("the server stops or starts: {said}"),
        "25P03" => "this process did not go on with its transaction in time, so that the server ended it".to_owned(),
        _ if code.starts_with("28") => {
            format!("the server refuses these credentials: {said}; check user, password_file and pg_hba.conf")
        }
        _ if code.starts_with("53") => format!("the server lacks resources: {said} ({code})"),
        _ => format!("{said} ({code})"),
    })
}
