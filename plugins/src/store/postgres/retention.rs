//! Words of events are forgotten, with the entries that they are found by.

use std::time::Duration;

use async_trait::async_trait;
use signet_core::audit::{AuditEvent, Class};
use signet_core::seams::retention::{Aging, Forgetting, MAX_AT_ONCE, RecordRetention};
use signet_core::seams::store::StoreError;
use sqlx::Executor as _;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;

use super::PostgresStore;
use super::error::store_error;
use super::pool::Use;
use crate::store::holders::column;
use crate::store::retention::{AGING, AgingRow, BEGIN, CURSOR, DUE, LONGEST, Life, MOVE, PUT_OFF, SAY_LONGEST};
use crate::store::rows::SEGMENT;

const READING: &str = "reading events that are old";
const FORGETTING: &str = "forgetting events that are old";

/// Keeps those who make entries away, who would make them of words that are being forgotten.
const NO_ENTRIES: &str = "SELECT 1 FROM closed_segment WHERE id = 1 FOR UPDATE";

/// Takes events out of the entries of their segments: positions, length of a segment.
const FORGET_ENTRIES: [&str; 2] = [
    "UPDATE closed_identity AS c SET offsets = ARRAY(SELECT o FROM unnest(c.offsets) AS o WHERE NOT o = ANY(g.gone) ORDER BY o) \
        FROM (SELECT identity_key, array_agg((seq % $2)::smallint) AS gone FROM audit_event \
            WHERE seq = ANY($1) AND identity_key IS NOT NULL GROUP BY identity_key) AS g \
        WHERE c.identity_key = g.identity_key",
    "UPDATE closed_outcome AS c SET offsets = ARRAY(SELECT o FROM unnest(c.offsets) AS o WHERE NOT o = ANY(g.gone) ORDER BY o) \
        FROM (SELECT outcome, seq / $2 AS segment, array_agg((seq % $2)::smallint) AS gone FROM audit_event \
            WHERE seq = ANY($1) GROUP BY outcome, seq / $2) AS g \
        WHERE c.outcome = g.outcome AND c.segment = g.segment",
];

/// Removes entries that name nothing any more, of these events' segments, and the words: positions.
const FORGET: [&str; 3] = [
    "DELETE FROM closed_identity WHERE cardinality(offsets) = 0 AND identity_key IN \
        (SELECT identity_key FROM audit_event WHERE seq = ANY($1))",
    "DELETE FROM retention_put_off WHERE seq = ANY($1)",
    "UPDATE audit_event SET body = NULL WHERE seq = ANY($1)",
];

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
            self.catch_up().await?;
            let mut lease = self.lease(Use::Writing).await?;
            self.seen.look(&mut lease).await?;
            let done = forget(&mut lease, step).await.map_err(|error| store_error(FORGETTING, &error))?;
            lease.keep();
            Ok(done)
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

async fn forget(connection: &mut PgConnection, step: &Forgetting) -> Result<bool, sqlx::Error> {
    let class = i64::from(step.class.number());
    connection.execute("BEGIN").await?;
    connection.execute(NO_ENTRIES).await?;
    let go_on = sqlx::query(MOVE).bind(class).bind(column(step.from)).bind(column(step.below));
    let mut moved = go_on.execute(&mut *connection).await?.rows_affected() == 1;
    if !moved && step.from == 0 {
        let begin = sqlx::query(BEGIN).bind(class).bind(column(step.below));
        moved = begin.execute(&mut *connection).await?.rows_affected() == 1;
    }
    if moved {
        let forgotten: Vec<i64> = step.forgotten.iter().copied().map(column).collect();
        for statement in FORGET_ENTRIES {
            sqlx::query(statement).bind(&forgotten).bind(column(SEGMENT)).execute(&mut *connection).await?;
        }
        for statement in FORGET {
            sqlx::query(statement).bind(&forgotten).execute(&mut *connection).await?;
        }
        for (sequence, until) in &step.put_off {
            let put_off = sqlx::query(PUT_OFF).bind(column(*sequence)).bind(class).bind(AuditEvent::micros(*until));
            put_off.execute(&mut *connection).await?;
        }
    }
    connection.execute(if moved { "COMMIT" } else { "ROLLBACK" }).await?;
    Ok(moved)
}
