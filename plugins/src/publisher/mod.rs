//! Where the trust bundle is published in clusters.

mod calls;
mod cluster_trust_bundle;
mod config_map;
mod pace;
#[cfg(test)]
pub(crate) mod test_trust;

pub use calls::{Call, Came, OnCall, Verb};
pub use cluster_trust_bundle::ClusterTrustBundlePublisher;
pub use config_map::{ConfigMapPublisher, ConfigMapSettings, Istiod};
