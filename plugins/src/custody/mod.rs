//! Where private keys of authorities live: sealed in storage, or in memory only.

mod keys;
mod memory;
pub(crate) mod private_key;
mod proofs;
pub(crate) mod public_key;
mod sealed;
mod sealing;

pub use keys::LocalKey;
pub use memory::MemoryCustody;
pub use proofs::BundleProofs;
pub use sealed::SealedCustody;
pub use sealing::{KeyEncryptionKey, KeyEncryptionKeyError, SealingKeyId};
