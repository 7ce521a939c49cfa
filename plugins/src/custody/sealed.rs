//! Custody in the database: keys are kept encrypted and decrypted only into the memory of this process.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use signet_core::authority::KeyId;
use signet_core::key_type::KeyType;
use signet_core::seams::custody::{CustodyError, KeyCustody, SigningKey};
use signet_core::seams::store::{SealedKeys, StoreError};
use signet_core::secret::Secret;
use time::OffsetDateTime;

use super::keyring::{Keyring, SealingKeys};
use super::keys::LocalKey;
use super::sealing::sealed_with;

/// Keys encrypted with key-encryption keys and kept in a store that sees only ciphertext.
pub struct SealedCustody {
    pub(super) store: Arc<dyn SealedKeys>,
    pub(super) keys: Arc<Keyring>,
}

impl SealedCustody {
    /// Joins a store and the keys that protect what is in it.
    #[must_use]
    pub fn new(store: Arc<dyn SealedKeys>, keys: Arc<Keyring>) -> Self {
        Self { store, keys }
    }

    /// Seals with the newest key, also if that has just come: keys are made seldom enough to look.
    pub(super) async fn seal(&self, id: &KeyId, plain: &Secret) -> Option<Vec<u8>> {
        self.keys.current().await.newest().seal(id, plain)
    }

    /// Opens a blob with the key that it needs.
    pub(super) async fn plain(&self, id: &KeyId, sealed: &[u8]) -> Result<Secret, CustodyError> {
        let unreadable = || CustodyError::Unreadable(id.clone());
        let Some(needs) = sealed_with(sealed) else {
            // It does not say which one.
            let by_any = |keys: &SealingKeys| keys.all().find_map(|key| key.open(id, sealed));
            if let Some(plain) = by_any(&self.keys.known()) {
                return Ok(plain);
            }
            return by_any(&*self.keys.current().await).ok_or_else(unreadable);
        };
        let locked = || CustodyError::Locked { id: id.clone(), needs: needs.to_string(), looked_in: self.keys.place() };
        self.keys.find(needs).await.ok_or_else(locked)?.open(id, sealed).ok_or_else(unreadable)
    }
}

#[async_trait]
impl KeyCustody for SealedCustody {
    async fn create(&self, id: &KeyId, key_type: KeyType) -> Result<Arc<dyn SigningKey>, CustodyError> {
        let (key, pkcs8) = LocalKey::generate(key_type).await?;
        let sealed = self.seal(id, &pkcs8).await.ok_or(CustodyError::Generate(key_type))?;
        drop(pkcs8);
        match self.store.insert(id, &sealed).await {
            Ok(true) => Ok(Arc::new(key)),
            Ok(false) => Err(CustodyError::Exists(id.clone())),
            Err(error) => Err(CustodyError::Store(error.to_string())),
        }
    }

    async fn import(&self, id: &KeyId, pkcs8: &Secret) -> Result<Arc<dyn SigningKey>, CustodyError> {
        let key = LocalKey::from_pkcs8(pkcs8.expose()).ok_or_else(|| CustodyError::Unsupported(id.clone()))?;
        let sealed = self.seal(id, pkcs8).await.ok_or(CustodyError::Generate(key.key_type()))?;
        match self.store.insert(id, &sealed).await {
            Ok(true) => Ok(Arc::new(key)),
            Ok(false) => {
                // Another process may have been first, or an earlier run of this one: what counts is what is kept.
                let kept = self.open(id).await?;
                let same = kept.spki_der() == key.spki_der();
                same.then_some(kept).ok_or_else(|| CustodyError::Exists(id.clone()))
            }
            Err(error) => Err(CustodyError::Store(error.to_string())),
        }
    }

    async fn forget_unused(&self, now: OffsetDateTime, unused_for: Duration) -> Result<Vec<KeyId>, CustodyError> {
        let forgotten = self.store.forget_unused(now, unused_for).await;
        forgotten.map_err(|error| CustodyError::Store(error.to_string()))
    }

    async fn open(&self, id: &KeyId) -> Result<Arc<dyn SigningKey>, CustodyError> {
        let sealed = match self.store.fetch(id).await {
            Ok(sealed) => sealed.ok_or_else(|| CustodyError::Missing(id.clone()))?,
            Err(StoreError::Damaged(_)) => return Err(CustodyError::Unreadable(id.clone())),
            Err(error) => return Err(CustodyError::Store(error.to_string())),
        };
        let key = LocalKey::from_pkcs8(self.plain(id, &sealed).await?.expose());
        key.map(|key| Arc::new(key) as _).ok_or_else(|| CustodyError::Unreadable(id.clone()))
    }
}

