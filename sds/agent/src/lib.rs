//! The Signet agent: obtains and renews a certificate from a mesh CA and serves it to local proxies over SDS.
//!
//! Start reading at `app`, which puts the parts together, then `identity::store`, the one owner of what is served, and the
//! two that fill it: `renewer` with certificates, `bundle` with roots. `ca` is how the CA is asked, `socket` where proxies
//! ask us. Open to others is what the program and fuzzing need, and nothing else.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "tests say what they mean with operators"))]

mod app;
mod bundle;
pub mod ca;
mod check;
pub mod cli;
pub mod config;
mod files;
mod health;
pub mod identity;
mod inspection;
mod inspection_view;
mod metrics;
mod random;
mod renewer;
mod socket;

#[cfg(test)]
mod tests;
