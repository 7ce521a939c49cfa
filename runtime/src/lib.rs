//! What any long-running process needs, and nothing that knows what a certificate is.
//!
//! Both programs are put together from these parts: a strict configuration reader that reports every problem
//! at once ([`config`]), structured logs ([`telemetry`]), named tasks whose end is never overlooked
//! ([`supervisor`], [`signal`], [`ending`], [`backoff`]), and what an operator looks at ([`metrics`], [`readiness`],
//! [`liveness`], [`ops`], [`output`], [`command`], [`manual`]). [`files`] holds the few careful ways to touch the file system,
//! [`unix_socket`] says why a socket cannot be opened. This crate
//! depends on no other crate of the project and never asks for the wall clock.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "tests say what they mean with operators"))]

pub mod backoff;
pub mod command;
pub mod config;
pub mod ending;
pub mod files;
pub mod liveness;
pub mod manual;
pub mod metrics;
pub mod open_files;
pub mod ops;
pub mod output;
pub mod readiness;
pub mod signal;
pub mod supervisor;
pub mod telemetry;
pub mod unix_socket;
