//! Proofs out of the tree as it is kept: hashes of subtrees from full tiles and from the edge of the newest checkpoint.

use signet_core::seams::record_tree::{KeptCheckpoint, RecordTree};
use signet_core::seams::store::StoreError;
use signet_core::transparency::{
    Checkpoint, CheckpointError, Edge, Hash, Note, NoteError, Proof, Subtree, Tile, consistency, cover, empty_root,
    inclusion, join, reduce,
};

use super::cosigned::Kept as Cosigned;

/// Why nothing can be proven.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// Storage.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No checkpoint covers the event.
    #[error(
        "event {index} is in no signed checkpoint: the newest one covers {size} events. A running CA signs one each second; \
         its readiness says what is in the way"
    )]
    NotCovered {
        /// Which event.
        index: u64,
        /// How many are covered.
        size: u64,
    },
    /// The checkpoint in storage is no signed note.
    #[error("the checkpoint in storage cannot be read")]
    Note(#[from] NoteError),
    /// The note in storage is no checkpoint.
    #[error("the checkpoint in storage cannot be read")]
    Checkpoint(#[from] CheckpointError),
    /// There is none yet.
    #[error("nothing is signed yet: a running CA does that")]
    Unsigned,
    /// It is of another log.
    #[error("the newest checkpoint in storage is of the log {0}, which is not audit.origin")]
    OfAnother(String),
    /// Its body is gone.
    #[error("event {0} is not in storage, or retention has removed its bytes, so that there is nothing to be proven")]
    Gone(u64),
}

/// The hash of a subtree of the tree whose right edge is `edge`.
///
/// # Errors
/// [`StoreError`]; [`StoreError::Damaged`] when a tile is missing.
pub async fn subtree_hash(tree: &dyn RecordTree, edge: &Edge, subtree: Subtree) -> Result<Hash, StoreError> {
    if let Some(hash) = edge.subtree(subtree) {
        return Ok(hash);
    }
    let (tile, range) = Tile::of(subtree);
    let hashes = tree.tile(tile).await?;
    let hash = hashes.as_deref().and_then(|hashes| reduce(hashes.get(range)?));
    hash.ok_or_else(|| {
        let path = tile.path(signet_core::transparency::TILE_WIDTH);
        StoreError::Damaged(format!("tile {path} of the record's tree is missing: `signet-ca audit verify` says more"))
    })
}

async fn fill(tree: &dyn RecordTree, edge: &Edge, plan: Vec<Vec<Subtree>>) -> Result<Vec<Hash>, StoreError> {
    let mut path = Vec::with_capacity(plan.len());
    for part in plan {
        path.push(joined(tree, edge, part).await?);
    }
    Ok(path)
}

async fn joined(tree: &dyn RecordTree, edge: &Edge, part: Vec<Subtree>) -> Result<Hash, StoreError> {
    let mut hashes = Vec::with_capacity(part.len());
    for subtree in part {
        hashes.push(subtree_hash(tree, edge, subtree).await?);
    }
    Ok(join(&hashes).unwrap_or_else(empty_root))
}

/// The root of the first `size` leaves, which are not more than there are.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn root_at(tree: &dyn RecordTree, edge: &Edge, size: u64) -> Result<Hash, StoreError> {
    joined(tree, edge, cover(0, size)).await
}

/// What proves that the tree of `old` leaves is a beginning of this one; `None` when it has more.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn consistency_path(
    tree: &dyn RecordTree,
    edge: &Edge,
    old: u64,
) -> Result<Option<Vec<Hash>>, StoreError> {
    match consistency(old, edge.size()) {
        Some(plan) => fill(tree, edge, plan).await.map(Some),
        None => Ok(None),
    }
}

/// The newest checkpoint, if it is one of the log `origin`.
///
/// # Errors
/// [`ProveError`].
pub async fn newest(tree: &dyn RecordTree, origin: &str) -> Result<(KeptCheckpoint, Checkpoint), ProveError> {
    let kept = tree.checkpoint().await?.ok_or(ProveError::Unsigned)?;
    let checkpoint = Checkpoint::parse(&Note::parse(kept.note.as_bytes())?.text)?;
    if checkpoint.origin != origin {
        return Err(ProveError::OfAnother(checkpoint.origin));
    }
    Ok((kept, checkpoint))
}

/// The proof that event `index` is on record, with its bytes.
///
/// # Errors
/// [`ProveError`].
pub async fn prove(tree: &dyn RecordTree, index: u64) -> Result<Proof, ProveError> {
    let kept = tree.checkpoint().await?;
    let size = kept.as_ref().map_or(0, |kept| kept.edge.size());
    let (Some(KeptCheckpoint { note, edge, .. }), Some(mut plan)) = (kept, inclusion(index, size)) else {
        return Err(ProveError::NotCovered { index, size });
    };
    let mut checkpoint = Note::parse(note.as_bytes())?;
    let origin = Checkpoint::parse(&checkpoint.text).map(|read| read.origin).unwrap_or_default();
    let cosigned = Cosigned::read(tree, &origin).await?;
    checkpoint.join(cosigned.signatures_of(&checkpoint.text));
    // One that witnesses have cosigned is worth more than the newest one, if the event is in it.
    if let Some((note, older)) = cosigned.quorum_note()
        && older.size <= size
        && let Some(path) = inclusion(index, older.size)
        && root_at(tree, &edge, older.size).await? == older.root
    {
        (checkpoint, plan) = (note, path);
    }
    let leaf = tree.leaves(index, 1).await?.into_iter().find(|leaf| leaf.sequence == index);
    let body = leaf.and_then(|leaf| leaf.body).ok_or(ProveError::Gone(index))?;
    let path = fill(tree, &edge, plan).await?;
    Ok(Proof { extra: Some(body), index, path, checkpoint })
}
