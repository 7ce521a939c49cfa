//! Claims on requests for the certificates of pods, and what is kept with them.

use async_trait::async_trait;
use signet_core::audit::AuditEvent;
use signet_core::record_before_release::{ClaimName, Claimed, Kept};
use signet_core::seams::pod_certificates::{Claim, PodCertificateStore};
use signet_core::seams::store::{AppendError, StoreError};
use sqlx::sqlite::SqliteConnection;
use time::OffsetDateTime;

use super::error::store_error;
use super::{Session, SqliteStore, audit, fence, signed_leaves};
use crate::store::pod_certificates::{CLAIM, ClaimRow, FINISH, FORGET, KEEP, KEEP_NOT, LOOK, claim_of};
use crate::store::rows::NewRow;
use crate::store::signed_leaves::LeafRow;

/// Keeps a certificate with its claim; `false` when the claim is not its claimant's any more.
async fn keep(connection: &mut SqliteConnection, kept: &Kept) -> Result<bool, sqlx::Error> {
    let Some(Claimed { claim: ClaimName { uid, claimant }, chain }) = kept.claimed() else { return Ok(true) };
    let keep = sqlx::query(KEEP).bind(uid.as_str()).bind(claimant.as_str()).bind(chain.as_str());
    Ok(keep.execute(connection).await?.rows_affected() == 1)
}

/// Appends rows in one transaction, each with what is kept with it. Gives the position of each row that was
/// inserted.
pub(super) async fn append_keeping(
    session: &mut Session,
    rows: &[(NewRow, Option<Kept>)],
) -> Result<Vec<Result<u64, AppendError>>, sqlx::Error> {
    let connection = &mut session.connection;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let known = fence::read(connection).await?;
    let mut held = Vec::with_capacity(rows.len());
    for (_, kept) in rows {
        held.push(match kept {
            None => true,
            Some(kept) => keep(connection, kept).await?,
        });
    }
    let with_claim: Vec<&NewRow> = rows.iter().zip(&held).filter(|(_, held)| **held).map(|((row, _), _)| row).collect();
    let (positions, head) = audit::append_within(connection, &with_claim, &known.fence).await?;
    let mut positions = positions.into_iter();
    let mut results = Vec::with_capacity(rows.len());
    for ((_, kept), held) in rows.iter().zip(held) {
        let result =
            if held { positions.next().unwrap_or(Err(AppendError::ClaimLost)) } else { Err(AppendError::ClaimLost) };
        if let (true, Err(_), Some(claimed)) = (held, &result, kept.as_ref().and_then(Kept::claimed)) {
            let ClaimName { uid, claimant } = &claimed.claim;
            sqlx::query(KEEP_NOT).bind(uid.as_str()).bind(claimant.as_str()).execute(&mut *connection).await?;
        }
        results.push(result);
    }
    let made = rows.iter().zip(&results).filter(|(_, result)| result.is_ok());
    for leaf in made.filter_map(|((row, kept), _)| LeafRow::of(row, kept.as_ref())) {
        signed_leaves::insert(connection, &leaf).await?;
    }
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    (session.head, session.fence) = (Some(head), Some(known));
    Ok(results)
}

impl SqliteStore {
    /// Runs one statement that writes claims, and gives how many rows it has changed.
    async fn write_claims<'q>(
        &self,
        doing: &'static str,
        query: super::holders::Statement<'q>,
    ) -> Result<u64, StoreError> {
        let write = async {
            let mut writer = self.writer().await?;
            let done = query.execute(&mut writer.session.connection).await;
            let done = done.map_err(|error| store_error(doing, &error))?;
            writer.keep().await?;
            Ok(done.rows_affected())
        };
        self.within(doing, Box::pin(write)).await
    }
}

#[async_trait]
impl PodCertificateStore for SqliteStore {
    async fn claim(
        &self,
        name: &ClaimName,
        cluster: &str,
        now: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<Claim, StoreError> {
        const DOING: &str = "claiming a request for a pod's certificate";
        let claim = sqlx::query(CLAIM).bind(name.uid.as_str()).bind(cluster).bind(name.claimant.as_str());
        let claim = claim.bind(AuditEvent::micros(now)).bind(AuditEvent::micros(until));
        if self.write_claims(DOING, claim).await? == 1 {
            return Ok(Claim::Claimed);
        }
        let look = sqlx::query_as(LOOK).bind(name.uid.as_str());
        let look = async { look.fetch_optional(&self.readers).await.map_err(|error| store_error(DOING, &error)) };
        let row: Option<ClaimRow> = self.within(DOING, Box::pin(look)).await?;
        // One that was forgotten in between is claimed the next time.
        row.map_or(Ok(Claim::HeldByAnother(now)), claim_of)
    }

    async fn finish(&self, uid: &str, at: OffsetDateTime) -> Result<(), StoreError> {
        let finish = sqlx::query(FINISH).bind(uid).bind(AuditEvent::micros(at));
        self.write_claims("noting that a request was answered", finish).await.map(drop)
    }

    async fn forget_claims(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        let forget = sqlx::query(FORGET).bind(AuditEvent::micros(before)).bind(i64::from(limit));
        self.write_claims("forgetting requests for certificates of pods", forget).await
    }
}
