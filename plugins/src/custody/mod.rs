//! Where private keys of authorities live: sealed in storage, or in memory only.

mod bundle_proofs;
mod keyring;
mod keys;
mod memory;
pub(crate) mod private_key;
pub(crate) mod public_key;
mod record_keys;
mod rekey;
#[cfg(test)]
mod rekey_tests;
mod sealed;
mod sealing;

pub use bundle_proofs::BundleProofs;
pub use keyring::{Keyring, SealingKeySource, SealingKeys, SealingKeysError};
pub use keys::LocalKey;
pub use memory::MemoryCustody;
pub use record_keys::SealedRecordKeys;
pub use rekey::{Rekeyed, sealed_by};
pub use sealed::SealedCustody;
pub use sealing::{KeyEncryptionKey, KeyEncryptionKeyError, SealingKeyId};
