//! When the ledger is to be looked at for what all clients together say: pure, by times that the caller gives.

use std::time::Duration;

use tokio::time::Instant;

/// The least time between two looks: proxies that answer one after the other must not cost a look over all of them
/// each.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// How long the CA is told nothing after it was told something: proxies that change their minds all the time must not be a load.
const QUIET: Duration = Duration::from_secs(1);

/// The next look: wanted from a time on, but never too soon after the last one.
#[derive(Debug)]
pub(super) struct Pace {
    wanted: Option<Instant>,
    not_before: Instant,
}

impl Pace {
    /// Nothing is wanted yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { wanted: None, not_before: now }
    }

    /// The ledger may say something else than at the last look.
    pub(super) fn changed(&mut self, now: Instant) {
        self.wanted = Some(self.wanted.map_or(now, |wanted| wanted.min(now)));
    }

    /// There is something new to answer, for which no pause is kept.
    pub(super) fn received(&mut self, now: Instant) {
        (self.wanted, self.not_before) = (Some(now), now);
    }

    /// When to look, if ever; it may be past. The caller compares it to the time it also gives to
    /// [`Pace::looked`], and sleeps until then otherwise, so that no moment lies between the two.
    pub(super) fn next(&self) -> Option<Instant> {
        self.wanted.map(|wanted| wanted.max(self.not_before))
    }

    /// It was looked, and perhaps the CA told; by itself what the ledger says may change at `again`.
    pub(super) fn looked(&mut self, now: Instant, told: bool, again: Option<Instant>) {
        self.wanted = again;
        self.not_before = now + if told { QUIET } else { BETWEEN_LOOKS };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_kept_apart_and_none_that_is_wanted_is_lost() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut pace = Pace::new(start);
        assert_eq!(pace.next(), None);
        pace.received(at(10));
        assert_eq!(pace.next(), Some(at(10)));
        pace.looked(at(10), false, None);
        assert_eq!(pace.next(), None, "until something happens");
        for millis in [11, 12, 59] {
            pace.changed(at(millis));
            assert_eq!(pace.next(), Some(at(60)));
        }
        pace.looked(at(60), true, Some(at(5000)));
        assert_eq!(pace.next(), Some(at(5000)), "the passing of time");
        pace.changed(at(61));
        assert_eq!(pace.next(), Some(at(1060)), "after something was told");
        pace.received(at(62));
        assert_eq!(pace.next(), Some(at(62)), "the CA has sent something new");
        pace.looked(at(70), false, Some(at(71)));
        assert_eq!(pace.next(), Some(at(120)));
        pace.changed(at(500));
        assert_eq!(pace.next(), Some(at(120)), "the earlier one stays");
    }
}
