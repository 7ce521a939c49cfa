//! Who was turned away for want of room, counted by the limit that was met, and told once a minute: a limit that bites is
//! something an operator should know about, and a flood must not become a flood of log lines.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec};
use signet_runtime::metrics::{MetricError, Metrics};
use tokio_util::sync::CancellationToken;

use super::limit::Limit;

/// How often what happened is told.
const PERIOD: Duration = Duration::from_secs(60);

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
