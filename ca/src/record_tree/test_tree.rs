//! A record in memory that tests may change behind everybody's back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ring::rand::SystemRandom;
use signet_core::audit::leaf_hash;
use signet_core::clock::SystemClock;
use signet_core::seams::custody::CustodyError;
use signet_core::seams::record_tree::{
    KeptCheckpoint, KeptNote, MAX_LEAVES, NoteChange, RecordKeys, RecordTree, StoredLeaf,
};
use signet_core::seams::store::StoreError;
use signet_core::secret::Secret;
use signet_core::transparency::{FullTile, Hash, NoteKey, Tile, VerifierKey};
use signet_runtime::metrics::Metrics;

use super::{OutsideFile, Signer, Step, TreeMetrics};

pub(super) const ORIGIN: &str = "cluster.local/record";

/// What is kept.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    pub(super) leaves: Vec<StoredLeaf>,
    pub(super) tiles: HashMap<Tile, Vec<Hash>>,
    pub(super) checkpoint: Option<KeptCheckpoint>,
    pub(super) notes: BTreeMap<String, String>,
}

/// A record.
#[derive(Debug, Default)]
pub(super) struct TestTree(pub(super) Mutex<Content>);

/// An event whose bytes are made of a number.
pub(super) fn leaf(sequence: u64, number: u64) -> StoredLeaf {
    let body = format!("event {number}").into_bytes();
    StoredLeaf { sequence, hash: leaf_hash(&body).to_vec(), body: Some(body) }
}

impl TestTree {
    /// One with so many events.
    pub(super) fn of(events: u64) -> Arc<Self> {
        let tree = Arc::new(Self::default());
        tree.append(events, 0);
        tree
    }

    /// Appends events that are told apart from others by `salt`.
    pub(super) fn append(&self, events: u64, salt: u64) {
        self.change(|content| {
            for _ in 0..events {
                let sequence = content.leaves.len() as u64;
                content.leaves.push(leaf(sequence, sequence + salt));
            }
        });
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Content) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    pub(super) fn note(&self) -> String {
        self.change(|content| content.checkpoint.as_ref().unwrap().note.clone())
    }
}

#[async_trait]
impl RecordTree for TestTree {
    async fn events(&self) -> Result<u64, StoreError> {
        Ok(self.change(|content| content.leaves.last().map_or(0, |last| last.sequence + 1)))
    }

    async fn leaf_hashes(&self, from: u64, limit: u32) -> Result<Vec<Hash>, StoreError> {
        let leaves = self.leaves(from, limit).await?;
        let hash = |(expected, leaf): (u64, StoredLeaf)| {
            let missing = || StoreError::Damaged(format!("event {expected} is missing"));
            if leaf.sequence == expected { Ok(leaf.hash.try_into().unwrap()) } else { Err(missing()) }
        };
        (from..).zip(leaves).map(hash).collect()
    }

    async fn leaves(&self, from: u64, limit: u32) -> Result<Vec<StoredLeaf>, StoreError> {
        let most = limit.min(MAX_LEAVES) as usize;
        let after = |leaf: &&StoredLeaf| leaf.sequence >= from;
        Ok(self.change(|content| content.leaves.iter().filter(after).take(most).cloned().collect()))
    }

    async fn tile(&self, tile: Tile) -> Result<Option<Vec<Hash>>, StoreError> {
        Ok(self.change(|content| content.tiles.get(&tile).cloned()))
    }

    async fn checkpoint(&self) -> Result<Option<KeptCheckpoint>, StoreError> {
        Ok(self.change(|content| content.checkpoint.clone()))
    }

    async fn advance(
        &self,
        before: Option<&str>,
        next: &KeptCheckpoint,
        full: &[FullTile],
    ) -> Result<bool, StoreError> {
        Ok(self.change(|content| {
            if content.checkpoint.as_ref().map(|kept| kept.note.as_str()) != before {
                return false;
            }
            content.checkpoint = Some(next.clone());
            content.tiles.extend(full.iter().cloned());
            true
        }))
    }

    async fn notes(&self) -> Result<Vec<KeptNote>, StoreError> {
        let note = |(name, note): (&String, &String)| KeptNote { name: name.clone(), note: note.clone() };
        Ok(self.change(|content| content.notes.iter().map(note).collect()))
    }

    async fn keep_notes(&self, changes: &[NoteChange]) -> Result<bool, StoreError> {
        Ok(self.change(|content| {
            if changes.iter().any(|change| content.notes.get(&change.next.name) != change.before.as_ref()) {
                return false;
            }
            content.notes.extend(changes.iter().map(|change| (change.next.name.clone(), change.next.note.clone())));
            true
        }))
    }
}

/// Keys in memory, the newest first.
pub(super) struct TestKeys(Mutex<Vec<Secret>>);

impl TestKeys {
    pub(super) fn new() -> Arc<Self> {
        let keys = Self(Mutex::new(Vec::new()));
        keys.replace();
        Arc::new(keys)
    }

    pub(super) fn replace(&self) {
        self.0.lock().unwrap().insert(0, NoteKey::generate(&SystemRandom::new()).unwrap());
    }

    pub(super) fn verifiers(&self) -> Vec<VerifierKey> {
        let keys = self.0.lock().unwrap();
        keys.iter().map(|key| NoteKey::new(ORIGIN, key).unwrap().verifier().clone()).collect()
    }
}

#[async_trait]
impl RecordKeys for TestKeys {
    async fn keys(&self, origin: &str) -> Result<Vec<Arc<NoteKey>>, CustodyError> {
        let keys = self.0.lock().unwrap();
        Ok(keys.iter().map(|key| Arc::new(NoteKey::new(origin, key).unwrap())).collect())
    }
}

/// A replica that signs.
pub(super) fn signer(tree: &Arc<TestTree>, keys: &Arc<TestKeys>, outside: Option<PathBuf>) -> Signer {
    named(tree, keys, outside, ORIGIN)
}

pub(super) fn named(tree: &Arc<TestTree>, keys: &Arc<TestKeys>, outside: Option<PathBuf>, origin: &str) -> Signer {
    let metrics = TreeMetrics::new(&Metrics::new()).unwrap();
    let (tree, keys) = (Arc::clone(tree) as _, Arc::clone(keys) as _);
    Signer::new(tree, keys, origin.to_owned(), outside.map(OutsideFile::new), metrics, Arc::new(SystemClock))
}

/// Signs until all events are covered.
pub(super) async fn cover(signer: &mut Signer) -> u64 {
    loop {
        match signer.step().await.expect("nothing was changed") {
            Step::Covered(size) => return size,
            Step::More(_) | Step::Overtaken => {}
        }
    }
}

/// A record that is signed, and its keys.
pub(super) async fn signed(events: u64) -> (Arc<TestTree>, Arc<TestKeys>) {
    let (tree, keys) = (TestTree::of(events), TestKeys::new());
    assert_eq!(cover(&mut signer(&tree, &keys, None)).await, events);
    (tree, keys)
}
