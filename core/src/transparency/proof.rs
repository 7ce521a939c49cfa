//! Proof files (C2SP tlog-proof): that an entry is in a log, to be verified by whoever has the entry and the log's key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Checkpoint, Hash, Note, NoteError, VerifierKey, verify_inclusion};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// A path has a hash for each level of a tree.
const MOST_HASHES: usize = 64;

/// Why a proof proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// It is not written as one.
    #[error("this is no proof file: {0}")]
    Malformed(&'static str),
    /// Its checkpoint is none, or not signed as it has to be.
    #[error("its checkpoint counts for nothing: {0}")]
    Checkpoint(String),
    /// It is of another log.
    #[error("it is of the log {0:?}")]
    Origin(String),
    /// The entry is not where it says.
    #[error("the entry is not number {index} of the {size} of this checkpoint")]
    False {
        /// Where it would be.
        index: u64,
        /// How many there are.
        size: u64,
    },
}

impl From<NoteError> for ProofError {
    fn from(error: NoteError) -> Self {
        Self::Checkpoint(error.to_string())
    }
}

/// That an entry is in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Something beside it; here it is the entry itself. Nothing vouches for it but the proof.
    pub extra: Option<Vec<u8>>,
    /// Which entry, from 0.
    pub index: u64,
    /// The path, the leaf's sibling first.
    pub path: Vec<Hash>,
    /// The signed checkpoint.
    pub checkpoint: Note,
}

impl Proof {
    /// Reads a proof file. Nothing is verified by that.
    ///
    /// # Errors
    /// [`ProofError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofError> {
        let malformed = ProofError::Malformed;
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8"))?;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(malformed("no empty line is before the checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(malformed("its first line is not c2sp.org/tlog-proof@v1"));
        }
        let extra = match lines.next_if(|line| line.starts_with("extra ")) {
            None => None,
            Some(line) => {
                let decoded = line.strip_prefix("extra ").and_then(|extra| STANDARD.decode(extra).ok());
                Some(decoded.ok_or(malformed("what stands after `extra` is not base64"))?)
            }
        };
        let index = lines.next().and_then(|line| line.strip_prefix("index "));
        let index = index.and_then(|text| text.parse().ok().filter(|read: &u64| read.to_string() == text));
        let index = index.ok_or(malformed("it does not say which entry: index NUMBER"))?;
        let hash = |line: &str| STANDARD.decode(line).ok().and_then(|hash| hash.try_into().ok());
        let path: Option<Vec<Hash>> = lines.take(MOST_HASHES.saturating_add(1)).map(hash).collect();
        let path = path.filter(|path| path.len() <= MOST_HASHES);
        let path = path.ok_or(malformed("its hashes are not at most 64 lines of 32 bytes in base64"))?;
        let checkpoint = Note::parse(checkpoint.as_bytes())?;
        Ok(Self { extra, index, path, checkpoint })
    }

    /// Verifies that the entry with this leaf hash is in the log `origin`, by a checkpoint that one of `keys` has signed; gives
    /// that checkpoint.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn verify(&self, leaf: &Hash, origin: &str, keys: &[VerifierKey]) -> Result<Checkpoint, ProofError> {
        self.checkpoint.verify(keys)?;
        let checkpoint =
            Checkpoint::parse(&self.checkpoint.text).map_err(|error| ProofError::Checkpoint(error.to_string()))?;
        if checkpoint.origin != origin {
            return Err(ProofError::Origin(checkpoint.origin));
        }
        let holds = verify_inclusion(self.index, checkpoint.size, leaf, &self.path, &checkpoint.root);
        let refused = ProofError::False { index: self.index, size: checkpoint.size };
        if holds { Ok(checkpoint) } else { Err(refused) }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash)))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
#[path = "proof_tests.rs"]
mod tests;
