//! The auditors' service: questions to the record, the same on the Unix socket and over TLS. Nothing here changes anything.

pub(crate) mod counts;
pub(crate) mod event;
pub(crate) mod filter;
mod sessions;
mod stream;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use signet_core::audit::AuditQuery;
use signet_core::clock::SharedClock;
use signet_core::seams::record_tree::{KeptCheckpoint, RecordTree};
use signet_core::seams::store::{AuditStore, AuthorityJournal, StoreError};
use signet_core::transparency::Tile;
use signet_proto::admin::v1alpha1 as wire;
use signet_proto::admin::v1alpha1::record_server::{Record, RecordServer};
use signet_runtime::output::error_chain;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_prost::prost::Message as _;

use self::counts::By;
use self::sessions::{Reading, Sessions};
pub use self::stream::OpenStreams;
use self::stream::Reader;
use super::admin::access::{Access, Admission, Calls, Guarded, admitted};
use crate::audit_log::AuditLog;
use crate::limits::intake::{CallLimits, Intake};
use crate::operations::Operator;
use crate::record_tree::{ProveError, prove};

/// How long storage may take for an answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Largest request: every field is short text.
const MESSAGE: usize = 16 * 1024;

/// Events as they are stored on one page.
const LEAVES: u32 = 1024;

/// Bytes after which a page ends, its last event included; clients read 4 MiB.
const PAGE_BYTES: usize = 2 << 20;

/// The calls of the service, as the wire names them. All of them read.
pub(super) const CALLS: [&str; 9] = [
    "ListEvents",
    "GetEvent",
    "GetProof",
    "GetCheckpoint",
    "GetTile",
    "ListLeaves",
    "ListRevoked",
    "CountEvents",
    "StreamEvents",
];

/// What of storage answers are made of.
pub struct Kept {
    /// The events.
    pub events: Arc<dyn AuditStore>,
    /// The tree over them.
    pub tree: Arc<dyn RecordTree>,
    /// What is revoked.
    pub journal: Arc<dyn AuthorityJournal>,
}

/// Answers auditors, from storage.
pub struct RecordService {
    events: Arc<dyn AuditStore>,
    tree: Arc<dyn RecordTree>,
    journal: Arc<dyn AuthorityJournal>,
    origin: String,
    sessions: Sessions,
    streams: OpenStreams,
    stop: CancellationToken,
}

/// The service behind its guard, ready for a router; clones serve further edges.
pub type GuardedRecord = Guarded<Intake<RecordServer<RecordService>>>;

impl RecordService {
    /// Answers from this storage, about the log of this name. Streams end with `stop`.
    #[must_use]
    pub fn new(
        Kept { events, tree, journal }: Kept,
        origin: String,
        audit: AuditLog,
        clock: SharedClock,
        stop: CancellationToken,
    ) -> Self {
        let (sessions, streams) = (Sessions::new(audit, clock), OpenStreams::default());
        Self { events, tree, journal, origin, sessions, streams, stop }
    }

    /// The same, with its streams counted there.
    #[must_use]
    pub fn counted_in(self, streams: OpenStreams) -> Self {
        Self { streams, ..self }
    }

    /// Puts the guard before the service. There is no other way in: the service answers nobody whom no guard has seen.
    #[must_use]
    pub fn guarded(self, limits: CallLimits, access: Arc<Access>) -> GuardedRecord {
        let server = RecordServer::new(self).max_decoding_message_size(MESSAGE);
        Guarded::new(Intake::new(server, limits), access, Calls { all: &CALLS, reads: &CALLS })
    }

    /// The caller's message, once it is on record that it reads.
    async fn read<T>(&self, request: Request<T>, reading: Reading) -> Result<(Operator, Admission, T), Status> {
        let (operator, admission, message) = Self::open(request)?;
        if admission.is_over_tls() {
            self.sessions.note(&operator, reading).await;
        }
        Ok((operator, admission, message))
    }

