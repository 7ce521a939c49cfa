//! End-to-end tests: the two programs as users run them, real Envoys, OpenSSL as the judge. One executable, so that
//! everything is linked once; every test has its own directory, ports and processes, so that all run side by side.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::large_futures,
    clippy::let_underscore_untyped,
    reason = "tests"
)]

mod agent_cli;
mod architecture;
mod audit;
mod auditors;
mod backup;
mod client_certificates;
mod clock;
mod clusters;
mod config;
mod contract;
mod crash;
mod csr;
mod envoy;
mod envoy_roots;
mod facts;
mod foreign_clients;
mod full_disk;
mod hanging_files;
mod image;
mod init;
mod installed;
mod istio_client;
#[cfg(feature = "kubernetes")]
mod istiod;
mod key_sets;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod language;
mod linted;
mod metadata;
mod moved;
mod newcomer;
mod newer_storage;
mod operate;
mod outside;
mod plain_envoy;
mod pod_volume;
mod postgres;
mod questions;
mod readme;
mod record;
mod refusals;
mod rekey;
mod request_ids;
mod retention;
mod rotation;
mod samples;
#[cfg(feature = "kubernetes")]
mod scripted;
mod sds;
mod secrets;
mod server_storage;
mod shutdown;
mod sink;
mod storage;
mod strangers;
mod tokens;
mod transport;
mod ttl;
mod unread_log;
mod unserved_names;
mod vault;
mod witnesses;
