//! The Signet CA server and its operator commands.
//!
//! Read [`issuance`] first: one function shows how a certificate request becomes a certificate.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "tests say what they mean with operators"))]

pub mod acknowledgement_queue;
pub mod app;
pub mod audit_log;
pub mod bundle_feed;
pub mod bundle_file;
pub mod certificate_caller;
pub mod cli;
pub mod client_address;
pub mod client_identity;
pub mod cluster_status;
pub mod clusters;
pub mod config;
mod describe;
pub mod grpc;
pub mod health;
pub mod issuance;
pub mod issue_error;
pub mod journal_catch_up;
pub mod limits;
pub mod metrics;
pub mod notices;
pub mod operations;
pub mod over_limit;
mod own_key;
pub mod pod_certificates;
pub mod publishers;
pub mod publishing;
pub mod record_tree;
pub mod refusals;
pub mod reply_delivery;
pub mod retention;
pub mod rotator;
pub mod serving_certificate;
pub mod signing_state;
pub mod sink;
pub mod storage_age;
pub mod transport;
pub mod vault_health;

#[cfg(test)]
mod holder_store_tests;
#[cfg(test)]
mod world_tests;
