//! Where private keys of authorities live: sealed in storage, or in memory only.

mod keyring;
mod keys;
mod memory;
pub(crate) mod private_key;
mod proofs;
pub(crate) mod public_key;
mod rekey;
#[cfg(test)]
mod rekey_tests;
mod sealed;
mod sealing;

pub use keyring::{Keyring, SealingKeySource, SealingKeys, SealingKeysError};
pub use keys::LocalKey;
pub use memory::MemoryCustody;
pub use proofs::BundleProofs;
pub use rekey::{Rekeyed, sealed_by};
pub use sealed::SealedCustody;
pub use sealing::{KeyEncryptionKey, KeyEncryptionKeyError, SealingKeyId};
