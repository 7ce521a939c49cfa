//! The Signet agent: obtains and renews a certificate from a mesh CA and serves it to local proxies over SDS.
//!
//! Start reading at [`app`], which puts the parts together, then [`identity::store`], the one owner of what is served, and
//! the two that fill it: [`renewer`] with certificates, [`bundle`] with roots. [`ca`] is how the CA is asked, [`socket`]
//! where proxies ask us.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "tests say what they mean with operators"))]

pub mod app;
pub mod bundle;
pub mod ca;
pub mod cli;
pub mod config;
pub mod files;
pub mod health;
pub mod identity;
pub mod inspection;
pub mod metrics;
pub mod random;
pub mod renewer;
pub mod socket;

#[cfg(test)]
mod tests;
