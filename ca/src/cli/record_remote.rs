//! The record of a running CA, as the storage behind it would give it: so that everything that is made of a record, above all
//! its verification, is made here and not by the CA.

use std::time::Duration;

use async_trait::async_trait;
use signet_core::audit::{AuditEvent, AuditQuery, EventKind, Outcome, Page, StoredEvent, UnreadEvent, Unreadable};
use signet_core::record_before_release::Recorded;
use signet_core::seams::record_tree::{KeptCheckpoint, KeptNote, MAX_LEAVES, NoteChange, RecordTree, StoredLeaf};
use signet_core::seams::store::{AppendError, AuditStore, NewRecord, StoreError};
use signet_core::transparency::{Edge, FullTile, Hash, Proof, Tile};
use signet_proto::admin::v1alpha1 as wire;
use signet_proto::admin::v1alpha1::record_client::RecordClient;
use tonic::{Code, Status, Streaming};

use super::Failure;
use super::admin_client::{ANSWER, AdminArgs, explanation, failure, within};
use super::record_source::Revoked;
use super::tls_way::Calls;
use crate::grpc::record::counts::{By, Piece, told as told_counts};
use crate::grpc::record::event::{Told, told};
use crate::grpc::record::filter::filter;

/// How long the CA may take for a page.
const PAGE: Duration = Duration::from_secs(30);

/// Leaves that are asked for at once.
const LEAVES: u32 = 1024;

/// The record of one CA.
#[derive(Debug)]
pub(super) struct Remote {
    service: RecordClient<Calls>,
}

impl Remote {
    /// Connects.
    pub(super) async fn connect(admin: &AdminArgs) -> Result<Self, Failure> {
        Ok(Self { service: RecordClient::new(admin.calls().await?) })
    }

    /// The name of the log.
    pub(super) async fn origin(&self) -> Result<String, Failure> {
        let answer = within(ANSWER, self.service.clone().get_checkpoint(wire::GetCheckpointRequest {})).await;
        answer.map(|kept| kept.origin).map_err(|status| unanswered(&status))
    }

    /// Events from a position on.
    pub(super) async fn stream(
        &self,
        query: &AuditQuery,
        from: u64,
        follow: bool,
    ) -> Result<Streaming<wire::EventBatch>, Failure> {
        let request = wire::StreamEventsRequest { filter: Some(filter(query)), from, follow };
        within(ANSWER, self.service.clone().stream_events(request)).await.map_err(|status| unanswered(&status))
    }

    /// A piece of counts.
    pub(super) async fn counts(&self, query: &AuditQuery, by: By) -> Result<Piece, Failure> {
        let request = wire::CountEventsRequest {
            filter: Some(filter(query)),
            by_identity: by.identity,
            by_reason: by.reason,
            by_hour: by.hour,
            before: query.before.unwrap_or_default(),
        };
        let answer = within(PAGE, self.service.clone().count_events(request)).await;
        answer.map(told_counts).map_err(|status| unanswered(&status))
    }

    /// The certificates that are revoked now.
    pub(super) async fn revoked(&self) -> Result<Vec<Revoked>, Failure> {
        let answer = within(PAGE, self.service.clone().list_revoked(wire::ListRevokedRequest {})).await;
        let all = answer.map_err(|status| unanswered(&status))?.certificates.into_iter();
        let revoked = |one: wire::RevokedCertificate| {
            let wire::RevokedCertificate { serial, issuer, at, reason, awaited } = one;
            Revoked { serial, issuer, at, reason, awaited }
        };
        Ok(all.map(revoked).collect())
    }

    /// What proves that an event is on record.
    pub(super) async fn proof(&self, sequence: u64) -> Result<Proof, Failure> {
        let answer = within(PAGE, self.service.clone().get_proof(wire::GetProofRequest { sequence })).await;
        let proof = answer.map_err(|status| unanswered(&status))?.proof;
        Proof::parse(proof.as_bytes()).map_err(Failure::failed)
    }

    async fn kept(&self) -> Result<wire::GetCheckpointResponse, StoreError> {
        within(PAGE, self.service.clone().get_checkpoint(wire::GetCheckpointRequest {})).await.map_err(elsewhere)
    }
}

/// What a call that was not answered means to the person who made it.
pub(super) fn unanswered(status: &Status) -> Failure {
    if status.code() == Code::Unimplemented {
        return Failure::Failed(
            "the CA is of a version that does not tell its record; --storage reads the storage itself".to_owned(),
        );
    }
    failure(status)
}

fn elsewhere(status: Status) -> StoreError {
    StoreError::Elsewhere(match unanswered(&status) {
        Failure::Failed(text) | Failure::Usage(text) => text,
        _ => explanation(&status),
    })
}

fn only_read() -> StoreError {
    StoreError::Elsewhere("a CA's record is only read from here".to_owned())
}

fn damaged(what: &str) -> StoreError {
    StoreError::Elsewhere(format!("the CA has answered with {what}"))
}

