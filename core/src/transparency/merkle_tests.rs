//! The tree against the published vectors of transparency-dev/merkle, against the recursion of RFC 6962 at each size, and with
//! each proof broken in each place.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::audit::leaf_hash;
use crate::digest::hex;

/// The entries of the published vectors.
const ENTRIES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];
const N23: &str = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
const N45: &str = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";
const N67: &str = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
const N03: &str = ROOTS[4];
const N47: &str = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";

fn published() -> Vec<Hash> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    ENTRIES.iter().map(|entry| leaf_hash(&entry.as_bytes().chunks(2).map(byte).collect::<Vec<_>>())).collect()
}

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|number| leaf_hash(&number.to_be_bytes())).collect()
}

/// The definition.
fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [one] => *one,
        more => {
            let mut at = 1;
            while at * 2 < more.len() {
                at *= 2;
            }
            node(&root(&more[..at]), &root(&more[at..]))
        }
    }
}

fn filled(plan: Vec<Vec<Subtree>>, leaves: &[Hash]) -> Vec<Hash> {
    let hash = |subtree: &Subtree| {
        let width = 1_usize << subtree.level;
        let from = usize::try_from(subtree.index).unwrap() * width;
        root(&leaves[from..from + width])
    };
    plan.iter().map(|part| join(&part.iter().map(hash).collect::<Vec<_>>()).unwrap()).collect()
}

#[test]
fn roots_and_proofs_are_those_that_were_published() {
    let leaves = published();
    let mut frontier = Frontier::default();
    assert_eq!(hex(&frontier.root()), ROOTS[0]);
    for (size, leaf) in (1..).zip(&leaves) {
        frontier.append(*leaf);
        assert_eq!((hex(&frontier.root()).as_str(), frontier.size()), (ROOTS[size], size as u64));
    }
    let leaf: Vec<String> = leaves.iter().map(|leaf| hex(leaf)).collect();
    let shown = |plan: Option<Vec<Vec<Subtree>>>| -> Vec<String> {
        filled(plan.unwrap(), &leaves).iter().map(|hash| hex(hash)).collect()
    };
    assert_eq!(shown(inclusion(0, 1)), [""; 0]);
    assert_eq!(shown(inclusion(0, 8)), [leaf[1].as_str(), N23, N47]);
    assert_eq!(shown(inclusion(5, 8)), [leaf[4].as_str(), N67, N03]);
    assert_eq!(shown(inclusion(2, 3)), [ROOTS[2]]);
    assert_eq!(shown(inclusion(1, 5)), [leaf[0].as_str(), N23, leaf[4].as_str()]);
    assert_eq!(shown(consistency(1, 1)), [""; 0]);
    assert_eq!(shown(consistency(1, 8)), [leaf[1].as_str(), N23, N47]);
    assert_eq!(shown(consistency(6, 8)), [N45, N67, N03]);
    assert_eq!(shown(consistency(2, 5)), [N23, leaf[4].as_str()]);
}

#[test]
fn every_size_has_the_root_of_the_definition_and_proofs_that_hold_and_break() {
    let all = leaves(70);
    let roots: Vec<Hash> = (0..=70).map(|size| root(&all[..size])).collect();
    let mut frontier = Frontier::default();
    for size in 0..=70_u64 {
        let here = &all[..usize::try_from(size).unwrap()];
        let hashes = filled(cover(0, size).into_iter().map(|one| vec![one]).collect(), here);
        assert_eq!(Frontier::new(size, hashes.clone()).unwrap(), frontier);
        assert!(Frontier::new(size + 1, hashes).is_none_or(|other| other.size().count_ones() == size.count_ones()));
        let root = &roots[here.len()];
        assert_eq!(frontier.root(), *root);
        for index in 0..size {
            let path = filled(inclusion(index, size).unwrap(), here);
            let holds =
                |path: &[Hash]| verify_inclusion(index, size, &here[usize::try_from(index).unwrap()], path, root);
            assert!(holds(&path));
            broken(&path, holds);
            assert!(!verify_inclusion(index, size, &leaf_hash(b"other"), &path, root));
            assert!(!verify_inclusion(size, size, &here[usize::try_from(index).unwrap()], &path, root));
            assert!(
                !verify_inclusion(index ^ 1, size, &here[usize::try_from(index).unwrap()], &path, root) || size == 1
            );
        }
        assert!(inclusion(size, size).is_none() && consistency(size + 1, size).is_none());
        for old in 0..=size {
            let path = filled(consistency(old, size).unwrap(), here);
            let old_root = &roots[usize::try_from(old).unwrap()];
            let holds = |path: &[Hash]| verify_consistency((old, old_root), (size, root), path);
            assert!(holds(&path), "{old} {size}");
            if old > 0 {
                broken(&path, holds);
                assert!(!verify_consistency((old, &leaf_hash(b"fork")), (size, root), &path));
            }
            assert!(old == size || !verify_consistency((size, root), (old, old_root), &path));
        }
        if let Some(next) = all.get(here.len()) {
            frontier.append(*next);
        }
    }
}

/// One hash less, one more, two exchanged, and a bit turned in each place.
fn broken(path: &[Hash], holds: impl Fn(&[Hash]) -> bool) {
    let extended = [path, &[[0; 32]]].concat();
    assert!(!holds(&extended) && path.split_last().is_none_or(|(_, shorter)| !holds(shorter)));
    for at in 0..path.len() {
        let mut turned = path.to_vec();
        turned[at][7] ^= 4;
        assert!(!holds(&turned));
        let mut swapped = path.to_vec();
        swapped.swap(at, 0);
        assert!(at == 0 || !holds(&swapped));
        let mut without = path.to_vec();
        without.remove(at);
        assert!(!holds(&without));
    }
}

proptest! {
    #[test]
    fn nothing_panics_whatever_the_numbers(index: u64, size: u64, old: u64, hashes in prop::collection::vec(any::<Hash>(), 0..70)) {
        let root = hashes.first().copied().unwrap_or_default();
        let _either = verify_inclusion(index, size, &root, &hashes, &root);
        let _either = verify_consistency((old, &root), (size, &root), &hashes);
        prop_assert!(inclusion(index, size).is_none_or(|path| path.len() <= 64));
        prop_assert!(consistency(old, size).is_none_or(|path| path.len() <= 65));
        prop_assert!(cover(0, size).len() <= 64);
    }
}
