//! The bundle stream: the CA's SDS, from which new roots, revocation lists and renewal hints come within moments.
//!
//! `task` keeps a stream open, `session` is one stream, `message` reads a response, `received` decides how responses are
//! answered, and `pace` when. Whether those behind us have applied a bundle is known to the ledger of acknowledgements.

mod message;
mod pace;
mod received;
mod session;
mod task;

pub(crate) use self::task::BundleStream;
