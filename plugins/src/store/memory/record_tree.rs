//! The tree over the record, in memory.

use async_trait::async_trait;
use signet_core::audit::{AuditEvent, leaf_hash};
use signet_core::seams::record_tree::{KeptCheckpoint, KeptNote, MAX_NOTES, NoteChange, RecordTree, StoredLeaf};
use signet_core::seams::store::StoreError;
use signet_core::transparency::{FullTile, Hash, Tile};

use super::MemoryStore;
use crate::store::record_tree::limit;

#[async_trait]
impl RecordTree for MemoryStore {
    async fn events(&self) -> Result<u64, StoreError> {
        Ok(self.content().events.len() as u64)
    }

    async fn leaf_hashes(&self, from: u64, most: u32) -> Result<Vec<Hash>, StoreError> {
        let leaves = self.leaves(from, most).await?;
        Ok(leaves.into_iter().filter_map(|leaf| leaf.hash.try_into().ok()).collect())
    }

    async fn leaves(&self, from: u64, most: u32) -> Result<Vec<StoredLeaf>, StoreError> {
        let content = self.content();
        let leaf = |(sequence, event): (u64, &AuditEvent)| {
            let body = event.encode();
            let has_words = !content.forgotten.events.contains(&sequence);
            StoredLeaf { sequence, hash: leaf_hash(&body).to_vec(), body: has_words.then_some(body) }
        };
        let (first, most) = (usize::try_from(from).unwrap_or(usize::MAX), usize::try_from(limit(most)).unwrap_or(0));
        Ok((from..).zip(content.events.iter().skip(first)).take(most).map(leaf).collect())
    }

    async fn tile(&self, tile: Tile) -> Result<Option<Vec<Hash>>, StoreError> {
        Ok(self.content().tiles.get(&tile).cloned())
    }

    async fn checkpoint(&self) -> Result<Option<KeptCheckpoint>, StoreError> {
        Ok(self.content().checkpoint.clone())
    }

    async fn advance(
        &self,
        before: Option<&str>,
        next: &KeptCheckpoint,
        full: &[FullTile],
    ) -> Result<bool, StoreError> {
        let content = &mut *self.content();
        if content.checkpoint.as_ref().map(|kept| kept.note.as_str()) != before {
            return Ok(false);
        }
        content.checkpoint = Some(next.clone());
        content.tiles.extend(full.iter().cloned());
        Ok(true)
    }

    async fn notes(&self) -> Result<Vec<KeptNote>, StoreError> {
        let content = self.content();
        let note = |(name, note): (&String, &String)| KeptNote { name: name.clone(), note: note.clone() };
        Ok(content.notes.iter().map(note).take(usize::try_from(MAX_NOTES).unwrap_or(0)).collect())
    }

    async fn keep_notes(&self, changes: &[NoteChange]) -> Result<bool, StoreError> {
        let content = &mut *self.content();
        if changes.iter().any(|change| content.notes.get(&change.next.name) != change.before.as_ref()) {
            return Ok(false);
        }
        content.notes.extend(changes.iter().map(|change| (change.next.name.clone(), change.next.note.clone())));
        Ok(true)
    }
}
