//! Custody that forgets its keys when the process ends: for tests and for authorities that are thrown away.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use signet_core::authority::KeyId;
use signet_core::key_type::KeyType;
use signet_core::seams::custody::{CustodyError, KeyCustody, SigningKey};
use signet_core::secret::Secret;

use super::keys::LocalKey;

/// Keys in memory only.
#[derive(Debug, Default)]
pub struct MemoryCustody {
    keys: Mutex<HashMap<KeyId, Arc<LocalKey>>>,
}

impl MemoryCustody {
    /// An empty custody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl KeyCustody for MemoryCustody {
    async fn create(&self, id: &KeyId, key_type: KeyType) -> Result<Arc<dyn SigningKey>, CustodyError> {
        let (key, _) = LocalKey::generate(key_type).await?;
        match self.keys.lock().unwrap_or_else(PoisonError::into_inner).entry(id.clone()) {
            Entry::Occupied(_) => Err(CustodyError::Exists(id.clone())),
            Entry::Vacant(place) => Ok(Arc::clone(place.insert(Arc::new(key))) as _),
        }
    }

    async fn import(&self, id: &KeyId, pkcs8: &Secret) -> Result<Arc<dyn SigningKey>, CustodyError> {
        let key = LocalKey::from_pkcs8(pkcs8.expose()).ok_or_else(|| CustodyError::Unsupported(id.clone()))?;
        match self.keys.lock().unwrap_or_else(PoisonError::into_inner).entry(id.clone()) {
            Entry::Occupied(kept) if kept.get().spki_der() == key.spki_der() => Ok(Arc::clone(kept.get()) as _),
            Entry::Occupied(_) => Err(CustodyError::Exists(id.clone())),
            Entry::Vacant(place) => Ok(Arc::clone(place.insert(Arc::new(key))) as _),
        }
    }

    async fn open(&self, id: &KeyId) -> Result<Arc<dyn SigningKey>, CustodyError> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get(id).map(|key| Arc::clone(key) as _).ok_or_else(|| CustodyError::Missing(id.clone()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[tokio::test]
    async fn a_key_is_made_once_and_found_again() {
        let custody = MemoryCustody::new();
        let id = KeyId::parse("root-1").unwrap();
        assert_eq!(custody.open(&id).await.err(), Some(CustodyError::Missing(id.clone())));
        let key = custody.create(&id, KeyType::EcP256).await.unwrap();
        assert_eq!(custody.open(&id).await.unwrap().spki_der(), key.spki_der());
        let refused = custody.create(&id, KeyType::EcP256).await.err();
        assert_eq!(refused, Some(CustodyError::Exists(id.clone())));
        assert_eq!(custody.open(&id).await.unwrap().spki_der(), key.spki_der());
    }
    #[tokio::test]
    async fn importing_is_repeatable_and_never_replaces_a_key() {
        let (custody, id) = (MemoryCustody::new(), KeyId::parse("files-1").unwrap());
        let (key, pkcs8) = LocalKey::generate(KeyType::EcP384).await.unwrap();
        let (_, other) = LocalKey::generate(KeyType::EcP384).await.unwrap();
        for _ in 0..2 {
            assert_eq!(custody.import(&id, &pkcs8).await.unwrap().spki_der(), key.spki_der());
        }
        assert_eq!(custody.import(&id, &other).await.err(), Some(CustodyError::Exists(id.clone())));
        let damaged = Secret::new(pkcs8.expose().split_last().unwrap().1.to_vec());
        assert_eq!(custody.import(&id, &damaged).await.err(), Some(CustodyError::Unsupported(id.clone())));
        assert_eq!(custody.open(&id).await.unwrap().spki_der(), key.spki_der());
    }
}
