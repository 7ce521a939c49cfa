//! How the clusters and the configuration are, as operators are told.

use signet_core::caller::AuthMethod;
use signet_core::seams::explanation::{Asker, Explained};
use signet_core::seams::impersonation::PodsUnknown;
use time::OffsetDateTime;

/// One cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The configured id.
    pub id: String,
    /// Its other names.
    pub aliases: Vec<String>,
    /// The trust domain of its workloads.
    pub trust_domain: String,
    /// How its tokens are verified.
    pub method: AuthMethod,
    /// As whom its API server is asked; `None` when it is not.
    pub api_server: Option<String>,
    /// What keeps new credentials for the API server from being used.
    pub credentials_problem: Option<String>,
    /// Its published keys.
    pub keys: KeysStatus,
    /// The last review of a token; `None` when none is asked for.
    pub review: Option<ReviewStatus>,
    /// Its pods; `None` when they are not followed.
    pub pods: Option<PodsStatus>,
    /// The signer of its pods' certificates; `None` when there is none.
    pub signer: Option<SignerStatus>,
}

/// How the signer of a cluster's pod certificates stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignerStatus {
    /// The name that pods give.
    pub name: String,
    /// The version of the requests; `None` while it is not known.
    pub version: Option<String>,
    /// Requests without an answer.
    pub open: usize,
    /// Certificates that this process has written since its start.
    pub issued: u64,
    /// Refusals that it has.
    pub denied: u64,
    /// When everything that is known was last said to be so.
    pub heard_at: Option<OffsetDateTime>,
    /// What keeps it from hearing of requests, or from answering.
    pub problem: Option<String>,
}

/// The published keys of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeysStatus {
    /// How many verify tokens; `None` while they were not obtained.
    pub usable: Option<usize>,
    /// How many of the published ones cannot.
    pub left_out: usize,
    /// When they were read last, so that they were good.
    pub read_at: Option<OffsetDateTime>,
    /// What keeps them from being read now.
    pub problem: Option<String>,
}

/// The last review of a token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReviewStatus {
    /// When; `None` when none was asked for yet.
    pub at: Option<OffsetDateTime>,
    /// What came of it, as metrics name it.
    pub result: Option<&'static str>,
    /// What keeps the API server from being asked, or from answering.
    pub problem: Option<String>,
}

/// How well the pods of a cluster are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodsStatus {
    /// Pods known.
    pub pods: usize,
    /// Nodes known.
    pub nodes: usize,
    /// Service accounts known.
    pub accounts: usize,
    /// Why nothing is decided by them.
    pub unknown: Option<PodsUnknown>,
    /// When everything that is known was last said to be so.
    pub heard_at: Option<OffsetDateTime>,
    /// What keeps us from hearing of changes.
    pub problem: Option<String>,
}

/// What became of the configuration file since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigurationStatus {
    /// When what is in use was read.
    pub applied_at: Option<OffsetDateTime>,
    /// Why the file as it is now is not in use.
    pub problem: Option<String>,
    /// Fields that have changed and take effect after a restart.
    pub awaits_restart: Vec<String>,
}

/// Tells operators of clusters.
pub trait ClusterView: Send + Sync {
    /// Each of them, in the order of the configuration.
    fn clusters(&self) -> Vec<ClusterStatus>;

    /// What became of the configuration file.
    fn configuration(&self) -> ConfigurationStatus;

    /// Whether a caller of a cluster would get a certificate for another identity; the cluster's id and each check, or `None`
    /// for a cluster that is not served. No name means the first cluster.
    fn explain(&self, cluster: Option<&str>, asker: &Asker, asked: &str) -> Option<(String, Vec<Explained>)>;
}

/// For tests that are about something else.
#[cfg(test)]
pub(crate) struct NoClusters;

#[cfg(test)]
impl ClusterView for NoClusters {
    fn clusters(&self) -> Vec<ClusterStatus> {
        Vec::new()
    }

    fn configuration(&self) -> ConfigurationStatus {
        ConfigurationStatus::default()
    }

    fn explain(&self, _: Option<&str>, _: &Asker, _: &str) -> Option<(String, Vec<Explained>)> {
        None
    }
}
