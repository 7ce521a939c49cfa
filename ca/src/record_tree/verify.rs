//! Verifies the whole record: every leaf hash from its stored bytes, the tree from its tiles, and that from the signature down.

use signet_core::audit::leaf_hash;
use signet_core::seams::record_tree::{KeptCheckpoint, RecordTree, StoredLeaf};
use signet_core::seams::store::StoreError;
use signet_core::transparency::{Checkpoint, Compared, Comparison, Edge, Hash, Note, TILE_WIDTH, Tile, VerifierKey};

use super::cosigned::Kept as Cosigned;
use super::outside::checkpoint;

/// Events that are read at once.
const PIECE: u64 = 4 * TILE_WIDTH;

/// Problems with the tree that are told at most.
const MOST: usize = 100;

/// What the record was held against.
#[derive(Debug, Default)]
pub struct Against<'a> {
    /// The keys that count; those that storage names, when there is none.
    pub keys: &'a [VerifierKey],
    /// A signed checkpoint that somebody has kept.
    pub checkpoint: Option<&'a [u8]>,
    /// The witnesses that count, and how many of them have to have cosigned a checkpoint.
    pub witnesses: (&'a [VerifierKey], usize),
}

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Storage.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the record is to be held against is no checkpoint of this log.
    #[error("--against: {0}")]
    Against(String),
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// The newest checkpoint in storage, if it could be read.
    pub checkpoint: Option<Checkpoint>,
    /// The newest checkpoint that enough witnesses have cosigned, and which of them, if that was asked for.
    pub cosigned: Option<(Checkpoint, Vec<String>)>,
    /// The keys by which it counts.
    pub keys: Vec<String>,
    /// Event by event.
    pub compared: Compared,
    /// How many events have no words any more: of those, only the hashes could be compared.
    pub forgotten: u64,
    /// What is wrong with the tree or its checkpoints, in words.
    pub problems: Vec<String>,
}

impl Verified {
    /// Whether everything is as it was signed.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.compared.findings.is_empty() && self.problems.is_empty()
    }
}

/// Verifies the record, and tells `progress` how many events were read, of how many.
///
/// # Errors
/// [`VerifyError`]. What is wrong with the record is no error.
pub async fn verify(
    tree: &dyn RecordTree,
    against: Against<'_>,
    progress: impl Fn(u64, u64),
) -> Result<Verified, VerifyError> {
    let kept = tree.checkpoint().await?;
    let events = tree.events().await?;
    let stored: Vec<VerifierKey> = kept.iter().flat_map(|kept| kept.keys.lines()).filter_map(parsed).collect();
    let keys = if against.keys.is_empty() { stored.as_slice() } else { against.keys };
    let outside = against.checkpoint.map(|note| checkpoint(note, keys)).transpose().map_err(VerifyError::Against)?;
    let outside = outside.map(|outside| (outside, "that you have kept"));
    let mut whole = Whole { tree, edge: Edge::default(), problems: Vec::new(), outside: outside.into_iter().collect() };
    let cosigned = whole.cosigned(kept.as_ref(), keys, against.witnesses).await?;
    let (mut comparison, mut next, mut forgotten) = (Comparison::default(), 0, 0);
    let kept =
        kept.unwrap_or_else(|| KeptCheckpoint { note: String::new(), keys: String::new(), edge: Edge::default() });
    let size = kept.edge.size();
    loop {
        let signed = whole.signed(&kept.edge).await?;
        let leaves = tree.leaves(next, u32::try_from(PIECE).unwrap_or(u32::MAX)).await?;
        next = leaves.last().map_or(next, |last| last.sequence + 1);
        if signed.is_empty() && leaves.is_empty() {
            break;
        }
        comparison.signed(signed);
        for leaf in leaves {
            forgotten += u64::from(leaf.body.is_none());
            let (hash, agrees) = hash_of(&leaf);
            comparison.stored(leaf.sequence, hash, agrees);
        }
        comparison.advance();
        progress(next.min(events), events);
    }
    let checkpoint = whole.signature(&kept, keys);
    whole.above(&kept.edge, size);
    Ok(Verified {
        checkpoint,
        cosigned,
        keys: keys.iter().map(ToString::to_string).collect(),
        compared: comparison.end(),
        forgotten,
        problems: whole.problems,
    })
}

fn parsed(line: &str) -> Option<VerifierKey> {
    VerifierKey::parse(line).ok()
}

/// The hash of an event's bytes, and whether it is the one that was stored; of one whose bytes are gone, what was stored.
fn hash_of(leaf: &StoredLeaf) -> (Hash, bool) {
    let stored: Option<Hash> = leaf.hash.as_slice().try_into().ok();
    match &leaf.body {
        Some(body) => {
            let hash = leaf_hash(body);
            (hash, stored == Some(hash))
        }
        None => (stored.unwrap_or_default(), stored.is_some()),
    }
}

/// The tree, made anew from its tiles of leaves.
struct Whole<'a> {
    tree: &'a dyn RecordTree,
    edge: Edge,
    problems: Vec<String>,
    /// Checkpoints that it has to continue, and which those are, in words.
    outside: Vec<(Checkpoint, &'static str)>,
}

