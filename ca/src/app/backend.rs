//! Follows the backend that brings authorities of somebody else's, if one does, and tells how it is.

use std::sync::Arc;

use signet_core::seams::upstream_authority::UpstreamAuthority as _;
use signet_core::source::RevokedBy;
use signet_plugins::authority::FilesAuthority;
use signet_runtime::metrics::{MetricError, Metrics};
use signet_runtime::readiness::Readiness;
use signet_runtime::supervisor::{Importance, Supervisor};

use super::former::FormerMetrics;
use super::plugins::Plugins;
use crate::health::{CaFiles, FileProblems, watch_ca_files};
use crate::metrics::CaMetrics;
use crate::notices::Notices;
use crate::rotator::{Elsewhere, Executor};
use crate::signing_state::StateReader;
use crate::vault_health::{VaultMetrics, watch_vault};

/// Starts what follows the backend.
pub(super) fn follow(
    plugins: &Plugins,
    executor: &Arc<Executor>,
    state: &StateReader,
    (ca_metrics, metrics): (&Arc<CaMetrics>, &Metrics),
    readiness: &Readiness,
    supervisor: &Supervisor,
    notices: Notices,
) -> Result<(), MetricError> {
    let critical = Importance::Critical;
    if let Some(files) = plugins.files.clone() {
        let condition = readiness.condition("CA files");
        let files = Arc::new(OwnFiles { files, executor: Arc::clone(executor) });
        let watched = Arc::clone(ca_metrics);
        supervisor.spawn("CA files", critical, |stop| {
            watch_ca_files(files, "the files are not used", watched, condition, Some(notices), stop)
        });
    }
    if let Some(asked) = plugins.cert_manager.clone() {
        let condition = readiness.condition("cert-manager");
        let (watched, metrics) = (asked.watched(Arc::clone(executor)), Arc::clone(ca_metrics));
        let unused = "what it brings is not used";
        supervisor
            .spawn("cert-manager", critical, |stop| watch_ca_files(watched, unused, metrics, condition, None, stop));
    }
    let former = plugins.former.as_ref();
    let formers = former.map(|(former, _)| former.upstream().revoked_by());
    if plugins.upstream.revoked_by() == RevokedBy::Upstream || formers == Some(RevokedBy::Upstream) {
        let leaves = Arc::clone(&plugins.store) as _;
        let elsewhere = Elsewhere { executor: Arc::clone(executor), state: state.clone(), leaves };
        supervisor.spawn("revocation elsewhere", critical, |stop| elsewhere.run(stop));
    }
    let both = former.map(|(_, both)| Arc::clone(both));
    let former_metrics = FormerMetrics::new(metrics)?;
    if let Some((former, both)) = former.cloned() {
        let (condition, state) = (readiness.condition("former backend"), state.clone());
        supervisor.spawn("former backend", critical, |stop| former.run(both, state, former_metrics, condition, stop));
    }
    let vault_metrics = VaultMetrics::new(metrics)?;
    if let Some(vault) = plugins.vault.clone() {
        let condition = readiness.condition("Vault");
        let (followed, watched) = (vault.clone(), vault.watched(Arc::clone(executor), state.clone(), both));
        supervisor.spawn("Vault", critical, |stop| followed.run(stop));
        supervisor.spawn("health of Vault", critical, |stop| watch_vault(watched, vault_metrics, condition, stop));
    }
    Ok(())
}

/// The operator's CA files, as the rotator finds them.
struct OwnFiles {
    files: Arc<FilesAuthority>,
    executor: Arc<Executor>,
}

#[async_trait::async_trait]
impl CaFiles for OwnFiles {
    async fn problems(&self) -> FileProblems {
        let ca = match self.files.offer().await {
            Err(error) => Some(error.to_string()),
            // They can be read, but clients would refuse what they make, or they do not go with what is in use.
            Ok(_) => self.executor.source_problem(),
        };
        FileProblems { ca, lists: self.files.crl_problem() }
    }
}
