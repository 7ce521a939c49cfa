//! The agent's socket for proxies: `unix` makes it, `server` serves SDS and the inspection on it.

pub(crate) mod server;
pub(crate) mod unix;
