//! The authenticators of the configured clusters.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signet_core::caller::AuthMethod;
use signet_core::seams::authenticator::{LiveWorkloads, TokenAuthenticator};
#[cfg(feature = "kubernetes")]
use signet_core::seams::live_pods::LivePods;
use signet_plugins::authenticator::{JwksAuthenticator, KeySetError, PublishedKeys, TokenRules};
#[cfg(feature = "kubernetes")]
use signet_plugins::kubernetes::{ApiServer, ApiServerError};
use signet_runtime::files::FileError;
use signet_runtime::metrics::{MetricError, Metrics};
use signet_runtime::readiness::Readiness;
use signet_runtime::supervisor::{Importance, Supervisor};

use super::cluster_keys::{ClusterKeys, read_file};
#[cfg(feature = "kubernetes")]
use super::kubernetes;
use crate::clusters::{CertificateRules, Clusters, Served};
use crate::config::{ClientCertificates, Cluster, Config, KeySource, Tokens};

/// What verifies the tokens of a cluster cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// The file cannot be read.
    #[error("the JWKS file cannot be used")]
    File(#[from] FileError),
    /// The file's content is not usable.
    #[error("the JWKS file {}: {cause}", file.display())]
    Content {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        cause: KeySetError,
    },
    /// The credentials for the API server cannot be used.
    #[cfg(feature = "kubernetes")]
    #[error("the API server cannot be asked")]
    ApiServer(#[from] ApiServerError),
    /// This program was built without what asks API servers.
    #[cfg(not(feature = "kubernetes"))]
    #[error("this program was built without the feature `kubernetes`")]
    WithoutKubernetes,
}

/// A cluster with what verifies its tokens.
pub(super) struct Opened {
    cluster: Cluster,
    keys: Arc<PublishedKeys>,
    #[cfg(feature = "kubernetes")]
    server: Option<Arc<ApiServer>>,
}

impl Opened {
    /// Reads the files that a cluster's section names. No server is asked for anything.
    pub(super) async fn open(cluster: &Cluster) -> Result<Self, TokensError> {
        #[cfg(feature = "kubernetes")]
        let server = kubernetes::open(cluster).await?;
        let keys = match &cluster.tokens {
            Tokens::Jwks { keys: KeySource::File(file), .. } => {
                let content = read_file(file).await?;
                PublishedKeys::new(&content).map_err(|cause| TokensError::Content { file: file.clone(), cause })?
            }
            #[cfg(feature = "kubernetes")]
            tokens => kubernetes::keys(tokens, server.as_ref()),
            #[cfg(not(feature = "kubernetes"))]
            _ => return Err(TokensError::WithoutKubernetes),
        };
        Ok(Self {
            cluster: cluster.clone(),
            keys: Arc::new(keys),
            #[cfg(feature = "kubernetes")]
            server,
        })
    }

    fn rules(&self) -> TokenRules {
        let Cluster { id, trust_domain, audiences, tokens, .. } = &self.cluster;
        let (issuers, leeway, max_age, method) = match tokens {
            Tokens::Jwks { issuers, leeway, max_age, .. } => (issuers, leeway, Some(*max_age), AuthMethod::Jwks),
            Tokens::Review { issuers, leeway, .. } => (issuers, leeway, None, AuthMethod::TokenReview),
        };
        TokenRules {
            cluster: id.clone(),
            trust_domain: trust_domain.clone(),
            issuers: issuers.clone(),
            audiences: audiences.clone(),
            leeway: *leeway,
            max_age,
            method,
        }
    }
}

/// The published keys that cannot be used, for `check`. A file that cannot be read at all is told of elsewhere.
pub async fn left_out_keys(config: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, cluster) in config.clusters.iter().enumerate() {
        let published = Opened::open(cluster).await.ok().and_then(|opened| opened.keys.published());
        let left_out = published.map(|published| published.left_out).unwrap_or_default();
        lines.extend(left_out.iter().map(|key| format!("clusters[{index}].tokens.file: {key}, and is left out")));
    }
    lines
}

