//! The database that a storage is moved into: one connection, and one transaction until the copy is whole.

use std::time::Duration;

use signet_core::audit::AuditEvent;
use signet_core::holder::HolderKey;
use signet_core::seams::store::StoreError;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres, Row as _};

use super::error::store_error;
use super::loaded_holders::{kept_key, plain};
use super::moved_mark::{self, Copy};
use super::{PostgresAccess, PostgresSettings, connect, open};
use crate::store::holders::column;
use crate::store::rows::NewRow;
use crate::store::tables::{Column, Kind, Row, TABLES, Table, Value};

/// What one turn to the server may take, a page of rows or the end of the transaction.
const SETTINGS: PostgresSettings = PostgresSettings { deadline: Duration::from_secs(120), connections: 2 };

/// What is in the database already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Found {
    /// Nothing.
    Empty,
    /// A copy that is not complete, of the database with this id.
    Copy { origin: Vec<u8>, url: String },
    /// A copy that is in use.
    Released,
    /// Something else.
    Other,
}

/// The database that something is moved into. Dropped, it is as it was at the last end of a transaction.
pub(in crate::store) struct Target {
    connection: PgConnection,
    access: PostgresAccess,
    id: Vec<u8>,
}

impl Target {
    /// Connects, and makes the tables if there are none.
    ///
    /// # Errors
    /// [`StoreError`] as for opening a store.
    pub(in crate::store) async fn connect(access: &PostgresAccess) -> Result<Self, StoreError> {
        let mut connection = within("connecting", connect::connect(access, SETTINGS, true)).await?;
        open::migrate(&mut connection, access).await?;
        let id = sqlx::query_scalar("SELECT store_id FROM storage_file WHERE id = 1").fetch_one(&mut connection);
        let id = within("reading which database it is", async {
            id.await.map_err(|error| store_error(&format!("reading {access}"), &error))
        });
        Ok(Self { id: id.await?, connection, access: access.clone() })
    }

    /// Which database it is.
    pub(in crate::store) fn id(&self) -> &[u8] {
        &self.id
    }