    /// The caller's message.
    fn open<T>(request: Request<T>) -> Result<(Operator, Admission, T), Status> {
        let admission = request.extensions().get::<Admission>().cloned();
        let (operator, message) = admitted(request)?;
        let admission = admission.ok_or_else(|| Status::permission_denied("no guard has let this call in"))?;
        Ok((operator, admission, message))
    }

    async fn page(&self, query: &AuditQuery) -> Result<wire::ListEventsResponse, Status> {
        let page = within(self.events.query(query)).await?;
        let mut next = page.next;
        let mut events = event::entries(page);
        let mut bytes = 0_usize;
        let fit = events.iter().position(|event| {
            bytes = bytes.saturating_add(event.encoded_len());
            bytes >= PAGE_BYTES
        });
        if let Some(last) = fit.filter(|last| last.saturating_add(1) < events.len()) {
            events.truncate(last.saturating_add(1));
            next = events.last().map(|event| event.sequence);
        }
        Ok(wire::ListEventsResponse { events, next: next.unwrap_or_default() })
    }

    async fn checkpoint(&self) -> Result<Option<KeptCheckpoint>, Status> {
        within(self.tree.checkpoint()).await
    }
}

/// An answer of storage, in time.
async fn within<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, Status> {
    let late = || Status::unavailable("storage did not answer in time");
    let answer = tokio::time::timeout(DEADLINE, answer).await.map_err(|_| late())?;
    answer.map_err(|error| Status::unavailable(error_chain(&error)))
}

fn unproven(error: &ProveError) -> Status {
    let text = error_chain(error);
    match error {
        ProveError::NotCovered { .. } | ProveError::Unsigned | ProveError::OfAnother(_) => {
            Status::failed_precondition(text)
        }
        ProveError::Gone(_) => Status::not_found(text),
        ProveError::Store(_) | ProveError::Note(_) | ProveError::Checkpoint(_) => Status::unavailable(text),
    }
}

#[tonic::async_trait]
impl Record for RecordService {
    async fn list_events(
        &self,
        request: Request<wire::ListEventsRequest>,
    ) -> Result<Response<wire::ListEventsResponse>, Status> {
        let (_, _, message) = self.read(request, Reading::List).await?;
        let query = filter::query(message.filter.as_ref(), message.before, message.limit)?;
        self.page(&query).await.map(Response::new)
    }

    async fn get_event(&self, request: Request<wire::GetEventRequest>) -> Result<Response<wire::Event>, Status> {
        let (_, _, message) = self.read(request, Reading::List).await?;
        let sequence = message.sequence;
        let leaves = within(self.tree.leaves(sequence, 1)).await?;
        let leaf = leaves.into_iter().find(|leaf| leaf.sequence == sequence);
        let leaf = leaf.ok_or_else(|| Status::not_found(format!("no event {sequence} is on record")))?;
        let event = event::read(&leaf).map_or_else(|problem| event::bare(sequence, problem), event::of_event);
        Ok(Response::new(event))
    }

    async fn get_proof(
        &self,
        request: Request<wire::GetProofRequest>,
    ) -> Result<Response<wire::GetProofResponse>, Status> {
        let (_, _, message) = self.read(request, Reading::Prove).await?;
        let proof = tokio::time::timeout(DEADLINE, prove(&*self.tree, message.sequence)).await;
        let proof = proof.map_err(|_| Status::unavailable("storage did not answer in time"))?;
        let proof = proof.map_err(|error| unproven(&error))?.to_string();
        Ok(Response::new(wire::GetProofResponse { proof }))
    }

    async fn get_checkpoint(
        &self,
        request: Request<wire::GetCheckpointRequest>,
    ) -> Result<Response<wire::GetCheckpointResponse>, Status> {
        // Not on record, like tiles: they hold no event, and everybody may read them on the port of metrics.
        let (_, _, wire::GetCheckpointRequest {}) = Self::open(request)?;
        let kept = self.checkpoint().await?;
        let events = within(self.tree.events()).await?;
        let (note, keys, edge) = kept.map(|kept| (kept.note, kept.keys, kept.edge)).unwrap_or_default();
        let (size, edge) = (edge.size(), edge.bytes());
        let origin = self.origin.clone();
        let notes = within(self.tree.notes()).await?.into_iter();
        let notes = notes.map(|kept| wire::KeptNote { name: kept.name, note: kept.note }).collect();
        Ok(Response::new(wire::GetCheckpointResponse { note, keys, size, edge, events, origin, notes }))
    }

