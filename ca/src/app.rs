//! Puts the process together: the only place of this program that names concrete plugins.

mod backend;
mod backup;
#[cfg_attr(not(feature = "kubernetes"), path = "app/without_cert_manager.rs")]
mod cert_manager;
mod check;
mod cluster_keys;
mod cluster_set;
mod cluster_view;
mod configuration;
mod connect;
mod error;
mod former;
mod import;
mod init;
#[cfg_attr(not(feature = "kubernetes"), path = "app/without_kubernetes.rs")]
mod kubernetes;
#[cfg(feature = "postgres")]
mod migrate;
mod passing;
mod plugins;
mod process;
#[cfg(feature = "kubernetes")]
mod publishing;
mod record;
mod record_outside;
mod record_tree;
#[cfg(feature = "kubernetes")]
mod reviews;
#[cfg(feature = "kubernetes")]
mod rights;
mod sealing_keys;
mod services;
#[cfg_attr(not(feature = "kubernetes"), path = "app/without_signers.rs")]
mod signers;
mod start_on_record;
mod storage;
mod tokens;
mod trial;
#[cfg_attr(not(feature = "vault"), path = "app/without_vault.rs")]
mod vault;
mod witnesses;

use std::sync::Arc;

pub use signet_plugins::store::Store;
use zeroize::Zeroizing;

pub use backup::{Backup, backup};
pub use check::{Asks, Checked, check};
pub use error::AppError;
pub use import::{Import, Imported, Source, import};
pub use init::{InitError, fingerprint, has_authority, init};
#[cfg(feature = "postgres")]
pub use migrate::migrate;
pub use process::{ServeError, serve};
pub use record_outside::{WrittenOutside, write_outside};
pub use record_tree::new_record_key;
pub use sealing_keys::{SealedBy, rekey, sealed_by};
#[cfg(feature = "postgres")]
pub use signet_plugins::store::Ended;
pub use storage::storage_warning;
pub use tokens::left_out_keys;

use crate::config::Config;

/// Opens storage for queries, whether or not a CA is running on it.
///
/// # Errors
/// [`AppError::Store`].
pub async fn open_for_reading(config: &Config) -> Result<Arc<dyn Store>, AppError> {
    Ok(storage::location(&config.storage)?.open_read_only(storage::DEADLINE).await?)
}

/// Makes the content of a new key-encryption-key file.
///
/// # Errors
/// [`AppError::EncryptionKey`] when the system has no randomness.
pub fn new_encryption_key() -> Result<Zeroizing<String>, AppError> {
    signet_plugins::custody::KeyEncryptionKey::generate()
        .map_err(|error| AppError::EncryptionKey { path: "-".into(), cause: error.to_string() })
}
