//! When the lists are made anew.

use std::time::Duration;

use time::OffsetDateTime;

use super::{GivenLists, LIST_MARGIN, ListIssuers, ListNeed, RevocationList, Revocations};
use crate::authority::AuthorityId;
use crate::time_math;

/// How long after lists could not be made they are tried again, in seconds; and after that, since it is on record.
const RETRY: i64 = 60;
const RETRY_LATER: i64 = 3600;

/// How long an entry stays on its list after the certificate's end: clocks differ.
pub(super) const KEEP_ENTRY: Duration = Duration::from_secs(3600);

/// How far ahead the clock of whoever made a list may be.
const AHEAD: Duration = Duration::from_secs(2);

impl Revocations {
    /// When the lists, each of which lives for `ttl`, are made anew: at `now`, or before it, when there is a reason already.
    ///
    /// By a clock that may be wrong only what has ended is replaced; entries do not count then, since none is forgotten.
    #[must_use]
    pub fn refresh_at(
        &self,
        issuers: &ListIssuers,
        given: GivenLists<'_>,
        ttl: Duration,
        now: OffsetDateTime,
        clock_is_steady: bool,
    ) -> Option<OffsetDateTime> {
        let time = |seconds: i64| OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(now);
        let is_wanted = self.need(issuers, given, now) == ListNeed::Wanted;
        if is_wanted == self.lists.is_empty() {
            // That they could not be made is no reason to try again at once, unless by a clock that was ahead.
            let since = now.unix_timestamp().saturating_sub(self.failed_at);
            let has_failed = self.lists.is_empty() && (-RETRY_LATER..RETRY).contains(&since);
            return Some(if has_failed { time(self.failed_at.saturating_add(RETRY)) } else { now });
        }
        if self.lists.is_empty() {
            return None;
        }
        let is_missing = |id: &AuthorityId| self.list_of(id).is_none();
        let is_new = |list: &RevocationList| self.list_of(&list.issuer).is_none_or(|known| known.der != list.der);
        if given.used(issuers).any(is_new) || issuers.required().iter().any(is_missing) {
            return Some(now);
        }
        let not_given = self.lists.iter().filter(|list| given.list_of(&list.issuer).is_none());
        let lists = not_given.map(|list| {
            let end = time(list.next_update);
            // What was made while the clock was ahead is replaced once it is back, since nobody accepts a list from the
            // future.
            let is_of_the_future = || {
                let is_made_ahead = time_math::before(end, ttl) > time_math::after(now, AHEAD);
                is_made_ahead || list.begins().is_some_and(|at| at > now)
            };
            match issuers.renews(&list.issuer) {
                // Nobody here could make it as its owner did: it stays for as long as it is good.
                false => time_math::before(end, LIST_MARGIN),
                true if is_of_the_future() => now,
                true if clock_is_steady => time_math::before(end, ttl / 2),
                true => end,
            }
        });
        let entries = self.entries.iter().filter(|_| clock_is_steady);
        lists.chain(entries.map(|entry| time_math::after(time(entry.not_after), KEEP_ENTRY))).min()
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
