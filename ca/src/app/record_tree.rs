//! Starts what signs the record, what forgets its words and what follows it into a file, and makes its keys.

use std::sync::Arc;

use signet_core::audit::Outcome;
use signet_core::clock::SharedClock;
use signet_core::rotation::Refused;
use signet_core::seams::custody::CustodyError;
use signet_core::seams::record_tree::RecordKeys as _;
use signet_plugins::custody::{SealedCustody, SealedRecordKeys};
use signet_runtime::metrics::{MetricError, Metrics};
use signet_runtime::ops::MorePages;
use signet_runtime::output::error_chain;
use signet_runtime::readiness::Readiness;
use signet_runtime::supervisor::{Importance, Supervisor};

use super::error::AppError;
use super::plugins::Plugins;
use super::record::command_event;
use super::sealing_keys::keyring;
use super::{storage, witnesses};
use crate::config::Config;
use crate::record_tree::{OutsideFile, Signer, TreeMetrics, pages};
use crate::retention::Forgetter;
use crate::sink::{Follower, SinkMetrics};

/// Starts the tasks that sign, that forget and that follow, and gives what is shown of the tree.
pub(super) fn sign(
    plugins: &Plugins,
    config: &Config,
    metrics: &Metrics,
    readiness: &Readiness,
    supervisor: &Supervisor,
    clock: &SharedClock,
) -> Result<MorePages, MetricError> {
    let outside = config.audit.checkpoint_file.clone().map(OutsideFile::new);
    let signer = Signer::new(
        Arc::clone(&plugins.store) as _,
        Arc::clone(&plugins.record_keys),
        config.audit.origin.clone(),
        outside,
        TreeMetrics::new(metrics)?,
        Arc::clone(clock),
    );
    witnesses::ask(Arc::clone(&plugins.store), &config.audit, signer.ours(), metrics, readiness, supervisor)?;
    let condition = readiness.condition("record");
    supervisor.spawn("record signer", Importance::Critical, |stop| signer.run(condition, stop));
    let (store, longest) = (Arc::clone(&plugins.store) as _, config.svid.max_ttl);
    let follower = match &config.audit.sink_file {
        Some(path) => Some(Follower::new(Arc::clone(&plugins.store) as _, path.clone(), SinkMetrics::new(metrics)?)),
        None => None,
    };
    let written = follower.as_ref().map(Follower::written);
    let forgetter = Forgetter::new(store, config.audit.retention, longest, metrics, Arc::clone(clock), written)?;
    let condition = readiness.condition("retention");
    supervisor.spawn("retention", Importance::Critical, |stop| forgetter.run(condition, stop));
    if let Some(follower) = follower {
        let condition = readiness.condition("record file");
        supervisor.spawn("record file", Importance::Critical, |stop| follower.run(condition, stop));
    }
    Ok(pages(Arc::clone(&plugins.store) as _, config.audit.origin.clone()))
}

/// Makes another key for the record, which the CAs that run on the storage sign with from their next checkpoint on, beside the
/// one before it. Gives what verifies the signatures of both, the new one first.
///
/// # Errors
/// [`AppError`].
pub async fn new_record_key(config: &Config) -> Result<Vec<String>, AppError> {
    let location = storage::location(&config.storage)?;
    // A storage that is not there must not be made here.
    let found = location.open_read_only(storage::DEADLINE).await?;
    if !storage::holds_authority(&*found).await? {
        return Err(AppError::RecordKey(Refused::NoAuthority.to_string()));
    }
    found.close().await;
    let ring = Arc::new(keyring(&config.encryption_key_file).await?);
    let store = location.open(storage::DEADLINE).await?;
    let keys = SealedRecordKeys::new(SealedCustody::new(Arc::clone(&store) as _, ring));
    let failed = |error: CustodyError| AppError::RecordKey(error_chain(&error));
    let made = async {
        // The first one is made, too, if no CA has done so.
        keys.keys(&config.audit.origin).await.map_err(failed)?;
        keys.replace().await.map_err(failed)?;
        let made = keys.keys(&config.audit.origin).await.map_err(failed)?;
        let lines: Vec<String> = made.iter().take(2).map(|key| key.verifier().to_string()).collect();
        let text = format!("the record is signed with {} from now on", lines.first().map_or("", String::as_str));
        store.append(vec![command_event("audit key", Outcome::Done, &text)]).await?;
        Ok(lines)
    };
    let made = made.await;
    store.close().await;
    made
}
