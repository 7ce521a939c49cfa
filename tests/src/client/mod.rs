//! Clients of the CA: what real ones send, what broken ones send, and how real ones read the answer.

pub mod admin;
pub mod ask;
pub mod bundle_stream;
pub mod certify;
pub mod csr;
pub mod keys;
pub mod raw;
pub mod rules;
pub mod sds;
pub mod tls;
pub mod token;