impl fmt::Debug for SealedCustody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedCustody").field("keys", &self.keys).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use crate::custody::KeyEncryptionKey;
    use crate::custody::keyring::TestSource;
    use std::collections::HashMap;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Blobs {
        kept: Mutex<HashMap<KeyId, Vec<u8>>>,
        failure: Mutex<Option<StoreError>>,
    }

    #[async_trait]
    impl SealedKeys for Blobs {
        async fn insert(&self, id: &KeyId, sealed: &[u8]) -> Result<bool, StoreError> {
            if let Some(error) = self.failure.lock().unwrap().clone() {
                return Err(error);
            }
            let mut kept = self.kept.lock().unwrap();
            let free = !kept.contains_key(id);
            kept.entry(id.clone()).or_insert_with(|| sealed.to_vec());
            Ok(free)
        }

        async fn all(&self) -> Result<Vec<(KeyId, Vec<u8>)>, StoreError> {
            Ok(self.kept.lock().unwrap().iter().map(|(id, sealed)| (id.clone(), sealed.clone())).collect())
        }

        async fn reseal(&self, _: &KeyId, _: &[u8], _: &[u8]) -> Result<bool, StoreError> {
            Err(StoreError::Unavailable("nobody does that here".to_owned()))
        }

        async fn fetch(&self, id: &KeyId) -> Result<Option<Vec<u8>>, StoreError> {
            match self.failure.lock().unwrap().clone() {
                Some(error) => Err(error),
                None => Ok(self.kept.lock().unwrap().get(id).cloned()),
            }
        }
    }

    fn custody(store: &Arc<Blobs>, key: &str) -> SealedCustody {
        let known = SealingKeys::from_file_bytes(key.as_bytes()).unwrap();
        let source = TestSource(Arc::new(Mutex::new(key.to_owned())));
        SealedCustody::new(Arc::clone(store) as _, Arc::new(Keyring::new(source, known)))
    }

    fn id(name: &str) -> KeyId {
        KeyId::parse(name).unwrap()
    }

    #[tokio::test]
    async fn a_key_made_once_is_opened_again_by_another_process_with_the_same_encryption_key() {
        let (store, text) = (Arc::new(Blobs::default()), KeyEncryptionKey::generate().unwrap());
        for (name, key_type) in [("p256", KeyType::EcP256), ("p384", KeyType::EcP384), ("rsa", KeyType::Rsa2048)] {
            let made = custody(&store, &text).create(&id(name), key_type).await.unwrap();
            let opened = custody(&store, &text).open(&id(name)).await.unwrap();
            assert_eq!((opened.key_type(), opened.spki_der()), (key_type, made.spki_der()));
            assert!(opened.sign(b"message").await.is_ok());
        }
    }

    #[tokio::test]
    async fn a_second_key_of_the_same_name_is_refused_and_the_first_one_stays() {
        let store = Arc::new(Blobs::default());
        let custody = custody(&store, &KeyEncryptionKey::generate().unwrap());
        let first = custody.create(&id("a"), KeyType::EcP256).await.unwrap();
        let refused = custody.create(&id("a"), KeyType::EcP256).await.err();
        assert_eq!(refused, Some(CustodyError::Exists(id("a"))));
        assert_eq!(custody.open(&id("a")).await.unwrap().spki_der(), first.spki_der());
    }

    #[tokio::test]
    async fn an_imported_key_is_kept_like_one_made_here_and_never_replaces_another() {
        let (store, text) = (Arc::new(Blobs::default()), KeyEncryptionKey::generate().unwrap());
        for (name, key_type) in [("p256", KeyType::EcP256), ("p384", KeyType::EcP384), ("rsa", KeyType::Rsa2048)] {
            let (key, pkcs8) = LocalKey::generate(key_type).await.unwrap();
            for _ in 0..2 {
                let imported = custody(&store, &text).import(&id(name), &pkcs8).await.unwrap();
                assert_eq!((imported.key_type(), imported.spki_der()), (key_type, key.spki_der()));
            }
            let opened = custody(&store, &text).open(&id(name)).await.unwrap();
            assert_eq!(opened.spki_der(), key.spki_der());
            let blob = store.fetch(&id(name)).await.unwrap().unwrap();
            assert!(!blob.windows(16).any(|part| pkcs8.expose().windows(16).any(|window| window == part)));

            let (_, other) = LocalKey::generate(KeyType::EcP256).await.unwrap();
            let refused = custody(&store, &text).import(&id(name), &other).await.err();
            assert_eq!(refused, Some(CustodyError::Exists(id(name))));
            let locked = custody(&store, &KeyEncryptionKey::generate().unwrap()).import(&id(name), &pkcs8).await.err();
            assert!(matches!(locked, Some(CustodyError::Locked { .. })), "another encryption key: {locked:?}");
            assert_eq!(custody(&store, &text).open(&id(name)).await.unwrap().spki_der(), key.spki_der());
        }
        let ed25519 = Secret::new(rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_der());
        for unusable in [ed25519, Secret::new(b"junk".to_vec()), Secret::new(Vec::new())] {
            let refused = custody(&store, &text).import(&id("new"), &unusable).await.err();
            assert_eq!(refused, Some(CustodyError::Unsupported(id("new"))));
        }
        assert_eq!(store.fetch(&id("new")).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_missing_key_and_one_that_cannot_be_opened_are_told_apart() {
        let (store, text) = (Arc::new(Blobs::default()), KeyEncryptionKey::generate().unwrap());
        let own = custody(&store, &text);
        for name in ["a", "b"] {
            own.create(&id(name), KeyType::EcP256).await.unwrap();
        }
        assert_eq!(own.open(&id("c")).await.err(), Some(CustodyError::Missing(id("c"))));

        let other = custody(&store, &KeyEncryptionKey::generate().unwrap());
        let locked = other.open(&id("a")).await.err().unwrap().to_string();
        let needs = KeyEncryptionKey::from_file_bytes(text.trim().as_bytes()).unwrap().id().to_string();
        let has = other.keys.known().newest().id().to_string();
        let parts =
            [format!("key a needs the key-encryption key {needs}"), format!("/the/key/file (which holds {has})")];
        assert!(parts.iter().all(|part| locked.contains(part.as_str())), "{locked}");
        assert_eq!(other.open(&id("c")).await.err(), Some(CustodyError::Missing(id("c"))));

        let (a, b) = (store.fetch(&id("a")).await.unwrap().unwrap(), store.fetch(&id("b")).await.unwrap().unwrap());
        store.kept.lock().unwrap().extend([(id("a"), b.clone()), (id("b"), a)]);
        assert_eq!(own.open(&id("a")).await.err(), Some(CustodyError::Unreadable(id("a"))), "swapped blobs");

        let mut flipped = b;
        flipped[20] ^= 1;
        store.kept.lock().unwrap().insert(id("b"), flipped);
        assert_eq!(own.open(&id("b")).await.err(), Some(CustodyError::Unreadable(id("b"))), "a flipped bit");
    }

    #[tokio::test]
    async fn failures_of_the_store_keep_their_meaning() {
        let store = Arc::new(Blobs::default());
        let custody = custody(&store, &KeyEncryptionKey::generate().unwrap());
        let table = [
            (StoreError::Unavailable("full".into()), CustodyError::Store("storage is unavailable: full".into())),
            (StoreError::Damaged("page 3".into()), CustodyError::Unreadable(id("a"))),
        ];
        for (failure, expected) in table {
            *store.failure.lock().unwrap() = Some(failure);
            assert_eq!(custody.open(&id("a")).await.err(), Some(expected));
        }
        assert!(matches!(custody.create(&id("a"), KeyType::EcP256).await.err(), Some(CustodyError::Store(_))));
    }

    #[tokio::test]
    async fn neither_the_store_nor_debug_output_nor_errors_show_key_material() {
        let (store, text) = (Arc::new(Blobs::default()), KeyEncryptionKey::generate().unwrap());
        let custody = custody(&store, &text);
        custody.create(&id("a"), KeyType::EcP256).await.unwrap();
        assert_eq!(
            format!("{custody:?}"),
            "SealedCustody { keys: Keyring(SealingKeys { newest: KeyEncryptionKey(32 bytes), former: [] }), .. }"
        );
        // The start of every PKCS#8 document of a P-256 key.
        let head = [0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d];
        let blob = store.fetch(&id("a")).await.unwrap().unwrap();
        assert!(!blob.windows(8).any(|window| head.windows(8).any(|part| part == window)));
    }
}
