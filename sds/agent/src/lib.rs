//! The Signet agent: obtains and renews a certificate from a mesh CA and serves it to local proxies over SDS.
//!
//! Start reading at [`app`], which puts the parts together, then [`renewer`], the one task that changes anything.

pub mod app;
pub mod ca_client;
pub mod cli;
pub mod config;
pub mod files;
pub mod health;
pub mod inspection;
pub mod key;
pub mod metrics;
pub mod obtain;
pub mod renewer;
pub mod reply;
pub mod server;
pub mod socket;
pub mod status;
pub mod token;

#[cfg(test)]
mod end_to_end_tests;
#[cfg(test)]
mod test_ca;
#[cfg(test)]
mod test_world;
