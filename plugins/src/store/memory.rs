//! Storage that forgets everything at the end of the process: for tests and for trying things out. Same semantics as
//! the databases but for durability.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use signet_core::audit::{AuditEvent, AuditQuery, Page, StoredEvent};
use signet_core::certificate::Serial;
use signet_core::release::Recorded;
use signet_core::rotation::Authorities;
use signet_core::seams::custody::KeyId;
use signet_core::seams::store::{AppendError, AuditStore, AuthorityJournal, JournalVersion, SealedKeys, StoreError};

use super::rows::{matches, page};

/// An audit log, a journal and sealed keys in memory.
#[derive(Default)]
pub struct MemoryStore {
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    events: Vec<AuditEvent>,
    serials: HashSet<Serial>,
    journal: Option<(JournalVersion, Authorities)>,
    keys: HashMap<KeyId, Vec<u8>>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl AuditStore for MemoryStore {
    async fn append(&self, events: Vec<AuditEvent>) -> Result<Vec<Result<Recorded, AppendError>>, StoreError> {
        let content = &mut *self.content();
        let mut append = |event: AuditEvent| {
            let serial = event.what.as_ref().and_then(|what| what.serial());
            if serial.is_some_and(|serial| !content.serials.insert(serial)) {
                return Err(AppendError::SerialTaken);
            }
            let sequence = u64::try_from(content.events.len()).unwrap_or(u64::MAX);
            content.events.push(event);
            Ok(Recorded::durable(sequence, serial))
        };
        Ok(events.into_iter().map(&mut append).collect())
    }

    async fn query(&self, query: &AuditQuery) -> Result<Page<StoredEvent>, StoreError> {
        let content = self.content();
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let before = query.before.and_then(|before| usize::try_from(before).ok()).unwrap_or(usize::MAX);
        let older = content.events.iter().enumerate().take(before).rev();
        let found = older.filter(|(_, event)| matches(query, event));
        let items = found.take(limit.saturating_add(1));
        let stored = |(sequence, event): (usize, &AuditEvent)| StoredEvent {
            sequence: u64::try_from(sequence).unwrap_or(u64::MAX),
            event: event.clone(),
        };
        Ok(page(items.map(stored).collect(), query.limit))
    }

    async fn probe(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl AuthorityJournal for MemoryStore {
    async fn load(&self) -> Result<Option<(JournalVersion, Authorities)>, StoreError> {
        Ok(self.content().journal.clone())
    }

    async fn replace(
        &self,
        expected: JournalVersion,
        authorities: &Authorities,
    ) -> Result<Option<JournalVersion>, StoreError> {
        let mut content = self.content();
        let current = content.journal.as_ref().map_or(JournalVersion(0), |(version, _)| *version);
        if current != expected {
            return Ok(None);
        }
        let version = JournalVersion(expected.0.saturating_add(1));
        content.journal = Some((version, authorities.clone()));
        Ok(Some(version))
    }
}

#[async_trait]
impl SealedKeys for MemoryStore {
    async fn insert(&self, id: &KeyId, sealed: &[u8]) -> Result<bool, StoreError> {
        let mut content = self.content();
        let free = !content.keys.contains_key(id);
        if free {
            content.keys.insert(id.clone(), sealed.to_vec());
        }
        Ok(free)
    }

    async fn fetch(&self, id: &KeyId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.content().keys.get(id).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::suite;
    use super::MemoryStore;

    #[tokio::test]
    async fn memory_passes_the_suite() {
        suite::every_case(|| async { MemoryStore::new() }).await;
    }
}
