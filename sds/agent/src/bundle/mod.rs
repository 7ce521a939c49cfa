//! The bundle stream: the CA's SDS, from which new roots, revocation lists and renewal hints come within moments.
//!
//! `task` keeps a stream open, `session` is one stream, `message` reads what it brings, `answers` decides what
//! is said back, `pace` when, and `recipients` knows whether those behind us have taken the bundle over.

mod answers;
mod message;
mod pace;
mod recipients;
mod session;
mod task;

pub use self::recipients::Recipients;
pub use self::session::StreamError;
pub use self::task::BundleStream;
