//! The right edge of a tree that grows: the hashes that are in no full tile yet. Its root, and whatever is added, need no others.

use super::merkle::{empty_root, join};
use super::tile::{TILE_WIDTH, Tile, reduce};
use super::{Hash, Subtree};

/// How many levels of the tree a tile spans.
const HEIGHT: u32 = 8;

/// A tile that is full, with its hashes.
pub type FullTile = (Tile, Vec<Hash>);

/// What is right of the full tiles of a tree, for each level of tiles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// From level 0 on; the last one is not empty.
    levels: Vec<Vec<Hash>>,
}

impl Edge {
    /// The edge of a tree of `size` leaves, as [`bytes`](Self::bytes) has written it; `None` when there are not as many hashes.
    #[must_use]
    pub fn read(size: u64, bytes: &[u8]) -> Option<Self> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        let (mut levels, mut at) = (Vec::new(), 0);
        let mut of_level = size;
        while of_level > 0 {
            let end = at + usize::try_from(of_level % TILE_WIDTH).ok()?;
            levels.push(hashes.get(at..end)?.to_vec());
            (at, of_level) = (end, of_level / TILE_WIDTH);
        }
        (rest.is_empty() && at == hashes.len()).then_some(Self { size, levels })
    }

    /// Its hashes one after the other, those of leaves first.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.levels.iter().flatten().flatten().copied().collect()
    }

    /// How many leaves the tree has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds the hash of a leaf, and puts the tiles that are full with it into `full`.
    pub fn append(&mut self, leaf: Hash, full: &mut Vec<FullTile>) {
        let (mut hash, mut level, mut of_level) = (leaf, 0_u8, self.size);
        self.size += 1;
        loop {
            if self.levels.len() <= usize::from(level) {
                self.levels.push(Vec::new());
            }
            let Some(hashes) = self.levels.get_mut(usize::from(level)) else { return };
            hashes.push(hash);
            of_level /= TILE_WIDTH;
            if (hashes.len() as u64) < TILE_WIDTH {
                return;
            }
            let tile = std::mem::take(hashes);
            let Some(above) = reduce(&tile) else { return };
            full.push((Tile { level, index: of_level }, tile));
            (hash, level) = (above, level + 1);
        }
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut cover = Vec::new();
        for level in self.levels.iter().rev() {
            let mut rest = level.as_slice();
            while let Some(largest) = rest.len().checked_ilog2() {
                let Some((perfect, after)) = rest.split_at_checked(1 << largest) else { break };
                cover.extend(reduce(perfect));
                rest = after;
            }
        }
        join(&cover).unwrap_or_else(empty_root)
    }

    /// The hashes of a tile that is not full yet; `None` for every other one.
    #[must_use]
    pub fn hashes(&self, tile: Tile) -> Option<&[Hash]> {
        let index = self.size.checked_shr(HEIGHT * (u32::from(tile.level) + 1)).unwrap_or_default();
        let hashes = self.levels.get(usize::from(tile.level)).filter(|hashes| !hashes.is_empty())?;
        (index == tile.index).then_some(hashes)
    }

    /// The hash of a subtree whose tile is not full yet; `None` for every other one.
    #[must_use]
    pub fn subtree(&self, subtree: Subtree) -> Option<Hash> {
        let (tile, range) = Tile::of(subtree);
        reduce(self.hashes(tile)?.get(range)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use std::collections::BTreeMap;

    use super::super::{Frontier, cover};
    use super::*;
    use crate::audit::leaf_hash;

    fn leaf(number: u64) -> Hash {
        leaf_hash(&number.to_be_bytes())
    }

    #[test]
    fn the_edge_has_the_root_of_the_tree_at_each_size_and_all_other_hashes_are_in_full_tiles() {
        let (mut edge, mut frontier, mut tiles) = (Edge::default(), Frontier::default(), BTreeMap::new());
        assert_eq!((edge.root(), edge.bytes()), (empty_root(), Vec::new()));
        for number in 0..70_000 {
            let mut full = Vec::new();
            edge.append(leaf(number), &mut full);
            frontier.append(leaf(number));
            tiles.extend(full);
            let size = number + 1;
            if size < 600 || size % 1021 == 0 || (65_530..65_800).contains(&size) {
                assert_eq!((edge.root(), edge.size()), (frontier.root(), size));
                let read = Edge::read(size, &edge.bytes()).unwrap();
                assert_eq!(read, edge, "{size}");
                let hash = |subtree: Subtree| {
                    let (tile, range) = Tile::of(subtree);
                    let full = tiles.get(&tile).and_then(|hashes: &Vec<Hash>| reduce(&hashes[range]));
                    full.or_else(|| read.subtree(subtree)).unwrap()
                };
                let hashes: Vec<Hash> = cover(0, size).into_iter().map(hash).collect();
                assert_eq!(join(&hashes), Some(frontier.root()), "{size}");
            }
        }
        let names: Vec<(u8, u64)> = tiles.keys().map(|tile| (tile.level, tile.index)).collect();
        let expected = (0..273).map(|index| (0, index)).chain([(1, 0)]);
        assert_eq!(names, expected.collect::<Vec<_>>());
        for (tile, hashes) in &tiles {
            assert_eq!(hashes.len() as u64, TILE_WIDTH);
            let above = Tile { level: tile.level + 1, index: tile.index / TILE_WIDTH };
            let kept = tiles.get(&above).map(Vec::as_slice).or_else(|| edge.hashes(above)).unwrap();
            assert_eq!(reduce(hashes), Some(kept[(tile.index % TILE_WIDTH) as usize]), "{tile:?}");
        }
    }

    #[test]
    fn an_edge_of_another_size_is_none() {
        let mut edge = Edge::default();
        (0..300).for_each(|number| edge.append(leaf(number), &mut Vec::new()));
        let bytes = edge.bytes();
        assert_eq!(bytes.len(), 45 * 32);
        assert_eq!(Edge::read(300, &bytes), Some(edge));
        for (size, bytes) in
            [(299, &bytes[..]), (301, &bytes), (0, &bytes), (300, &bytes[..44 * 32]), (300, &bytes[1..]), (300, &[])]
        {
            assert_eq!(Edge::read(size, bytes), None, "{size} {}", bytes.len());
        }
    }
}
