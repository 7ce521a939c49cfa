//! The tree over the record: statements that are the same for every database, and rows as what they say.

use signet_core::audit::LeafHash;
use signet_core::seams::record_tree::{KeptCheckpoint, KeptNote, MAX_LEAVES, StoredLeaf};
use signet_core::seams::store::StoreError;
use signet_core::transparency::{Edge, Hash, TILE_WIDTH};

use super::columns::columns;
use super::holders::column;

/// How many events there are.
pub(super) const EVENTS: &str = "SELECT coalesce(max(seq) + 1, 0) FROM audit_event";

/// Hashes of leaves from a position on, as many as are wanted.
pub(super) const LEAF_HASHES: &str = "SELECT seq, leaf_hash FROM audit_event WHERE seq >= $1 ORDER BY seq LIMIT $2";

/// The same with bodies.
pub(super) const LEAVES: &str = "SELECT seq, leaf_hash, body FROM audit_event WHERE seq >= $1 ORDER BY seq LIMIT $2";

/// A tile, by level and number.
pub(super) const TILE: &str = "SELECT hashes FROM record_tile WHERE level = $1 AND number = $2";

/// Keeps a tile: level, number, hashes. One that is kept already stays: another process has written the same.
pub(super) const KEEP_TILE: &str =
    "INSERT INTO record_tile (level, number, hashes) VALUES ($1, $2, $3) ON CONFLICT (level, number) DO NOTHING";

pub(super) const CHECKPOINT: &str = "SELECT size, note, keys, edge FROM record_checkpoint WHERE id = 1";

/// Keeps the first checkpoint: size, note, keys, edge.
pub(super) const FIRST: &str = "INSERT INTO record_checkpoint (id, size, note, keys, edge) VALUES (1, $1, $2, $3, $4) \
    ON CONFLICT (id) DO NOTHING";

/// Replaces the checkpoint: size, note, keys, edge, and the note before.
pub(super) const NEXT: &str = "UPDATE record_checkpoint SET size = $1, note = $2, keys = $3, edge = $4 \
    WHERE id = 1 AND note = $5";

/// Notes beside the checkpoint, so many of them.
pub(super) const NOTES: &str = "SELECT name, note FROM record_note ORDER BY name LIMIT $1";

/// Keeps the first note of a name: name, note.
pub(super) const FIRST_NOTE: &str =
    "INSERT INTO record_note (name, note) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";

/// Replaces a note: name, note, and the note before.
pub(super) const NEXT_NOTE: &str = "UPDATE record_note SET note = $2 WHERE name = $1 AND note = $3";

/// How many leaves are read when `limit` were asked for.
pub(super) fn limit(limit: u32) -> i64 {
    i64::from(limit.min(MAX_LEAVES))
}

pub(super) struct HashRow {
    seq: i64,
    leaf_hash: Vec<u8>,
}

columns!(HashRow { seq, leaf_hash } from
    #[cfg(feature = "postgres")] sqlx::postgres::PgRow,
    #[cfg(feature = "sqlite")] sqlx::sqlite::SqliteRow);

/// The hashes of rows that begin at `from` and leave nothing out.
pub(super) fn hashes(from: u64, rows: Vec<HashRow>) -> Result<Vec<LeafHash>, StoreError> {
    let hash = |(expected, row): (u64, HashRow)| {
        if row.seq != column(expected) {
            let text =
                format!("event {expected} is missing from the record: `signet-ca audit verify` says what else is");
            return Err(StoreError::Damaged(text));
        }
        row.leaf_hash.try_into().map_err(|_| StoreError::Damaged(format!("the hash of event {expected} is none")))
    };
    (from..).zip(rows).map(hash).collect()
}

pub(super) struct LeafRow {
    seq: i64,
    leaf_hash: Vec<u8>,
    body: Option<Vec<u8>>,
}

columns!(LeafRow { seq, leaf_hash, body } from
    #[cfg(feature = "postgres")] sqlx::postgres::PgRow,
    #[cfg(feature = "sqlite")] sqlx::sqlite::SqliteRow);

impl LeafRow {
    pub(super) fn leaf(self) -> StoredLeaf {
        StoredLeaf { sequence: self.seq.unsigned_abs(), hash: self.leaf_hash, body: self.body }
    }
}

/// The hashes of a tile.
pub(super) fn tile(bytes: &[u8]) -> Result<Vec<Hash>, StoreError> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    if rest.is_empty() && hashes.len() as u64 == TILE_WIDTH {
        return Ok(hashes.to_vec());
    }
    Err(StoreError::Damaged("a tile of the record's tree has not 256 hashes".to_owned()))
}

pub(super) struct NoteRow {
    name: String,
    note: String,
}

columns!(NoteRow { name, note } from
    #[cfg(feature = "postgres")] sqlx::postgres::PgRow,
    #[cfg(feature = "sqlite")] sqlx::sqlite::SqliteRow);

impl NoteRow {
    pub(super) fn note(self) -> KeptNote {
        KeptNote { name: self.name, note: self.note }
    }
}

pub(super) struct CheckpointRow {
    size: i64,
    note: String,
    keys: String,
    edge: Vec<u8>,
}

columns!(CheckpointRow { size, note, keys, edge } from
    #[cfg(feature = "postgres")] sqlx::postgres::PgRow,
    #[cfg(feature = "sqlite")] sqlx::sqlite::SqliteRow);

impl CheckpointRow {
    pub(super) fn checkpoint(self) -> Result<KeptCheckpoint, StoreError> {
        let Self { size, note, keys, edge } = self;
        let read = u64::try_from(size).ok().and_then(|size| Edge::read(size, &edge));
        let edge = read.ok_or_else(|| {
            StoreError::Damaged(format!("the tree of the record has not the hashes of its {size} events"))
        })?;
        Ok(KeptCheckpoint { note, keys, edge })
    }
}
