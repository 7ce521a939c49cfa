//! Real processes in a throw-away directory: started, awaited by events, and always stopped.

pub mod agent;
pub mod backup;
pub mod bao;
pub mod beside;
pub mod bootstrap;
pub mod ca;
pub mod database;
pub mod dev;
pub mod entrance;
pub mod envoy;
pub mod helm;
pub mod limits;
pub mod loaded;
pub mod metrics;
pub mod odd_root;
pub mod plugged;
pub mod ports;
pub mod probe;
pub mod process;
pub mod rotation;
pub mod volume;
pub mod way;
pub mod writes;
pub mod yaml;

pub use agent::Agent;
pub use bao::Bao;
pub use ca::Ca;
pub use dev::{Dev, DevOptions};
pub use envoy::Envoy;
pub use process::Process;
