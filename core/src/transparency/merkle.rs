//! The Merkle tree of RFC 6962 section 2.1, and the verification of its proofs as RFC 9162 sections 2.1.3.2 and 2.1.4.2 have it.
//!
//! Proofs are planned and then filled in: a plan names perfect subtrees, whose hashes somebody reads from where they are kept.

use super::Hash;

/// The perfect subtree over the `2^level` leaves from `index * 2^level` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subtree {
    /// How many levels above the leaves its root is; at most 63.
    pub level: u8,
    /// Which one it is of that level, from 0 on the left.
    pub index: u64,
}

/// The root of the tree without leaves.
#[must_use]
pub fn empty_root() -> Hash {
    crate::digest::sha256(&[])
}

/// The hash above two others: `SHA-256(0x01 || left || right)`.
#[must_use]
pub fn node(left: &Hash, right: &Hash) -> Hash {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(&[1]);
    context.update(left);
    context.update(right);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The largest power of two below `leaves`, which are two at least: where a tree of so many is split.
fn split(leaves: u64) -> u64 {
    1 << leaves.saturating_sub(1).ilog2()
}

/// The perfect subtrees that make up the tree over the leaves from `begin` to before `end`, from left to right. `begin` is where
/// a tree is split, so a multiple of the largest of them, or 0.
#[must_use]
pub fn cover(begin: u64, end: u64) -> Vec<Subtree> {
    let mut all = Vec::new();
    let mut from = begin;
    while let Some(level) = end.saturating_sub(from).checked_ilog2() {
        all.push(Subtree { level: u8::try_from(level).unwrap_or(u8::MAX), index: from >> level });
        from = from.saturating_add(1 << level);
    }
    all
}

/// The root above such subtrees; `None` of none.
#[must_use]
pub fn join(hashes: &[Hash]) -> Option<Hash> {
    let (last, others) = hashes.split_last()?;
    Some(others.iter().rev().fold(*last, |right, left| node(left, &right)))
}

/// What proves that leaf `index` is in the tree of so many leaves: for each hash of the proof the subtrees that it is joined
/// of, the leaf's sibling first. `None` when there is no such leaf.
#[must_use]
pub fn inclusion(index: u64, size: u64) -> Option<Vec<Vec<Subtree>>> {
    let (mut begin, mut end, mut path) = (0, size, Vec::new());
    if index >= size {
        return None;
    }
    while end.saturating_sub(begin) > 1 {
        let middle = split(end.saturating_sub(begin)).saturating_add(begin);
        if index < middle {
            path.push(cover(middle, end));
            end = middle;
        } else {
            path.push(cover(begin, middle));
            begin = middle;
        }
    }
    path.reverse();
    Some(path)
}

/// What proves that the tree of `old` leaves is a beginning of that of `new`, in the same form. `None` when it cannot be.
#[must_use]
pub fn consistency(old: u64, new: u64) -> Option<Vec<Vec<Subtree>>> {
    if old > new {
        return None;
    }
    if old == 0 {
        return Some(Vec::new());
    }
    let (mut begin, mut end, mut path) = (0, new, Vec::new());
    // Until the old tree ends where this subtree does.
    while old < end {
        let middle = split(end.saturating_sub(begin)).saturating_add(begin);
        if old <= middle {
            path.push(cover(middle, end));
            end = middle;
        } else {
            path.push(cover(begin, middle));
            begin = middle;
        }
    }
    if begin > 0 {
        path.push(cover(begin, end));
    }
    path.reverse();
    Some(path)
}

/// Whether `path` proves that `leaf` is at `index` in the tree of this size and root.
#[must_use]
pub fn verify_inclusion(index: u64, size: u64, leaf: &Hash, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size.saturating_sub(1), *leaf);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            climb(&mut at, &mut last);
        } else {
            hash = node(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Goes up as long as there is nothing on the right to be hashed with.
fn climb(at: &mut u64, last: &mut u64) {
    while *at & 1 == 0 && *at != 0 {
        *at >>= 1;
        *last >>= 1;
    }
}

/// Whether `path` proves that the tree of `old` leaves and this root is a beginning of that of `new`.
#[must_use]
pub fn verify_consistency(old: (u64, &Hash), new: (u64, &Hash), path: &[Hash]) -> bool {
    let ((old, old_root), (new, new_root)) = (old, new);
    if old >= new {
        return old == new && path.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return path.is_empty() && *old_root == empty_root();
    }
    let (first, rest) = match path.split_first() {
        None => return false,
        Some(_) if old.is_power_of_two() => (old_root, path),
        Some(split) => split,
    };
    let (mut at, mut last) = (old.saturating_sub(1), new.saturating_sub(1));
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut of_old, mut of_new) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            of_old = node(sibling, &of_old);
            of_new = node(sibling, &of_new);
            climb(&mut at, &mut last);
        } else {
            of_new = node(&of_new, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && of_old == *old_root && of_new == *new_root
}

/// A tree that only grows, as little of it as its root needs: the hashes of what covers it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    hashes: Vec<Hash>,
}

impl Frontier {
    /// The tree of `size` leaves, whose [`cover`] has these hashes; `None` when that has another number of them.
    #[must_use]
    pub fn new(size: u64, hashes: Vec<Hash>) -> Option<Self> {
        (cover(0, size).len() == hashes.len()).then_some(Self { size, hashes })
    }

    /// Adds the hash of a leaf.
    pub fn append(&mut self, leaf: Hash) {
        let (mut hash, mut left_of) = (leaf, self.size);
        while left_of & 1 == 1 {
            // For each bit that is set there is a hash.
            let Some(left) = self.hashes.pop() else { break };
            hash = node(&left, &hash);
            left_of >>= 1;
        }
        self.hashes.push(hash);
        self.size = self.size.saturating_add(1);
    }

    /// How many leaves it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its root.
    #[must_use]
    pub fn root(&self) -> Hash {
        join(&self.hashes).unwrap_or_else(empty_root)
    }
}

#[cfg(test)]
#[path = "merkle_tests.rs"]
mod tests;
