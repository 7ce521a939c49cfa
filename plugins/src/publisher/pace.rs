//! How much is asked of an API server at once: less while it does not answer, nothing while it has too much to do.

use std::time::Duration;

use tokio::time::Instant;

use super::calls::Fault;

/// Calls at a time that change something.
const AT_ONCE: usize = 8;
/// How long nothing is asked of one that does not answer, the first time and at most.
const AWAY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// The pace of one publisher.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Calls without an answer since the last one that had one.
    unanswered: usize,
    /// Nothing is asked until then.
    until: Option<Instant>,
    why: Option<String>,
}

impl Pace {
    /// Whether another one may be begun beside so many.
    pub(super) fn has_room(&self, under_way: usize, now: Instant) -> bool {
        let most = if self.is_away() { 1 } else { AT_ONCE };
        self.until.is_none_or(|until| until <= now) && under_way < most
    }

    /// Whether so many in a row had no answer that it is not about single objects.
    fn is_away(&self) -> bool {
        self.unanswered >= AT_ONCE
    }

    /// A call was answered.
    pub(super) fn answered(&mut self) {
        (self.unanswered, self.why) = (0, None);
    }

    /// A call has failed; whether that says something about what it was for.
    pub(super) fn failed(&mut self, fault: &Fault, now: Instant) -> bool {
        match fault {
            Fault::Throttled(wait) => {
                self.until = Some(self.until.map_or(now + *wait, |until| until.max(now + *wait)));
                self.why = Some(fault.text());
                false
            }
            Fault::Away(text) => {
                self.unanswered = self.unanswered.saturating_add(1);
                if self.is_away() {
                    let (first, longest) = AWAY;
                    let doublings = self.unanswered.saturating_sub(AT_ONCE).min(10);
                    self.until = Some(now + first.saturating_mul(1 << doublings).min(longest));
                    self.why = Some(text.clone());
                }
                !self.is_away()
            }
            _ => {
                self.answered();
                true
            }
        }
    }

    /// Why less is asked.
    pub(super) fn problem(&self) -> Option<String> {
        self.why.clone()
    }

    /// For how long nothing is asked.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn single_failures_are_about_objects_and_many_in_a_row_about_the_server() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let away = Fault::Away("no answer".to_owned());
        assert!(pace.has_room(7, now) && !pace.has_room(8, now));
        for _ in 0..7 {
            assert!(pace.failed(&away, now) && pace.has_room(7, now) && pace.problem().is_none());
        }
        // What it says is an answer, too.
        assert!(pace.failed(&Fault::Refused(String::new()), now));
        for _ in 0..7 {
            assert!(pace.failed(&away, now));
        }
        assert!(!pace.failed(&away, now) && !pace.has_room(0, now));
        let later = now + pace.wait(now);
        assert!(pace.has_room(0, later) && !pace.has_room(1, later), "one tries it");
        assert_eq!(pace.problem().as_deref(), Some("no answer"));
        for _ in 0..20 {
            pace.failed(&away, later);
        }
        assert_eq!(pace.wait(later), AWAY.1);
        pace.answered();
        let later = later + AWAY.1;
        assert!(pace.has_room(7, later) && pace.problem().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_with_too_much_to_do_is_left_alone_for_as_long_as_it_says_and_nothing_has_failed() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let wait = Duration::from_secs(7);
        assert!(!pace.failed(&Fault::Throttled(wait), now) && !pace.failed(&Fault::Throttled(wait / 7), now));
        assert!(!pace.has_room(0, now) && pace.wait(now) == wait && pace.has_room(7, now + wait));
    }
}
