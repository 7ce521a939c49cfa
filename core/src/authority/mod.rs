//! Authorities, as documents and seams name them: small types that say what one is, and nothing of what becomes of it.

mod id;
mod key_id;

pub use id::{AuthorityId, leaves_name, subject_key_id};
pub use key_id::KeyId;
