//! Whether the wall clock can be relied on: it must run as the monotonic one does. After a jump, what looks ended may
//! not be, so nothing is activated or removed until the clock has run evenly for a while.

use std::time::Duration;

use signet_core::time_math;
use time::OffsetDateTime;

/// How far the two clocks may drift apart between two looks.
const TOLERANCE: Duration = Duration::from_secs(10);

/// How long the clock must run evenly after a jump. A wrong clock is usually corrected in less, and a host that was
/// suspended, for which the jump is right, loses nothing by waiting.
const CALM: Duration = Duration::from_secs(300);

/// Compares the wall clock with a monotonic one. Times of the latter are durations since any fixed moment.
#[derive(Debug, Default)]
pub(super) struct ClockJumpDetector {
    last: Option<(OffsetDateTime, Duration)>,
    jumped_at: Option<Duration>,
}

impl ClockJumpDetector {
    /// Looks at both clocks; returns by how many seconds the wall clock has jumped since the look before, if it has.
    pub(super) fn check(&mut self, wall: OffsetDateTime, monotonic: Duration) -> Option<f64> {
        let last = self.last.replace((wall, monotonic));
        let (then, since) = last?;
        let drift = time_math::difference(then, wall).as_seconds_f64() - monotonic.saturating_sub(since).as_secs_f64();
        if drift.abs() <= TOLERANCE.as_secs_f64() {
            return None;
        }
        self.jumped_at = Some(monotonic);
        Some(drift)
    }

    /// Doubts the clock for a while, from the monotonic time `now` on.
    pub(super) fn doubt(&mut self, now: Duration) {
        self.jumped_at = Some(now);
    }

    /// Whether the clock has run evenly for long enough at the monotonic time `now`.
    #[must_use]
    pub(super) fn is_steady(&self, now: Duration) -> bool {
        self.jumped_at.is_none_or(|jumped| now >= jumped + CALM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);

    #[test]
    fn a_jump_in_either_direction_is_noticed_and_forgotten_after_a_while() {
        for jump in [3600, -3600, 11, -11] {
            let mut clock = ClockJumpDetector::default();
            let second = Duration::from_secs(1);
            assert_eq!(clock.check(START, second), None);
            assert_eq!(clock.check(START + second, 2 * second), None);
            assert!(clock.is_steady(2 * second));
            let drift = clock.check(START + 2 * second + time::Duration::seconds(jump), 3 * second);
            assert_eq!(drift, Some(jump as f64));
            assert!(!clock.is_steady(3 * second));
            assert_eq!(clock.check(START + 3 * second + time::Duration::seconds(jump), 4 * second), None);
            assert!(!clock.is_steady(3 * second + CALM - second));
            assert!(clock.is_steady(3 * second + CALM));
        }
    }

    #[test]
    fn small_corrections_and_long_pauses_between_looks_are_no_jumps() {
        let mut clock = ClockJumpDetector::default();
        assert_eq!(clock.check(START, Duration::ZERO), None);
        assert_eq!(clock.check(START + Duration::from_secs(9), Duration::ZERO), None);
        assert_eq!(clock.check(START + Duration::from_secs(9009), Duration::from_secs(9000)), None);
        assert!(clock.is_steady(Duration::ZERO));
    }
}
