//! Tiles: 256 hashes of one level, kept and handed out together (C2SP tlog-tiles). A tile that is full never changes.

use std::fmt;

use super::Hash;
use super::merkle::{Subtree, join, node};

/// How many hashes a full tile holds.
pub const TILE_WIDTH: u64 = 256;

/// How many levels of the tree a tile spans.
const HEIGHT: u8 = 8;

/// Which tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tile {
    /// 0 for tiles of leaf hashes; hashes of the next level are of full tiles of this one.
    pub level: u8,
    /// Which one of that level, from 0.
    pub index: u64,
}

impl Tile {
    /// The tile that `subtree` is read from, and which of its hashes are below it.
    #[must_use]
    pub fn of(subtree: Subtree) -> (Self, std::ops::Range<usize>) {
        let (level, above) = (subtree.level / HEIGHT, subtree.level % HEIGHT);
        let first = subtree.index << above;
        let begin = usize::try_from(first % TILE_WIDTH).unwrap_or_default();
        (Self { level, index: first / TILE_WIDTH }, begin..begin.saturating_add(1 << above))
    }

    /// How many hashes it has in a tree of so many leaves, up to [`TILE_WIDTH`].
    #[must_use]
    pub fn width(self, size: u64) -> u64 {
        let hashes = size.checked_shr(u32::from(self.level).saturating_mul(u32::from(HEIGHT))).unwrap_or_default();
        hashes.saturating_sub(self.index.saturating_mul(TILE_WIDTH)).min(TILE_WIDTH)
    }

    /// Reads the path of a tile below `tile/`, as `0/x001/067` or `1/000.p/17`: which one, and how many hashes of it are asked
    /// for. Only the one way of writing it is taken.
    #[must_use]
    pub fn parse(path: &str) -> Option<(Self, u64)> {
        let (level, rest) = path.split_once('/')?;
        let level: u8 = level.parse().ok().filter(|level| *level < 64)?;
        let (index, width) = match rest.split_once(".p/") {
            None => (rest, TILE_WIDTH),
            Some((index, width)) => (index, width.parse().ok().filter(|width| (1..TILE_WIDTH).contains(width))?),
        };
        let digits = index.split('/').map(|group| group.trim_start_matches('x')).collect::<String>();
        let tile = Self { level, index: digits.parse().ok()? };
        (tile.path(width) == path).then_some((tile, width))
    }

    /// Its path below `tile/`, with so many hashes.
    #[must_use]
    pub fn path(self, width: u64) -> String {
        let partial = if width < TILE_WIDTH { format!(".p/{width}") } else { String::new() };
        format!("{}/{}{partial}", self.level, Groups(self.index))
    }
}

/// A number in groups of three digits, all but the last with an `x` before it.
struct Groups(u64);

impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:03}", self.0);
        let lead = digits.len() % 3;
        let padded = if lead == 0 { digits } else { "0".repeat(3_usize.saturating_sub(lead)) + &digits };
        let groups: Vec<&str> =
            (0..padded.len()).step_by(3).filter_map(|at| padded.get(at..at.saturating_add(3))).collect();
        let (last, before) = groups.split_last().ok_or(fmt::Error)?;
        before.iter().try_for_each(|group| write!(f, "x{group}/"))?;
        f.write_str(last)
    }
}

