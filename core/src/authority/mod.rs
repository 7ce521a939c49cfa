//! Authorities, as documents and seams name them: small types that say what one is, and nothing of what becomes of it.

mod ca;
mod id;
mod key_id;

pub use ca::{IssuingCa, Root};
pub use id::{AuthorityId, subject_key_id};
pub use key_id::KeyId;
