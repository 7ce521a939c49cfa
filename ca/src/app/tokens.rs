//! The authenticators of the configured clusters, and the loading and reloading of their keys.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signet_core::seams::authenticator::TokenAuthenticator;
use signet_plugins::authenticator::{JwksAuthenticator, JwksConfig, KeySetError, Published, Refreshed};
use signet_runtime::files::{self, FileError};
use signet_runtime::metrics::{MetricError, Metrics};
use signet_runtime::output::error_chain;
use signet_runtime::readiness::{Condition, Readiness};
use signet_runtime::supervisor::{Importance, Supervisor};
use tokio_util::sync::CancellationToken;

use crate::clusters::Clusters;
use crate::config::{Cluster, Config, Tokens};

/// How often JWKS files are looked at.
const JWKS_POLL: Duration = Duration::from_secs(2);

/// The largest JWKS file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

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
    let Tokens::Jwks { issuers, file, leeway, max_age } = &cluster.tokens;
    let config = JwksConfig {
        cluster: cluster.id.clone(),
        trust_domain: cluster.trust_domain.clone(),
        issuers: issuers.clone(),
        audiences: cluster.audiences.clone(),
        leeway: *leeway,
        max_age: *max_age,
    };
    let content = files::read_in_time(file, MAX_FILE).await?;
    JwksAuthenticator::new(config, &content).map_err(|cause| TokensError::Content { file: file.clone(), cause })
}

/// The published keys that cannot be used, for `check`. A file that cannot be read at all is told of elsewhere.
pub async fn left_out_keys(config: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, cluster) in config.clusters.iter().enumerate() {
        let left_out = load(cluster).await.map(|authenticator| authenticator.published().left_out).unwrap_or_default();
        lines.extend(left_out.iter().map(|key| format!("clusters[{index}].tokens.file: {key}, and is left out")));
    }
    lines
}

/// The clusters, each with a task that reloads its keys.
///
/// # Errors
/// [`MetricError`] when a name is taken, which is a bug.
pub(super) fn clusters(
    authenticators: Vec<(Cluster, Arc<JwksAuthenticator>)>,
    readiness: &Readiness,
    metrics: &Metrics,
    supervisor: &Supervisor,
) -> Result<Clusters, MetricError> {
    let (mut all, mut measured) = (Vec::new(), Vec::new());
    for (cluster, authenticator) in authenticators {
        let condition = readiness.condition(format!("tokens of {}", cluster.id));
        let name = format!("keys of {}", cluster.id);
        let Tokens::Jwks { file, .. } = cluster.tokens;
        let refused = Arc::new(AtomicBool::new(false));
        measured.push((Arc::clone(&authenticator), Arc::clone(&refused)));
        let (told, complained) = (BTreeSet::new(), None);
        let cluster_id = cluster.id.clone();
        let mut keys = Keys {
            cluster: cluster_id,
            file,
            authenticator: Arc::clone(&authenticator),
            condition,
            refused,
            told,
            complained,
        };
        keys.in_use(&authenticator.published());
        supervisor.spawn(&name, Importance::Critical, |stop| keys.keep(stop));
        all.push((cluster.id, cluster.aliases, authenticator as Arc<dyn TokenAuthenticator>));
    }
    measure(metrics, measured)?;
    Ok(Clusters::new(all))
}

/// Counts keys over all clusters: labels never hold a name from outside.
fn measure(metrics: &Metrics, clusters: Vec<(Arc<JwksAuthenticator>, Arc<AtomicBool>)>) -> Result<(), MetricError> {
    let clusters = Arc::new(clusters);
    let sum = |count: fn(&(Arc<JwksAuthenticator>, Arc<AtomicBool>)) -> usize| {
        let clusters = Arc::clone(&clusters);
        move || clusters.iter().map(count).sum::<usize>() as f64
    };
    let in_use = sum(|(authenticator, _)| authenticator.published().keys);
    metrics.gauge_fn("signet_ca_token_keys", "Published keys that may verify tokens, of all clusters.", in_use)?;
    let left_out = sum(|(authenticator, _)| authenticator.published().left_out.len());
    metrics.gauge_fn(
        "signet_ca_token_keys_left_out",
        "Published keys that cannot be used, of all clusters.",
        left_out,
    )?;
    let refused = sum(|(_, refused)| usize::from(refused.load(Ordering::Relaxed)));
    metrics.gauge_fn(
        "signet_ca_token_key_sets_refused",
        "Clusters whose file of keys cannot be used as it is now, so that earlier keys stay in use.",
        refused,
    )
}

/// The keys of one cluster and their file.
struct Keys {
    cluster: String,
    file: PathBuf,
    authenticator: Arc<JwksAuthenticator>,
    condition: Condition,
    /// For metrics: whether the file is no good as it is now.
    refused: Arc<AtomicBool>,
    /// The keys left out that were told of, so that each is told once while it stays as it is.
    told: BTreeSet<String>,
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

    /// Says which keys are in use and which are left out.
    fn in_use(&mut self, published: &Published) {
        let left_out: BTreeSet<String> = published.left_out.iter().map(ToString::to_string).collect();
        for key in left_out.difference(&self.told) {
            let (file, cluster) = (self.file.display(), &self.cluster);
            tracing::warn!(%file, cluster, key, "a published key is left out; tokens that it signed are refused");
        }
        self.told = left_out;
        self.condition.ready(in_words(published));
    }

    fn report(&mut self, result: Result<Refreshed, TokensError>) {
        self.refused.store(result.is_err(), Ordering::Relaxed);
        match result {
            Ok(refreshed) => {
                let published = match refreshed {
                    Refreshed::Replaced(published) => {
                        let left_out = published.left_out.len();
                        tracing::info!(keys = published.keys, left_out, "token verification keys reloaded");
                        published
                    }
                    Refreshed::Unchanged => {
                        if self.complained.is_some() {
                            tracing::info!(
                                file = %self.file.display(),
                                "the file of token verification keys can be used again"
                            );
                        }
                        self.authenticator.published()
                    }
                };
                self.complained = None;
                self.in_use(&published);
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

fn in_words(published: &Published) -> String {
    let keys = match published.keys {
        1 => "1 key".to_owned(),
        several => format!("{several} keys"),
    };
    match published.left_out.as_slice() {
        [] => format!("{keys} loaded"),
        [one] => format!("{keys} loaded, 1 left out: {one}"),
        [first, rest @ ..] => format!("{keys} loaded, {} left out: {first}; and {} more", rest.len() + 1, rest.len()),
    }
}

async fn reload(file: &Path, authenticator: &JwksAuthenticator) -> Result<Refreshed, TokensError> {
    let content = files::read_in_time(file, MAX_FILE).await?;
    authenticator.refresh(&content).map_err(|cause| TokensError::Content { file: file.to_owned(), cause })
}
