//! The API servers of clusters, and what is followed of their objects.

mod api_server;
mod authorizer;
mod bound;
mod explained;
mod known;
mod pods;
#[cfg(test)]
pub(crate) use pods::tests;
mod watch;

pub(crate) use api_server::outage;
pub use api_server::{ApiServer, ApiServerError, Credentials};
pub use authorizer::NodeAuthorizer;
pub use bound::Bound;
pub use pods::{Followed, PodIndex, PodsHealth};
