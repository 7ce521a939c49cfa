//! Words of events are forgotten, with the entries that they are found by.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use signet_core::audit::{AuditEvent, Class};
use signet_core::seams::retention::{Aging, Forgetting, MAX_AT_ONCE, NAMES_AT_ONCE, RecordRetention};
use signet_core::seams::store::StoreError;
use sqlx::QueryBuilder;
use sqlx::sqlite::SqliteConnection;
use time::OffsetDateTime;

use super::error::store_error;
use super::{SqliteStore, entries, search};
use crate::store::holders::column;
use crate::store::record_tree::EVENTS;
use crate::store::retention::{
    AGING, AgingRow, BEGIN, CURSOR, DUE, LONGEST, Life, MOVE, NAMES, PUT_OFF, SAY_LONGEST, identities, keys_since,
    last_name, without_events,
};
use crate::store::rows::LogRow;
use crate::store::terms::pieces_of;

const READING: &str = "reading events that are old";
const FORGETTING: &str = "forgetting events that are old";

/// What is kept of one event, and that it was put off.
const FORGET: [&str; 2] = [
    "DELETE FROM retention_put_off WHERE seq = ?",
    "UPDATE audit_event SET body = NULL, identity_key = NULL WHERE seq = ?",
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
            let failed = |error: sqlx::Error| store_error(FORGETTING, &error);
            self.catch_up().await?;
            let mut text = search::at(&step.forgotten);
            let rows = text.build_query_as::<LogRow>().persistent(false).fetch_all(&self.readers).await;
            let identities = identities(&rows.map_err(failed)?);
            let mut writer = self.writer().await?;
            let done = forget(&mut writer.session.connection, step).await.map_err(failed)?;
            writer.keep().await?;
            if done {
                self.forget_identities(&identities).await?;
            }
            Ok(done)
        };
        self.within(FORGETTING, Box::pin(work)).await
    }

    async fn sweep_names(&self, after: &str) -> Result<Option<String>, StoreError> {
        let work = async {
            self.readable().await?;
            let find = sqlx::query_scalar(NAMES).bind(after).bind(i64::from(NAMES_AT_ONCE));
            let names = find.fetch_all(&self.readers).await;
            let names: Vec<String> = names.map_err(|error| store_error(FORGETTING, &error))?;
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

impl SqliteStore {
    /// Forgets those of these SPIFFE IDs that nothing is on record of any more.
    async fn forget_identities(&self, identities: &BTreeSet<String>) -> Result<(), StoreError> {
        let failed = |error: sqlx::Error| store_error(FORGETTING, &error);
        let head: i64 = sqlx::query_scalar(EVENTS).fetch_one(&self.readers).await.map_err(failed)?;
        let gone = without_events(self, identities).await?;
        if gone.is_empty() {
            return Ok(());
        }
        let mut writer = self.writer().await?;
        let connection = &mut writer.session.connection;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(failed)?;
        for spiffe_id in gone {
            // Unless it came back meanwhile.
            let mut text = QueryBuilder::new("DELETE FROM audit_identity WHERE spiffe_id = ");
            text.push_bind(spiffe_id.as_str()).push(" AND NOT EXISTS (SELECT 1 FROM audit_event WHERE seq >= ");
            text.push_bind(head).push(" AND identity_key IN (");
            let mut keys = text.separated(", ");
            for key in keys_since(spiffe_id, head.unsigned_abs()) {
                keys.push_bind(key);
            }
            text.push("))");
            text.build().execute(&mut *connection).await.map_err(failed)?;
        }
        sqlx::query("COMMIT").execute(connection).await.map_err(failed)?;
        writer.keep().await
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
        let closed = entries::ends(connection).await?.closed;
        for piece in pieces_of(&step.forgotten, &closed) {
            entries::make_anew(connection, piece).await?;
        }
        for (sequence, until) in &step.put_off {
            let put_off = sqlx::query(PUT_OFF).bind(column(*sequence)).bind(class).bind(AuditEvent::micros(*until));
            put_off.execute(&mut *connection).await?;
        }
    }
    sqlx::query(if moved { "COMMIT" } else { "ROLLBACK" }).execute(connection).await?;
    Ok(moved)
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
