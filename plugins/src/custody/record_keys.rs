//! The keys that sign checkpoints of the record: Ed25519, sealed in storage as the keys of authorities are.

use std::sync::Arc;

use async_trait::async_trait;
use ring::rand::SystemRandom;
use signet_core::authority::KeyId;
use signet_core::seams::custody::CustodyError;
use signet_core::seams::record_tree::RecordKeys;
use signet_core::seams::store::StoreError;
use signet_core::transparency::NoteKey;

use super::SealedCustody;

/// How often a key is made that another process makes at the same time.
const ATTEMPTS: usize = 5;

/// Keys of the record in a sealed custody.
#[derive(Debug)]
pub struct SealedRecordKeys {
    custody: SealedCustody,
}

impl SealedRecordKeys {
    /// Those in this custody.
    #[must_use]
    pub fn new(custody: SealedCustody) -> Self {
        Self { custody }
    }

    /// What is kept, the newest first, with its number.
    async fn sealed(&self) -> Result<Vec<(u32, KeyId, Vec<u8>)>, CustodyError> {
        let failed = |error: StoreError| CustodyError::Store(error.to_string());
        let all = self.custody.store.all().await.map_err(failed)?;
        let number = |id: &KeyId| id.as_str().strip_prefix(KeyId::RECORD)?.parse().ok();
        let mut ours: Vec<_> = all.into_iter().filter_map(|(id, sealed)| Some((number(&id)?, id, sealed))).collect();
        ours.sort_by_key(|(number, _, _)| std::cmp::Reverse(*number));
        Ok(ours)
    }

    /// Makes the key of this number, unless another process has made it.
    async fn make(&self, number: u32) -> Result<bool, CustodyError> {
        let name = format!("{}{number}", KeyId::RECORD);
        let id = KeyId::parse(&name).ok_or_else(|| CustodyError::Store(format!("{name} names no key")))?;
        let plain = NoteKey::generate(&SystemRandom::new()).map_err(|_| CustodyError::Random(id.clone()))?;
        let sealed = self.custody.seal(&id, &plain).await.ok_or_else(|| CustodyError::Random(id.clone()))?;
        let insert = self.custody.store.insert(&id, &sealed).await;
        insert.map_err(|error| CustodyError::Store(error.to_string()))
    }

    /// Makes another key, which signs from now on beside the one before it.
    ///
    /// # Errors
    /// [`CustodyError`].
    pub async fn replace(&self) -> Result<(), CustodyError> {
        let newest = self.sealed().await?.first().map_or(0, |(number, _, _)| *number);
        if self.make(newest.saturating_add(1)).await? {
            return Ok(());
        }
        Err(CustodyError::Store("somebody else has just made a key for the record".to_owned()))
    }
}

#[async_trait]
impl RecordKeys for SealedRecordKeys {
    async fn keys(&self, origin: &str) -> Result<Vec<Arc<NoteKey>>, CustodyError> {
        for _ in 0..ATTEMPTS {
            let sealed = self.sealed().await?;
            if sealed.is_empty() {
                self.make(1).await?;
                continue;
            }
            let mut keys = Vec::with_capacity(sealed.len());
            for (_, id, sealed) in sealed {
                let plain = self.custody.plain(&id, &sealed).await?;
                let key =
                    NoteKey::new(origin, &plain).map_err(|error| CustodyError::Store(format!("{id}: {error}")))?;
                keys.push(Arc::new(key));
            }
            return Ok(keys);
        }
        Err(CustodyError::Store("a key for the record was made, and is not there".to_owned()))
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use std::sync::Mutex;
    use std::time::Duration;

    use signet_core::seams::store::SealedKeys;
    use signet_core::transparency::Note;

    use super::*;
    use crate::custody::keyring::{Keyring, SealingKeys, TestSource};
    use crate::custody::sealing::KeyEncryptionKey;
    use crate::store::memory::MemoryStore;

    fn keys(store: &Arc<MemoryStore>, text: &str) -> SealedRecordKeys {
        let known = SealingKeys::from_file_bytes(text.as_bytes()).unwrap();
        let source = TestSource(Arc::new(Mutex::new(text.to_owned())));
        SealedRecordKeys::new(SealedCustody::new(Arc::clone(store) as _, Arc::new(Keyring::new(source, known))))
    }

    async fn shown(keys: &SealedRecordKeys, origin: &str) -> Vec<String> {
        keys.keys(origin).await.unwrap().iter().map(|key| key.verifier().to_string()).collect()
    }

    #[tokio::test]
    async fn one_key_is_made_for_all_and_stays_and_another_comes_before_it() {
        let (store, text) = (Arc::new(MemoryStore::new()), KeyEncryptionKey::generate().unwrap());
        let (one, other) = (keys(&store, &text), keys(&store, &text));
        let (first, same) = tokio::join!(shown(&one, "a/record"), shown(&other, "a/record"));
        assert_eq!((first.len(), &first), (1, &same));
        one.replace().await.unwrap();
        let both = shown(&other, "a/record").await;
        assert_eq!((both.len(), &both[1]), (2, &first[0]));
        // The same key in the name of another log.
        let named = shown(&other, "b/record").await;
        assert!(named.iter().all(|key| key.starts_with("b/record+")) && named[1] != first[0]);
        let signed = one.keys("a/record").await.unwrap()[1].sign("text\n");
        let note = Note { text: "text\n".into(), signatures: vec![signed] };
        let verifier = signet_core::transparency::VerifierKey::parse(&first[0]).unwrap();
        assert!(note.verify(&[verifier]).is_ok());
    }

    #[tokio::test]
    async fn it_is_sealed_is_sealed_anew_with_the_others_and_is_not_removed_as_unused() {
        let (store, text) = (Arc::new(MemoryStore::new()), KeyEncryptionKey::generate().unwrap());
        let before = shown(&keys(&store, &text), "a").await;
        let blob = store.all().await.unwrap()[0].1.clone();
        assert!(!String::from_utf8_lossy(&blob).contains("record"));
        let another = KeyEncryptionKey::generate().unwrap();
        let custody = keys(&store, &format!("{}\n{}", another.trim(), text.trim())).custody;
        assert_eq!(custody.rekey().await.unwrap().resealed, 1);
        assert_eq!(shown(&keys(&store, &another), "a").await, before);
        let locked = keys(&store, &text).keys("a").await.unwrap_err();
        assert!(matches!(locked, CustodyError::Locked { .. }), "{locked}");

        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("signet.db").display());
        let sqlite = crate::store::sqlite::SqliteStore::open(&url, Default::default()).await.unwrap();
        let name = KeyId::parse(&format!("{}1", KeyId::RECORD)).unwrap();
        for id in [&name, &KeyId::parse("lost").unwrap()] {
            assert!(sqlite.insert(id, b"sealed").await.unwrap());
        }
        let start = time::macros::datetime!(2026-03-01 12:00 UTC);
        for hours in [0, 1000] {
            let now = start + Duration::from_secs(3600 * hours);
            sqlite.forget_unused(now, Duration::from_secs(900)).await.unwrap();
        }
        let left: Vec<KeyId> = sqlite.all().await.unwrap().into_iter().map(|(id, _)| id).collect();
        assert_eq!(left, [name]);
    }
}
