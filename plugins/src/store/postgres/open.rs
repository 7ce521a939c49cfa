//! Opening a database: whose it is, and which schema it has.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Duration;

use signet_core::seams::store::StoreError;
use sqlx::Connection as _;
use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::postgres::PgConnection;

use super::PostgresAccess;
use super::error::{is_missing_table, store_error};
use crate::store::migrations::migrator;
use crate::store::schema::{Readers, Standing, judge};

pub(super) static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| migrator(|pair| pair.postgres));

/// How long the making of a schema may take, together with waiting for another process that makes it.
const MAKING: Duration = Duration::from_secs(600);

/// Any number that nobody else is likely to use: processes that start at once wait for each other with it.
const LOCK: i64 = 0x5169_6e65_7453_6368;

/// The tables of the schema that new tables go to.
const TABLES: &str = "SELECT count(*), count(*) FILTER (WHERE relname = '_sqlx_migrations') FROM pg_class \
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND relnamespace = current_schema()::regnamespace";

/// Brings the schema up to date in one transaction, so that of two processes one waits for the other.
///
/// # Errors
/// [`StoreError::Schema`] when the database belongs to something else or to a newer version; nothing is changed then.
pub(super) async fn migrate(connection: &mut PgConnection, access: &PostgresAccess) -> Result<(), StoreError> {
    let late = |_| StoreError::Unavailable(format!("preparing {access}: not done within {MAKING:?}"));
    tokio::time::timeout(MAKING, make(connection, access)).await.unwrap_or_else(|error| Err(late(error)))
}

async fn make(connection: &mut PgConnection, access: &PostgresAccess) -> Result<(), StoreError> {
    let doing = format!("preparing {access}");
    let failed = |error: sqlx::Error| store_error(&doing, &error);
    let mut transaction = connection.begin().await.map_err(failed)?;
    let patience = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; \
        SET LOCAL idle_in_transaction_session_timeout = 0";
    sqlx::raw_sql(patience).execute(&mut *transaction).await.map_err(failed)?;
    let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK);
    lock.execute(&mut *transaction).await.map_err(failed)?;
    let (all, ours): (i64, i64) = sqlx::query_as(TABLES).fetch_one(&mut *transaction).await.map_err(failed)?;
    if all > 0 && ours == 0 {
        return Err(foreign(access));
    }
    let newer = if ours > 0 { standing(&mut transaction, access).await?.newer } else { Vec::new() };
    // With newer ones there, none is missing.
    if newer.is_empty() {
        unlocked().run_direct(None, &mut *transaction, false).await.map_err(|error| match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => store_error(&doing, &error),
            other => StoreError::Schema(format!("{doing}: {other}")),
        })?;
    }
    // Whoever may not write is told so now.
    let write = sqlx::query("UPDATE storage_probe SET writes = writes + 1 WHERE id = 1");
    write.execute(&mut *transaction).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    if !newer.is_empty() {
        tracing::warn!(
            storage = %access,
            migrations = newer.iter().map(i64::to_string).collect::<Vec<_>>().join(", "),
            "the storage has migrations of a newer version, which allow this one to run on it"
        );
    }
    Ok(())
}

/// The migrations, without the library's own lock: ours is held.
fn unlocked() -> Migrator {
    Migrator { migrations: Cow::Borrowed(&MIGRATIONS.migrations), locking: false, ..Migrator::DEFAULT }
}

/// Checks the schema of a database that is not to be changed.
///
/// # Errors
/// [`StoreError::Schema`] for any schema that this version cannot run on as it is.
pub(super) async fn check_schema(connection: &mut PgConnection, access: &PostgresAccess) -> Result<(), StoreError> {
    let missing = standing(connection, access).await?.missing;
    missing.first().map_or(Ok(()), |missing| {
        Err(StoreError::Schema(format!(
            "{access} lacks migration {missing}: it was made by an older version; start the CA, which brings it up to date",
        )))
    })
}

/// Whether there is nothing of anybody in the database yet.
///
/// # Errors
/// [`StoreError::Schema`] when there is something of somebody else.
pub(super) async fn is_empty(connection: &mut PgConnection, access: &PostgresAccess) -> Result<bool, StoreError> {
    let tables = sqlx::query_as(TABLES).fetch_one(connection).await;
    let (all, ours): (i64, i64) = tables.map_err(|error| store_error(&reading(access), &error))?;
    if all > 0 && ours == 0 { Err(foreign(access)) } else { Ok(all == 0) }
}

/// How the schema of one of our databases stands to the one of this version.
///
/// # Errors
/// [`StoreError::Schema`] when this version cannot run on it.
pub(super) async fn standing(connection: &mut PgConnection, access: &PostgresAccess) -> Result<Standing, StoreError> {
    let applied = connection.list_applied_migrations("_sqlx_migrations").await.map_err(|error| match error {
        MigrateError::Execute(error) if is_missing_table(&error) => {
            StoreError::Schema(format!("{access} has none of the tables of a CA; start the CA, which makes them"))
        }
        MigrateError::Execute(error) => store_error(&reading(access), &error),
        other => StoreError::Schema(format!("{}: {other}", reading(access))),
    })?;
    let exists =
        sqlx::query_scalar("SELECT to_regclass('schema_reader') IS NOT NULL").fetch_one(&mut *connection).await;
    let readers: Vec<(i64, i64)> = match exists.map_err(|error| store_error(&reading(access), &error))? {
        // Not asked for where it is missing: the error would end the transaction.
        false => Vec::new(),
        true => {
            let readers =
                sqlx::query_as("SELECT version, oldest_reader FROM schema_reader").fetch_all(connection).await;
            readers.map_err(|error| store_error(&reading(access), &error))?
        }
    };
    judge(&MIGRATIONS, &applied, &Readers::from_iter(readers))
        .map_err(|unfit| StoreError::Schema(format!("{access}: {unfit}")))
}

fn reading(access: &PostgresAccess) -> String {
    format!("reading the schema of {access}")
}

fn foreign(access: &PostgresAccess) -> StoreError {
    StoreError::Schema(format!("{access} is a database of another program; make one for the CA alone"))
}