/// The root above hashes whose number is a power of two; of another number, the root of RFC 6962 above them all.
#[must_use]
pub fn reduce(hashes: &[Hash]) -> Option<Hash> {
    if !hashes.len().is_power_of_two() {
        let largest = hashes.len().checked_ilog2()?;
        let (left, right) = hashes.split_at_checked(1 << largest)?;
        return join(&[reduce(left)?, reduce(right)?]);
    }
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        level = level.chunks_exact(2).filter_map(|pair| Some(node(pair.first()?, pair.get(1)?))).collect();
    }
    level.first().copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::audit::leaf_hash;
    use crate::transparency::{Frontier, consistency, cover, inclusion, verify_consistency, verify_inclusion};

    #[test]
    fn a_tree_has_the_tiles_that_the_specification_says() {
        let tiles = |size: u64, level: u8| {
            let full = (0..).take_while(|index| Tile { level, index: *index }.width(size) == TILE_WIDTH).count();
            (full as u64, Tile { level, index: full as u64 }.width(size))
        };
        for (size, expected) in [
            (1, [(0, 1), (0, 0), (0, 0)]),
            (255, [(0, 255), (0, 0), (0, 0)]),
            (256, [(1, 0), (0, 1), (0, 0)]),
            (257, [(1, 1), (0, 1), (0, 0)]),
            (65_535, [(255, 255), (0, 255), (0, 0)]),
            (65_536, [(256, 0), (1, 0), (0, 1)]),
            (70_000, [(273, 112), (1, 17), (0, 1)]),
        ] {
            assert_eq!([0, 1, 2].map(|level| tiles(size, level)), expected, "{size}");
        }
        assert_eq!(Tile { level: 63, index: 0 }.width(u64::MAX), 0);
    }

    #[test]
    fn paths_are_written_in_one_way_and_no_other_is_read() {
        for (index, written) in
            [(0, "000"), (999, "999"), (1000, "x001/000"), (1_234_067, "x001/x234/067"), (67, "067")]
        {
            for width in [TILE_WIDTH, 1, 255] {
                let tile = Tile { level: 3, index };
                let path = tile.path(width);
                let partial = if width == TILE_WIDTH { String::new() } else { format!(".p/{width}") };
                assert_eq!(path, format!("3/{written}{partial}"));
                assert_eq!(Tile::parse(&path), Some((tile, width)));
            }
        }
        for other in [
            "",
            "/",
            "0",
            "0/",
            "0/0",
            "0/00",
            "0/0000",
            "64/000",
            "00/000",
            "+1/000",
            "0/x000/001",
            "0/001/000",
            "0/x001000",
            "0/1000",
            "0/xx001/000",
            "0/000.p/0",
            "0/000.p/256",
            "0/000.p/01",
            "0/000.p/+1",
            "0/000.p/",
            "0/00x",
            "0/-01",
            "0/x999/x999/x999/x999/x999/x999/x999/999",
            "0/000/",
            "/0/000",
            "é/000",
            "0/é00",
        ] {
            assert_eq!(Tile::parse(other), None, "{other}");
        }
    }

    /// Everything that is read from tiles of this tree.
    fn hash(tiles: &BTreeMap<Tile, Vec<Hash>>, subtree: Subtree) -> Hash {
        let (tile, range) = Tile::of(subtree);
        reduce(&tiles[&tile][range]).unwrap()
    }

    #[test]
    fn proofs_made_of_tiles_hold() {
        let leaves: Vec<Hash> = (0..70_000_u64).map(|number| leaf_hash(&number.to_be_bytes())).collect();
        let mut tiles = BTreeMap::new();
        let (mut level, mut hashes) = (0, leaves.clone());
        while !hashes.is_empty() {
            let mut above = Vec::new();
            for (index, chunk) in hashes.chunks(256).enumerate() {
                tiles.insert(Tile { level, index: index as u64 }, chunk.to_vec());
                if chunk.len() == 256 {
                    above.push(reduce(chunk).unwrap());
                }
            }
            (level, hashes) = (level + 1, above);
        }
        let root =
            |size: u64| join(&cover(0, size).into_iter().map(|one| hash(&tiles, one)).collect::<Vec<_>>()).unwrap();
        let filled = |plan: Vec<Vec<Subtree>>| -> Vec<Hash> {
            plan.iter()
                .map(|part| join(&part.iter().map(|one| hash(&tiles, *one)).collect::<Vec<_>>()).unwrap())
                .collect()
        };
        let mut frontier = Frontier::default();
        for (size, leaf) in (1..).zip(&leaves) {
            frontier.append(*leaf);
            if [1, 255, 256, 257, 4096, 65_535, 65_536, 65_537, 70_000].contains(&size) {
                assert_eq!(frontier.root(), root(size), "{size}");
                for index in [0, size / 2, size - 1] {
                    let path = filled(inclusion(index, size).unwrap());
                    let leaf = &leaves[usize::try_from(index).unwrap()];
                    assert!(verify_inclusion(index, size, leaf, &path, &root(size)), "{index} of {size}");
                    if index > 0 {
                        let path = filled(consistency(index, size).unwrap());
                        assert!(
                            verify_consistency((index, &root(index)), (size, &root(size)), &path),
                            "{index} to {size}"
                        );
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_path_that_is_read_is_written_again_as_it_was(path in "[0-9x/.p]{0,30}", any in ".{0,20}") {
            for path in [path, any] {
                if let Some((tile, width)) = Tile::parse(&path) {
                    prop_assert_eq!(tile.path(width), path);
                }
            }
        }

        #[test]
        fn a_subtree_lies_within_one_tile(level in 0_u8..64, index: u64) {
            let index = index >> level.min(63);
            let (tile, range) = Tile::of(Subtree { level, index });
            prop_assert!(range.end <= 256 && range.len() == 1 << (level % 8) && tile.level == level / 8);
        }
    }
}
