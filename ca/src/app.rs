//! Puts the process together: the only place of this program that names concrete plugins.

mod admin_socket;
mod backend;
mod backup;
mod init;
mod limits;
mod migrate;
mod record;
mod sealing_keys;
mod serve;
mod storage;
mod tokens;

use std::sync::Arc;

use signet_plugins::store::Store;
use zeroize::Zeroizing;

pub use backend::{BackendError, check_files};
pub use backup::{Backup, backup};
pub use init::{InitError, fingerprint, has_authority, init};
pub use migrate::migrate;
pub use sealing_keys::{SealedBy, rekey, sealed_by};
pub use serve::{ServeError, serve};
pub use signet_plugins::store::Ended;
pub use storage::storage_warning;

use crate::config::Config;

/// Opens storage for queries, whether or not a CA is running on it.
///
/// # Errors
/// [`BackendError::Store`].
pub async fn open_for_reading(config: &Config) -> Result<Arc<dyn Store>, BackendError> {
    Ok(storage::location(&config.storage).open_read_only(storage::DEADLINE).await?)
}

/// Makes the content of a new key-encryption-key file.
///
/// # Errors
/// [`BackendError::EncryptionKey`] when the system has no randomness.
pub fn new_encryption_key() -> Result<Zeroizing<String>, BackendError> {
    signet_plugins::custody::KeyEncryptionKey::generate()
        .map_err(|error| BackendError::EncryptionKey { path: "-".into(), cause: error.to_string() })
}
