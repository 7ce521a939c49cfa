//! The configuration of `signet-ca`: one YAML file, read into plain data. Nothing is opened or connected here.

mod cert_manager;
mod publish;
mod read;
mod read_audit;
mod read_authority;
mod read_cert_manager;
mod read_cluster;
mod read_pod_certificates;
mod read_publish;
mod read_witnesses;
mod storage;
#[cfg(test)]
mod storage_tests;
#[cfg(test)]
mod tests;
mod vault;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use signet_core::identity::{SpiffeId, TrustDomain};
use signet_core::key_type::KeyType;
use signet_core::policy::{CsrNames, LeafPolicy};
use signet_core::rotation::{Rules, Schedule};
use signet_runtime::telemetry::LogFormat;

pub use cert_manager::{CertManager, CertManagerRoots, ObjectKey};
pub use publish::{ClusterTrustBundle, ConfigMaps, Istiod, Publish};
pub use read::{read, read_admin, reference};
pub use read_audit::AuditConfig;
pub use read_witnesses::WitnessConfig;
#[cfg(not(feature = "postgres"))]
pub(crate) use storage::WITHOUT_POSTGRES;
pub use storage::{Database, Host, Postgres, Reach, Storage, Tls, read_storage};
pub use vault::{Mode, Vault, VaultAuth};

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The trust domain that this CA certifies.
    pub trust_domain: TrustDomain,
    /// Where certificate requests arrive (TLS).
    pub listen: SocketAddr,
    /// The operators' Unix socket.
    pub admin: PathBuf,
    /// Who may use the operators' service over TLS.
    pub admins: Vec<SpiffeId>,
    /// Who may ask there for what changes nothing.
    pub auditors: Vec<SpiffeId>,
    /// Where the trust bundle is written as PEM at each change.
    pub bundle_file: Option<PathBuf>,
    /// Metrics and probes (plain HTTP).
    pub ops: SocketAddr,
    /// Where records, authorities and encrypted keys are kept.
    pub storage: Storage,
    /// How the record is signed.
    pub audit: AuditConfig,
    /// The CA's own serving certificate.
    pub serving: Serving,
    /// The key that encrypts private keys at rest.
    pub encryption_key_file: PathBuf,
    /// Authorities.
    pub authority: Authority,
    /// Rules for leaves.
    pub svid: Svid,
    /// The clusters whose tokens are accepted.
    pub clusters: Vec<Cluster>,
    /// Load balancers that say by the PROXY protocol where their connections come from.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Limits on requests.
    pub limits: Limits,
    /// Logging.
    pub log: Log,
    /// How long requests in flight may take to finish at shutdown.
    pub drain: Duration,
}

/// Names and lifetime of the serving certificate.
#[derive(Debug, Clone)]
pub struct Serving {
    /// DNS names that clients dial.
    pub dns_names: Vec<String>,
    /// IP addresses that clients dial.
    pub ip_addresses: Vec<IpAddr>,
    /// Lifetime.
    pub ttl: Duration,
}

/// Keys and lifetimes of authorities.
#[derive(Debug, Clone)]
pub struct Authority {
    /// Who makes them.
    pub backend: Backend,
    /// Who has signed leaves before, and goes on until that one's are known everywhere.
    pub former: Option<Backend>,
    /// Type of the root's and the issuing CA's keys.
    pub key_type: KeyType,
    /// Lifetimes.
    pub schedule: Schedule,
    /// When roots change.
    pub rules: Rules,
    /// How long agents may take to renew after an authority was compromised.
    pub renewal_window: Duration,
}

impl Authority {
    /// The same, of leaves with these rules.
    #[must_use]
    fn with_leaves(mut self, svid: &Svid) -> Self {
        self.rules.leaf_ttl = svid.max_ttl;
        self
    }
}

/// Who makes authorities.
#[derive(Debug, Clone)]
pub enum Backend {
    /// This CA.
    Native,
    /// The operator, by putting files into a directory.
    Files(PathBuf),
    /// A Vault or OpenBao, which certifies issuing CAs.
    Vault(Box<Vault>),
    /// An issuer of cert-manager's, which certifies issuing CAs.
    CertManager(Box<CertManager>),
}

/// Rules for leaves.
#[derive(Debug, Clone, Copy)]
pub struct Svid {
    /// Lifetime when none is asked for.
    pub default_ttl: Duration,
    /// The longest lifetime that may be asked for.
    pub max_ttl: Duration,
    /// Treatment of names in CSRs.
    pub csr_names: CsrNames,
}

/// A cluster whose service-account tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The value of the `clusterid` header.
    pub id: String,
    /// Other values that mean the same cluster.
    pub aliases: Vec<String>,
    /// The trust domain of its workloads.
    pub trust_domain: TrustDomain,
    /// Audiences of which a token needs one.
    pub audiences: Vec<String>,
    /// Its API server, when it is asked anything.
    pub api_server: Option<ApiAccess>,
    /// Namespace and name of the service accounts of node agents, which may ask for the identities of their nodes.
    pub trusted_node_accounts: Vec<(String, String)>,
    /// How tokens are verified.
    pub tokens: Tokens,
    /// What is demanded of client certificates that are shown in the place of tokens; `None` when they count for nothing.
    pub client_certificates: Option<ClientCertificates>,
    /// How the certificates of pods are signed that kubelets ask for; `None` when they are not.
    pub pod_certificates: Option<PodCertificates>,
    /// Where the trust bundle is published in it.
    pub publish: Publish,
}

