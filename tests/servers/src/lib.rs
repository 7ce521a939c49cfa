//! Real servers of others that tests start for themselves: PostgreSQL, Kubernetes and OpenBao. Each has a directory and an address
//! of its own and ends with the test process, whatever happens to that; no server that was there before is touched.

mod error;
mod keeper;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
#[cfg(feature = "kubernetes")]
pub mod objects;
#[cfg(feature = "openbao")]
mod openbao;
mod options;
mod ports;
mod postgres;
mod programs;
#[cfg(feature = "kubernetes")]
pub mod scripted;
mod wait;

pub use error::ServerError;
#[cfg(feature = "openbao")]
pub use openbao::OpenBao;
pub use options::Options;
pub use postgres::{Postgres, Stop};
pub use wait::ended;
