//! The identity that the agent keeps: `store` owns the certificate and the trust bundle, `status` is what it tells everybody
//! else, `issued` one certificate, and `renewal_hints` when the CA would like it renewed.

pub mod issued;
pub(crate) mod renewal_hints;
pub(crate) mod status;
pub(crate) mod store;
