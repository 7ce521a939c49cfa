//! Events from a position on, oldest first. A batch is read from storage when the client takes it, so that nothing piles up here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::Stream;
use signet_core::audit::AuditQuery;
use signet_core::seams::record_tree::RecordTree;
use signet_proto::admin::v1alpha1 as wire;
use signet_runtime::metrics::{MetricError, Metrics};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic_prost::prost::Message as _;

use super::filter::asked;
use super::within;
use crate::grpc::admin::access::Admission;

/// Events that are read at once.
const PIECE: u32 = 256;

/// Bytes after which a batch ends, its last event included.
const BATCH: usize = 1 << 20;

/// How often the end of the record is looked at by somebody who follows it.
const POLL: Duration = Duration::from_millis(500);

/// Streams that one caller may have open.
const PER_CALLER: usize = 4;

/// What a stream ends with when the CA does.
const STOPPING: &str = "the CA is stopping; go on at another replica, or when it is back, from the last cursor";

/// What a stream ends with when its certificate holds no longer.
const ENDED: &str = "the certificate that opened this stream has ended or is revoked, or its root is gone; open a new one with \
                     another, from the last cursor";

/// The open streams, by caller.
#[derive(Default, Clone, Debug)]
pub struct OpenStreams(Arc<Mutex<BTreeMap<String, usize>>>);

impl OpenStreams {
    /// None yet, counted in `metrics`.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn counted(metrics: &Metrics) -> Result<Self, MetricError> {
        let open = Self::default();
        let (read, help) = (open.clone(), "Streams of the record, tails and exports, that are open at this replica.");
        metrics.gauge_fn("signet_ca_record_streams_open", help, move || read.open().min(u32::MAX as usize) as f64)?;
        Ok(open)
    }

    fn open(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// Room for one more.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`.
    pub(super) fn enter(&self, caller: &str) -> Result<Place, Status> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(caller.to_owned()).or_default();
        if *count >= PER_CALLER {
            let text = format!(
                "{PER_CALLER} streams of yours are open at this replica, which is all that you may have; end one"
            );
            return Err(Status::resource_exhausted(text));
        }
        *count += 1;
        Ok(Place { caller: caller.to_owned(), open: self.clone() })
    }
}

/// The place of a stream, until it is dropped.
pub(super) struct Place {
    caller: String,
    open: OpenStreams,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.caller) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.caller);
            }
        }
    }
}

/// What a stream reads, and for whom.
pub(super) struct Reader {
    pub(super) tree: Arc<dyn RecordTree>,
    pub(super) filter: AuditQuery,
    /// The next position.
    pub(super) next: u64,
    /// The position to end before; without one it goes on and on.
    pub(super) end: Option<u64>,
    pub(super) admission: Admission,
    pub(super) stop: CancellationToken,
    pub(super) _place: Place,
}

/// The batches of a reader. A failure is the last one.
pub(super) fn batches(reader: Reader) -> impl Stream<Item = Result<wire::EventBatch, Status>> + Send {
    futures::stream::unfold(Some(reader), async |reader| {
        let mut reader = reader?;
        match reader.batch().await {
            Ok(Some(batch)) => Some((Ok(batch), Some(reader))),
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    })
}

impl Reader {
    async fn batch(&mut self) -> Result<Option<wire::EventBatch>, Status> {
        loop {
            if self.stop.is_cancelled() {
                return Err(Status::unavailable(STOPPING));
            }
            if !self.admission.holds() {
                return Err(Status::permission_denied(ENDED));
            }
            let left = self.end.map_or(u64::from(PIECE), |end| end.saturating_sub(self.next));
            if left == 0 {
                return Ok(None);
            }
            let limit = u32::try_from(left).unwrap_or(PIECE).min(PIECE);
            let leaves = within(self.tree.leaves(self.next, limit)).await?;
            if leaves.is_empty() {
                if self.end.is_some() {
                    return Ok(None);
                }
                tokio::select! {
                    () = self.stop.cancelled() => {}
                    () = tokio::time::sleep(POLL) => {}
                }
                continue;
            }
            let (mut events, mut bytes) = (Vec::new(), 0_usize);
            for leaf in leaves {
                if self.end.is_some_and(|end| leaf.sequence >= end) {
                    break;
                }
                self.next = leaf.sequence.saturating_add(1);
                let Some(event) = asked(&self.filter, &leaf) else { continue };
                bytes = bytes.saturating_add(event.encoded_len());
                events.push(event);
                if bytes >= BATCH {
                    break;
                }
            }
            return Ok(Some(wire::EventBatch { events, next: self.next }));
        }
    }
}
