//! The seams: a trait stands here only where there are two real implementations or where tests must control the world.

pub mod authenticator;
pub mod authority;
pub mod custody;
pub mod proof;
pub mod store;