    /// What is in it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::store) async fn found(&mut self) -> Result<Found, StoreError> {
        let connection = &mut self.connection;
        let look = async {
            if let Some(Copy { origin, origin_id, complete }) = moved_mark::copy(connection).await? {
                return Ok(if complete { Found::Released } else { Found::Copy { origin: origin_id, url: origin } });
            }
            let any = TABLES.iter().map(|table| format!("EXISTS (SELECT 1 FROM {})", table.name));
            let any = AssertSqlSafe(format!("SELECT {}", any.collect::<Vec<_>>().join(" OR ")));
            let any: bool = sqlx::query_scalar(any).fetch_one(connection).await?;
            Ok(if any { Found::Other } else { Found::Empty })
        };
        turn("looking for what is there", look).await
    }

    /// Begins the transaction of the copy of the database with this id, in which nobody else changes anything. Of an earlier
    /// copy of the same one that was not completed nothing is left.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when there is anything else in it.
    pub(in crate::store) async fn begin(&mut self, origin: &[u8]) -> Result<(), StoreError> {
        // Whoever writes has locked that row first, and a copy that is not complete has none.
        self.run("beginning the copy", "BEGIN; LOCK TABLE log_head IN ACCESS EXCLUSIVE MODE").await?;
        let found = self.found().await?;
        let refused = |why: &str| Err(StoreError::Unavailable(format!("{} {why}", self.access)));
        match found {
            Found::Empty => self.run("beginning the copy", "DELETE FROM log_head").await,
            Found::Copy { origin: other, .. } if other == origin => {
                let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
                self.run("removing a copy that was cut off", &format!("TRUNCATE moved, {}", names.join(", "))).await
            }
            Found::Copy { url, .. } => {
                refused(&format!("holds a copy of {url} that is not complete; name another one"))
            }
            Found::Released | Found::Other => {
                refused("is not empty: it holds the records of a CA; make a database that has never been used")
            }
        }
    }

    /// Makes of rows what these columns hold: text without NUL, and names of holders as this store keeps them.
    pub(in crate::store) fn adapt(table: &Table, rows: &mut [Row]) {
        for row in rows {
            if let ("holder", [Value::Text(spiffe_id), Value::Text(instance), ..]) = (table.name, row.as_mut_slice()) {
                let key = HolderKey { spiffe_id: std::mem::take(spiffe_id), instance: std::mem::take(instance) };
                let kept = kept_key(&key);
                (*spiffe_id, *instance) = (kept.spiffe_id, kept.instance);
            }
            for value in row {
                if let Value::Text(text) = value
                    && text.contains('\0')
                {
                    *text = plain(text);
                }
            }
        }
    }

    /// Notes up to which position of the log its events are entered in holders.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::store) async fn entered(&mut self, below: u64) -> Result<(), StoreError> {
        const FORGET: &str = "DELETE FROM holder_tally";
        self.run("forgetting counts of holders", FORGET).await?;
        let note = "UPDATE holder_fold SET below = $1, version = version + 1 WHERE id = 1";
        let note = sqlx::query(note).bind(column(below)).execute(&mut self.connection);
        turn("noting which holders are entered", async { note.await.map(drop) }).await
    }

    /// Inserts rows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::store) async fn insert(&mut self, table: &Table, rows: &[Row]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut text = (Vec::new(), Vec::new());
        for (number, column) in (1..).zip(table.columns) {
            let (array, value) = match column.kind {
                Kind::Number => ("bigint[]", column.name.to_owned()),
                Kind::Flag => ("bigint[]", format!("{} <> 0", column.name)),
                Kind::Text => ("text[]", column.name.to_owned()),
                Kind::Bytes => ("bytea[]", column.name.to_owned()),
            };
            text.0.push(value);
            text.1.push(format!("${number}::{array}"));
        }
        let (names, (values, arrays)) = (table.names().join(", "), (text.0.join(", "), text.1.join(", ")));
        let insert =
            format!("INSERT INTO {} ({names}) SELECT {values} FROM unnest({arrays}) AS row ({names})", table.name);
        let mut query = sqlx::query(AssertSqlSafe(insert));
        for (index, column) in table.columns.iter().enumerate() {
            query = bind_column(query, *column, index, rows);
        }
        let done = async { query.execute(&mut self.connection).await.map(drop) };
        turn(&format!("copying {}", table.name), done).await
    }

    /// The rows that come after one, in the order of the key by bytes: a page of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::store) async fn page(&mut self, table: &Table, after: Option<&Row>) -> Result<Vec<Row>, StoreError> {
        let columns = table.columns.iter().map(|column| match column.kind {
            Kind::Number => format!("{}::bigint", column.name),
            Kind::Flag => format!("{}::int::bigint", column.name),
            Kind::Text | Kind::Bytes => column.name.to_owned(),
        });
        let columns = columns.collect::<Vec<_>>().join(", ");
        let key = table.key_columns().iter().map(|column| match column.kind {
            Kind::Text => format!("{} COLLATE \"C\"", column.name),
            _ => column.name.to_owned(),
        });
        let key = key.collect::<Vec<_>>().join(", ");
        let after = after.map(|row| table.key_of(row)).unwrap_or_default();
        let from = if after.is_empty() {
            String::new()
        } else {
            let numbers: Vec<String> = (1..=after.len()).map(|number| format!("${number}")).collect();
            format!("WHERE ({key}) > ({})", numbers.join(", "))
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
        let read = async {
            let rows = query.fetch_all(&mut self.connection).await?;
            let values = |row: PgRow| -> Result<Row, sqlx::Error> {
                table.columns.iter().enumerate().map(|(index, column)| value(&row, index, column.kind)).collect()
            };
            rows.into_iter().map(values).collect()
        };
        turn(&format!("reading the copy of {}", table.name), read).await
    }

    /// Puts an event behind the copied ones.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::store) async fn append(&mut self, event: AuditEvent) -> Result<(), StoreError> {
        let row = NewRow::new(event);
        let end = async {
            let end = "SELECT coalesce(max(seq) + 1, 0), max(high_micros) FROM audit_event";
            let (next, high): (i64, Option<i64>) = sqlx::query_as(end).fetch_one(&mut self.connection).await?;
            let high = high.unwrap_or(i64::MIN).max(row.event.at_micros);
            let insert = "INSERT INTO audit_event (seq, at_micros, high_micros, kind, outcome, identity_key, serial, \
                leaf_hash, body) VALUES ($1, $2, $3, $4, $5, $6, NULL, $7, $8)";
            let insert = sqlx::query(insert)
                .bind(next)
                .bind(row.event.at_micros)
                .bind(high)
                .bind(column(row.event.kind.number()))
                .bind(column(row.event.outcome.number()))
                .bind(row.identity_key(next.unsigned_abs()))
                .bind(row.leaf_hash.as_slice())
                .bind(row.body.as_slice());
            insert.execute(&mut self.connection).await.map(drop)
        };
        turn("recording that the storage was moved", end).await
    }

    /// Ends the transaction. What was copied stays, and no CA may use it yet.
    ///
    /// # Errors
    /// [`StoreError`]; then it may have stayed or not.
    pub(in crate::store) async fn commit(
        &mut self,
        url: &str,
        origin: &[u8],
        at_micros: i64,
    ) -> Result<(), StoreError> {
        let note = "INSERT INTO moved (id, origin, origin_id, at_micros, complete) VALUES (1, $1, $2, $3, false)";
        let note = sqlx::query(note).bind(url).bind(origin).bind(at_micros).execute(&mut self.connection);
        turn("noting where the copy comes from", async { note.await.map(drop) }).await?;
        self.run("keeping the copy", "COMMIT").await
    }

    /// Lets CAs use it from now on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::store) async fn release(&mut self) -> Result<(), StoreError> {
        const RELEASE: &str = "BEGIN; UPDATE moved SET complete = true WHERE id = 1; \
            INSERT INTO log_head (id) VALUES (1) ON CONFLICT DO NOTHING; COMMIT";
        self.run("completing the copy", RELEASE).await.map_err(|error| {
            StoreError::Unavailable(format!("{error}; run the same command again, which completes it"))
        })
    }

    async fn run(&mut self, doing: &str, text: &str) -> Result<(), StoreError> {
        let statements = sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(&mut self.connection);
        turn(doing, async { statements.await.map(drop) }).await
    }
}

