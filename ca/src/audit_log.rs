//! The way into the record: requests queue their events, one writer commits many at once, and only a durable record
//! opens a certificate.

use std::sync::Arc;
use std::time::Instant;

use prometheus::{Histogram, IntCounter};
use signet_core::audit::AuditEvent;
use signet_core::certificate::CertificateChain;
use signet_core::record_before_release::{Kept, Recorded, Unreleased};
use signet_core::seams::store::{AuditStore, NewRecord};
use signet_runtime::metrics::{MetricError, Metrics};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::issue_error::RecordError;
use crate::reply_delivery::Ticket;

/// Events that may wait for the writer; more than this and requests are told to retry.
const QUEUE: usize = 4096;

/// Events per commit at most, which bounds the size of one transaction.
const BATCH: usize = 512;

/// How often tasks that are ready are let past before a commit. More rounds make commits fewer and larger, at less CPU
/// per record; too many leave the processors idle while all requests wait for one commit.
const GATHER_ROUNDS: usize = 3;

struct QueuedEvent {
    event: AuditEvent,
    /// What is kept in the same commit.
    kept: Option<Kept>,
    /// Of the reply that goes out with it. It is here, so that whoever gives up waiting is told of after the record is kept.
    ticket: Option<Ticket>,
    reply: oneshot::Sender<Recording>,
}

type Recording = Result<(Recorded, Option<Ticket>), RecordError>;

/// The sending side; clones share one writer.
#[derive(Clone)]
pub struct AuditLog {
    queue: mpsc::Sender<QueuedEvent>,
}

/// The writing side, run as one task.
pub struct AuditWriter {
    queue: mpsc::Receiver<QueuedEvent>,
    store: Arc<dyn AuditStore>,
    metrics: AuditMetrics,
    /// Whether it was told that what follows the log could not be done, and not yet that it could.
    is_behind: bool,
}

/// What is measured of commits; clones share it.
#[derive(Clone)]
pub struct AuditMetrics {
    commit: Histogram,
    batch: Histogram,
    failures: IntCounter,
}

impl AuditMetrics {
    /// Registers everything.
    ///
    /// # Errors
    /// [`MetricError`] when a name is taken, which is a bug.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricError> {
        let batches = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
        Ok(Self {
            commit: metrics.seconds("signet_ca_audit_commit_duration_seconds", "Durable commits of records.")?,
            batch: metrics.histogram("signet_ca_audit_batch_records", "Records per commit.", &batches)?,
            failures: metrics.counter("signet_ca_audit_failures_total", "Commits of records that failed.")?,
        })
    }
}

/// A log in front of `store`.
#[must_use]
pub fn audit_log(store: Arc<dyn AuditStore>, metrics: AuditMetrics) -> (AuditLog, AuditWriter) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (AuditLog { queue: sender }, AuditWriter { queue: receiver, store, metrics, is_behind: false })
}

impl AuditLog {
    /// Returns once `event` is durable.
    ///
    /// # Errors
    /// [`RecordError`]; the event may or may not be on record then, and what it describes must not happen.
    pub async fn record(&self, event: AuditEvent) -> Result<Recorded, RecordError> {
        self.record_with(event, (None, None)).await.map(|(recorded, _)| recorded)
    }

    async fn record_with(&self, event: AuditEvent, (ticket, kept): (Option<Ticket>, Option<Kept>)) -> Recording {
        let (reply, answer) = oneshot::channel();
        if let Err(full) = self.queue.try_send(QueuedEvent { event, kept, ticket, reply }) {
            let (TrySendError::Full(entry) | TrySendError::Closed(entry)) = full;
            unrecorded(entry.ticket);
            return Err(RecordError::Queue);
        }
        answer.await.map_err(|_| RecordError::Queue)?
    }

    /// Hands out a certificate once `event`, which names its serial, is durable (invariant 2).
    ///
    /// # Errors
    /// [`RecordError`]; the certificate is dropped.
    pub async fn release(&self, event: AuditEvent, certificate: Unreleased) -> Result<CertificateChain, RecordError> {
        self.release_with(event, certificate, (None, None)).await.map(|(chain, _)| chain)
    }

