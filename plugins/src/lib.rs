//! Everything that speaks to somebody else's system, each piece filling one seam of `signet-core`.

pub mod authenticator;
pub mod authority;
pub mod custody;
pub mod store;
