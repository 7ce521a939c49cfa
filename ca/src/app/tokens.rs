//! The authenticators of the configured clusters, and the loading and reloading of their keys.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use signet_core::seams::authenticator::TokenAuthenticator;
use signet_plugins::authenticator::{JwksAuthenticator, JwksConfig, KeySetError, Refreshed};
use signet_runtime::files::{self, FileError};
use signet_runtime::output::error_chain;
use signet_runtime::readiness::{Condition, Readiness};
use signet_runtime::supervisor::{Importance, Supervisor};
use tokio_util::sync::CancellationToken;

use crate::clusters::Clusters;
use crate::config::{Cluster, Tokens};

/// How often JWKS files are looked at.
const JWKS_POLL: Duration = Duration::from_secs(2);

/// The largest JWKS file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// How far a cluster's clock may be off ours.
const LEEWAY: Duration = Duration::from_secs(10);

/// The keys of a cluster cannot be loaded.
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
}

/// The authenticator of a cluster, with its keys loaded.
pub(super) async fn load(cluster: &Cluster) -> Result<JwksAuthenticator, TokensError> {
    let Tokens::Jwks { issuer, file } = &cluster.tokens;
    let config = JwksConfig {
        cluster: cluster.id.clone(),
        trust_domain: cluster.trust_domain.clone(),
        issuer: issuer.clone(),
        audiences: cluster.audiences.clone(),
        leeway: LEEWAY,
    };
    let content = files::read_in_time(file, MAX_FILE).await?;
    JwksAuthenticator::new(config, &content).map_err(|cause| TokensError::Content { file: file.clone(), cause })
}

/// The clusters, each with a task that reloads its keys.
pub(super) fn clusters(
    authenticators: Vec<(Cluster, Arc<JwksAuthenticator>)>,
    readiness: &Readiness,
    supervisor: &Supervisor,
) -> Clusters {
    let mut all = Vec::new();
    for (cluster, authenticator) in authenticators {
        let condition = readiness.condition(format!("tokens of {}", cluster.id));
        condition.ready("keys loaded");
        let name = format!("keys of {}", cluster.id);
        let Tokens::Jwks { file, .. } = cluster.tokens;
        let keys = Keys { file, authenticator: Arc::clone(&authenticator), condition, complained: None };
        supervisor.spawn(&name, Importance::Critical, |stop| keys.keep(stop));
        all.push((cluster.id, cluster.aliases, authenticator as Arc<dyn TokenAuthenticator>));
    }
    Clusters::new(all)
}

/// The keys of one cluster and their file.
struct Keys {
    file: PathBuf,
    authenticator: Arc<JwksAuthenticator>,
    condition: Condition,
    /// What was complained of last.
    complained: Option<String>,
}

impl Keys {
    /// Reloads the keys when their file changes; the old ones stay when the new ones are no good.
    async fn keep(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let reloading = async {
            loop {
                tokio::time::sleep(JWKS_POLL).await;
                let result = reload(&self.file, &self.authenticator).await;
                self.report(result);
            }
        };
        let _stopped = stop.run_until_cancelled(reloading).await;
        Ok(())
    }

    fn report(&mut self, result: Result<Refreshed, TokensError>) {
        match result {
            Ok(refreshed) => {
                if let Refreshed::Replaced { keys, ignored } = refreshed {
                    tracing::info!(keys, ignored, "token verification keys reloaded");
                } else if self.complained.is_some() {
                    tracing::info!(file = %self.file.display(), "the file of token verification keys can be used again");
                }
                self.complained = None;
                self.condition.ready("keys loaded");
            }
            Err(error) => {
                let text = error_chain(&error);
                // Of a file that hangs the text tells for how long, so that it is another one each time.
                let complaint = match &error {
                    TokensError::File(FileError::Hangs { .. }) => "hangs".to_owned(),
                    _ => text.clone(),
                };
                if self.complained.as_ref() != Some(&complaint) {
                    tracing::warn!(error = text, "token verification keys could not be reloaded; the old ones stay");
                }
                self.condition.degraded(format!("the old keys stay in use: {text}"));
                self.complained = Some(complaint);
            }
        }
    }
}

async fn reload(file: &Path, authenticator: &JwksAuthenticator) -> Result<Refreshed, TokensError> {
    let content = files::read_in_time(file, MAX_FILE).await?;
    authenticator.refresh(&content).map_err(|cause| TokensError::Content { file: file.to_owned(), cause })
}
