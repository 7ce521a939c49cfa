//! The Signet agent: obtains and renews a certificate from a mesh CA and serves it to local proxies over SDS.
//!
//! Start reading at [`app`], which puts the parts together, then [`holdings`], the one owner of what is served, and the
//! two that bring it: [`renewer`] certificates, [`bundle`] roots.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "tests say what they mean with operators"))]

pub mod app;
pub mod bundle;
pub mod ca_channel;
pub mod ca_client;
pub mod cli;
pub mod config;
pub mod files;
pub mod health;
pub mod holdings;
pub mod inspection;
pub mod key;
pub mod metrics;
pub mod obtain;
pub mod orders;
pub mod random;
pub mod renewer;
pub mod reply;
pub mod server;
pub mod socket;
pub mod status;
pub mod token;

#[cfg(test)]
mod bundle_connection_tests;
#[cfg(test)]
mod bundle_stream_tests;
#[cfg(test)]
mod end_to_end_tests;
#[cfg(test)]
mod restored_tests;
#[cfg(test)]
mod test_bundles;
#[cfg(test)]
mod test_ca;
#[cfg(test)]
mod test_proxy;
#[cfg(test)]
mod test_world;
