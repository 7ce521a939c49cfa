//! Counting holders. A count is kept in the database together with the state of holders that it is of, so that of all
//! replicas that ask one counts.

use signet_core::holder::Coverage;
use signet_core::rotation::Condition;
use signet_core::seams::store::StoreError;
use sqlx::postgres::{PgConnection, PgRow};
use time::OffsetDateTime;

use super::error::{is_lock_timeout, store_error};
use super::locked::Locked;
use super::pool::{Lease, Use};
use super::{PostgresStore, holder_projection, publications};
use crate::store::columns::columns;
use crate::store::holders::{Group, RaiseRow, coverage, last_ends, live_above};

const DOING: &str = "counting holders";

/// Any number that nobody else is likely to use: replicas that would count at once wait for each other with it.
pub(super) const COUNTING: i64 = 0x5169_6e65_7443_6f75;

/// A handful: what nothing waits for is removed.
const RAISES: &str = "coalesce((SELECT json_agg(json_build_array(before, after, at) ORDER BY before, after)::text FROM holder_raise), '[]')";

pub(super) const LAST_ENDS: &str = "SELECT authority, last_not_after FROM authority_usage";

/// Who refuses bundles, and who lags behind bundle `$2`, of those who are live at `$1`.
pub(super) const LAG: &str = "SELECT count(refused_sequence), max(not_after) FILTER (WHERE sequence < $2) \
    FROM holder AS h WHERE not_after > $1 AND NOT coalesce(gone_at > seen_at, false)";

/// Live holders in groups, for statements that begin with it; `$1` is the moment.
pub(super) const LIVE: &str = "SELECT authority, former, sequence, count(*) AS holders, \
    count(*) FILTER (WHERE acknowledges) AS acknowledging, coalesce(gone_at > seen_at, false) AS gone, \
    min(not_after) AS next_end \
    FROM holder AS h WHERE not_after > $1";

/// What is known without counting.
struct Kept {
    /// Whether all of the log is entered.
    is_whole: bool,
    /// The last count, if it holds at the moment that is asked for.
    live: Option<String>,
    raises: String,
}

columns!(Kept { is_whole, live, raises } from PgRow);

/// What a count found.
struct Counted {
    version: i64,
    counted_for: Option<i64>,
    next_end: i64,
    live: String,
    raises: String,
}

columns!(Counted { version, counted_for, next_end, live, raises } from PgRow);

/// The coverage that two texts of JSON describe.
fn read(live: &str, raises: &str) -> Result<Coverage, StoreError> {
    let damaged = |error: serde_json::Error| StoreError::Damaged(format!("{DOING}: the count that is kept: {error}"));
    let live: Vec<Group> = serde_json::from_str(live).map_err(damaged)?;
    let raises: Vec<RaiseRow> = serde_json::from_str(raises).map_err(damaged)?;
    coverage(live, raises)
}

