//! How long nothing is asked after a failure: longer from one to the next, until one goes well.

use std::time::Duration;

use signet_core::seams::certificate_authority::SignError;
use tokio::time::Instant;

/// The first pause, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

#[derive(Debug, Default)]
pub(super) struct Pause {
    length: Duration,
    last: Option<(Instant, SignError)>,
}

impl Pause {
    /// Why nothing is asked now: what went wrong last.
    pub(super) fn now(&self, now: Instant) -> Option<SignError> {
        self.last.as_ref().filter(|(until, _)| now < *until).map(|(_, error)| error.clone())
    }

    /// The last failure, while nothing has gone well since.
    pub(super) fn failure(&self) -> Option<&SignError> {
        self.last.as_ref().map(|(_, error)| error)
    }

    pub(super) fn failed(&mut self, now: Instant, error: SignError) {
        let (first, longest) = PAUSE;
        self.length = self.length.saturating_mul(2).clamp(first, longest);
        self.last = Some((now + self.length, error));
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_five_minutes_and_end_when_something_goes_well() {
        let (mut pause, mut now) = (Pause::default(), Instant::now());
        let error = SignError::Unavailable("away".to_owned());
        for seconds in [5, 10, 20, 40, 80, 160, 300, 300] {
            assert_eq!(pause.now(now), None);
            pause.failed(now, error.clone());
            assert_eq!(pause.now(now), Some(error.clone()));
            now += Duration::from_secs(seconds);
            assert_eq!((pause.now(now), pause.failure()), (None, Some(&error)));
        }
        pause.succeeded();
        assert_eq!(pause.failure(), None);
        pause.failed(now, error);
        assert_eq!(pause.now(now + PAUSE.0), None);
    }
}