    /// The same with the ticket of the reply that the certificate goes out with, or with what is kept of it.
    ///
    /// # Errors
    /// [`RecordError`]; the certificate is dropped.
    pub async fn release_with(
        &self,
        event: AuditEvent,
        certificate: Unreleased,
        with: (Option<Ticket>, Option<Kept>),
    ) -> Result<(CertificateChain, Option<Ticket>), RecordError> {
        let (recorded, ticket) = self.record_with(event, with).await?;
        Ok((certificate.release(recorded)?, ticket))
    }
}

fn unrecorded(ticket: Option<Ticket>) {
    if let Some(ticket) = ticket {
        ticket.unrecorded();
    }
}

impl AuditWriter {
    /// Commits batches until every sender is gone. While one commit runs, the next batch gathers, so the cost of a
    /// commit is shared by whatever load there is.
    ///
    /// `_stop` is not looked at: requests in flight at shutdown still need their records. The senders end first.
    ///
    /// # Errors
    /// None: a failing store fails the requests, not the process.
    pub async fn run(mut self, _stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        let mut batch = Vec::with_capacity(BATCH);
        while self.queue.recv_many(&mut batch, BATCH).await > 0 {
            self.gather(&mut batch).await;
            self.commit(&mut batch).await;
            self.settle().await;
        }
        Ok(())
    }

    /// Lets the store do what appends leave for later, while those who waited go on: one piece, and more as long as nobody
    /// comes.
    async fn settle(&mut self) {
        loop {
            match self.store.settle().await {
                Ok(more) => {
                    if std::mem::take(&mut self.is_behind) {
                        tracing::info!("what follows the audit log is done again");
                    }
                    if !more || !self.queue.is_empty() {
                        return;
                    }
                }
                // It is tried after each commit; once is enough to be told.
                Err(error) => {
                    if !std::mem::replace(&mut self.is_behind, true) {
                        tracing::warn!(%error, "what follows the audit log is left for later");
                    }
                    return;
                }
            }
        }
    }

    /// Lets the tasks that could run do so first: under load a commit is then shared by more of them, and without load
    /// nothing waits.
    async fn gather(&mut self, batch: &mut Vec<QueuedEvent>) {
        for _ in 0..GATHER_ROUNDS {
            if batch.len() >= BATCH {
                return;
            }
            tokio::task::yield_now().await;
            while batch.len() < BATCH {
                let Ok(entry) = self.queue.try_recv() else { break };
                batch.push(entry);
            }
        }
    }

    async fn commit(&self, batch: &mut Vec<QueuedEvent>) {
        let split = batch.drain(..).map(|entry| ((entry.event, entry.kept), (entry.reply, entry.ticket)));
        let (records, replies): (Vec<NewRecord>, Vec<_>) = split.unzip();
        self.metrics.batch.observe(records.len() as f64);
        let started = Instant::now();
        let keeps = records.iter().any(|(_, kept)| kept.is_some());
        let result = match keeps {
            true => self.store.append_keeping(records).await,
            false => self.store.append(records.into_iter().map(|(event, _)| event).collect()).await,
        };
        self.metrics.commit.observe(started.elapsed().as_secs_f64());
        // A receiver that is gone is a request that was given up; its event is on record all the same.
        match result {
            Ok(outcomes) => {
                for ((reply, ticket), outcome) in replies.into_iter().zip(outcomes) {
                    let answer = match outcome {
                        Ok(recorded) => Ok((recorded, ticket)),
                        Err(error) => {
                            unrecorded(ticket);
                            Err(RecordError::from(error))
                        }
                    };
                    drop(reply.send(answer));
                }
            }
            Err(error) => {
                self.metrics.failures.inc();
                tracing::error!(%error, events = replies.len(), "audit records could not be committed; nothing is released");
                // They may be on record all the same; their tickets say that nothing of them is handed over.
                for (reply, _ticket) in replies {
                    drop(reply.send(Err(RecordError::Store(error.clone()))));
                }
            }
        }
    }
}
