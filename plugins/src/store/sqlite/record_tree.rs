//! The tree over the record: read beside the log, and advanced in a transaction of its own.

use async_trait::async_trait;
use signet_core::seams::record_tree::{KeptCheckpoint, KeptNote, MAX_NOTES, NoteChange, RecordTree, StoredLeaf};
use signet_core::seams::store::StoreError;
use signet_core::transparency::{FullTile, Hash, Tile};
use sqlx::sqlite::SqliteConnection;

use super::SqliteStore;
use super::error::store_error;
use crate::store::holders::column;
use crate::store::record_tree::{
    CHECKPOINT, CheckpointRow, EVENTS, FIRST, FIRST_NOTE, HashRow, KEEP_TILE, LEAF_HASHES, LEAVES, LeafRow, NEXT,
    NEXT_NOTE, NOTES, NoteRow, TILE, hashes, limit, tile,
};

const READING: &str = "reading the tree of the record";

#[async_trait]
impl RecordTree for SqliteStore {
    async fn events(&self) -> Result<u64, StoreError> {
        let read = async {
            self.readable().await?;
            sqlx::query_scalar(EVENTS).fetch_one(&self.readers).await.map_err(|error| store_error(READING, &error))
        };
        self.within(READING, read).await.map(i64::unsigned_abs)
    }

    async fn leaf_hashes(&self, from: u64, most: u32) -> Result<Vec<Hash>, StoreError> {
        let find = sqlx::query_as(LEAF_HASHES).bind(column(from)).bind(limit(most));
        let read = async { find.fetch_all(&self.readers).await.map_err(|error| store_error(READING, &error)) };
        let rows: Vec<HashRow> = self.within(READING, read).await?;
        hashes(from, rows)
    }

    async fn leaves(&self, from: u64, most: u32) -> Result<Vec<StoredLeaf>, StoreError> {
        let find = sqlx::query_as(LEAVES).bind(column(from)).bind(limit(most));
        let read = async { find.fetch_all(&self.readers).await.map_err(|error| store_error(READING, &error)) };
        let rows: Vec<LeafRow> = self.within(READING, read).await?;
        Ok(rows.into_iter().map(LeafRow::leaf).collect())
    }

    async fn tile(&self, which: Tile) -> Result<Option<Vec<Hash>>, StoreError> {
        let find = sqlx::query_scalar(TILE).bind(i64::from(which.level)).bind(column(which.index));
        let read = async { find.fetch_optional(&self.readers).await.map_err(|error| store_error(READING, &error)) };
        let found: Option<Vec<u8>> = self.within(READING, read).await?;
        found.map(|bytes| tile(&bytes)).transpose()
    }

    async fn checkpoint(&self) -> Result<Option<KeptCheckpoint>, StoreError> {
        let read = async {
            self.readable().await?;
            let find = sqlx::query_as(CHECKPOINT).fetch_optional(&self.readers).await;
            find.map_err(|error| store_error(READING, &error))
        };
        let found: Option<CheckpointRow> = self.within(READING, read).await?;
        found.map(CheckpointRow::checkpoint).transpose()
    }

    async fn advance(
        &self,
        before: Option<&str>,
        next: &KeptCheckpoint,
        full: &[FullTile],
    ) -> Result<bool, StoreError> {
        const DOING: &str = "advancing the tree of the record";
        let write = async {
            let mut writer = self.writer().await?;
            let done = advance(&mut writer.session.connection, before, next, full).await;
            let advanced = done.map_err(|error| store_error(DOING, &error))?;
            writer.keep().await?;
            Ok(advanced)
        };
        self.within(DOING, write).await
    }

    async fn notes(&self) -> Result<Vec<KeptNote>, StoreError> {
        let find = sqlx::query_as(NOTES).bind(i64::from(MAX_NOTES));
        let read = async { find.fetch_all(&self.readers).await.map_err(|error| store_error(READING, &error)) };
        let rows: Vec<NoteRow> = self.within(READING, read).await?;
        Ok(rows.into_iter().map(NoteRow::note).collect())
    }

    async fn keep_notes(&self, changes: &[NoteChange]) -> Result<bool, StoreError> {
        const DOING: &str = "keeping notes of the record";
        let write = async {
            let mut writer = self.writer().await?;
            let done = keep_notes(&mut writer.session.connection, changes).await;
            let kept = done.map_err(|error| store_error(DOING, &error))?;
            writer.keep().await?;
            Ok(kept)
        };
        self.within(DOING, write).await
    }
}

async fn advance(
    connection: &mut SqliteConnection,
    before: Option<&str>,
    next: &KeptCheckpoint,
    full: &[FullTile],
) -> Result<bool, sqlx::Error> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
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
    sqlx::query(if advanced { "COMMIT" } else { "ROLLBACK" }).execute(connection).await?;
    Ok(advanced)
}

async fn keep_notes(connection: &mut SqliteConnection, changes: &[NoteChange]) -> Result<bool, sqlx::Error> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let mut kept = true;
    for NoteChange { before, next } in changes {
        let replace =
            sqlx::query(if before.is_some() { NEXT_NOTE } else { FIRST_NOTE }).bind(&next.name).bind(&next.note);
        let replace = if before.is_some() { replace.bind(before) } else { replace };
        kept = kept && replace.execute(&mut *connection).await?.rows_affected() == 1;
    }
    sqlx::query(if kept { "COMMIT" } else { "ROLLBACK" }).execute(connection).await?;
    Ok(kept)
}
