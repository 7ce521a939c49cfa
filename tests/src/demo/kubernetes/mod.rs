//! The parts of `make demo-kubernetes`: its stage, its node agent, its acts, and what came of them.
#![allow(clippy::indexing_slicing, reason = "objects in JSON, in which what is missing is null")]

pub mod acts;
pub mod stage;
pub mod summary;
pub mod ztunnel;
