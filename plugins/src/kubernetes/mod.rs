//! The API servers of clusters, and what is followed of their objects.

mod api_server;
mod authorizer;
mod pods;
mod watch;

pub(crate) use api_server::outage;
pub use api_server::{ApiServer, ApiServerError, Credentials};
pub use authorizer::NodeAuthorizer;
pub use pods::{PodIndex, PodsHealth};
