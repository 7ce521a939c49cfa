//! The wall clock as a seam: certificates live in wall time, and hosts are suspended and set back.

use std::sync::Arc;
use std::time::Duration;

use crate::time_math;
use async_trait::async_trait;
use time::OffsetDateTime;
use tokio::sync::watch;

/// Tells the time and wakes at a time of day.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// The current wall time in UTC.
    fn now(&self) -> OffsetDateTime;

    /// Returns once `now()` is at or past `at`. A monotonic timer alone does not do: it stands still while a host
    /// is suspended and ignores a clock that is stepped.
    async fn sleep_until(&self, at: OffsetDateTime);
}

/// A shared clock.
pub type SharedClock = Arc<dyn Clock>;

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// How often the wall clock is read again while waiting, hence the largest delay after a suspend or a step.
const RECHECK: Duration = Duration::from_secs(5);

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system clock")]
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    async fn sleep_until(&self, at: OffsetDateTime) {
        loop {
            let left = time_math::until(self.now(), at);
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(RECHECK)).await;
        }
    }
}

/// A time as people and programs both read it: RFC 3339 in UTC, whole seconds.
#[must_use]
pub fn rfc3339(at: OffsetDateTime) -> String {
    let whole = time_math::whole_second(at);
    whole.format(&time::format_description::well_known::Rfc3339).unwrap_or_else(|_| whole.to_string())
}

/// A clock that moves only when told to, for tests of anything that waits or expires.
#[derive(Debug, Clone)]
pub struct ManualClock {
    now: watch::Sender<OffsetDateTime>,
}

impl ManualClock {
    /// A clock that stands at `start`.
    #[must_use]
    pub fn at(start: OffsetDateTime) -> Self {
        Self { now: watch::Sender::new(start) }
    }

    /// Moves forward and wakes sleepers.
    pub fn advance(&self, by: Duration) {
        self.now.send_modify(|now| *now = time_math::after(*now, by));
    }

    /// Sets the time, backwards too.
    pub fn set(&self, to: OffsetDateTime) {
        self.now.send_replace(to);
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> OffsetDateTime {
        *self.now.borrow()
    }

    async fn sleep_until(&self, at: OffsetDateTime) {
        let mut now = self.now.subscribe();
        // An error means the clock is gone, which cannot be while `self` is borrowed.
        drop(now.wait_for(|now| *now >= at).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_manual_clock_passes_its_time() {
        let clock = ManualClock::at(OffsetDateTime::UNIX_EPOCH);
        let sleeper = clock.sleep_until(OffsetDateTime::UNIX_EPOCH + Duration::from_secs(10));
        tokio::pin!(sleeper);
        let mut early = false;
        tokio::select! { biased; () = &mut sleeper => early = true, () = std::future::ready(()) => {} }
        assert!(!early);
        clock.advance(Duration::from_secs(10));
        sleeper.await;
    }
}
