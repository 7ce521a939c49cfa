//! Words of events are forgotten, with the entries that they are found by.

use std::time::Duration;

use async_trait::async_trait;
use signet_core::audit::{AuditEvent, Class};
use signet_core::seams::retention::{Aging, Forgetting, MAX_AT_ONCE, RecordRetention};
use signet_core::seams::store::StoreError;
use sqlx::sqlite::SqliteConnection;
use time::OffsetDateTime;

use super::SqliteStore;
use super::error::store_error;
use crate::store::holders::column;
use crate::store::retention::{AGING, AgingRow, BEGIN, CURSOR, DUE, LONGEST, Life, MOVE, PUT_OFF, SAY_LONGEST};

const READING: &str = "reading events that are old";
const FORGETTING: &str = "forgetting events that are old";

/// The entries and the words of one event, and that it was put off.
const FORGET: [&str; 4] = [
    "DELETE FROM audit_by_identity WHERE (identity_key, seq) IN \
        (SELECT identity_key, seq FROM audit_event WHERE seq = ? AND identity_key IS NOT NULL)",
    "DELETE FROM audit_by_outcome WHERE (outcome, seq) IN (SELECT outcome, seq FROM audit_event WHERE seq = ?)",
    "DELETE FROM retention_put_off WHERE seq = ?",
    "UPDATE audit_event SET body = NULL WHERE seq = ?",
];

#[async_trait]
impl RecordRetention for SqliteStore {
    async fn looked_at_below(&self, class: Class) -> Result<u64, StoreError> {
        let find = sqlx::query_scalar(CURSOR).bind(i64::from(class.number()));
        let read = async { find.fetch_optional(&self.readers).await.map_err(|error| store_error(READING, &error)) };
        let below: Option<i64> = self.within(READING, read).await?;
        Ok(below.unwrap_or_default().unsigned_abs())
    }

    async fn aging(&self, from: u64) -> Result<Vec<Aging>, StoreError> {
        let find = sqlx::query_as(AGING).bind(column(from)).bind(i64::from(MAX_AT_ONCE));
        let read = async { find.fetch_all(&self.readers).await.map_err(|error| store_error(READING, &error)) };
        let rows: Vec<AgingRow> = self.within(READING, read).await?;
        Ok(rows.into_iter().map(AgingRow::aging).collect())
    }

    async fn put_off(&self, class: Class, now: OffsetDateTime) -> Result<Vec<Aging>, StoreError> {
        let find = sqlx::query_as(DUE).bind(i64::from(class.number())).bind(AuditEvent::micros(now));
        let find = find.bind(i64::from(MAX_AT_ONCE));
        let read = async { find.fetch_all(&self.readers).await.map_err(|error| store_error(READING, &error)) };
        let rows: Vec<AgingRow> = self.within(READING, read).await?;
        Ok(rows.into_iter().map(AgingRow::aging).collect())
    }

    async fn forget(&self, step: &Forgetting) -> Result<bool, StoreError> {
        let work = async {
            self.catch_up().await?;
            let mut writer = self.writer().await?;
            let done = forget(&mut writer.session.connection, step).await;
            let done = done.map_err(|error| store_error(FORGETTING, &error))?;
            writer.keep().await?;
            Ok(done)
        };
        self.within(FORGETTING, Box::pin(work)).await
    }

    async fn longest_life(&self, configured: Duration, now: OffsetDateTime) -> Result<Duration, StoreError> {
        const DOING: &str = "keeping how long certificates may live";
        let life = Life::of(configured, now);
        let failed = |error: sqlx::Error| store_error(DOING, &error);
        let work = async {
            self.readable().await?;
            let kept = sqlx::query_as(LONGEST).fetch_optional(&self.readers).await.map_err(failed)?;
            if life.is_said(kept) {
                return Ok(life.longest(kept));
            }
            let mut writer = self.writer().await?;
            let connection = &mut writer.session.connection;
            let say = sqlx::query(SAY_LONGEST).bind(life.seconds).bind(life.until_micros).bind(life.now_micros);
            say.execute(&mut *connection).await.map_err(failed)?;
            let kept = sqlx::query_as(LONGEST).fetch_optional(connection).await.map_err(failed)?;
            writer.keep().await?;
            Ok(life.longest(kept))
        };
        self.within(DOING, Box::pin(work)).await
    }
}

async fn forget(connection: &mut SqliteConnection, step: &Forgetting) -> Result<bool, sqlx::Error> {
    let class = i64::from(step.class.number());
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let go_on = sqlx::query(MOVE).bind(class).bind(column(step.from)).bind(column(step.below));
    let mut moved = go_on.execute(&mut *connection).await?.rows_affected() == 1;
    if !moved && step.from == 0 {
        let begin = sqlx::query(BEGIN).bind(class).bind(column(step.below));
        moved = begin.execute(&mut *connection).await?.rows_affected() == 1;
    }
    if moved {
        for sequence in &step.forgotten {
            for statement in FORGET {
                sqlx::query(statement).bind(column(*sequence)).execute(&mut *connection).await?;
            }
        }
        for (sequence, until) in &step.put_off {
            let put_off = sqlx::query(PUT_OFF).bind(column(*sequence)).bind(class).bind(AuditEvent::micros(*until));
            put_off.execute(&mut *connection).await?;
        }
    }
    sqlx::query(if moved { "COMMIT" } else { "ROLLBACK" }).execute(connection).await?;
    Ok(moved)
}
