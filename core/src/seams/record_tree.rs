//! The tree over the record, as storage keeps it: full tiles, and the newest signed checkpoint.

use std::sync::Arc;

use async_trait::async_trait;

use super::custody::CustodyError;
use super::store::StoreError;
use crate::transparency::{Edge, FullTile, Hash, NoteKey, Tile, VerifierKey};

/// Leaves that are read at once, at most.
pub const MAX_LEAVES: u32 = 4096;

/// The newest signed checkpoint, and what the tree grows from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptCheckpoint {
    /// The signed note.
    pub note: String,
    /// What verifies it, a line for each key. Storage says so; whoever does not trust that brings the key along.
    pub keys: String,
    /// What is right of the full tiles.
    pub edge: Edge,
}

/// A signed note that is kept beside the newest checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptNote {
    /// What it is kept for.
    pub name: String,
    /// The note, with all its signatures.
    pub note: String,
}

impl KeptNote {
    /// The newest checkpoint that enough witnesses have cosigned.
    pub const QUORUM: &str = "quorum";

    /// The newest checkpoint that a witness has cosigned.
    #[must_use]
    pub fn of_witness(key: &VerifierKey) -> String {
        format!("witness {key}")
    }

    /// The witness whose newest it is.
    #[must_use]
    pub fn witness(&self) -> Option<VerifierKey> {
        VerifierKey::parse(self.name.strip_prefix("witness ")?).ok()
    }

    /// The first checkpoint of a log that was written to a file outside of the storage.
    #[must_use]
    pub fn of_outside(origin: &str) -> String {
        format!("outside {origin}")
    }
}

/// One note that is put in the place of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteChange {
    /// The note that was read under this name; `None`: there was none.
    pub before: Option<String>,
    /// The one that takes its place.
    pub next: KeptNote,
}

/// Notes that are read at most.
pub const MAX_NOTES: u32 = 100;

/// An event as the tree sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLeaf {
    /// Its position in the log.
    pub sequence: u64,
    /// The hash that was stored with it, whatever its length is now.
    pub hash: Vec<u8>,
    /// Its encoding, if retention has left it.
    pub body: Option<Vec<u8>>,
}

/// What the tree is made of, and what was made of it. Nothing here is in the way of appending events.
#[async_trait]
pub trait RecordTree: Send + Sync {
    /// How many events there are.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn events(&self) -> Result<u64, StoreError>;

    /// The leaf hashes that were stored with the events from `from` on, up to `limit` and [`MAX_LEAVES`], without a gap.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Damaged`] when one is missing before the end of the log.
    async fn leaf_hashes(&self, from: u64, limit: u32) -> Result<Vec<Hash>, StoreError>;

    /// The events from `from` on, in order, up to `limit` and [`MAX_LEAVES`]. Those that are missing are left out.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn leaves(&self, from: u64, limit: u32) -> Result<Vec<StoredLeaf>, StoreError>;

    /// The hashes of a full tile; `None` when it is not kept.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn tile(&self, tile: Tile) -> Result<Option<Vec<Hash>>, StoreError>;

    /// The newest checkpoint.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn checkpoint(&self) -> Result<Option<KeptCheckpoint>, StoreError>;

    /// Replaces the checkpoint whose note is `before` (`None`: there is none) by `next`, and keeps the tiles that became full,
    /// in one durable transaction; `false` when another one is kept, and nothing was changed.
    ///
    /// # Errors
    /// [`StoreError`]; when a deadline has passed, it may have been done all the same.
    async fn advance(&self, before: Option<&str>, next: &KeptCheckpoint, full: &[FullTile])
    -> Result<bool, StoreError>;

    /// The notes that are kept beside the checkpoint, by name, up to [`MAX_NOTES`].
    ///
    /// # Errors
    /// [`StoreError`].
    async fn notes(&self) -> Result<Vec<KeptNote>, StoreError>;

    /// Puts notes in the place of those that were read, all in one durable transaction; `false` when one of them is another one
    /// by now, and nothing was changed.
    ///
    /// # Errors
    /// [`StoreError`]; when a deadline has passed, it may have been done all the same.
    async fn keep_notes(&self, changes: &[NoteChange]) -> Result<bool, StoreError>;
}

/// The keys that sign checkpoints.
#[async_trait]
pub trait RecordKeys: Send + Sync {
    /// All of them, in the name of this log, the newest first. When there is none, one is made, which all replicas then have.
    ///
    /// # Errors
    /// [`CustodyError`].
    async fn keys(&self, origin: &str) -> Result<Vec<Arc<NoteKey>>, CustodyError>;
}