/// One turn to the server, which has a deadline.
async fn turn<T>(doing: &str, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
    within(doing, async { work.await.map_err(|error| store_error(doing, &error)) }).await
}

async fn within<T>(doing: &str, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let deadline = SETTINGS.deadline;
    let late = |_| StoreError::Unavailable(format!("{doing}: not done within {deadline:?}"));
    tokio::time::timeout(deadline, work).await.unwrap_or_else(|error| Err(late(error)))
}

type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// Binds one column of all rows, as an array.
fn bind_column<'q>(query: Statement<'q>, column: Column, index: usize, rows: &'q [Row]) -> Statement<'q> {
    let values = rows.iter().map(|row| row.get(index));
    match column.kind {
        Kind::Number | Kind::Flag => query.bind(
            values
                .map(|value| if let Some(Value::Number(number)) = value { Some(*number) } else { None })
                .collect::<Vec<_>>(),
        ),
        Kind::Text => query.bind(
            values
                .map(|value| if let Some(Value::Text(text)) = value { Some(text.as_str()) } else { None })
                .collect::<Vec<_>>(),
        ),
        Kind::Bytes => query.bind(
            values
                .map(|value| if let Some(Value::Bytes(bytes)) = value { Some(bytes.as_slice()) } else { None })
                .collect::<Vec<_>>(),
        ),
    }
}

fn value(row: &PgRow, index: usize, kind: Kind) -> Result<Value, sqlx::Error> {
    Ok(match kind {
        Kind::Number | Kind::Flag => row.try_get::<Option<i64>, _>(index)?.map_or(Value::Null, Value::Number),
        Kind::Text => row.try_get::<Option<String>, _>(index)?.map_or(Value::Null, Value::Text),
        Kind::Bytes => row.try_get::<Option<Vec<u8>>, _>(index)?.map_or(Value::Null, Value::Bytes),
    })
}
