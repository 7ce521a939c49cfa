//! The API servers of clusters.

mod api_server;

pub(crate) use api_server::outage;
pub use api_server::{ApiServer, ApiServerError, Credentials};
