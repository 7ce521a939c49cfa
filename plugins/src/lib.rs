//! Everything that speaks to somebody else's system, each piece filling one seam of `signet-core`.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "tests say what they mean with operators"))]

pub mod authenticator;
pub mod authority;
pub mod custody;
#[cfg(any(feature = "vault", feature = "witness"))]
mod error_text;
#[cfg(any(feature = "kubernetes", feature = "vault", feature = "witness"))]
pub mod files;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
#[cfg(feature = "kubernetes")]
pub mod publisher;
pub mod store;
#[cfg(feature = "witness")]
pub mod witness;
