//! What verifies the tokens of a cluster, with the task that follows its keys.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use signet_core::caller::AuthMethod;
use signet_core::seams::authenticator::{LiveWorkloads, TokenAuthenticator};
use signet_plugins::authenticator::{JwksAuthenticator, KeySetError, Published, PublishedKeys, TokenRules};
#[cfg(feature = "kubernetes")]
use signet_plugins::kubernetes::ApiServerError;
use signet_runtime::files::FileError;
use signet_runtime::output::error_chain;

use super::cluster_keys::{ClusterKeys, KeysRead, read_file};
use super::cluster_set::Surroundings;
use super::kubernetes::{self, LastReview, Server};
use super::passing::Tasks;
use crate::clusters::CertificateRules;
use crate::config::{ClientCertificates, Cluster, Config, KeySource, Tokens};

/// What verifies the tokens of a cluster cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum TokensError {
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

impl TokensError {
    /// What is wrong with the cluster at this place of the configuration, after the field that it is about.
    pub(super) fn of_cluster(&self, index: usize) -> String {
        let field = match self {
            Self::File(_) | Self::Content { .. } => "tokens.file",
            #[cfg(feature = "kubernetes")]
            Self::ApiServer(_) => "api_server",
            #[cfg(not(feature = "kubernetes"))]
            Self::WithoutKubernetes => "tokens",
        };
        format!("clusters[{index}].{field}: {}", error_chain(self))
    }
}

/// How a cluster's method is called.
pub(super) fn method(tokens: &Tokens) -> AuthMethod {
    match tokens {
        Tokens::Jwks { .. } => AuthMethod::Jwks,
        Tokens::Review { .. } => AuthMethod::TokenReview,
    }
}

fn rules(cluster: &Cluster) -> TokenRules {
    let Cluster { id, trust_domain, audiences, tokens, .. } = cluster;
    let (issuers, leeway, max_age) = match tokens {
        Tokens::Jwks { issuers, leeway, max_age, .. } => (issuers, leeway, Some(*max_age)),
        Tokens::Review { issuers, leeway, .. } => (issuers, leeway, None),
    };
    TokenRules {
        cluster: id.clone(),
        trust_domain: trust_domain.clone(),
        issuers: issuers.clone(),
        audiences: audiences.clone(),
        leeway: *leeway,
        max_age,
        method: method(tokens),
    }
}

/// The keys of a cluster. Those in a file are read; no server is asked for anything.
pub(super) async fn keys(cluster: &Cluster, server: Option<&Arc<Server>>) -> Result<PublishedKeys, TokensError> {
    match &cluster.tokens {
        Tokens::Jwks { keys: KeySource::File(file), .. } => {
            let content = read_file(file).await?;
            PublishedKeys::new(&content).map_err(|cause| TokensError::Content { file: file.clone(), cause })
        }
        tokens => kubernetes::keys(tokens, server),
    }
}

/// The published keys that cannot be used, for `check`. A file that cannot be read at all is told of elsewhere.
pub async fn left_out_keys(config: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, cluster) in config.clusters.iter().enumerate() {
        let Tokens::Jwks { keys: KeySource::File(_), .. } = &cluster.tokens else { continue };
        let published = keys(cluster, None).await.ok().and_then(|keys| keys.published());
        let left_out = published.map(|published| published.left_out).unwrap_or_default();
        lines.extend(left_out.iter().map(|key| format!("clusters[{index}].tokens.file: {key}, and is left out")));
    }
    lines
}

/// What a cluster demands of client certificates in the place of tokens. Where `live` workloads are demanded and nobody knows
/// them, no certificate counts.
pub(super) fn certificates(cluster: &Cluster, live: Option<Arc<dyn LiveWorkloads>>) -> Option<CertificateRules> {
    let ClientCertificates { last_token_within, live_objects } = cluster.client_certificates?;
    (live.is_some() == live_objects).then_some(CertificateRules { last_token_within, live })
}

/// Verifies the tokens of a cluster, and remembers them.
pub(super) struct Believer {
    keys: Arc<PublishedKeys>,
    read: Arc<Mutex<KeysRead>>,
    review: Option<Arc<Mutex<LastReview>>>,
    pub(super) authenticator: Arc<dyn TokenAuthenticator>,
    /// Its end is that of all that it has believed.
    pub(super) tasks: Tasks,
}

impl Believer {
    /// Begins to verify tokens with these keys, and to follow them.
    pub(super) fn start(
        cluster: &Cluster,
        keys: Arc<PublishedKeys>,
        server: Option<&Arc<Server>>,
        around: &Surroundings,
    ) -> Self {
        let (id, rules, tasks) = (&cluster.id, rules(cluster), Tasks::default());
        let condition = around.readiness.passing(match &cluster.tokens {
            Tokens::Jwks { .. } => format!("tokens of {id}"),
            Tokens::Review { .. } => format!("keys of {id}"),
        });
        let read = Arc::new(Mutex::new(KeysRead::default()));
        let followed =
            ClusterKeys::new(cluster, Arc::clone(&keys), condition, Arc::clone(&read), around.notices.clone());
        tasks.spawn(&around.spawner, &format!("keys of {id}"), followed.keep());
        let (authenticator, review): (Arc<dyn TokenAuthenticator>, _) = match (&cluster.tokens, server) {
            (Tokens::Review { limits, .. }, Some(server)) => {
                let (last, asked) = (Arc::default(), (&**server, Arc::clone(&keys)));
                let told = Arc::clone(&last);
                (around.reviews.authenticator(rules, *limits, asked, told, (&tasks, around)), Some(last))
            }
            _ => (Arc::new(JwksAuthenticator::new(rules, Arc::clone(&keys))), None),
        };
        Self { keys, read, review, authenticator, tasks }
    }

    /// The keys that are in use.
    pub(super) fn published(&self) -> Option<Published> {
        self.keys.published()
    }

    /// How reading them goes.
    pub(super) fn read(&self) -> KeysRead {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What came of the last review, where reviews are asked for.
    pub(super) fn review(&self) -> Option<LastReview> {
        self.review.as_ref().map(|last| last.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}
