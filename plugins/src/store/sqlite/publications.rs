//! Where the trust bundle is published.

use async_trait::async_trait;
use signet_core::audit::AuditEvent;
use signet_core::publication::{Publications, Report};
use signet_core::seams::store::{PublicationStore, StoreError};
use sqlx::sqlite::SqliteConnection;
use time::OffsetDateTime;

use super::SqliteStore;
use super::error::store_error;
use crate::store::publications::{
    FORGET, FORGET_REACHED, FORGET_TURNS, IS_TAKEN, KEEP, NewReport, PRUNE, REACHED, READ, REPORT, SILENT, TAKE_TURN,
    publications,
};

#[async_trait]
impl PublicationStore for SqliteStore {
    async fn report(&self, report: &Report) -> Result<(), StoreError> {
        const DOING: &str = "noting what is published";
        let report = NewReport::of(report)?;
        let write = async {
            let mut writer = self.writer().await?;
            let done = note(&mut writer.session.connection, &report).await;
            done.map_err(|error| store_error(DOING, &error))?;
            writer.keep().await
        };
        self.within(DOING, write).await
    }

    async fn publications(&self) -> Result<Publications, StoreError> {
        const DOING: &str = "reading what is published";
        let read = async {
            self.readable().await?;
            sqlx::query_as(READ).fetch_all(&self.readers).await.map_err(|error| store_error(DOING, &error))
        };
        publications(self.within(DOING, read).await?)
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
            let taken = sqlx::query_scalar(IS_TAKEN).bind(publisher).bind(who).bind(now).fetch_one(&self.readers).await;
            if taken.is_ok_and(|taken: i64| taken > 0) {
                return Ok(false);
            }
            let mut writer = self.writer().await?;
            let take = sqlx::query(TAKE_TURN).bind(publisher).bind(who).bind(now).bind(until);
            let done = take.execute(&mut writer.session.connection).await.map_err(failed)?;
            writer.keep().await?;
            Ok(done.rows_affected() == 1)
        };
        self.within(DOING, work).await
    }

    async fn forget_silent(&self, ours: &[String], before: OffsetDateTime) -> Result<Vec<String>, StoreError> {
        const DOING: &str = "forgetting publishers";
        let failed = |error: sqlx::Error| store_error(DOING, &error);
        let before = AuditEvent::micros(before);
        let work = async {
            let silent = sqlx::query_scalar(SILENT).bind(before).fetch_all(&self.readers).await.map_err(failed)?;
            let silent: Vec<String> = silent.into_iter().filter(|name| !ours.contains(name)).collect();
            if silent.is_empty() {
                return Ok(silent);
            }
            let mut writer = self.writer().await?;
            let forgotten = forget(&mut writer.session.connection, silent, before).await.map_err(failed)?;
            writer.keep().await?;
            Ok(forgotten)
        };
        self.within(DOING, work).await
    }
}

/// What is published, within a transaction.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn read(connection: &mut SqliteConnection) -> Result<Publications, StoreError> {
    let rows = sqlx::query_as(READ).fetch_all(connection).await;
    publications(rows.map_err(|error| store_error("reading what is published", &error))?)
}

async fn note(connection: &mut SqliteConnection, report: &NewReport) -> Result<(), sqlx::Error> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let keep = sqlx::query(REPORT).bind(&report.publisher).bind(report.wanted).bind(report.in_place);
    keep.bind(&report.problem).bind(report.at).execute(&mut *connection).await?;
    if let Some(sequence) = report.sequence {
        let reached = sqlx::query(REACHED).bind(&report.publisher).bind(sequence).bind(report.at);
        reached.execute(&mut *connection).await?;
        sqlx::query(PRUNE).bind(&report.publisher).bind(KEEP).execute(&mut *connection).await?;
    }
    sqlx::query("COMMIT").execute(connection).await.map(drop)
}

async fn forget(
    connection: &mut SqliteConnection,
    silent: Vec<String>,
    before: i64,
) -> Result<Vec<String>, sqlx::Error> {
    let mut forgotten = Vec::new();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    for publisher in silent {
        let done = sqlx::query(FORGET).bind(&publisher).bind(before).execute(&mut *connection).await?;
        forgotten.extend((done.rows_affected() > 0).then_some(publisher));
    }
    sqlx::query(FORGET_REACHED).execute(&mut *connection).await?;
    sqlx::query(FORGET_TURNS).execute(&mut *connection).await?;
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(forgotten)
}
