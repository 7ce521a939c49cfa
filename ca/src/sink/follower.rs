//! Reads events as they come, and has them written.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use serde_json::{Value, json};
use signet_core::audit::{AuditEvent, StoredEvent, leaf_hash};
use signet_core::seams::record_tree::{RecordTree, StoredLeaf};
use signet_core::seams::store::StoreError;
use signet_runtime::files;
use signet_runtime::metrics::{MetricError, Metrics};
use signet_runtime::output::error_chain;
use signet_runtime::readiness::Condition;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::file::{Position, SinkError, append, find};
use crate::describe::event_json;

/// How often it is looked for new events.
const PAUSE: Duration = Duration::from_secs(1);

/// Events that are written at once, at most.
const PIECE: u32 = 512;

/// What is measured.
#[derive(Clone)]
pub struct SinkMetrics {
    written: IntGauge,
    behind: IntGauge,
}

impl SinkMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn new(metrics: &Metrics) -> Result<Self, MetricError> {
        Ok(Self {
            written: metrics.gauge("signet_ca_record_sink_events", "Events that are in audit.sink_file.")?,
            behind: metrics.gauge(
                "signet_ca_record_sink_behind_events",
                "Events on record that are not in audit.sink_file yet.",
            )?,
        })
    }
}

/// Why nothing more is written.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// Storage.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file.
    #[error("audit.sink_file")]
    Sink(#[from] SinkError),
    /// The storage is another one, or was set back.
    #[error(
        "audit.sink_file: the {written} events in it are not the first of the {on_record} on record: the storage was set back, \
         or is another one; move the file and its .position away"
    )]
    SetBack {
        /// Events in the file.
        written: u64,
        /// Events on record.
        on_record: u64,
    },
}

/// Who follows.
pub struct Follower {
    record: Arc<dyn RecordTree>,
    path: PathBuf,
    metrics: SinkMetrics,
    /// How far it is, unless that is to be found out.
    at: Option<Position>,
    /// How many events are written.
    written: watch::Sender<u64>,
}

impl Follower {
    /// Follows `record` into the file at `path`.
    #[must_use]
    pub fn new(record: Arc<dyn RecordTree>, path: PathBuf, metrics: SinkMetrics) -> Self {
        Self { record, path, metrics, at: None, written: watch::Sender::default() }
    }

    /// How many events are written; none as long as that is not known.
    #[must_use]
    pub fn written(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    /// Follows until `stop`. Degraded at most: certificates are issued and on record all the same.
    ///
    /// # Errors
    /// None.
    pub async fn run(mut self, condition: Condition, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        let mut told = String::new();
        condition.ready("the record is being written");
        loop {
            let Some(step) = stop.run_until_cancelled(self.step()).await else { return Ok(()) };
            match step {
                Ok(true) => continue,
                Ok(false) => {
                    condition.ready("every event on record is written");
                    told.clear();
                }
                Err(error) => {
                    self.at = None;
                    let text = error_chain(&error);
                    condition.degraded(text.as_str());
                    if text != told {
                        tracing::warn!(error = %text, "the record is not written to its file");
                        told = text;
                    }
                }
            }
            if stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Writes some of what is not written yet; `false` when nothing is left.
    ///
    /// # Errors
    /// [`FollowError`]: then how far it came is to be found out.
    pub async fn step(&mut self) -> Result<bool, FollowError> {
        let at = match self.at {
            Some(at) => at,
            None => files::in_time(&self.path, find).await?,
        };
        let on_record = self.record.events().await?;
        if on_record < at.next {
            return Err(FollowError::SetBack { written: at.next, on_record });
        }
        if let (Some(last), Some(before)) = (at.last, at.next.checked_sub(1)) {
            let leaf = self.record.leaves(before, 1).await?;
            if leaf.first().is_none_or(|leaf| leaf.sequence != before || leaf.hash != last) {
                return Err(FollowError::SetBack { written: at.next, on_record });
            }
        }
        let leaves = if on_record > at.next { self.record.leaves(at.next, PIECE).await? } else { Vec::new() };
        let (mut lines, mut events) = (Vec::new(), 0);
        for (expected, leaf) in (at.next..).zip(&leaves) {
            // What is missing from the log is told by `audit verify`; here nothing goes on, rather than leave it out unseen.
            if leaf.sequence != expected {
                return Err(StoreError::Damaged(format!("event {expected} is missing from the record")).into());
            }
            lines.extend_from_slice(line(leaf).to_string().as_bytes());
            lines.push(b'\n');
            events += 1;
        }
        let last = leaves.last().and_then(|leaf| leaf.hash.as_slice().try_into().ok());
        let at = if events == 0 {
            at
        } else {
            files::in_time(&self.path, move |path| append(path, at, &lines, events, last)).await?
        };
        self.at = Some(at);
        self.written.send_replace(at.next);
        self.metrics.written.set(i64::try_from(at.next).unwrap_or(i64::MAX));
        self.metrics.behind.set(i64::try_from(on_record.saturating_sub(at.next)).unwrap_or(i64::MAX));
        Ok(at.next < on_record)
    }
}

/// An event as a line: all that `audit list` shows of it; of one without words, and one that cannot be read, that it is so.
fn line(leaf: &StoredLeaf) -> Value {
    let sequence = leaf.sequence;
    let Some(body) = &leaf.body else { return json!({ "sequence": sequence, "problem": "forgotten by retention" }) };
    if leaf_hash(body).as_slice() != leaf.hash {
        return json!({ "sequence": sequence, "problem": "damaged" });
    }
    let shown = AuditEvent::decode(body)
        .ok()
        .and_then(|(event, unknown_fields)| event_json::event(&StoredEvent { sequence, event, unknown_fields }).ok());
    shown.unwrap_or_else(|| json!({ "sequence": sequence, "problem": "written by a newer version" }))
}
