//! The authenticators of the configured clusters, and the reloading of their keys.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use signet_core::seams::authenticator::TokenAuthenticator;
use signet_plugins::authenticator::{JwksAuthenticator, Refreshed};
use signet_runtime::readiness::{Condition, Readiness};
use signet_runtime::supervisor::{Importance, Supervisor};
use tokio_util::sync::CancellationToken;

use crate::clusters::Clusters;
use crate::config::Cluster;

/// How often JWKS files are looked at.
const JWKS_POLL: Duration = Duration::from_secs(2);

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
        let (refreshed, name) = (Arc::clone(&authenticator), format!("keys of {}", cluster.id));
        supervisor.spawn(&name, Importance::Critical, |stop| refresh(refreshed, condition, stop));
        all.push((cluster.id, cluster.aliases, authenticator as Arc<dyn TokenAuthenticator>));
    }
    Clusters::new(all)
}

/// Reloads a cluster's keys when their file changes; the old ones stay when the new ones are no good.
async fn refresh(
    authenticator: Arc<JwksAuthenticator>,
    condition: Condition,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let mut complained = String::new();
    while stop.run_until_cancelled(tokio::time::sleep(JWKS_POLL)).await.is_some() {
        match authenticator.refresh().await {
            Ok(refreshed) => {
                if let Refreshed::Replaced { keys, ignored } = refreshed {
                    tracing::info!(keys, ignored, "token verification keys reloaded");
                }
                complained.clear();
                condition.ready("keys loaded");
            }
            Err(error) => {
                let text = error.to_string();
                if text != complained {
                    tracing::warn!(error = text, "token verification keys could not be reloaded; the old ones stay");
                }
                condition.degraded(format!("the old keys stay in use: {text}"));
                complained = text;
            }
        }
    }
    Ok(())
}
