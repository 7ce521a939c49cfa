//! Who a bearer token proves.

mod jwks;
mod token_cache;

pub use jwks::{JwksAuthenticator, JwksConfig, KeySetError, LeftOut, Published, Refreshed};
