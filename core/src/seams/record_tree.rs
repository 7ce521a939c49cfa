//! The tree over the record, as storage keeps it: full tiles, and the newest signed checkpoint.

use std::sync::Arc;

use async_trait::async_trait;

use super::custody::CustodyError;
use super::store::StoreError;
use crate::transparency::{Edge, FullTile, Hash, NoteKey, Tile};

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
