//! Events of the record from a position on, oldest first, batch by batch: as a CA streams them, or as the storage has them.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use signet_core::audit::AuditQuery;
use signet_core::seams::record_tree::RecordTree;
use signet_proto::admin::v1alpha1::EventBatch;
use signet_runtime::command;
use time::OffsetDateTime;
use tonic::Streaming;

use super::event_view::{event_json, unread_json};
use super::questions::{Ends, Filters, Paged};
use super::record_remote::unanswered;
use super::record_source::{Source, SourceArgs};
use super::{Failure, PROGRAM};
use crate::grpc::record::event::{Told, told};
use crate::grpc::record::filter::asked;

/// Events of the storage that are read at once.
const PIECE: u32 = 256;

/// How long a batch of what is on record already may take.
const BATCH: Duration = Duration::from_secs(60);

/// Which events.
#[derive(Debug, Args)]
pub(super) struct WhichArgs {
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    ends: Ends,
}

impl WhichArgs {
    /// The query, between these times if they are given, with all mistakes at once.
    pub(super) fn query(
        &self,
        (since, until): (Option<&str>, Option<&str>),
        now: OffsetDateTime,
    ) -> Result<AuditQuery, Failure> {
        let query = self.filters.query(&self.ends, &Paged::between(since, until), now);
        query.map_err(|wrong| Failure::Usage(command::each_named(PROGRAM, wrong.iter().map(String::as_str))))
    }

    /// Adds what only whoever is asked knows.
    pub(super) async fn complete(&self, query: &mut AuditQuery, asked: (&SourceArgs, &Source)) -> Result<(), Failure> {
        self.filters.name_authorities(query, asked).await
    }
}

/// The batches.
#[expect(clippy::large_enum_variant, reason = "one is made in the life of the process")]
pub(super) enum Batches {
    /// Of a CA.
    Ca { stream: Streaming<EventBatch>, next: u64, follows: bool },
    /// Of the storage, up to where it ended at first.
    Storage { tree: Arc<dyn RecordTree>, filter: AuditQuery, next: u64, end: u64 },
}

impl Batches {
    /// Those of `query` from a position on; with `follow` what comes later, too, which a CA alone tells.
    pub(super) async fn open(source: &Source, query: AuditQuery, next: u64, follow: bool) -> Result<Self, Failure> {
        if let Some(remote) = &source.remote {
            let stream = remote.stream(&query, next, follow).await?;
            return Ok(Self::Ca { stream, next, follows: follow });
        }
        let tree = Arc::clone(&source.tree);
        let end = tree.events().await.map_err(Failure::failed)?;
        Ok(Self::Storage { tree, filter: query, next, end })
    }

    /// The position behind the last batch.
    pub(super) fn cursor(&self) -> u64 {
        let (Self::Ca { next, .. } | Self::Storage { next, .. }) = self;
        *next
    }

    /// The next batch; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Told>>, Failure> {
        match self {
            Self::Ca { stream, next, follows } => {
                let message = match *follows {
                    true => stream.message().await,
                    false => {
                        let late = || Failure::Failed("the CA has told nothing for a minute".to_owned());
                        tokio::time::timeout(BATCH, stream.message()).await.map_err(|_| late())?
                    }
                };
                let Some(batch) = message.map_err(|status| unanswered(&status))? else { return Ok(None) };
                *next = batch.next.max(*next);
                Ok(Some(batch.events.into_iter().map(told).collect()))
            }
            Self::Storage { tree, filter, next, end } => {
                let left = u32::try_from(end.saturating_sub(*next)).unwrap_or(PIECE).min(PIECE);
                if left == 0 {
                    return Ok(None);
                }
                let leaves = tree.leaves(*next, left).await.map_err(Failure::failed)?;
                let Some(last) = leaves.last().map(|leaf| leaf.sequence) else { return Ok(None) };
                *next = last.saturating_add(1);
                let within = leaves.iter().filter(|leaf| leaf.sequence < *end);
                Ok(Some(within.filter_map(|leaf| asked(filter, leaf)).map(told).collect()))
            }
        }
    }
}

/// What a stream has told, for programs.
pub(super) fn told_json(told: &Told) -> Result<Value, serde_json::Error> {
    match told {
        Told::Event(event) => event_json(event),
        Told::Unread(event) => unread_json(event),
        Told::Bare { sequence, problem } => Ok(json!({
            "sequence": sequence, "at": null, "kind": null, "outcome": null, "problem": problem,
        })),
    }
}
