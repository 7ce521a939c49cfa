//! Support for the end-to-end tests, the demo and the bench: real processes, real clients, independent judges.
//!
//! Nothing here links the CA or the agent: both are driven as the binaries that users run.
#![allow(clippy::arithmetic_side_effects, reason = "times here are near, and a panic is a failed test")]

pub mod callers;
pub mod client;
pub mod demo;
pub mod failure;
pub mod harness;
pub mod istio_agent;
pub mod istiod;
pub mod judge;
pub mod linter;
pub mod mutual;
#[cfg(feature = "kubernetes")]
pub mod node;
pub mod noise;
pub mod stage;
pub mod tamper;
pub mod tools;
pub mod traffic;
pub mod upstream;
