//! How long to wait before the next try: a pure value, with the randomness given by the caller.

use std::time::Duration;

/// Exponential backoff with jitter. Each wait lies between half of the current step and all of it; the step then
/// grows by the factor up to the cap.
#[derive(Debug, Clone, PartialEq)]
pub struct Backoff {
    initial: Duration,
    cap: Duration,
    factor: f64,
    failures: u32,
    step: Duration,
}

impl Backoff {
    /// Starts with a step of `initial`, multiplied by `factor` (at least 1) at each failure, never above `cap`.
    #[must_use]
    pub fn new(initial: Duration, cap: Duration, factor: f64) -> Self {
        let factor = if factor.is_finite() { factor.max(1.0) } else { 1.0 };
        Self { initial: initial.min(cap), cap, factor, failures: 0, step: initial.min(cap) }
    }

    /// Notes a failure and tells how long to wait. `jitter` is a fresh random number from 0 to 1; what is outside is
    /// pulled in, and not-a-number counts as 1.
    pub fn next(&mut self, jitter: f64) -> Duration {
        let jitter = if jitter.is_nan() { 1.0 } else { jitter.clamp(0.0, 1.0) };
        let wait = self.step.as_secs_f64() * f64::midpoint(1.0, jitter);
        let wait = Duration::try_from_secs_f64(wait).unwrap_or(self.step).min(self.step);
        let grown = self.step.as_secs_f64() * self.factor;
        self.step = Duration::try_from_secs_f64(grown).unwrap_or(self.cap).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// Notes a success: the next failure starts again with the initial step.
    pub fn reset(&mut self) {
        self.step = self.initial;
        self.failures = 0;
    }

    /// The number of failures since the last success.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn steps_grow_to_the_cap_and_reset_starts_over() {
        let mut backoff = Backoff::new(ms(100), ms(1000), 2.0);
        let waits: Vec<Duration> = (0..6).map(|_| backoff.next(1.0)).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000].map(ms));
        assert_eq!(backoff.failures(), 6);
        backoff.reset();
        assert_eq!((backoff.failures(), backoff.next(1.0)), (0, ms(100)));
    }

    #[test]
    fn jitter_spreads_over_the_upper_half_and_bad_jitter_is_pulled_in() {
        for (jitter, wait) in [(0.0, 50), (0.5, 75), (1.0, 100), (-3.0, 50), (9.0, 100), (f64::NAN, 100)] {
            assert_eq!(Backoff::new(ms(100), ms(1000), 2.0).next(jitter), ms(wait), "{jitter}");
        }
    }

    #[test]
    fn extreme_values_neither_overflow_nor_exceed_the_cap() {
        for factor in [f64::MAX, f64::INFINITY, f64::NAN, 0.0, -1.0] {
            let mut backoff = Backoff::new(Duration::MAX, Duration::from_secs(60), factor);
            for _ in 0..100 {
                assert!(backoff.next(1.0) <= Duration::from_secs(60));
            }
        }
        for cap in [Duration::MAX, Duration::MAX / 4] {
            let mut forever = Backoff::new(Duration::from_secs(1), cap, 1e9);
            for _ in 0..10 {
                assert!(forever.next(1.0) <= cap);
            }
        }
    }
}
