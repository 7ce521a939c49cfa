//! Holders as they are when all of the record is entered, for whoever reads them: a store that may write enters it, and one
//! that only reads does so in tables of its own memory, which hide those of the database.

use signet_core::seams::store::StoreError;
use sqlx::Sqlite;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqliteConnection;

use super::SqliteStore;
use super::error::store_error;
use super::holder_projection::{Bounds, PIECE, read, renew_all};

/// The tables that follow the log.
const TABLES: [&str; 2] = ["holder", "authority_usage"];

impl SqliteStore {
    /// A connection on which holders say all that is on record at the time of the call.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn whole_holders(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        let failed = |error: sqlx::Error| store_error("reading holders", &error);
        if self.guard.is_some() {
            self.catch_up().await?;
            return self.readers.acquire().await.map_err(failed);
        }
        let mut connection = self.readers.acquire().await.map_err(failed)?;
        match look(&mut connection).await {
            Ok(()) => Ok(connection),
            Err(error) => {
                // Whatever it holds by now is half of something.
                drop(connection.detach());
                Err(failed(error))
            }
        }
    }
}

/// Makes the tables anew, if anything waits to be entered.
async fn look(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    for table in TABLES {
        run(connection, format!("DROP TABLE IF EXISTS temp.{table}")).await?;
    }
    // One moment for all that is read.
    run(connection, "BEGIN".to_owned()).await?;
    let Bounds { mut below, head } = Bounds::read(connection).await?;
    if below < head {
        for table in TABLES {
            let text = sqlx::query_scalar("SELECT sql FROM main.sqlite_schema WHERE type = 'table' AND name = ?");
            let text: String = text.bind(table).fetch_one(&mut *connection).await?;
            run(connection, text.replacen("CREATE TABLE", "CREATE TEMP TABLE", 1)).await?;
            run(connection, format!("INSERT INTO temp.{table} SELECT * FROM main.{table}")).await?;
        }
    }
    while below < head {
        let next = head.min(below.saturating_add(PIECE));
        let entered = read(connection, below, next).await?;
        renew_all(connection, &entered).await?;
        below = next;
    }
    run(connection, "COMMIT".to_owned()).await
}

/// Runs text of our own making.
async fn run(connection: &mut SqliteConnection, text: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(connection).await.map(drop)
}
