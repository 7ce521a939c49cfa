//! Claims on requests for the certificates of pods, and what is kept with them.

use std::sync::Arc;

use async_trait::async_trait;
use signet_core::audit::AuditEvent;
use signet_core::record_before_release::{ClaimName, Claimed, Kept};
use signet_core::seams::pod_certificates::{Claim, PodCertificateStore};
use signet_core::seams::store::{AppendError, StoreError};
use sqlx::Postgres;
use sqlx::postgres::{PgArguments, PgConnection};
use time::OffsetDateTime;

use super::error::store_error;
use super::pool::Use;
use super::{PostgresStore, audit, fence, signed_leaves};
use crate::store::pod_certificates::{CLAIM, ClaimRow, FINISH, FORGET, KEEP, KEEP_NOT, LOOK, claim_of};
use crate::store::rows::NewRow;
use crate::store::signed_leaves::LeafRow;

type Statement<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

/// Keeps a certificate with its claim; `false` when the claim is not its claimant's any more.
async fn keep(connection: &mut PgConnection, kept: &Kept) -> Result<bool, sqlx::Error> {
    let Some(Claimed { claim: ClaimName { uid, claimant }, chain }) = kept.claimed() else { return Ok(true) };
    let keep = sqlx::query(KEEP).bind(uid.as_str()).bind(claimant.as_str()).bind(chain.as_str());
    Ok(keep.execute(connection).await?.rows_affected() == 1)
}

impl PostgresStore {
    /// Appends rows in one transaction, each with what is kept with it. Gives the position of each row that was
    /// inserted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn append_rows_keeping(
        &self,
        rows: &[(NewRow, Option<Kept>)],
    ) -> Result<Vec<Result<u64, AppendError>>, StoreError> {
        const DOING: &str = "appending to the audit log";
        let failed = |error: sqlx::Error| store_error(DOING, &error);
        let mut locked = self.locked(DOING).await?;
        let known = Arc::new(fence::read(locked.connection()).await.map_err(failed)?);
        let mut held = Vec::with_capacity(rows.len());
        for (_, kept) in rows {
            held.push(match kept {
                None => true,
                Some(kept) => keep(locked.connection(), kept).await.map_err(failed)?,
            });
        }
        let with_claim: Vec<&NewRow> =
            rows.iter().zip(&held).filter(|(_, held)| **held).map(|((row, _), _)| row).collect();
        let appended = audit::append_within(&mut locked, &with_claim, &known.fence).await.map_err(failed)?;
        let mut positions = appended.positions.iter().copied();
        let mut results = Vec::with_capacity(rows.len());
        for ((_, kept), held) in rows.iter().zip(held) {
            let lost = Err(AppendError::ClaimLost);
            let result = if held { positions.next().unwrap_or(lost) } else { lost };
            if let (true, Err(_), Some(claimed)) = (held, &result, kept.as_ref().and_then(Kept::claimed)) {
                let ClaimName { uid, claimant } = &claimed.claim;
                let undo = sqlx::query(KEEP_NOT).bind(uid.as_str()).bind(claimant.as_str());
                undo.execute(locked.connection()).await.map_err(failed)?;
            }
            results.push(result);
        }
        let made = rows.iter().zip(&results).filter(|(_, result)| result.is_ok());
        let leaves: Vec<_> = made.filter_map(|((row, kept), _)| LeafRow::of(row, kept.as_ref())).collect();
        signed_leaves::insert(locked.connection(), &leaves).await.map_err(failed)?;
        locked.commit(DOING).await?;
        appended.committed(self);
        self.fence.store(Some(known));
        Ok(results)
    }

    /// Runs one statement that writes claims, and gives how many rows it has changed.
    async fn write_claims(&self, doing: &'static str, query: Statement<'_>) -> Result<u64, StoreError> {
        let write = async {
            let mut lease = self.lease(Use::Writing).await?;
            self.seen.look(&mut lease).await?;
            let done = query.execute(&mut *lease).await.map_err(|error| store_error(doing, &error))?;
            lease.keep();
            Ok(done.rows_affected())
        };
        self.within(doing, Box::pin(write)).await
    }
}

#[async_trait]
impl PodCertificateStore for PostgresStore {
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
        let look = async {
            let mut lease = self.lease(Use::Reading).await?;
            let look = sqlx::query_as(LOOK).bind(name.uid.as_str()).fetch_optional(&mut *lease).await;
            let row: Option<ClaimRow> = look.map_err(|error| store_error(DOING, &error))?;
            lease.keep();
            Ok(row)
        };
        let row = self.within(DOING, Box::pin(look)).await?;
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
