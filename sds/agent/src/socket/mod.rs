//! The agent's socket for proxies: `unix` makes it, `server` serves SDS and the inspection on it.

pub mod server;
pub mod unix;
