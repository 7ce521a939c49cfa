//! The newest events that this process has appended, kept until their holders are entered, so that these need not be read
//! again. Nothing depends on it: what is not here is read.

use std::collections::VecDeque;

use signet_core::audit::{AuditEvent, EventKind, Outcome};

use super::holder_projection::MOST_WAITING;
use crate::store::holder_projection::Entered;

/// Events at consecutive positions, the newest of which is the last one of the log as this process knows it. Those that make
/// no holder are nothing.
#[derive(Default)]
pub(super) struct Recent {
    from: u64,
    events: VecDeque<Option<AuditEvent>>,
}

impl Recent {
    /// Notes an event that was appended at this position.
    pub(super) fn note(&mut self, position: u64, event: AuditEvent) {
        if self.end() != position {
            (self.from, self.events) = (position, VecDeque::new());
        }
        let makes_holder = (event.kind, event.outcome) == (EventKind::Certificate, Outcome::Issued);
        self.events.push_back(makes_holder.then_some(event));
        if self.end().saturating_sub(self.from) > MOST_WAITING {
            self.events.pop_front();
            self.from = self.from.saturating_add(1);
        }
    }

    fn end(&self) -> u64 {
        self.from.saturating_add(u64::try_from(self.events.len()).unwrap_or(u64::MAX))
    }

    /// Takes the events of a range out, if all of them are here; those before it go, too.
    pub(super) fn take(&mut self, from: u64, below: u64) -> Option<Vec<Entered>> {
        if from < self.from || below > self.end() {
            return None;
        }
        let (skip, count) = (from.saturating_sub(self.from), below.saturating_sub(from));
        let (skip, count) = (usize::try_from(skip).ok()?, usize::try_from(count).ok()?);
        self.from = below;
        self.events.drain(..skip);
        Some(self.events.drain(..count).flatten().map(Entered::Event).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::store::suite::{START, issued, refused};

    fn serials(taken: Vec<Entered>) -> Vec<String> {
        taken.iter().map(|one| one.event().what.as_ref().unwrap().serial.clone()).collect()
    }

    #[test]
    fn a_range_is_given_once_and_only_when_nothing_of_it_is_missing() {
        let mut recent = Recent::default();
        assert!(recent.take(0, 1).is_none());
        for n in 10..20 {
            recent.note(n, if n == 12 { refused("a", START) } else { issued("a", n, START) });
        }
        assert!(recent.take(9, 12).is_none() && recent.take(11, 21).is_none());
        let expected = [11, 13].map(|n| issued("a", n, START).what.unwrap().serial);
        assert_eq!(serials(recent.take(11, 14).unwrap()), expected, "10 was entered by somebody else");
        assert!(recent.take(13, 15).is_none());
        assert_eq!(recent.take(14, 15).unwrap().len(), 1);
        // Another process has appended in between.
        recent.note(25, issued("a", 25, START));
        assert!(recent.take(15, 16).is_none());
        assert_eq!(recent.take(25, 26).unwrap().len(), 1);
        for n in 0..MOST_WAITING + 10 {
            recent.note(100 + n, refused("a", START));
        }
        assert!(recent.take(109, 111).is_none() && recent.take(110, 111).is_some());
    }
}
