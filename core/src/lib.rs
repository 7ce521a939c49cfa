//! What the words mean: identities, certificates, policy, rotation rules, and the seams to the outside world.
//!
//! Nothing here performs I/O. Programs put these rules together with adapters that fill the traits in [`seams`].

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "tests say what they mean with operators"))]

pub mod audit;
pub mod authority;
pub mod bundle;
pub mod caller;
pub mod certificate;
pub mod clock;
pub mod credential_on_record;
pub mod csr;
mod der;
pub mod digest;
pub mod holder;
pub mod identity;
pub mod key_type;
pub mod pem;
pub mod policy;
pub mod profile;
pub mod publication;
pub mod record_before_release;
pub mod renewal;
pub mod revocation;
pub mod rotation;
pub mod seams;
pub mod secret;
pub mod shown_time;
pub mod signature;
pub mod source;
pub mod time_math;
pub mod transparency;
pub mod unknown_fields;
pub mod verify;
