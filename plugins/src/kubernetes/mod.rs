//! The API servers of clusters, and what is followed of their objects.

mod api_server;
mod authorizer;
mod bound;
mod credentials;
mod explained;
mod known;
mod pod_certificates;
mod pods;
mod probe;
mod rights;
#[cfg(test)]
pub(crate) use pods::tests;
mod watch;

pub use crate::files::{Files, ReadFile};
pub(crate) use api_server::outage;
pub use api_server::{ApiServer, ApiServerError};
pub use authorizer::NodeAuthorizer;
pub use bound::Bound;
pub use credentials::{Credentials, InCluster};
pub use pod_certificates::{Attempt, OnAttempt, PodCertificates, SignerHealth, SignerRules};
pub use pods::{Followed, PodIndex, PodsHealth};
pub use probe::{Needs, Probed, lacking, may_review, probe};
pub use rights::Right;
pub(crate) use rights::may;
pub(crate) use watch::{Listener, Metadata, Source, follow};
