//! Whether the API servers and issuers of the clusters answer, and let this CA do what it needs; for `check --connect`.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use signet_core::clock::SystemClock;
use signet_core::seams::authenticator::AuthenticationError;

use super::kubernetes::{self, Server};
use super::{cert_manager, tokens, vault};
use crate::config::{Backend, Cluster, Config, Tokens};

/// How long all questions to one cluster may take together.
const CLUSTER: Duration = Duration::from_secs(30);

/// All that is wrong, and all that could not be seen, of all clusters, which are asked at the same time.
pub(super) async fn connect(config: &Config) -> (Vec<String>, Vec<String>) {
    let asked = config.clusters.iter().enumerate().map(async |(index, cluster)| {
        let field = format!("clusters[{index}]");
        let found = tokio::time::timeout(CLUSTER, ask(cluster)).await;
        let late = format!("api_server: not all that is to be known was answered within {CLUSTER:?}");
        let (problems, unseen) = found.unwrap_or_else(|_| (vec![late], Vec::new()));
        let named = |all: Vec<String>| all.into_iter().map(|one| format!("{field}.{one}")).collect::<Vec<_>>();
        (named(problems), named(unseen))
    });
    let (of_clusters, of_backend) = tokio::join!(join_all(asked), ask_backend(config));
    let (problems, unseen): (Vec<_>, Vec<_>) = of_clusters.into_iter().chain([of_backend]).unzip();
    (problems.concat(), unseen.concat())
}

/// Whoever certifies issuing CAs, if somebody else does. Each call has its own deadline.
async fn ask_backend(config: &Config) -> (Vec<String>, Vec<String>) {
    match &config.authority.backend {
        Backend::Vault(vault) => vault::Opened::new(vault, &config.trust_domain, Arc::new(SystemClock)).probe().await,
        Backend::CertManager(section) => cert_manager::Opened::new(section, &config.trust_domain).probe().await,
        Backend::Native | Backend::Files(_) => Default::default(),
    }
}

async fn ask(cluster: &Cluster) -> (Vec<String>, Vec<String>) {
    let (mut problems, mut unseen, mut is_reached) = (Vec::new(), Vec::new(), true);
    // Files that cannot be used are told of by `check` itself.
    let Ok(server) = Server::open(cluster).await else { return (problems, unseen) };
    if let Some(server) = &server {
        match kubernetes::probe(cluster, server).await {
            Ok(found) => {
                problems.extend(found.problems);
                unseen.extend(found.unseen);
            }
            Err(problem) => {
                is_reached = false;
                problems.push(format!("api_server: {problem}"));
            }
        }
    }
    let asks_server = matches!(cluster.tokens, Tokens::Jwks { .. }) && cluster.tokens.ask_the_api_server();
    if (asks_server && is_reached) || cluster.tokens.ask_the_issuer() {
        let Ok(keys) = tokens::keys(cluster, server.as_ref()).await else { return (problems, unseen) };
        problems.extend(keys.look_up().await.err().map(|error| match error {
            AuthenticationError::Unavailable { reason, detail } => {
                format!("tokens.from: the keys cannot be read: {}: {detail}", reason.label())
            }
            error => format!("tokens.from: the keys cannot be read: {error}"),
        }));
    }
    (problems, unseen)
}
