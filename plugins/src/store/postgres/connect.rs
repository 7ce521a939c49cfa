//! New connections: with which settings of the session, and which servers are refused.

use std::time::Duration;

use signet_core::seams::store::StoreError;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnection;

use super::error::store_error;
use super::{PostgresAccess, PostgresSettings};

/// The oldest version that this was tried with, as `server_version_num` tells it.
const OLDEST: i32 = 150_000;

impl PostgresSettings {
    /// How long a statement may take on the server.
    fn statement(self) -> Duration {
        self.deadline.mul_f32(0.75)
    }

    /// How long a statement waits for a lock. Longer than [`idle`](Self::idle), so that whoever waits for a process that
    /// was stopped gets its lock, and is not refused.
    fn lock(self) -> Duration {
        self.deadline.mul_f32(0.5)
    }

    /// How long a transaction may wait for its client; after that it ends, with its locks.
    pub(super) fn idle(self) -> Duration {
        self.deadline.mul_f32(0.25)
    }

    /// What each session is told at its beginning, which goes before what is set for the server, the database or the role.
    pub(super) fn parameters(self, writes: bool) -> Vec<(&'static str, String)> {
        // 0 would mean no limit.
        let millis = |time: Duration| time.as_millis().max(1).to_string();
        let on_off = |on: bool| if on { "on" } else { "off" }.to_owned();
        vec![
            ("synchronous_commit", on_off(true)),
            ("default_transaction_isolation", r"read committed".to_owned()),
            ("default_transaction_read_only", on_off(!writes)),
            ("default_transaction_deferrable", on_off(false)),
            ("statement_timeout", millis(self.statement())),
            ("lock_timeout", millis(self.lock())),
            ("idle_in_transaction_session_timeout", millis(self.idle())),
            // A client that is gone is noticed also while its statement waits.
            ("client_connection_check_interval", millis(self.idle())),
            ("tcp_user_timeout", millis(self.deadline)),
            ("tcp_keepalives_idle", self.deadline.as_secs().max(1).to_string()),
            ("client_min_messages", "warning".to_owned()),
            // Statements are short, compiling them is not.
            ("jit", on_off(false)),
        ]
    }
}

/// What a server says about itself: version as a number and as text, `fsync`, whether it is in recovery, encoding,
/// `synchronous_commit`.
pub(super) type Server = (i32, String, String, bool, String, String);

const SERVER: &str = "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
    current_setting('fsync'), pg_is_in_recovery(), current_setting('server_encoding'), \
    current_setting('synchronous_commit')";

/// Connects, and refuses a server that would not keep what it has acknowledged.
///
/// # Errors
/// [`StoreError::Unavailable`].
pub(super) async fn connect(
    access: &PostgresAccess,
    settings: PostgresSettings,
    writes: bool,
) -> Result<PgConnection, StoreError> {
    let doing = format!("connecting to {access}");
    let options = access.options(settings, writes).await?;
    let mut connection = options.connect().await.map_err(|error| store_error(&doing, &error))?;
    let server: Server =
        sqlx::query_as(SERVER).fetch_one(&mut connection).await.map_err(|error| store_error(&doing, &error))?;
    fits(&server, writes).map_err(|why| StoreError::Unavailable(format!("{doing}: {why}")))?;
    Ok(connection)
}

/// Whether a server can be trusted with a log, or with reading one.
///
/// # Errors
/// What is wrong with it and what to do.
pub(super) fn fits(server: &Server, writes: bool) -> Result<(), String> {
    let (number, version, fsync, is_standby, encoding, commit) = server;
    if *number < OLDEST {
        return Err(format!("the server is PostgreSQL {version}, and 15 is the oldest that is supported; upgrade it"));
    }
    if encoding != "UTF8" {
        return Err(format!("the database has the encoding {encoding}; make one with ENCODING 'UTF8'"));
    }
    if !writes {
        return Ok(());
    }
    if *is_standby {
        return Err("the server is a standby, which cannot be written; connect to the primary".to_owned());
    }
    if fsync != "on" {
        return Err("the server runs with fsync = off, so that a crash of its machine loses or damages what it has \
                    acknowledged; set fsync = on and restart it"
            .to_owned());
    }
    if commit != "on" {
        return Err(format!(
            "synchronous_commit is {commit} although this session asked for on; is a proxy in between?"
        ));
    }
    Ok(())
}