/// How the certificates of pods are signed that kubelets ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodCertificates {
    /// The signer that pods name.
    pub signer: String,
    /// Requests that are worked on at a time.
    pub at_once: usize,
    /// How long kubelets take to write a new trust bundle into the volumes of pods.
    pub kubelet_refresh: Duration,
}

/// What is demanded of client certificates that are shown in the place of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientCertificates {
    /// How long ago the last token of the holder may be.
    pub last_token_within: Duration,
    /// Whether the holder's pod and account have to be there.
    pub live_objects: bool,
}

/// Where an API server is, and as whom it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiAccess {
    /// As the pod that this process runs in.
    InCluster,
    /// As a kubeconfig file says.
    Kubeconfig(PathBuf),
}

/// Where a cluster's keys are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// From a JSON Web Key Set, reloaded when its content changes.
    File(PathBuf),
    /// From its API server.
    ApiServer,
    /// From the first issuer of its tokens, by OpenID Connect Discovery.
    Issuer {
        /// The roots of the issuer's server; those of the system when there is none.
        ca_file: Option<PathBuf>,
    },
}

/// How much an API server is asked about tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReviewLimits {
    /// How long a yes is remembered.
    pub remember: Duration,
    /// How long one review may take.
    pub deadline: Duration,
    /// Reviews on the way at a time.
    pub at_once: usize,
}

/// How tokens of a cluster are verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tokens {
    /// With the cluster's published keys.
    Jwks {
        /// The exact `iss` claims of its tokens, at least one.
        issuers: Vec<String>,
        /// Where the keys are.
        keys: KeySource,
        /// How far the cluster's clock may be off ours.
        leeway: Duration,
        /// How long after `iat` a token is believed.
        max_age: Duration,
        /// Whether a token is believed only while its pod and account are there.
        live_objects: bool,
    },
    /// By the cluster's API server.
    Review {
        /// The exact `iss` claims of its tokens; empty for any.
        issuers: Vec<String>,
        /// How far the cluster's clock may be off ours.
        leeway: Duration,
        /// How much it is asked.
        limits: ReviewLimits,
    },
}

impl Cluster {
    /// Why it is not known which roots the pods have whose certificates are signed for their kubelets: that is so unless a
    /// ClusterTrustBundle of the same signer is published.
    #[must_use]
    pub fn pods_without_roots(&self) -> Option<String> {
        let signer = &self.pod_certificates.as_ref()?.signer;
        let published = self.publish.cluster_trust_bundle.as_ref().map(|bundle| &bundle.signer);
        (published != Some(signer)).then(|| {
            format!(
                "no ClusterTrustBundle of the signer {signer} is published (publish.cluster_trust_bundle), so that nobody knows \
                 which roots its pods have: a rotation of roots waits until their certificates end"
            )
        })
    }

    /// Whether somebody is believed only while what it is bound to is there.
    #[must_use]
    pub fn needs_live_objects(&self) -> bool {
        let of_tokens = matches!(self.tokens, Tokens::Jwks { live_objects: true, .. });
        of_tokens || self.client_certificates.is_some_and(|demanded| demanded.live_objects)
    }
}

impl Tokens {
    /// Whether the cluster's API server is asked for anything.
    #[must_use]
    pub fn ask_the_api_server(&self) -> bool {
        matches!(
            self,
            Self::Review { .. } | Self::Jwks { keys: KeySource::ApiServer, .. } | Self::Jwks { live_objects: true, .. }
        )
    }

    /// Whether the issuer of tokens is asked for its keys.
    #[must_use]
    pub fn ask_the_issuer(&self) -> bool {
        matches!(self, Self::Jwks { keys: KeySource::Issuer { .. }, .. })
    }
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Sustained requests per second.
    pub per_second: NonZeroU32,
    /// Requests at once after a pause.
    pub burst: NonZeroU32,
}

/// Limits on requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests worked on at the same time.
    pub concurrent_requests: usize,
    /// Connections open at the same time.
    pub connections: usize,
    /// Bundle streams open at the same time.
    pub bundle_streams: usize,
    /// Bundle streams of one identity at the same time; `None` for a quarter of all.
    pub bundle_streams_per_identity: Option<usize>,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// Certificates per identity.
    pub per_identity: Rate,
    /// Requests per source, from connections that have not proved who they are.
    pub per_peer: Rate,
    /// Connections of one identity.
    pub connections_per_identity: usize,
    /// What one source may hold before it has proved who it is.
    pub unauthenticated: Unauthenticated,
}

/// What those may hold that have not proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unauthenticated {
    /// Connections of one source.
    pub connections: usize,
    /// Handshakes of one source that lead to nothing.
    pub handshakes: Rate,
    /// Calls of one source whose messages have not arrived.
    pub calls: usize,
    /// Bytes of such calls of one source.
    pub memory: usize,
    /// Bytes of such calls of all sources.
    pub total_memory: usize,
}

/// The defaults of the configuration, for tests of what has limits.
#[cfg(test)]
impl Default for Limits {
    #[allow(clippy::unwrap_used, reason = "tests")]
    fn default() -> Self {
        signet_runtime::config::parse("defaults", tests::SMALLEST, read).unwrap().config.limits
    }
}

/// Logging.
#[derive(Debug, Clone)]
pub struct Log {
    /// JSON or human.
    pub format: LogFormat,
    /// Level or filter.
    pub level: String,
}

impl Config {
    /// The leaf policy that the configuration describes.
    #[must_use]
    pub fn leaf_policy(&self) -> LeafPolicy {
        LeafPolicy {
            trust_domain: self.trust_domain.clone(),
            default_ttl: self.svid.default_ttl,
            max_ttl: self.svid.max_ttl,
            csr_names: self.svid.csr_names,
        }
    }
}
