//! The record as a transparency log: a Merkle tree over its events, signed checkpoints of it, and proofs that anybody can verify
//! without trusting this CA (RFC 6962, C2SP signed-note, tlog-checkpoint, tlog-tiles and tlog-proof).

mod checkpoint;
mod comparison;
mod edge;
mod merkle;
mod note;
mod proof;
mod tile;
mod witness;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use comparison::{Compared, Comparison, Finding};
pub use edge::{Edge, FullTile};
pub use merkle::{
    Frontier, Subtree, consistency, cover, empty_root, inclusion, join, node, verify_consistency, verify_inclusion,
};
pub use note::{Note, NoteError, NoteKey, Signature, VerifierKey};
pub use proof::{Proof, ProofError};
pub use tile::{TILE_WIDTH, Tile, reduce};
pub use witness::{Answer, submission};

/// A hash of the tree.
pub type Hash = [u8; 32];
