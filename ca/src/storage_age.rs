//! Whether the storage is older than what was once given out from it, as after a restored backup: known from the first
//! agent that shows a bundle sequence which only this CA can have given it, and which storage does not have.

use std::sync::Arc;
use std::time::Duration;

use signet_core::seams::bundle_proofs::SequenceProofs;
use signet_core::seams::store::AuthorityJournal;
use signet_runtime::readiness::Condition;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::CaMetrics;
use crate::rotator::Executor;
use crate::signing_state::{StateReader, current};

/// How long until storage is asked again that did not answer, and how often it is said anew that what is on record may not
/// be all.
const AGAIN: Duration = Duration::from_secs(5);

/// What was shown, and what storage says to that. There is no memory per agent: only the highest number counts.
pub struct StorageAge {
    proofs: Arc<dyn SequenceProofs>,
    /// The highest sequence that was shown with a proof.
    highest: watch::Sender<u64>,
    /// The same, once storage has said that it has none so high.
    missing: watch::Sender<Option<u64>>,
}

impl StorageAge {
    /// Nothing was shown yet.
    #[must_use]
    pub fn new(proofs: Arc<dyn SequenceProofs>) -> Self {
        Self { proofs, highest: watch::Sender::new(0), missing: watch::Sender::new(None) }
    }

    /// Somebody shows what it was given. Whatever that is, it costs one hash, and without a valid proof it changes nothing.
    pub fn note(&self, proof: &str) {
        if let Some(sequence) = self.proofs.verify(proof) {
            self.highest.send_if_modified(|highest| {
                let higher = sequence > *highest;
                *highest = sequence.max(*highest);
                higher
            });
        }
    }

    /// The highest sequence that was shown, while storage has none so high.
    #[must_use]
    pub fn shown(&self) -> Option<u64> {
        *self.missing.borrow()
    }

    /// Compares what is shown with storage until `stop`. Degraded at most: certificates are still better than none.
    ///
    /// # Errors
    /// None.
    pub async fn watch(
        self: Arc<Self>,
        journal: Arc<dyn AuthorityJournal>,
        executor: Arc<Executor>,
        mut state: StateReader,
        metrics: Arc<CaMetrics>,
        condition: Condition,
        stop: CancellationToken,
    ) -> Result<(), std::convert::Infallible> {
        let mut highest = self.highest.subscribe();
        condition.ready("nobody has shown anything newer");
        loop {
            let shown = *highest.borrow_and_update();
            state.mark_unchanged();
            let served = current(&state).map_or(0, |state| state.bundle().sequence());
            let mut again = None;
            if shown > served {
                // A replica that lags is no backup: what counts is what storage says now.
                match journal.load().await {
                    Ok(found) => {
                        let stored = found.map_or(0, |(_, authorities)| authorities.bundle_sequence);
                        self.judge(shown, stored, &condition, &metrics);
                    }
                    // It is told by the condition of the storage itself.
                    Err(error) => tracing::debug!(%error, "what an agent has shown cannot be compared with storage"),
                }
                if self.shown().is_some() {
                    executor.doubt();
                }
                again = Some(AGAIN);
            } else {
                self.judge(shown, served, &condition, &metrics);
            }
            let pause = async {
                match again {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                // Neither fails: the one sender is here, the other ends with the process.
                _shown = highest.changed() => {}
                changed = state.changed() => if changed.is_err() { stop.cancelled().await },
                () = pause => {}
            }
        }
    }

    fn judge(&self, shown: u64, stored: u64, condition: &Condition, metrics: &CaMetrics) {
        let missing = (shown > stored).then_some(shown);
        let before = self.missing.send_replace(missing);
        metrics.rotation.restored.set(i64::from(missing.is_some()));
        if missing.is_none() {
            condition.ready("nobody has shown anything newer");
            return;
        }
        let text = format!(
            "the storage came from a backup: an agent has trust bundle {shown} of this CA, the storage only {stored}. Agents \
             keep what they have; read docs/backup.md, then run `signet-ca authority resume`"
        );
        if before.is_none() {
            tracing::warn!(
                bundle.shown = shown,
                bundle.stored = stored,
                "the storage is older than what was given out from it: it came from a backup; see docs/backup.md, and \
                 run `signet-ca authority resume`"
            );
        }
        condition.degraded(text);
    }
}

/// Proofs that are what they say, for tests.
#[cfg(test)]
pub(crate) struct TestProofs;

#[cfg(test)]
impl SequenceProofs for TestProofs {
    fn prove(&self, sequence: u64) -> Option<String> {
        Some(format!("proof-{sequence}"))
    }
    fn verify(&self, proof: &str) -> Option<u64> {
        proof.strip_prefix("proof-")?.parse().ok()
    }
}

#[cfg(test)]
pub(crate) fn test_proofs() -> Arc<dyn SequenceProofs> {
    Arc::new(TestProofs)
}

#[cfg(test)]
pub(crate) fn test_age() -> Arc<StorageAge> {
    Arc::new(StorageAge::new(test_proofs()))
}

#[cfg(test)]
#[path = "storage_age_tests.rs"]
mod tests;
