//! Where private keys of authorities live. A key is used through its custody and never handed out.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::authority::KeyId;
use crate::key_type::KeyType;
use crate::secret::Secret;

/// Something went wrong with a key. Never says anything about its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CustodyError {
    /// There is no key of that name.
    #[error("there is no key {0} in custody")]
    Missing(KeyId),
    /// The key is there but cannot be opened: wrong encryption key, or damaged.
    #[error("key {0} cannot be opened: it is damaged or was encrypted with another key-encryption key")]
    Unreadable(KeyId),
    /// The key needs a key-encryption key that is not there.
    #[error("key {id} needs the key-encryption key {needs}, which is not in {looked_in}; put it there too")]
    Locked {
        /// The key.
        id: KeyId,
        /// The name of the key-encryption key.
        needs: String,
        /// Where that was looked for, and what is there.
        looked_in: String,
    },
    /// A key of that name exists already.
    #[error("key {0} exists already")]
    Exists(KeyId),
    /// The custody's store failed.
    #[error("the key store failed: {0}")]
    Store(String),
    /// A key to be imported is of no supported kind, or damaged.
    #[error("the key for {0} is neither an ECDSA P-256 or P-384 nor an RSA private key of 2048 to 4096 bits")]
    Unsupported(KeyId),
    /// The system gives no random numbers for a key.
    #[error("the system gives no random numbers to make or seal key {0} with")]
    Random(KeyId),
    /// Key generation failed.
    #[error("making a {0} key failed")]
    Generate(KeyType),
}

/// A private key in use, in this process or elsewhere.
#[async_trait]
pub trait SigningKey: Send + Sync {
    /// What kind of key it is.
    fn key_type(&self) -> KeyType;

    /// The public key as SubjectPublicKeyInfo in DER.
    fn spki_der(&self) -> &[u8];

    /// Signs `message`: ECDSA in ASN.1 with the hash of the curve's size, RSA as PKCS#1 v1.5 with SHA-256.
    ///
    /// The calling task may have to wait: a key in an HSM or a KMS answers within a deadline of its custody, and none that is
    /// slow to compute with keeps other tasks from their thread.
    ///
    /// # Errors
    /// A text without any key material.
    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String>;
}

/// Creates, keeps and opens signing keys.
#[async_trait]
pub trait KeyCustody: Send + Sync {
    /// Makes a new key and keeps it durably under `id` before it returns.
    ///
    /// # Errors
    /// [`CustodyError::Exists`] when the name is taken: an existing key is never overwritten.
    async fn create(&self, id: &KeyId, key_type: KeyType) -> Result<Arc<dyn SigningKey>, CustodyError>;

    /// Keeps a key that was made elsewhere (unencrypted PKCS#8 DER) durably under `id`. Doing it again with the same key
    /// is fine, so that it can be repeated after a crash.
    ///
    /// # Errors
    /// [`CustodyError::Exists`] when the name is taken by another key, [`CustodyError::Unsupported`] when it is not a
    /// key that Signet signs with.
    async fn import(&self, id: &KeyId, pkcs8: &Secret) -> Result<Arc<dyn SigningKey>, CustodyError>;

    /// Removes keys made here that no authority has named for `unused_for`: of steps that another replica has taken, or that
    /// a crash has cut off. Never one that the journal names, or comes to name; to be called now and then, by a clock that
    /// can be relied on. Gives their names.
    ///
    /// # Errors
    /// [`CustodyError::Store`].
    async fn forget_unused(&self, _now: OffsetDateTime, _unused_for: Duration) -> Result<Vec<KeyId>, CustodyError> {
        Ok(Vec::new())
    }

    /// Opens a key.
    ///
    /// # Errors
    /// [`CustodyError::Missing`] or [`CustodyError::Unreadable`], never one for the other.
    async fn open(&self, id: &KeyId) -> Result<Arc<dyn SigningKey>, CustodyError>;
}