async fn kept(connection: &mut PgConnection, moment: i64) -> Result<Kept, sqlx::Error> {
    let text = format!(
        "SELECT f.below >= coalesce((SELECT max(seq) + 1 FROM audit_event), 0) AS is_whole, c.live, {RAISES} AS raises \
         FROM holder_fold AS f LEFT JOIN holder_tally AS c ON c.id = 1 AND c.version = f.version \
         AND c.counted_for = f.counted_for AND c.counted_for <= $1 AND $1 < c.next_end WHERE f.id = 1"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(moment).fetch_one(connection).await
}

/// Says that a count is made for this moment: from then on the renewal of a holder that had ended moves the version. It moves
/// with this, too, so that a count that was announced earlier and is kept later does not pass for this one. Within a transaction
/// that has the lock.
async fn announce(connection: &mut PgConnection, moment: i64) -> Result<(), sqlx::Error> {
    let announce = "UPDATE holder_fold SET counted_for = $1, version = version + 1 WHERE id = 1";
    sqlx::query(announce).bind(moment).execute(connection).await.map(drop)
}

/// Counts, and keeps the count unless another one was announced meanwhile.
async fn count(connection: &mut PgConnection, moment: i64) -> Result<Coverage, StoreError> {
    let failed = |error: sqlx::Error| store_error(DOING, &error);
    // One statement, so that all is of one moment.
    let text = format!(
        "WITH live AS ({LIVE} GROUP BY authority, former, sequence, gone) SELECT f.version, f.counted_for, \
         coalesce((SELECT min(next_end) FROM live), {}) AS next_end, coalesce((SELECT json_agg(json_build_array( \
         authority, former, sequence, holders, acknowledging, gone))::text FROM live), '[]') AS live, {RAISES} AS raises \
         FROM holder_fold AS f WHERE f.id = 1",
        i64::MAX
    );
    let counted = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(moment).fetch_one(&mut *connection).await;
    let counted: Counted = counted.map_err(failed)?;
    if counted.counted_for == Some(moment) {
        let keep = "INSERT INTO holder_tally (id, version, counted_for, next_end, live) VALUES (1, $1, $2, $3, $4) \
            ON CONFLICT (id) DO UPDATE SET version = excluded.version, counted_for = excluded.counted_for, \
            next_end = excluded.next_end, live = excluded.live";
        let keep = sqlx::query(keep).bind(counted.version).bind(moment).bind(counted.next_end).bind(&counted.live);
        keep.execute(connection).await.map_err(failed)?;
    }
    read(&counted.live, &counted.raises)
}

/// Whether all conditions hold, within a transaction that has the lock.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn all_hold(
    locked: &mut Locked<'_>,
    conditions: &[Condition],
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    let failed = |error: sqlx::Error| store_error("counting holders for a step", &error);
    if conditions.is_empty() {
        return Ok(true);
    }
    let (connection, moment) = (locked.connection(), live_above(now));
    holder_projection::enter_all(connection).await.map_err(failed)?;
    let Kept { live, raises, .. } = kept(connection, moment).await.map_err(failed)?;
    let mut coverage = match live {
        Some(live) => read(&live, &raises)?,
        None => {
            announce(connection, moment).await.map_err(failed)?;
            count(connection, moment).await?
        }
    };
    let ends: Vec<(String, i64)> = sqlx::query_as(LAST_ENDS).fetch_all(&mut *connection).await.map_err(failed)?;
    let ends = last_ends(ends)?;
    coverage.published = publications::read(connection).await?;
    Ok(conditions.iter().all(|condition| condition.holds(&coverage, &ends)))
}

impl PostgresStore {
    /// The numbers of live holders.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn count_holders(&self, now: OffsetDateTime) -> Result<Coverage, StoreError> {
        let failed = |error: sqlx::Error| store_error(DOING, &error);
        let moment = live_above(now);
        let mut known = self.kept(moment).await?;
        if !known.is_whole {
            self.catch_up().await?;
            // Most of what is entered leaves a count right.
            known = self.kept(moment).await?;
        }
        if let Some(live) = known.live {
            return read(&live, &known.raises);
        }
        // Of this process, one waits for other replicas, so that the others leave connections to queries.
        let _turn = self.counting.lock().await;
        let mut lease = self.take_turn().await?;
        let Kept { live, raises, .. } = kept(&mut lease, moment).await.map_err(failed)?;
        let coverage = match live {
            // Whoever had the turn before has counted, and all that was on record when this was called is in it.
            Some(live) => read(&live, &raises)?,
            None => {
                let mut locked = self.locked(DOING).await?;
                holder_projection::enter_all(locked.connection()).await.map_err(failed)?;
                announce(locked.connection(), moment).await.map_err(failed)?;
                locked.commit(DOING).await?;
                count(&mut lease, moment).await?
            }
        };
        sqlx::raw_sql("COMMIT").execute(&mut *lease).await.map_err(failed)?;
        lease.keep();
        Ok(coverage)
    }

    async fn kept(&self, moment: i64) -> Result<Kept, StoreError> {
        let mut lease = self.lease(Use::Reading).await?;
        let known = kept(&mut lease, moment).await.map_err(|error| store_error(DOING, &error))?;
        lease.keep();
        Ok(known)
    }

    /// A connection in a transaction that makes other replicas wait with their counts; for a while, since one may have fallen
    /// asleep while it counted.
    async fn take_turn(&self) -> Result<Lease<'_>, StoreError> {
        let failed = |error: sqlx::Error| store_error(DOING, &error);
        let mut lease = self.lease(Use::Reading).await?;
        // While the lock of the log is waited for on another connection, this one is idle.
        let begin = format!(
            "BEGIN; SET LOCAL idle_in_transaction_session_timeout = {}",
            self.settings.deadline.as_millis().max(1)
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(begin)).execute(&mut *lease).await.map_err(failed)?;
        match sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(COUNTING).execute(&mut *lease).await {
            Ok(_) => {}
            // Counting twice is better than not at all.
            Err(error) if is_lock_timeout(&error) => {
                sqlx::raw_sql("ROLLBACK; BEGIN").execute(&mut *lease).await.map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        Ok(lease)
    }
}
