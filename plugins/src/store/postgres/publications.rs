//! Where the trust bundle is published.

use async_trait::async_trait;
use signet_core::audit::AuditEvent;
use signet_core::publication::{Publications, Report};
use signet_core::seams::store::{PublicationStore, StoreError};
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;

use super::PostgresStore;
use super::error::store_error;
use super::pool::Use;
use crate::store::publications::{
    FORGET, FORGET_REACHED, FORGET_TURNS, IS_TAKEN, KEEP, NewReport, PRUNE, REACHED, READ, REPORT, SILENT, TAKE_TURN,
    publications,
};

#[async_trait]
impl PublicationStore for PostgresStore {
    async fn report(&self, report: &Report) -> Result<(), StoreError> {
        const DOING: &str = "noting what is published";
        let report = NewReport::of(report)?;
        let write = async {
            let mut locked = self.locked(DOING).await?;
            note(locked.connection(), &report).await.map_err(|error| store_error(DOING, &error))?;
            locked.commit(DOING).await
        };
        self.within(DOING, Box::pin(write)).await
    }

    async fn publications(&self) -> Result<Publications, StoreError> {
        const DOING: &str = "reading what is published";
        let read = async {
            let mut lease = self.lease(Use::Reading).await?;
            let found = read(&mut lease).await?;
            lease.keep();
            Ok(found)
        };
        self.within(DOING, read).await
    }

    async fn take_turn(
        &self,
        publisher: &str,
        who: &str,
        now: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        const DOING: &str = "taking a turn to publish";
        let failed = |error: sqlx::Error| store_error(DOING, &error);
        let (now, until) = (AuditEvent::micros(now), AuditEvent::micros(until));
        let work = async {
            // Most ask while somebody else has it: that takes no lock.
            let mut lease = self.lease(Use::Reading).await?;
            let taken = sqlx::query_scalar(IS_TAKEN).bind(publisher).bind(who).bind(now).fetch_one(&mut *lease).await;
            let taken: i64 = taken.map_err(failed)?;
            lease.keep();
            if taken > 0 {
                return Ok(false);
            }
            let mut locked = self.locked(DOING).await?;
            let take = sqlx::query(TAKE_TURN).bind(publisher).bind(who).bind(now).bind(until);
            let done = take.execute(locked.connection()).await.map_err(failed)?;
            locked.commit(DOING).await?;
            Ok(done.rows_affected() == 1)
        };
        self.within(DOING, Box::pin(work)).await
    }

    async fn forget_silent(&self, ours: &[String], before: OffsetDateTime) -> Result<Vec<String>, StoreError> {
        const DOING: &str = "forgetting publishers";
        let failed = |error: sqlx::Error| store_error(DOING, &error);
        let before = AuditEvent::micros(before);
        let work = async {
            let mut lease = self.lease(Use::Reading).await?;
            let silent = sqlx::query_scalar(SILENT).bind(before).fetch_all(&mut *lease).await.map_err(failed)?;
            lease.keep();
            let silent: Vec<String> = silent.into_iter().filter(|name| !ours.contains(name)).collect();
            if silent.is_empty() {
                return Ok(silent);
            }
            let mut locked = self.locked(DOING).await?;
            let forgotten = forget(locked.connection(), silent, before).await.map_err(failed)?;
            locked.commit(DOING).await?;
            Ok(forgotten)
        };
        self.within(DOING, Box::pin(work)).await
    }
}

/// What is published, on a connection that may be in a transaction.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn read(connection: &mut PgConnection) -> Result<Publications, StoreError> {
    let rows = sqlx::query_as(READ).fetch_all(connection).await;
    publications(rows.map_err(|error| store_error("reading what is published", &error))?)
}

/// Within a transaction that has the lock.
async fn note(connection: &mut PgConnection, report: &NewReport) -> Result<(), sqlx::Error> {
    let keep = sqlx::query(REPORT).bind(&report.publisher).bind(report.wanted).bind(report.in_place);
    keep.bind(&report.problem).bind(report.at).execute(&mut *connection).await?;
    if let Some(sequence) = report.sequence {
        let reached = sqlx::query(REACHED).bind(&report.publisher).bind(sequence).bind(report.at);
        reached.execute(&mut *connection).await?;
        sqlx::query(PRUNE).bind(&report.publisher).bind(KEEP).execute(connection).await?;
    }
    Ok(())
}

/// Within a transaction that has the lock.
async fn forget(connection: &mut PgConnection, silent: Vec<String>, before: i64) -> Result<Vec<String>, sqlx::Error> {
    let mut forgotten = Vec::new();
    for publisher in silent {
        let done = sqlx::query(FORGET).bind(&publisher).bind(before).execute(&mut *connection).await?;
        forgotten.extend((done.rows_affected() > 0).then_some(publisher));
    }
    sqlx::query(FORGET_REACHED).execute(&mut *connection).await?;
    sqlx::query(FORGET_TURNS).execute(connection).await?;
    Ok(forgotten)
}
