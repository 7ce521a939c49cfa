//! Words of events are forgotten, with the entries that they are found by.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use signet_core::audit::{AuditEvent, Class};
use signet_core::seams::record_tree::RecordTree as _;
use signet_core::seams::retention::{Aging, Forgetting, MAX_AT_ONCE, NAMES_AT_ONCE, RecordRetention};
use signet_core::seams::store::StoreError;
use sqlx::Executor as _;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;

use super::error::store_error;
use super::pool::Use;
use super::{PostgresStore, segments};
use crate::store::holders::column;
use crate::store::retention::{
    AGING, AgingRow, BEGIN, CURSOR, DUE, LONGEST, Life, MOVE, NAMES, PUT_OFF, SAY_LONGEST, identities, keys_since,
    last_name, without_events,
};
use crate::store::rows::{LOG_COLUMNS, LogRow};
use crate::store::terms::pieces_of;

const READING: &str = "reading events that are old";
const FORGETTING: &str = "forgetting events that are old";

/// Keeps those away who make words of events, which they might make of what is being forgotten.
const NO_WORDS: &str = "SELECT 1 FROM audit_closed WHERE id = 1 FOR UPDATE";

/// What is kept of events, and that they were put off: positions.
const FORGET: [&str; 2] = [
    "DELETE FROM retention_put_off WHERE seq = ANY($1)",
    "UPDATE audit_event SET body = NULL, identity_key = NULL WHERE seq = ANY($1)",
];

/// A SPIFFE ID, unless it came back meanwhile: which one, since when, and what stands for it in the log.
const FORGET_IDENTITY: &str = "DELETE FROM audit_identity WHERE spiffe_id = $1 AND NOT EXISTS \
    (SELECT 1 FROM audit_event WHERE seq >= $2 AND identity_key = ANY($3))";

#[async_trait]
impl RecordRetention for PostgresStore {
    async fn looked_at_below(&self, class: Class) -> Result<u64, StoreError> {
        let read = async {
            let mut lease = self.lease(Use::Reading).await?;
            let find = sqlx::query_scalar(CURSOR).bind(i64::from(class.number())).fetch_optional(&mut *lease).await;
            let below: Option<i64> = find.map_err(|error| store_error(READING, &error))?;
            lease.keep();
            Ok(below.unwrap_or_default().unsigned_abs())
        };
        self.within(READING, Box::pin(read)).await
    }

    async fn aging(&self, from: u64) -> Result<Vec<Aging>, StoreError> {
        let read = async {
            let mut lease = self.lease(Use::Reading).await?;
            let find = sqlx::query_as(AGING).bind(column(from)).bind(i64::from(MAX_AT_ONCE));
            let rows: Vec<AgingRow> =
                find.fetch_all(&mut *lease).await.map_err(|error| store_error(READING, &error))?;
            lease.keep();
            Ok(rows.into_iter().map(AgingRow::aging).collect())
        };
        self.within(READING, Box::pin(read)).await
    }

    async fn put_off(&self, class: Class, now: OffsetDateTime) -> Result<Vec<Aging>, StoreError> {
        let read = async {
            let mut lease = self.lease(Use::Reading).await?;
            let find = sqlx::query_as(DUE).bind(i64::from(class.number())).bind(AuditEvent::micros(now));
            let find = find.bind(i64::from(MAX_AT_ONCE));
            let rows: Vec<AgingRow> =
                find.fetch_all(&mut *lease).await.map_err(|error| store_error(READING, &error))?;
            lease.keep();
            Ok(rows.into_iter().map(AgingRow::aging).collect())
        };
        self.within(READING, Box::pin(read)).await
    }

    /// Without the lock of the log's head: nothing of what appends read or write is changed here.
    async fn forget(&self, step: &Forgetting) -> Result<bool, StoreError> {
        let work = async {
            let failed = |error: sqlx::Error| store_error(FORGETTING, &error);
            self.catch_up().await?;
            let mut lease = self.lease(Use::Writing).await?;
            self.seen.look(&mut lease).await?;
            let text = format!("SELECT {LOG_COLUMNS} FROM audit_event WHERE seq = ANY($1)");
            let rows = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(positions(step)).fetch_all(&mut *lease).await;
            let rows: Vec<LogRow> = rows.map_err(failed)?;
            let done = forget(&mut lease, step).await.map_err(failed)?;
            lease.keep();
            if done {
                self.forget_identities(&identities(&rows)).await?;
            }
            Ok(done)
        };
        self.within(FORGETTING, Box::pin(work)).await
    }

