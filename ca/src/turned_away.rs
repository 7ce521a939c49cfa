//! Who was turned away for want of room, counted by the limit that was met, and told once a minute: a limit that bites is
//! something an operator should know about, and a flood must not become a flood of log lines.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec};
use signet_runtime::metrics::{MetricError, Metrics};
use tokio_util::sync::CancellationToken;

/// How often what happened is told.
const PERIOD: Duration = Duration::from_secs(60);

/// The limits that turn somebody away. Each is described in `docs/hardening.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// No place left for a connection: the oldest that has proved nothing was closed, or the new one waits.
    Connections,
    /// Too many connections of a source, none of which has proved who it is: the oldest was closed.
    SourceConnections,
    /// Too many connections of one identity: the oldest was closed.
    IdentityConnections,
    /// Too many new connections of a source that prove nothing.
    Handshakes,
    /// A TLS handshake, or the PROXY header before it, that was not done in time.
    HandshakeTime,
    /// A connection that proved nothing and asked for nothing.
    Idle,
    /// A frame, or the headers of a request, that did not end in time.
    HeaderTime,
    /// More control frames than a client needs.
    ControlFrames,
    /// Too many calls at once, on one connection or of one source, whose messages have not arrived.
    OpenCalls,
    /// Too much memory for messages that have not arrived.
    Memory,
    /// A message that did not arrive in time.
    MessageTime,
    /// As many certificate requests are worked on as `limits.concurrent_requests` allows.
    ConcurrentRequests,
    /// As many other calls are worked on as there are places for.
    OtherCalls,
    /// Too many requests of a source that has not proved who it is (`limits.per_peer`).
    SourceRate,
    /// Too many certificates for one identity (`limits.per_identity`).
    IdentityRate,
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 15] = [
        Self::Connections,
        Self::SourceConnections,
        Self::IdentityConnections,
        Self::Handshakes,
        Self::HandshakeTime,
        Self::Idle,
        Self::HeaderTime,
        Self::ControlFrames,
        Self::OpenCalls,
        Self::Memory,
        Self::MessageTime,
        Self::ConcurrentRequests,
        Self::OtherCalls,
        Self::SourceRate,
        Self::IdentityRate,
    ];

    /// The name in metrics, logs and `status`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::SourceConnections => "source_connections",
            Self::IdentityConnections => "identity_connections",
            Self::Handshakes => "handshakes",
            Self::HandshakeTime => "handshake_time",
            Self::Idle => "idle",
            Self::HeaderTime => "header_time",
            Self::ControlFrames => "control_frames",
            Self::OpenCalls => "open_calls",
            Self::Memory => "memory",
            Self::MessageTime => "message_time",
            Self::ConcurrentRequests => "limit_concurrency",
            Self::OtherCalls => "other_calls",
            Self::SourceRate => "limit_peer",
            Self::IdentityRate => "limit_identity",
        }
    }

    /// What the caller is told, where there is a caller to tell.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::ConcurrentRequests => {
                "the CA is working on as many requests as limits.concurrent_requests allows; retry with backoff"
            }
            Self::OtherCalls => "the CA is working on as many calls of this kind as it takes; retry with backoff",
            Self::SourceRate => "too many requests from this address (limits.per_peer); retry with backoff",
            Self::IdentityRate => "too many certificates for this identity (limits.per_identity); retry with backoff",
            Self::OpenCalls => "too many calls on this connection whose messages have not arrived; complete them first",
            Self::Memory => "too much on this connection that has not arrived whole; complete it first",
            Self::MessageTime => "the message did not arrive in time; retry",
            _ => "there is no room for this connection; connect again with backoff",
        }
    }

    /// Its place in [`ALL`](Self::ALL), which has the same order.
    fn index(self) -> usize {
        self as usize
    }
}

/// How often one limit was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Met {
    /// Which.
    pub limit: Limit,
    /// Since the process started.
    pub total: u64,
    /// In the minute that is running and in the one before it.
    pub lately: u64,
}

/// The counts.
pub struct TurnedAway {
    counters: [IntCounter; Limit::ALL.len()],
    /// In this period, and in the one before.
    now: [AtomicU64; Limit::ALL.len()],
    before: [AtomicU64; Limit::ALL.len()],
}

impl TurnedAway {
    /// All at zero.
    ///
    /// # Errors
    /// [`MetricError`] when the name is taken, which is a bug.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricError> {
        let counters: IntCounterVec = metrics.counters(
            "signet_ca_turned_away_total",
            "Connections and calls turned away, by the limit that was met.",
            &["limit"],
        )?;
        Ok(Self {
            counters: Limit::ALL.map(|limit| counters.with_label_values(&[limit.label()])),
            now: Default::default(),
            before: Default::default(),
        })
    }

    /// Counts one.
    pub fn note(&self, limit: Limit) {
        let index = limit.index();
        if let (Some(counter), Some(now)) = (self.counters.get(index), self.now.get(index)) {
            counter.inc();
            now.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The limits that were met at least once.
    #[must_use]
    pub fn met(&self) -> Vec<Met> {
        let counts = self.counters.iter().zip(&self.now).zip(&self.before);
        let all = Limit::ALL.into_iter().zip(counts).map(|(limit, ((counter, now), before))| Met {
            limit,
            total: counter.get(),
            lately: now.load(Ordering::Relaxed) + before.load(Ordering::Relaxed),
        });
        all.filter(|met| met.total > 0).collect()
    }

    /// Warns once a minute of what happened in it, until `stop`.
    ///
    /// # Errors
    /// None.
    pub async fn warn(&self, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        loop {
            let stopped = stop.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_none();
            let mut told = Vec::new();
            for (limit, (now, before)) in Limit::ALL.into_iter().zip(self.now.iter().zip(&self.before)) {
                let count = now.swap(0, Ordering::Relaxed);
                before.store(count, Ordering::Relaxed);
                if count > 0 {
                    told.push(format!("{} {count}", limit.label()));
                }
            }
            if !told.is_empty() {
                let limits = told.join(", ");
                tracing::warn!(limits, "callers were turned away in the last minute, by the limit that they met");
            }
            if stopped {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_limit_counts_under_its_own_name() {
        let metrics = Metrics::new();
        let counts = TurnedAway::new(&metrics).unwrap();
        for (times, limit) in Limit::ALL.into_iter().enumerate() {
            (0..=times).for_each(|_| counts.note(limit));
        }
        let text = metrics.render().unwrap();
        for (times, met) in counts.met().into_iter().enumerate() {
            let count = times as u64 + 1;
            assert_eq!((met.total, met.lately), (count, count));
            let line = format!("signet_ca_turned_away_total{{limit=\"{}\"}} {count}", met.limit.label());
            assert!(text.contains(&line), "{line}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_happened_lately_is_forgotten_after_two_minutes_and_the_total_never() {
        let counts = TurnedAway::new(&Metrics::new()).unwrap();
        counts.note(Limit::Idle);
        let stop = CancellationToken::new();
        let lately = || counts.met().first().map(|met| (met.total, met.lately));
        tokio::select! {
            _ = counts.warn(stop.clone()) => {}
            () = async {
                tokio::time::sleep(PERIOD + PERIOD / 2).await;
                assert_eq!(lately(), Some((1, 1)));
                tokio::time::sleep(PERIOD).await;
                assert_eq!(lately(), Some((1, 0)));
            } => {}
        }
    }
}
