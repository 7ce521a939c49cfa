//! Custody that forgets its keys when the process ends: for tests and for authorities that are thrown away.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use signet_core::key_type::KeyType;
use signet_core::seams::custody::{CustodyError, KeyCustody, KeyId, SigningKey};

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
}
