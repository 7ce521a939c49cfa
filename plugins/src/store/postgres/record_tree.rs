//! The tree over the record: read beside the log, and advanced in a transaction that appends do not wait for.

use async_trait::async_trait;
use signet_core::seams::record_tree::{KeptCheckpoint, KeptNote, MAX_NOTES, NoteChange, RecordTree, StoredLeaf};
use signet_core::seams::store::StoreError;
use signet_core::transparency::{FullTile, Hash, Tile};
use sqlx::Executor as _;
use sqlx::postgres::PgConnection;

use super::PostgresStore;
use super::error::store_error;
use super::pool::Use;
use crate::store::holders::column;
use crate::store::record_tree::{
    CHECKPOINT, CheckpointRow, EVENTS, FIRST, FIRST_NOTE, HashRow, KEEP_TILE, LEAF_HASHES, LEAVES, LeafRow, NEXT,
    NEXT_NOTE, NOTES, NoteRow, TILE, hashes, limit, tile,
};

const READING: &str = "reading the tree of the record";

#[async_trait]
impl RecordTree for PostgresStore {
    async fn events(&self) -> Result<u64, StoreError> {
        let read = async {
            let mut lease = self.lease(Use::Reading).await?;
            let count: Result<i64, _> = sqlx::query_scalar(EVENTS).fetch_one(&mut *lease).await;
            let count = count.map_err(|error| store_error(READING, &error))?;
            lease.keep();
            Ok(count.unsigned_abs())
        };
        self.within(READING, Box::pin(read)).await
    }

    async fn leaf_hashes(&self, from: u64, most: u32) -> Result<Vec<Hash>, StoreError> {
        let read = async {
            let mut lease = self.lease(Use::Reading).await?;
            let find = sqlx::query_as(LEAF_HASHES).bind(column(from)).bind(limit(most));
            let rows: Vec<HashRow> = find.fetch_all(&mut *lease).await.map_err(|error| store_error(READING, &error))?;
            lease.keep();
            Ok(rows)
        };
        hashes(from, self.within(READING, Box::pin(read)).await?)
    }

    async fn leaves(&self, from: u64, most: u32) -> Result<Vec<StoredLeaf>, StoreError> {
        let read = async {
            let mut lease = self.lease(Use::Reading).await?;
            let find = sqlx::query_as(LEAVES).bind(column(from)).bind(limit(most));
            let rows: Vec<LeafRow> = find.fetch_all(&mut *lease).await.map_err(|error| store_error(READING, &error))?;
            lease.keep();
            Ok(rows.into_iter().map(LeafRow::leaf).collect())
        };
        self.within(READING, Box::pin(read)).await
    }

    async fn tile(&self, which: Tile) -> Result<Option<Vec<Hash>>, StoreError> {
        let read = async {
            let mut lease = self.lease(Use::Reading).await?;
            let find = sqlx::query_scalar(TILE).bind(i64::from(which.level)).bind(column(which.index));
            let found: Result<Option<Vec<u8>>, _> = find.fetch_optional(&mut *lease).await;
            let found = found.map_err(|error| store_error(READING, &error))?;
            lease.keep();
            Ok(found)
        };
        self.within(READING, Box::pin(read)).await?.map(|bytes| tile(&bytes)).transpose()
    }

    async fn checkpoint(&self) -> Result<Option<KeptCheckpoint>, StoreError> {
        let read = async {
            let mut lease = self.lease(Use::Reading).await?;
            let found = sqlx::query_as(CHECKPOINT).fetch_optional(&mut *lease).await;
            let found: Option<CheckpointRow> = found.map_err(|error| store_error(READING, &error))?;
            lease.keep();
            Ok(found)
        };
        self.within(READING, Box::pin(read)).await?.map(CheckpointRow::checkpoint).transpose()
    }

    /// Without the lock of the log's head, which appends wait for: nothing of the log is read or changed here, and who advances
    /// the tree at the same time waits for the row of the checkpoint. A connection that is lost before the answer leaves it
    /// open whether this was done: whoever asks reads the checkpoint anew.
    async fn advance(
        &self,
        before: Option<&str>,
        next: &KeptCheckpoint,
        full: &[FullTile],
    ) -> Result<bool, StoreError> {
        const DOING: &str = "advancing the tree of the record";
        let write = async {
            let mut lease = self.lease(Use::Writing).await?;
            self.seen.look(&mut lease).await?;
            let done = advance(&mut lease, before, next, full).await;
            let advanced = done.map_err(|error| store_error(DOING, &error))?;
            lease.keep();
            Ok(advanced)
        };
        self.within(DOING, Box::pin(write)).await
    }

    async fn notes(&self) -> Result<Vec<KeptNote>, StoreError> {
        let read = async {
            let mut lease = self.lease(Use::Reading).await?;
            let find = sqlx::query_as(NOTES).bind(i64::from(MAX_NOTES));
            let rows: Vec<NoteRow> = find.fetch_all(&mut *lease).await.map_err(|error| store_error(READING, &error))?;
            lease.keep();
            Ok(rows.into_iter().map(NoteRow::note).collect())
        };
        self.within(READING, Box::pin(read)).await
    }

    async fn keep_notes(&self, changes: &[NoteChange]) -> Result<bool, StoreError> {
        const DOING: &str = "keeping notes of the record";
        let write = async {
            let mut lease = self.lease(Use::Writing).await?;
            self.seen.look(&mut lease).await?;
            let done = keep_notes(&mut lease, changes).await;
            let kept = done.map_err(|error| store_error(DOING, &error))?;
            lease.keep();
            Ok(kept)
        };
        self.within(DOING, Box::pin(write)).await
    }
}

async fn advance(
    connection: &mut PgConnection,
    before: Option<&str>,
    next: &KeptCheckpoint,
    full: &[FullTile],
) -> Result<bool, sqlx::Error> {
    connection.execute("BEGIN").await?;
    let replace = sqlx::query(if before.is_some() { NEXT } else { FIRST }).bind(column(next.edge.size()));
    let replace = replace.bind(&next.note).bind(&next.keys).bind(next.edge.bytes());
    let replace = if before.is_some() { replace.bind(before) } else { replace };
    let advanced = replace.execute(&mut *connection).await?.rows_affected() == 1;
    if advanced {
        for (tile, hashes) in full {
            let keep = sqlx::query(KEEP_TILE).bind(i64::from(tile.level)).bind(column(tile.index));
            keep.bind(hashes.as_flattened()).execute(&mut *connection).await?;
        }
    }
    connection.execute(if advanced { "COMMIT" } else { "ROLLBACK" }).await?;
    Ok(advanced)
}

async fn keep_notes(connection: &mut PgConnection, changes: &[NoteChange]) -> Result<bool, sqlx::Error> {
    connection.execute("BEGIN").await?;
    let mut kept = true;
    for NoteChange { before, next } in changes {
        let replace =
            sqlx::query(if before.is_some() { NEXT_NOTE } else { FIRST_NOTE }).bind(&next.name).bind(&next.note);
        let replace = if before.is_some() { replace.bind(before) } else { replace };
        kept = kept && replace.execute(&mut *connection).await?.rows_affected() == 1;
    }
    connection.execute(if kept { "COMMIT" } else { "ROLLBACK" }).await?;
    Ok(kept)
}