impl Whole<'_> {
    fn problem(&mut self, text: String) {
        if self.problems.len() < MOST {
            self.problems.push(text);
        }
    }

    /// The leaf hashes that come next of those that were signed.
    async fn signed(&mut self, kept: &Edge) -> Result<Vec<Hash>, StoreError> {
        let end = kept.size().min(self.edge.size() + PIECE);
        let mut all = Vec::new();
        while self.edge.size() < end {
            let tile = Tile { level: 0, index: self.edge.size() / TILE_WIDTH };
            let hashes = match kept.hashes(tile) {
                Some(hashes) => hashes.to_vec(),
                None => match self.tree.tile(tile).await? {
                    Some(hashes) => hashes,
                    None => self.instead_of(tile).await,
                },
            };
            let mut full = Vec::new();
            for hash in &hashes {
                self.edge.append(*hash, &mut full);
                self.reached();
            }
            for (tile, hashes) in full.into_iter().filter(|(tile, _)| tile.level > 0) {
                self.compare(tile, &hashes).await?;
            }
            all.extend(hashes);
        }
        Ok(all)
    }

    /// What is stored with the events themselves, when their tile is gone.
    async fn instead_of(&mut self, tile: Tile) -> Vec<Hash> {
        let first = tile.index * TILE_WIDTH;
        self.problem(format!("the tile of events {first} to {} is gone", first + TILE_WIDTH - 1));
        let mut hashes = self.tree.leaf_hashes(first, 256).await.unwrap_or_default();
        hashes.resize(256, Hash::default());
        hashes
    }

    /// Compares a tile above leaves with the one that is kept.
    async fn compare(&mut self, tile: Tile, hashes: &[Hash]) -> Result<(), StoreError> {
        match self.tree.tile(tile).await? {
            None => self.problem(format!("tile {} is gone", tile.path(TILE_WIDTH))),
            Some(kept) => self.differ(tile, hashes, &kept),
        }
        Ok(())
    }

    fn differ(&mut self, tile: Tile, made: &[Hash], kept: &[Hash]) {
        let below = TILE_WIDTH.saturating_pow(u32::from(tile.level));
        for (number, (made, kept)) in (0_u64..).zip(made.iter().zip(kept)) {
            if made != kept {
                let first = (tile.index * TILE_WIDTH + number).saturating_mul(below);
                let last = first.saturating_add(below - 1);
                self.problem(format!(
                    "the hashes of events {first} to {last} are not those that the tree above them was made of: they were \
                     changed in tiles too"
                ));
            }
        }
    }

    /// Compares with the checkpoints that it has to continue, when the tree has come to the size of one.
    fn reached(&mut self) {
        let size = self.edge.size();
        let here = self.outside.iter().filter(|(outside, _)| outside.size == size);
        let others: Vec<&str> = here.filter(|(one, _)| one.root != self.edge.root()).map(|(_, which)| *which).collect();
        for which in others {
            self.problem(format!("the first {size} events are not those of the checkpoint {which}"));
        }
    }

    /// The newest checkpoint that enough of these witnesses have cosigned; that the record continues it is found out later.
    async fn cosigned(
        &mut self,
        kept: Option<&KeptCheckpoint>,
        keys: &[VerifierKey],
        (witnesses, quorum): (&[VerifierKey], usize),
    ) -> Result<Option<(Checkpoint, Vec<String>)>, StoreError> {
        if witnesses.is_empty() {
            return Ok(None);
        }
        let newest = kept.map(|kept| kept.note.as_str());
        let origin = newest.and_then(|note| Note::parse(note.as_bytes()).ok());
        let origin = origin.and_then(|note| Checkpoint::parse(&note.text).ok()).map(|read| read.origin);
        let all = Cosigned::read(self.tree, &origin.unwrap_or_default()).await?.together(newest);
        let mut most = 0;
        for (note, checkpoint) in all {
            let by = note.verify(keys).and_then(|_| note.signers(witnesses)).unwrap_or_default();
            most = by.len().max(most);
            if by.len() >= quorum {
                self.outside.push((checkpoint.clone(), "that witnesses have cosigned"));
                return Ok(Some((checkpoint, by.iter().map(|key| key.name.clone()).collect())));
            }
        }
        self.problem(format!(
            "no checkpoint in storage is cosigned by {quorum} of the witnesses that were given: by {most} at most"
        ));
        Ok(None)
    }

    /// The checkpoint in storage, as far as it can be read, with what is wrong with it.
    fn signature(&mut self, kept: &KeptCheckpoint, keys: &[VerifierKey]) -> Option<Checkpoint> {
        let size = kept.edge.size();
        for (covered, which) in self.outside.iter().map(|(one, which)| (one.size, *which)).collect::<Vec<_>>() {
            if covered > size {
                self.problem(format!(
                    "the checkpoint {which} covers {covered} events, the newest one in storage {size}: the storage was set back, \
                     or is another one"
                ));
            }
        }
        if kept.note.is_empty() {
            return None;
        }
        match checkpoint(kept.note.as_bytes(), keys) {
            Ok(signed) => {
                if (signed.size, signed.root) != (self.edge.size(), self.edge.root()) {
                    let text = format!(
                        "the tree over the stored hashes is not the one that was signed: {} events were, with another root",
                        signed.size
                    );
                    self.problem(text);
                }
                Some(signed)
            }
            Err(error) => {
                self.problem(format!("the checkpoint in storage counts for nothing: {error}"));
                None
            }
        }
    }

    /// Compares the edge above leaves with the one that is kept.
    fn above(&mut self, kept: &Edge, size: u64) {
        let mut level = 1_u8;
        while let Some(index) = size.checked_shr(8 * (u32::from(level) + 1)) {
            let tile = Tile { level, index };
            if let (Some(made), Some(kept)) = (self.edge.hashes(tile).map(<[Hash]>::to_vec), kept.hashes(tile)) {
                self.differ(tile, &made, kept);
            }
            level += 1;
        }
    }
}