#[async_trait]
impl AuditStore for Remote {
    async fn append(&self, _: Vec<AuditEvent>) -> Result<Vec<Result<Recorded, AppendError>>, StoreError> {
        Err(only_read())
    }

    async fn append_keeping(&self, _: Vec<NewRecord>) -> Result<Vec<Result<Recorded, AppendError>>, StoreError> {
        Err(only_read())
    }

    async fn query(&self, query: &AuditQuery) -> Result<Page<StoredEvent>, StoreError> {
        let mut page = Page { items: Vec::new(), unread: Vec::new(), next: query.before };
        let mut left = query.limit;
        loop {
            let request = wire::ListEventsRequest {
                filter: Some(filter(query)),
                before: page.next.unwrap_or_default(),
                limit: left,
            };
            let answer = within(PAGE, self.service.clone().list_events(request)).await.map_err(elsewhere)?;
            left = left.saturating_sub(u32::try_from(answer.events.len()).unwrap_or(u32::MAX));
            let is_stuck = answer.events.is_empty();
            for event in answer.events {
                let at_micros = event.at_micros;
                match told(event) {
                    Told::Event(event) => page.items.push(event),
                    Told::Unread(event) => page.unread.push(event),
                    // It says something of it that nobody here knows.
                    Told::Bare { sequence, .. } => page.unread.push(UnreadEvent {
                        sequence,
                        at_micros,
                        kind: EventKind::Unknown(u64::MAX),
                        outcome: Outcome::Unknown(u64::MAX),
                        problem: Unreadable::Newer,
                    }),
                }
            }
            page.next = Some(answer.next).filter(|next| *next > 0);
            // A page may be short because of its bytes.
            if page.next.is_none() || left == 0 || is_stuck {
                return Ok(page);
            }
        }
    }

    async fn probe(&self) -> Result<(), StoreError> {
        Err(only_read())
    }
}

#[async_trait]
impl RecordTree for Remote {
    async fn events(&self) -> Result<u64, StoreError> {
        Ok(self.kept().await?.events)
    }

    async fn leaf_hashes(&self, from: u64, limit: u32) -> Result<Vec<Hash>, StoreError> {
        let leaves = self.leaves(from, limit).await?;
        let hash = |leaf: StoredLeaf| leaf.hash.try_into().map_err(|_| damaged("a hash that is none"));
        leaves.into_iter().map(hash).collect()
    }

    async fn leaves(&self, from: u64, limit: u32) -> Result<Vec<StoredLeaf>, StoreError> {
        let (mut next, mut left) = (from, limit.min(MAX_LEAVES));
        let mut all = Vec::new();
        while left > 0 {
            let request = wire::ListLeavesRequest { from: next, limit: left.min(LEAVES) };
            let answer = within(PAGE, self.service.clone().list_leaves(request)).await.map_err(elsewhere)?;
            let Some(last) = answer.leaves.last().map(|leaf| leaf.sequence) else { break };
            if answer.leaves.iter().any(|leaf| leaf.sequence < next) || answer.leaves.len() > left as usize {
                return Err(damaged("other events than it was asked for"));
            }
            next = last.saturating_add(1);
            left = left.saturating_sub(u32::try_from(answer.leaves.len()).unwrap_or(u32::MAX));
            let leaf = |leaf: wire::Leaf| StoredLeaf { sequence: leaf.sequence, hash: leaf.hash, body: leaf.body };
            all.extend(answer.leaves.into_iter().map(leaf));
        }
        Ok(all)
    }

    async fn tile(&self, tile: Tile) -> Result<Option<Vec<Hash>>, StoreError> {
        let request = wire::GetTileRequest { level: u32::from(tile.level), index: tile.index };
        let answer = within(PAGE, self.service.clone().get_tile(request)).await.map_err(elsewhere)?;
        let hashes = |bytes: Vec<u8>| match bytes.as_chunks::<32>() {
            (hashes, []) if hashes.len() == 256 => Ok(hashes.to_vec()),
            _ => Err(damaged("a tile that is none")),
        };
        answer.hashes.map(hashes).transpose()
    }

    async fn checkpoint(&self) -> Result<Option<KeptCheckpoint>, StoreError> {
        let kept = self.kept().await?;
        if kept.note.is_empty() {
            return Ok(None);
        }
        let edge = Edge::read(kept.size, &kept.edge).ok_or_else(|| damaged("a tree that does not fit its size"))?;
        Ok(Some(KeptCheckpoint { note: kept.note, keys: kept.keys, edge }))
    }

    async fn advance(&self, _: Option<&str>, _: &KeptCheckpoint, _: &[FullTile]) -> Result<bool, StoreError> {
        Err(only_read())
    }

    async fn notes(&self) -> Result<Vec<KeptNote>, StoreError> {
        let kept = self.kept().await?;
        Ok(kept.notes.into_iter().map(|kept| KeptNote { name: kept.name, note: kept.note }).collect())
    }

    async fn keep_notes(&self, _: &[NoteChange]) -> Result<bool, StoreError> {
        Err(only_read())
    }
}
