//! Entries for segments of the log that are full, made behind it: with them a query for an identity or an outcome finds its
//! events in a few pages. What comes after the last entry is searched as it is.

use signet_core::seams::store::StoreError;
use sqlx::Connection as _;

use super::PostgresStore;
use super::error::store_error;
use super::pool::Use;
use crate::store::rows::SEGMENT;

/// How many segments get entries in one go at most.
const AT_ONCE: usize = 16;

/// The first segment without entries, unless somebody else is making them, and how many segments are full.
const NEXT: &str = "SELECT segments, coalesce((SELECT max(seq) + 1 FROM audit_event), 0) / $1 FROM closed_segment \
    WHERE id = 1 FOR UPDATE SKIP LOCKED";

const IDENTITIES: &str = "INSERT INTO closed_identity (identity_key, offsets) \
    SELECT identity_key, array_agg((seq - $1)::smallint ORDER BY seq) FROM audit_event \
    WHERE seq >= $1 AND seq < $1 + $2 AND identity_key IS NOT NULL AND body IS NOT NULL GROUP BY identity_key ORDER BY identity_key";

const OUTCOMES: &str = "INSERT INTO closed_outcome (outcome, segment, offsets) \
    SELECT outcome, $1 / $2, array_agg((seq - $1)::smallint ORDER BY seq) FROM audit_event \
    WHERE seq >= $1 AND seq < $1 + $2 AND body IS NOT NULL GROUP BY outcome";

/// Makes entries for segments that are full and have none, some at a time. Full segments never change, so this needs no lock
/// but the one of whoever does the same.
///
/// # Errors
/// [`StoreError`]; segments that were done stay so.
pub(super) async fn close(store: &PostgresStore) -> Result<(), StoreError> {
    let mut lease = store.lease(Use::Writing).await?;
    for _ in 0..AT_ONCE {
        match close_one(&mut lease).await.map_err(|error| store_error("making entries for a segment", &error))? {
            true => {}
            false => break,
        }
    }
    lease.keep();
    Ok(())
}

/// Makes the entries of one segment; `false` when there is none to make.
async fn close_one(connection: &mut sqlx::postgres::PgConnection) -> Result<bool, sqlx::Error> {
    let length = i64::try_from(SEGMENT).unwrap_or(i64::MAX);
    let mut transaction = connection.begin().await?;
    let next: Option<(i64, i64)> = sqlx::query_as(NEXT).bind(length).fetch_optional(&mut *transaction).await?;
    let Some((segment, _)) = next.filter(|(segment, full)| segment < full) else {
        transaction.rollback().await?;
        return Ok(false);
    };
    for entries in [IDENTITIES, OUTCOMES] {
        let entries = sqlx::query(entries).bind(segment.saturating_mul(length)).bind(length);
        entries.execute(&mut *transaction).await?;
    }
    let done = sqlx::query("UPDATE closed_segment SET segments = $1 WHERE id = 1").bind(segment.saturating_add(1));
    done.execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(true)
}
