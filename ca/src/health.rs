//! What readiness knows by trying: whether records can be written now. And the gRPC health service, which repeats it.

use std::sync::Arc;
use std::time::Duration;

use signet_core::audit::{EventKind, Outcome};
use signet_core::seams::store::{AuditStore, StoreError};
use signet_runtime::readiness::{Condition, Readiness};
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::metrics::CaMetrics;
use crate::notices::{Notice, Notices};

/// How often storage is tried.
const PROBE: Duration = Duration::from_secs(2);

/// Writes to storage again and again; `condition` says how that went.
///
/// # Errors
/// None: a failing storage shows in readiness.
pub async fn probe_storage(
    store: Arc<dyn AuditStore>,
    metrics: Arc<CaMetrics>,
    condition: Condition,
    stop: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    loop {
        match stop.run_until_cancelled(store.probe()).await {
            None => return Ok(()),
            Some(Ok(())) => condition.ready("records can be written"),
            // Said once, by storage itself; it does not get better.
            Some(Err(error @ StoreError::Lost(_))) => {
                metrics.storage_lost.set(1);
                condition.failing(error.to_string());
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "storage cannot be written");
                condition.failing(error.to_string());
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(PROBE)).await.is_none() {
            return Ok(());
        }
    }
}

/// How often the CA files are asked about their revocation lists.
const CA_FILES: Duration = Duration::from_secs(2);

/// Says whether the operator's CA files, or what another backend brings, can be used: what is wrong with them keeps the old ones in use, and never
/// stops what works. `unused` says that they are not used; `notices` has each change of that.
///
/// # Errors
/// None.
pub async fn watch_ca_files(
    files: Arc<impl CaFiles>,
    unused: &'static str,
    metrics: Arc<CaMetrics>,
    condition: Condition,
    notices: Option<Notices>,
    stop: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let mut before = FileProblems::default();
    loop {
        let Some(problems) = stop.run_until_cancelled(files.problems()).await else { return Ok(()) };
        metrics.files_refused.set(i64::from(problems.ca.is_some()));
        metrics.crl_refused.set(i64::from(problems.lists.is_some()));
        if let Some(notices) = notices.as_ref().filter(|_| problems != before) {
            notices.tell(of_files(&problems));
        }
        before = problems.clone();
        match problems {
            FileProblems { ca: Some(problem), .. } => {
                condition.degraded(format!("{unused}, the CA goes on with what it had: {problem}"));
            }
            FileProblems { lists: Some(problem), .. } => condition.degraded(problem),
            _ => condition.ready(files.in_order()),
        }
        if stop.run_until_cancelled(tokio::time::sleep(CA_FILES)).await.is_none() {
            return Ok(());
        }
    }
}

/// That what is wrong with CA files has changed.
fn of_files(FileProblems { ca, lists }: &FileProblems) -> Notice {
    let (outcome, reason, detail) = match ca.as_ref().or(lists.as_ref()) {
        Some(problem) => (Outcome::Refused, "ca_files_refused", format!("what was in use before goes on: {problem}")),
        None => (Outcome::Done, "ca_files_used", "the CA files can be used again".to_owned()),
    };
    let (kind, subject) = (EventKind::Configuration, "CA files".to_owned());
    Notice { kind, subject, cluster: None, outcome, reason, detail }
}

/// What is wrong with CA files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileProblems {
    /// Why the CA in them is not used.
    pub ca: Option<String>,
    /// Why the revocation lists in them are not used.
    pub lists: Option<String>,
}

/// Files that may be wrong.
#[async_trait::async_trait]
pub trait CaFiles: Send + Sync + 'static {
    /// What is wrong with them now.
    async fn problems(&self) -> FileProblems;

    /// What is said when there is nothing wrong.
    fn in_order(&self) -> &'static str {
        "can be used"
    }
}

/// The services whose health follows readiness: the whole server, and Istio's service by name.
const SERVICES: [&str; 2] = ["", "istio.v1.auth.IstioCertificateService"];

/// Repeats readiness on the gRPC health service until `stop`, then says NOT_SERVING so that clients move on.
///
/// # Errors
/// None.
pub async fn follow_readiness(
    readiness: Readiness,
    reporter: HealthReporter,
    stop: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    loop {
        let ready = readiness.snapshot().ready;
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in SERVICES {
            reporter.set_service_status(service, status).await;
        }
        if stop.run_until_cancelled(readiness.wait_until(!ready)).await.is_none() {
            break;
        }
    }
    for service in SERVICES {
        reporter.set_service_status(service, ServingStatus::NotServing).await;
    }
    Ok(())
}
