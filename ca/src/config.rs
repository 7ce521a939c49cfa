//! The configuration of `signet-ca`: one YAML file, read into plain data. Nothing is opened or connected here.

mod read;
mod read_authority;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use signet_core::identity::{SpiffeId, TrustDomain};
use signet_core::key_type::KeyType;
use signet_core::policy::{CsrNames, LeafPolicy};
use signet_core::rotation::{Rules, Schedule};
use signet_runtime::telemetry::LogFormat;

pub use read::{read, reference};

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
    /// Where the trust bundle is written as PEM at each change.
    pub bundle_file: Option<PathBuf>,
    /// Metrics and probes (plain HTTP).
    pub ops: SocketAddr,
    /// The storage URL.
    pub storage: String,
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
    /// Type of the root's and the issuing CA's keys.
    pub key_type: KeyType,
    /// Lifetimes.
    pub schedule: Schedule,
    /// When roots change.
    pub rules: Rules,
    /// How long agents may take to renew after an authority was compromised.
    pub renewal_window: Duration,
}

/// Who makes authorities.
#[derive(Debug, Clone)]
pub enum Backend {
    /// This CA.
    Native,
    /// The operator, by putting files into a directory.
    Files(PathBuf),
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
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The value of the `clusterid` header.
    pub id: String,
    /// Other values that mean the same cluster.
    pub aliases: Vec<String>,
    /// The trust domain of its workloads.
    pub trust_domain: TrustDomain,
    /// Audiences of which a token needs one.
    pub audiences: Vec<String>,
    /// How tokens are verified.
    pub tokens: Tokens,
}

/// How tokens of a cluster are verified.
#[derive(Debug, Clone)]
pub enum Tokens {
    /// With the cluster's published keys from a file.
    Jwks {
        /// The exact `iss` claim.
        issuer: String,
        /// The JSON Web Key Set, reloaded when its content changes.
        file: PathBuf,
    },
}

/// A token bucket.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Sustained requests per second.
    pub per_second: NonZeroU32,
    /// Requests at once after a pause.
    pub burst: NonZeroU32,
}

/// Limits on requests.
#[derive(Debug, Clone, Copy)]
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
    /// Requests per network address.
    pub per_peer: Rate,
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