/// The clusters, each with a task that follows its keys.
///
/// # Errors
/// [`MetricError`] when a name is taken, which is a bug.
pub(super) fn clusters(
    all: Vec<Opened>,
    readiness: &Readiness,
    metrics: &Metrics,
    supervisor: &Supervisor,
) -> Result<Clusters, MetricError> {
    #[cfg(feature = "kubernetes")]
    let (reviews, pods) = (kubernetes::Reviews::new(metrics)?, kubernetes::Pods::default());
    let (mut served, mut measured) = (Vec::new(), Vec::new());
    for opened in all {
        let rules = opened.rules();
        let Opened { cluster, keys, .. } = opened;
        let refused = Arc::new(AtomicBool::new(false));
        measured.push((Arc::clone(&keys), Arc::clone(&refused)));
        let condition = readiness.condition(match &cluster.tokens {
            Tokens::Jwks { .. } => format!("tokens of {}", cluster.id),
            Tokens::Review { .. } => format!("keys of {}", cluster.id),
        });
        let followed = ClusterKeys::new(&cluster, Arc::clone(&keys), condition, refused);
        supervisor.spawn(&format!("keys of {}", cluster.id), Importance::Critical, |stop| followed.keep(stop));
        #[cfg(feature = "kubernetes")]
        let beside = opened.server.clone().and_then(|server| {
            let condition = readiness.condition(format!("API server of {}", cluster.id));
            let (name, renewed) = (format!("credentials for {}", cluster.id), Arc::clone(&server));
            supervisor.spawn(&name, Importance::Critical, |stop| kubernetes::renew(renewed, condition, stop));
            pods.of(&cluster, server, readiness, supervisor)
        });
        #[cfg(feature = "kubernetes")]
        let authorizer = kubernetes::authorizer(&cluster, beside.as_ref());
        #[cfg(feature = "kubernetes")]
        let pods = beside.clone().map(|pods| pods as Arc<dyn LivePods>);
        #[cfg(feature = "kubernetes")]
        let live = kubernetes::live_workloads(&cluster, beside.as_ref());
        #[cfg(not(feature = "kubernetes"))]
        let (authorizer, pods, live) = (None, None, None);
        let certificates = certificates(&cluster, live);
        let authenticator: Arc<dyn TokenAuthenticator> = match &cluster.tokens {
            #[cfg(feature = "kubernetes")]
            Tokens::Review { limits, .. } if let Some(server) = opened.server => {
                let condition = readiness.condition(format!("tokens of {}", cluster.id));
                reviews.authenticator(rules, *limits, server, keys, condition)
            }
            _ => Arc::new(JwksAuthenticator::new(rules, keys)),
        };
        #[cfg(feature = "kubernetes")]
        let authenticator = kubernetes::live(&cluster.tokens, authenticator, beside);
        served.push(Served { id: cluster.id, aliases: cluster.aliases, authenticator, authorizer, pods, certificates });
    }
    measure(metrics, measured)?;
    #[cfg(feature = "kubernetes")]
    pods.measure(metrics)?;
    Ok(Clusters::new(served))
}

/// What a cluster demands of client certificates in the place of tokens. Where `live` workloads are demanded and nobody knows
/// them, no certificate counts.
fn certificates(cluster: &Cluster, live: Option<Arc<dyn LiveWorkloads>>) -> Option<CertificateRules> {
    let ClientCertificates { last_token_within, live_objects } = cluster.client_certificates?;
    (live.is_some() == live_objects).then_some(CertificateRules { last_token_within, live })
}

/// Counts keys over all clusters: labels never hold a name from outside.
fn measure(metrics: &Metrics, clusters: Vec<(Arc<PublishedKeys>, Arc<AtomicBool>)>) -> Result<(), MetricError> {
    type Followed = (Arc<PublishedKeys>, Arc<AtomicBool>);
    let clusters = Arc::new(clusters);
    let sum = |count: fn(&Followed) -> usize| {
        let clusters = Arc::clone(&clusters);
        move || clusters.iter().map(count).sum::<usize>() as f64
    };
    let in_use = sum(|(keys, _)| keys.published().map_or(0, |published| published.keys));
    metrics.gauge_fn("signet_ca_token_keys", "Published keys that may verify tokens, of all clusters.", in_use)?;
    let left_out = sum(|(keys, _)| keys.published().map_or(0, |published| published.left_out.len()));
    metrics.gauge_fn(
        "signet_ca_token_keys_left_out",
        "Published keys that cannot be used, of all clusters.",
        left_out,
    )?;
    let refused = sum(|(_, refused)| usize::from(refused.load(Ordering::Relaxed)));
    metrics.gauge_fn(
        "signet_ca_token_key_sets_refused",
        "Clusters whose published keys cannot be used or read as they are now, so that earlier keys stay in use.",
        refused,
    )
}
