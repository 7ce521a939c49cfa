//! Whether the process still moves: heartbeats of the loops that must never stand still.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often [`beat_event_loop`] beats.
const EVENT_LOOP_PERIOD: Duration = Duration::from_secs(1);

/// How long the event loop may stand still before the process counts as dead.
const EVENT_LOOP_LIMIT: Duration = Duration::from_secs(15);

/// The registry of heartbeats; clones share it.
#[derive(Debug, Clone)]
pub struct Liveness {
    pulses: Arc<Mutex<Vec<Pulse>>>,
    start: Instant,
}

#[derive(Debug)]
struct Pulse {
    name: String,
    limit: Duration,
    /// Milliseconds from the registry's start to the last beat.
    last: Arc<AtomicU64>,
}

/// A heartbeat that is older than its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stalled {
    /// Whose heartbeat.
    pub name: String,
    /// Since when it is missing.
    pub age: Duration,
    /// The age that is tolerated.
    pub limit: Duration,
}

/// The handle by which a loop says that it still moves.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    last: Arc<AtomicU64>,
    start: Instant,
}

impl Default for Liveness {
    fn default() -> Self {
        Self::new()
    }
}

impl Liveness {
    /// An empty registry. Nothing watched means nothing known: see [`Liveness::stalled`].
    #[must_use]
    pub fn new() -> Self {
        Self { pulses: Arc::default(), start: Instant::now() }
    }

    /// Expects a beat at least every `limit`, the first one counted from now.
    ///
    /// Only for loops that move by themselves: a loop that waits for a dependency belongs to readiness, since a
    /// restart does not repair somebody else.
    #[must_use]
    pub fn heartbeat(&self, name: impl Into<String>, limit: Duration) -> Heartbeat {
        let heartbeat = Heartbeat { last: Arc::default(), start: self.start };
        heartbeat.beat();
        let pulse = Pulse { name: name.into(), limit, last: Arc::clone(&heartbeat.last) };
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner).push(pulse);
        heartbeat
    }

    /// The heartbeat for [`beat_event_loop`].
    #[must_use]
    pub fn event_loop(&self) -> Heartbeat {
        self.heartbeat("event loop", EVENT_LOOP_LIMIT)
    }

    /// The heartbeats that are overdue; `None` when no heartbeat was ever registered.
    #[must_use]
    pub fn stalled(&self) -> Option<Vec<Stalled>> {
        let pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        if pulses.is_empty() {
            return None;
        }
        let now = self.start.elapsed();
        let overdue = pulses.iter().filter_map(|pulse| {
            let age = now.saturating_sub(Duration::from_millis(pulse.last.load(Ordering::Relaxed)));
            (age > pulse.limit).then(|| Stalled { name: pulse.name.clone(), age, limit: pulse.limit })
        });
        Some(overdue.collect())
    }
}

impl Heartbeat {
    /// Says "I still move".
    pub fn beat(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }
}

/// The critical task behind the event loop's heartbeat: it beats as long as timers fire and tasks get their turn.
///
/// # Errors
/// None; ends when `stop` is cancelled.
pub async fn beat_event_loop(heartbeat: Heartbeat, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
    loop {
        heartbeat.beat();
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(EVENT_LOOP_PERIOD) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_older_than_its_limit_is_reported() {
        let liveness = Liveness::new();
        assert_eq!(liveness.stalled(), None, "nothing watched, nothing known");
        tokio::time::advance(Duration::from_secs(100)).await;
        let heartbeat = liveness.heartbeat("rotator", Duration::from_secs(10));
        let _other = liveness.heartbeat("patient", Duration::from_secs(60));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(liveness.stalled().unwrap(), []);
        tokio::time::advance(Duration::from_secs(1)).await;
        let stalled = liveness.stalled().unwrap();
        assert_eq!(
            stalled,
            [Stalled { name: "rotator".into(), age: Duration::from_secs(11), limit: Duration::from_secs(10) }]
        );
        heartbeat.beat();
        assert_eq!(liveness.stalled().unwrap(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn the_event_loop_beats_until_it_is_stopped() {
        let liveness = Liveness::new();
        let stop = CancellationToken::new();
        let task = beat_event_loop(liveness.event_loop(), stop.clone());
        tokio::pin!(task);
        assert!(tokio::time::timeout(Duration::from_secs(120), &mut task).await.is_err());
        assert_eq!(liveness.stalled().unwrap(), []);
        stop.cancel();
        task.await.unwrap();
        tokio::time::advance(EVENT_LOOP_LIMIT + Duration::from_secs(2)).await;
        assert_eq!(liveness.stalled().unwrap().len(), 1);
    }
}
