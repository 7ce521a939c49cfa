//! The witnesses of the configuration, and the task that asks them.

use std::sync::Arc;

use signet_core::seams::witness::Witness;
#[cfg(not(feature = "witness"))]
use signet_core::seams::witness::{WitnessReply, WitnessUnreachable};
use signet_plugins::store::Store;
use signet_runtime::metrics::{MetricError, Metrics};
use signet_runtime::readiness::Readiness;
use signet_runtime::supervisor::{Importance, Supervisor};
use tokio::sync::watch;

use crate::config::{AuditConfig, WitnessConfig};
use crate::record_tree::{Cosigner, Watcher, WitnessMetrics};

/// Starts the task, if there are any. `ours` is what is signed here.
pub(super) fn ask(
    store: Arc<dyn Store>,
    audit: &AuditConfig,
    ours: watch::Receiver<String>,
    metrics: &Metrics,
    readiness: &Readiness,
    supervisor: &Supervisor,
) -> Result<(), MetricError> {
    if audit.witnesses.is_empty() {
        return Ok(());
    }
    let measured = WitnessMetrics::new(metrics, audit.witnesses.iter().map(|witness| witness.name.as_str()))?;
    let watcher =
        |witness: &WitnessConfig| Watcher { name: witness.name.clone(), key: witness.key.clone(), way: way(witness) };
    let witnesses = audit.witnesses.iter().map(watcher).collect();
    let cosigner = Cosigner::new(store as _, audit.origin.clone(), (witnesses, audit.quorum), measured, ours);
    let condition = readiness.condition("witnesses");
    supervisor.spawn("witnesses", Importance::Critical, |stop| cosigner.run(condition, stop));
    Ok(())
}

#[cfg(feature = "witness")]
fn way(witness: &WitnessConfig) -> Arc<dyn Witness> {
    use signet_plugins::files::Files;
    use signet_plugins::witness::HttpWitness;
    use signet_runtime::output::error_chain;

    /// The largest file of roots that is read, in bytes.
    const MAX_FILE: u64 = 1 << 20;
    let files = Files::read_by(|file| {
        Box::pin(async move {
            let read = signet_runtime::files::read_in_time(&file, MAX_FILE).await;
            read.map_err(|error| error_chain(&error))
        })
    });
    Arc::new(HttpWitness::new(&witness.url, witness.ca_file.clone(), files))
}

#[cfg(not(feature = "witness"))]
fn way(_: &WitnessConfig) -> Arc<dyn Witness> {
    Arc::new(Nobody)
}

/// What stands in where this program is built without witnesses.
#[cfg(not(feature = "witness"))]
struct Nobody;

#[cfg(not(feature = "witness"))]
#[async_trait::async_trait]
impl Witness for Nobody {
    async fn add_checkpoint(&self, _: String) -> Result<WitnessReply, WitnessUnreachable> {
        Err(WitnessUnreachable("this program is built without the feature `witness`".to_owned()))
    }
}
