//! When the lists are made anew.

use std::time::Duration;

use time::OffsetDateTime;

use super::{GivenLists, LIST_MARGIN, ListIssuers, ListNeed, RevocationList, Revocations};
use crate::authority::AuthorityId;
use crate::moment;

/// How long after lists could not be made they are tried again, in seconds; and after that, since it is on record.
const RETRY: i64 = 60;
const RETRY_LATER: i64 = 3600;

/// How long an entry stays on its list after the certificate's end: clocks differ.
pub(super) const KEEP_ENTRY: Duration = Duration::from_secs(3600);

/// How far ahead the clock of whoever made a list may be.
const AHEAD: Duration = Duration::from_secs(2);

/// When the lists are made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// Now.
    Now {
        /// Whether entries of certificates that have ended are forgotten.
        forget_ended: bool,
    },
    /// Not yet; at this time there may be a reason.
    Later(Option<OffsetDateTime>),
}

/// Waits for the earliest of several times.
struct Agenda {
    now: OffsetDateTime,
    next: Option<OffsetDateTime>,
}

impl Agenda {
    /// Whether `at` has come; if not, it is a time to wait for.
    fn is_due(&mut self, at: OffsetDateTime) -> bool {
        if at > self.now {
            self.next = Some(self.next.map_or(at, |next| next.min(at)));
        }
        at <= self.now
    }
}

impl Revocations {
    /// When the lists, each of which lives for `ttl`, are made anew: one for every authority, or none.
    ///
    /// By a clock that may be wrong only what has ended is replaced, and nothing is forgotten.
    #[must_use]
    pub fn refresh(
        &self,
        issuers: &ListIssuers,
        given: GivenLists<'_>,
        ttl: Duration,
        now: OffsetDateTime,
        clock_is_steady: bool,
    ) -> Refresh {
        let (mut agenda, due) = (Agenda { now, next: None }, Refresh::Now { forget_ended: clock_is_steady });
        let time = |seconds: i64| OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(now);
        let wanted = self.need(issuers, given, now) == ListNeed::Wanted;
        if wanted == self.lists.is_empty() {
            // That they could not be made is no reason to try again at once, unless by a clock that was ahead.
            let since = now.unix_timestamp().saturating_sub(self.failed_at);
            let failed = self.lists.is_empty() && (-RETRY_LATER..RETRY).contains(&since);
            if !failed {
                return due;
            }
            let _not_yet = agenda.is_due(time(self.failed_at.saturating_add(RETRY)));
        }
        if self.lists.is_empty() {
            return Refresh::Later(agenda.next);
        }
        let is_missing = |id: &AuthorityId| self.list_of(id).is_none();
        let is_new = |list: &RevocationList| self.list_of(&list.issuer).is_none_or(|known| known.der != list.der);
        if given.all().iter().any(is_new) || issuers.required().iter().any(is_missing) {
            return due;
        }
        for list in self.lists.iter().filter(|list| given.list_of(&list.issuer).is_none()) {
            let end = time(list.next_update);
            if !issuers.renews(&list.issuer) {
                // Nobody here could make it as its owner did: it stays for as long as it is good.
                if agenda.is_due(moment::before(end, LIST_MARGIN)) {
                    return due;
                }
                continue;
            }
            // What was made while the clock was ahead is replaced once it is back, since nobody accepts a list from the
            // future.
            let at = if clock_is_steady { moment::before(end, ttl / 2) } else { end };
            let is_of_the_future =
                moment::before(end, ttl) > moment::after(now, AHEAD) || list.begins().is_some_and(|at| at > now);
            if agenda.is_due(at) || is_of_the_future {
                return due;
            }
        }
        for entry in &self.entries {
            if agenda.is_due(moment::after(time(entry.not_after), KEEP_ENTRY)) && clock_is_steady {
                return Refresh::Now { forget_ended: true };
            }
        }
        Refresh::Later(agenda.next)
    }

    /// When the first of the lists ends; `None` when there are none.
    #[must_use]
    pub fn first_end(&self) -> Option<OffsetDateTime> {
        let end = self.lists.iter().map(|list| list.next_update).min()?;
        // What no time can say is past, so that it is looked at.
        Some(OffsetDateTime::from_unix_timestamp(end).unwrap_or(OffsetDateTime::UNIX_EPOCH))
    }

    /// Notes at `now` that lists could not be made. A failure that follows another one is tried again later, hence the later
    /// time.
    pub fn note_failure(&mut self, before: &Self, now: OffsetDateTime) {
        let again = before.failed_at > 0 && before.lists.is_empty();
        self.failed_at = now.unix_timestamp().saturating_add(if again { RETRY_LATER - RETRY } else { 0 });
    }
}