    async fn sweep_names(&self, after: &str) -> Result<Option<String>, StoreError> {
        let work = async {
            let mut lease = self.lease(Use::Reading).await?;
            let find = sqlx::query_scalar(NAMES).bind(after).bind(i64::from(NAMES_AT_ONCE));
            let names: Vec<String> =
                find.fetch_all(&mut *lease).await.map_err(|error| store_error(FORGETTING, &error))?;
            lease.keep();
            self.forget_identities(&names.iter().cloned().collect()).await?;
            Ok(last_name(names))
        };
        self.within(FORGETTING, Box::pin(work)).await
    }

    async fn longest_life(&self, configured: Duration, now: OffsetDateTime) -> Result<Duration, StoreError> {
        const DOING: &str = "keeping how long certificates may live";
        let life = Life::of(configured, now);
        let failed = |error: sqlx::Error| store_error(DOING, &error);
        let work = async {
            let mut lease = self.lease(Use::Writing).await?;
            let mut kept = sqlx::query_as(LONGEST).fetch_optional(&mut *lease).await.map_err(failed)?;
            if !life.is_said(kept) {
                self.seen.look(&mut lease).await?;
                let say = sqlx::query(SAY_LONGEST).bind(life.seconds).bind(life.until_micros).bind(life.now_micros);
                say.execute(&mut *lease).await.map_err(failed)?;
                kept = sqlx::query_as(LONGEST).fetch_optional(&mut *lease).await.map_err(failed)?;
            }
            lease.keep();
            Ok(life.longest(kept))
        };
        self.within(DOING, Box::pin(work)).await
    }
}

impl PostgresStore {
    /// Forgets those of these SPIFFE IDs that nothing is on record of any more.
    async fn forget_identities(&self, identities: &BTreeSet<String>) -> Result<(), StoreError> {
        let failed = |error: sqlx::Error| store_error(FORGETTING, &error);
        let head = self.events().await?;
        let gone = without_events(self, identities).await?;
        if gone.is_empty() {
            return Ok(());
        }
        let mut lease = self.lease(Use::Writing).await?;
        let forget = async |connection: &mut PgConnection| {
            connection.execute("BEGIN").await?;
            connection.execute(NO_WORDS).await?;
            for spiffe_id in gone {
                let one = sqlx::query(FORGET_IDENTITY).bind(spiffe_id.as_str()).bind(column(head));
                one.bind(keys_since(spiffe_id, head)).execute(&mut *connection).await?;
            }
            connection.execute("COMMIT").await
        };
        forget(&mut lease).await.map_err(failed)?;
        lease.keep();
        Ok(())
    }
}

fn positions(step: &Forgetting) -> Vec<i64> {
    step.forgotten.iter().copied().map(column).collect()
}

async fn forget(connection: &mut PgConnection, step: &Forgetting) -> Result<bool, sqlx::Error> {
    let class = i64::from(step.class.number());
    connection.execute("BEGIN").await?;
    connection.execute(NO_WORDS).await?;
    let go_on = sqlx::query(MOVE).bind(class).bind(column(step.from)).bind(column(step.below));
    let mut moved = go_on.execute(&mut *connection).await?.rows_affected() == 1;
    if !moved && step.from == 0 {
        let begin = sqlx::query(BEGIN).bind(class).bind(column(step.below));
        moved = begin.execute(&mut *connection).await?.rows_affected() == 1;
    }
    if moved {
        let forgotten = positions(step);
        for statement in FORGET {
            sqlx::query(statement).bind(&forgotten).execute(&mut *connection).await?;
        }
        let closed = segments::ends(connection).await?.closed;
        for piece in pieces_of(&step.forgotten, &closed) {
            segments::make_anew(connection, piece).await?;
        }
        for (sequence, until) in &step.put_off {
            let put_off = sqlx::query(PUT_OFF).bind(column(*sequence)).bind(class).bind(AuditEvent::micros(*until));
            put_off.execute(&mut *connection).await?;
        }
    }
    connection.execute(if moved { "COMMIT" } else { "ROLLBACK" }).await?;
    Ok(moved)
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
