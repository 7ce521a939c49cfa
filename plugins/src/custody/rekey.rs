//! Another key-encryption key for what is sealed already, while replicas go on: each blob is replaced in one write, and is
//! opened by its own key before and after.

use std::collections::BTreeMap;

use signet_core::authority::KeyId;
use signet_core::seams::custody::CustodyError;
use signet_core::seams::store::{SealedKeys, StoreError};

use super::SealedCustody;
use super::sealing::{KeyEncryptionKey, SealingKeyId, sealed_with};

/// How often the keys are looked through: a replica may make one, with the former key, at the same time.
const ROUNDS: usize = 5;

/// What is sealed with what now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rekeyed {
    /// The newest key.
    pub key: SealingKeyId,
    /// Keys that were sealed anew.
    pub resealed: u64,
    /// All keys.
    pub all: u64,
}

/// How many keys are sealed with which key-encryption key; `None` for those that do not say, which an earlier version has
/// made.
///
/// # Errors
/// [`StoreError`].
pub async fn sealed_by(store: &dyn SealedKeys) -> Result<BTreeMap<Option<SealingKeyId>, u64>, StoreError> {
    let mut counts = BTreeMap::new();
    for (_, sealed) in store.all().await? {
        *counts.entry(sealed_with(&sealed)).or_insert(0_u64) += 1;
    }
    Ok(counts)
}

impl SealedCustody {
    /// Seals every key with the newest key-encryption key. May be cut off at any time and begun again, and done by two at
    /// once.
    ///
    /// # Errors
    /// [`CustodyError`] for the first key that cannot be opened; all others are sealed anew all the same.
    pub async fn rekey(&self) -> Result<Rekeyed, CustodyError> {
        let newest = std::sync::Arc::clone(self.keys.current().await.newest());
        let failed = |error: StoreError| CustodyError::Store(error.to_string());
        let (mut resealed, mut trouble) = (0, None);
        for _ in 0..ROUNDS {
            trouble = None;
            let (mut all, mut before) = (0, resealed);
            for (id, sealed) in self.store.all().await.map_err(failed)? {
                all += 1;
                if sealed_with(&sealed) == Some(newest.id()) {
                    continue;
                }
                match self.reseal(&id, &sealed, &newest).await {
                    Ok(true) => resealed += 1,
                    // Somebody else has done it, or has removed it.
                    Ok(false) => before = u64::MAX,
                    Err(error @ CustodyError::Store(_)) => return Err(error),
                    Err(error) => trouble = trouble.or(Some(error)),
                }
            }
            if trouble.is_none() && resealed == before {
                return Ok(Rekeyed { key: newest.id(), resealed, all });
            }
            if trouble.is_some() {
                break;
            }
        }
        Err(trouble.unwrap_or_else(|| CustodyError::Store("keys are changed all the time; try again".to_owned())))
    }

    async fn reseal(&self, id: &KeyId, sealed: &[u8], newest: &KeyEncryptionKey) -> Result<bool, CustodyError> {
        let plain = self.plain(id, sealed).await?;
        let anew = newest.seal(id, &plain).ok_or_else(|| CustodyError::Unreadable(id.clone()))?;
        drop(plain);
        self.store.reseal(id, sealed, &anew).await.map_err(|error| CustodyError::Store(error.to_string()))
    }
}