    async fn get_tile(
        &self,
        request: Request<wire::GetTileRequest>,
    ) -> Result<Response<wire::GetTileResponse>, Status> {
        let (_, _, message) = Self::open(request)?;
        let level = u8::try_from(message.level).map_err(|_| Status::invalid_argument("level: a tree has fewer"))?;
        let hashes = within(self.tree.tile(Tile { level, index: message.index })).await?;
        let hashes = hashes.map(|hashes| hashes.as_flattened().to_vec());
        Ok(Response::new(wire::GetTileResponse { hashes }))
    }

    async fn list_leaves(
        &self,
        request: Request<wire::ListLeavesRequest>,
    ) -> Result<Response<wire::ListLeavesResponse>, Status> {
        let (_, _, message) = self.read(request, Reading::Verify).await?;
        if !(1..=LEAVES).contains(&message.limit) {
            return Err(Status::invalid_argument(format!("limit: 1 to {LEAVES}, not {}", message.limit)));
        }
        let (mut leaves, mut bytes) = (Vec::new(), 0_usize);
        for leaf in within(self.tree.leaves(message.from, message.limit)).await? {
            let leaf = wire::Leaf { sequence: leaf.sequence, hash: leaf.hash, body: leaf.body };
            bytes = bytes.saturating_add(leaf.encoded_len());
            leaves.push(leaf);
            if bytes >= PAGE_BYTES {
                break;
            }
        }
        Ok(Response::new(wire::ListLeavesResponse { leaves }))
    }

    async fn list_revoked(
        &self,
        request: Request<wire::ListRevokedRequest>,
    ) -> Result<Response<wire::ListRevokedResponse>, Status> {
        let (_, _, wire::ListRevokedRequest {}) = self.read(request, Reading::List).await?;
        let journal = within(self.journal.load()).await?;
        let revocations = journal.map(|(_, journal)| journal.revocations).unwrap_or_default();
        let certificates = revocations.entries.iter().map(|entry| wire::RevokedCertificate {
            serial: entry.serial.clone(),
            issuer: entry.issuer.to_string(),
            at: entry.at,
            reason: entry.reason.as_str().to_owned(),
            awaited: revocations.awaits(entry),
        });
        Ok(Response::new(wire::ListRevokedResponse { certificates: certificates.collect() }))
    }

    async fn count_events(
        &self,
        request: Request<wire::CountEventsRequest>,
    ) -> Result<Response<wire::CountEventsResponse>, Status> {
        let (_, _, message) = self.read(request, Reading::Stats).await?;
        let query = filter::query(message.filter.as_ref(), message.before, 1)?;
        if query.since.is_none() {
            return Err(Status::invalid_argument("since: say from when on is counted"));
        }
        let by = By { identity: message.by_identity, reason: message.by_reason, hour: message.by_hour };
        let piece = within(counts::piece(&*self.events, &query, by)).await?;
        Ok(Response::new(counts::message(piece)))
    }

    type StreamEventsStream = Pin<Box<dyn Stream<Item = Result<wire::EventBatch, Status>> + Send>>;

    async fn stream_events(
        &self,
        request: Request<wire::StreamEventsRequest>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        let reading = if request.get_ref().follow { Reading::Tail } else { Reading::Export };
        let (operator, admission, message) = self.read(request, reading).await?;
        let filter = filter::query(message.filter.as_ref(), 0, 1)?;
        let place = self.streams.enter(&operator.name)?;
        let end = match message.follow {
            true => None,
            false => Some(within(self.tree.events()).await?),
        };
        let (tree, stop) = (Arc::clone(&self.tree), self.stop.clone());
        let reader = Reader { tree, filter, next: message.from, end, admission, stop, _place: place };
        Ok(Response::new(Box::pin(stream::batches(reader))))
    }
}

#[cfg(test)]
#[path = "record/service_tests.rs"]
mod tests;
