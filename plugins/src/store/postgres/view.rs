//! Holders as they are when all of the record is entered, for a store that only reads: what waits to be entered is entered
//! in memory.

use std::collections::{BTreeMap, BTreeSet};

use signet_core::authority::AuthorityId;
use signet_core::holder::{Coverage, Holder, HolderKey, HolderQuery, Lag};
use signet_core::seams::store::StoreError;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;

use super::PostgresStore;
use super::coverage::{LAST_ENDS, LIVE};
use super::error::store_error;
use super::holder_projection::{Bounds, Piece};
use super::holders::page_statement;
use super::loaded_holders::{Loaded, columns};
use super::pool::{Lease, Use};
use crate::store::holders::{Group, HolderRow, LagRow, RaiseRow, column, coverage, lag, lag_of, last_ends, live_above};

const DOING: &str = "reading holders";

/// All that is read through it is of one moment.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Leaves out the holders of a view.
pub(super) const OTHERS: &str = " AND NOT EXISTS (SELECT 1 FROM unnest($2::text[], $3::text[]) AS k (spiffe_id, instance) \
    WHERE k.spiffe_id = h.spiffe_id AND k.instance = h.instance)";

/// A moment of the database, and what waited to be entered then.
pub(super) struct View<'a> {
    lease: Lease<'a>,
    /// The holders that it is about.
    keys: BTreeSet<HolderKey>,
    loaded: Loaded,
}

impl<'a> View<'a> {
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn open(store: &'a PostgresStore) -> Result<Self, StoreError> {
        let failed = |error: sqlx::Error| store_error(DOING, &error);
        let mut lease = store.lease(Use::Reading).await?;
        sqlx::raw_sql(BEGIN).execute(&mut *lease).await.map_err(failed)?;
        let pieces = pieces(&mut lease).await.map_err(failed)?;
        let keys = pieces.iter().flat_map(Piece::keys).collect();
        let mut loaded = Loaded::read(&mut lease, &keys).await.map_err(failed)?;
        for piece in &pieces {
            loaded.renew(&piece.entered);
        }
        Ok(Self { lease, keys, loaded })
    }

    async fn close(mut self) -> Result<(), StoreError> {
        sqlx::raw_sql("COMMIT").execute(&mut *self.lease).await.map_err(|error| store_error(DOING, &error))?;
        self.lease.keep();
        Ok(())
    }

    /// # Errors
    /// [`StoreError`].
    pub(super) async fn coverage(mut self, now: OffsetDateTime) -> Result<Coverage, StoreError> {
        let failed = |error: sqlx::Error| store_error(DOING, &error);
        let (spiffe_ids, instances) = columns(&self.keys);
        let text = format!("{LIVE}{OTHERS} GROUP BY authority, former, sequence, gone");
        let text = format!("SELECT authority, former, sequence, holders, acknowledging, gone FROM ({text}) AS live");
        let others = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(live_above(now)).bind(spiffe_ids).bind(instances);
        let mut groups: Vec<Group> = others.fetch_all(&mut *self.lease).await.map_err(failed)?;
        let live = self.loaded.now.values().filter(|row| row.not_after > live_above(now));
        groups.extend(live.map(HolderRow::group));
        let raises = sqlx::query_as("SELECT before, after, at FROM holder_raise ORDER BY before, after");
        let raises: Vec<RaiseRow> = raises.fetch_all(&mut *self.lease).await.map_err(failed)?;
        self.close().await?;
        coverage(groups, raises)
    }

    /// # Errors
    /// [`StoreError`].
    pub(super) async fn lag(mut self, now: OffsetDateTime, sequence: u64) -> Result<Lag, StoreError> {
        let (spiffe_ids, instances) = columns(&self.keys);
        let text = format!(
            "SELECT count(refused_sequence), max(not_after) FILTER (WHERE sequence < $4) FROM holder AS h \
             WHERE not_after > $1 AND NOT coalesce(gone_at > seen_at, false){OTHERS}"
        );
        let others = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(live_above(now)).bind(spiffe_ids).bind(instances);
        let others = others.bind(column(sequence)).fetch_one(&mut *self.lease).await;
        let (refusing, last_end): LagRow = others.map_err(|error| store_error(DOING, &error))?;
        let (more, later) = lag_of(self.loaded.now.values(), now, sequence);
        self.close().await?;
        lag((refusing.saturating_add(more), last_end.max(later)))
    }

    /// # Errors
    /// [`StoreError`].
    pub(super) async fn holders(mut self, query: &HolderQuery) -> Result<Vec<Holder>, StoreError> {
        let mut statement = page_statement(query, &self.keys);
        let rows = statement.build_query_as().fetch_all(&mut *self.lease).await;
        let others: Vec<HolderRow> = rows.map_err(|error| store_error(DOING, &error))?;
        let key = |row: &HolderRow| HolderKey { spiffe_id: row.spiffe_id.clone(), instance: row.instance.clone() };
        let mut found: BTreeMap<HolderKey, HolderRow> = others.into_iter().map(|row| (key(&row), row)).collect();
        let loaded = std::mem::take(&mut self.loaded).now;
        found.extend(loaded.into_iter().filter(|(_, row)| row.is_asked_for(query)));
        self.close().await?;
        found.into_values().take(query.page_size()).map(HolderRow::into_holder).collect()
    }

    /// # Errors
    /// [`StoreError`].
    pub(super) async fn last_ends(mut self) -> Result<BTreeMap<AuthorityId, OffsetDateTime>, StoreError> {
        let rows = sqlx::query_as(LAST_ENDS).fetch_all(&mut *self.lease).await;
        let rows: Vec<(String, i64)> = rows.map_err(|error| store_error(DOING, &error))?;
        let mut usage: BTreeMap<String, i64> = std::mem::take(&mut self.loaded.usage);
        for (authority, end) in rows {
            let last = usage.entry(authority).or_insert(end);
            *last = end.max(*last);
        }
        if let Some(unread) = self.loaded.unread_end {
            usage.values_mut().for_each(|end| *end = unread.max(*end));
        }
        self.close().await?;
        last_ends(usage)
    }
}

async fn pieces(connection: &mut PgConnection) -> Result<Vec<Piece>, sqlx::Error> {
    let mut bounds = Bounds::read(connection).await?;
    let mut pieces = Vec::new();
    while !bounds.is_whole() {
        let piece = Piece::after(connection, bounds).await?;
        bounds = piece.bounds;
        pieces.push(piece);
    }
    Ok(pieces)
}
