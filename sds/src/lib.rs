//! Envoy's Secret Discovery Service: serves a watched [`snapshot::Snapshot`] of secrets to any number of streams.
//!
//! The protocol's rules live in [`session`], free of I/O; [`service`] is the gRPC edge that feeds it, [`resources`]
//! the only place where Envoy's messages are built, [`ledger`] where acknowledgements are counted, of the clients that are
//! connected and of those that have left.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "tests say what they mean with operators"))]

pub mod ledger;
pub mod resources;
pub mod server;
pub mod service;
pub mod session;
pub mod snapshot;
