//! What is told at once, and what waits and is counted, of each thing that notices are about.

use std::collections::BTreeMap;
use std::time::Duration;

use signet_core::audit::{Attributed, AuditEvent, EventKind, Outcome, Repeated};
use signet_core::time_math;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::Notice;

/// How long what repeats is counted before it is told.
pub(super) const WINDOW: Duration = Duration::from_hours(1);

/// Events about one thing that are told at once in this time; more of them are counted.
pub(super) const AT_ONCE: u32 = 12;

/// What is told later than this after it befell is told as of the time when it is told, with the time since when it waits.
const LATE: Duration = Duration::from_secs(10);

/// Things that are told apart; there is one for each cluster, and a few more.
const SUBJECTS: usize = 1024;

/// The longest text of an event, in characters.
const TEXT: usize = 2000;

/// What is to be told of: the newest of some that are alike.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    notice: Notice,
    at: OffsetDateTime,
    count: u64,
    since: OffsetDateTime,
}

impl Waiting {
    fn is_like(&self, notice: &Notice) -> bool {
        (self.notice.outcome, self.notice.reason) == (notice.outcome, notice.reason)
    }

    /// As one event, told at `now`.
    pub(super) fn event(&self, now: OffsetDateTime) -> AuditEvent {
        let Notice { kind, cluster, outcome, reason, detail, .. } = self.notice.clone();
        // What has waited is told as of now, like all that is counted: the log is searched by its positions, and events of one time
        // stand together in it.
        let has_waited = self.count > 1 || self.at < time_math::before(now, LATE);
        let repeated = Repeated { count: self.count, since_micros: AuditEvent::micros(self.since) };
        AuditEvent {
            at_micros: AuditEvent::micros(if has_waited { now } else { self.at }),
            request_id: String::new(),
            kind,
            outcome,
            reason: Some(reason.to_owned()),
            detail: Some(detail.chars().take(TEXT).collect()),
            who: Attributed { cluster, ..Attributed::default() },
            what: None,
            repeated: has_waited.then_some(repeated),
        }
    }
}

struct Subject {
    /// Since when is counted.
    begun: Instant,
    told: u32,
    last: Option<(Outcome, &'static str, String)>,
    waiting: Vec<Waiting>,
    /// Whether what waits is to be told now.
    is_news: bool,
}

impl Subject {
    fn end(&self) -> Option<Instant> {
        self.begun.checked_add(WINDOW)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.end().is_none_or(|end| end <= now)
    }
}

/// All that notices are about.
#[derive(Default)]
pub(super) struct Table {
    subjects: BTreeMap<(u64, String), Subject>,
}

fn key(kind: EventKind, subject: &str) -> (u64, String) {
    (kind.number(), subject.to_owned())
}

impl Table {
    /// Notes what befell at `at`.
    pub(super) fn add(&mut self, notice: Notice, at: OffsetDateTime, now: Instant) {
        let key = key(notice.kind, &notice.subject);
        if !self.subjects.contains_key(&key) && self.subjects.len() >= SUBJECTS {
            self.subjects.retain(|_, subject| !subject.waiting.is_empty() || !subject.is_over(now));
            if self.subjects.len() >= SUBJECTS {
                tracing::warn!(subject = notice.subject, "too many things change at once; this is not on record");
                return;
            }
        }
        let fresh = || Subject { begun: now, told: 0, last: None, waiting: Vec::new(), is_news: false };
        let subject = self.subjects.entry(key).or_insert_with(fresh);
        if subject.is_over(now) && subject.waiting.is_empty() {
            (subject.begun, subject.told) = (now, 0);
        }
        let state = (notice.outcome, notice.reason, notice.detail.clone());
        // Two that went well are two; that something still does not is no news.
        let repeats = notice.outcome != Outcome::Done && subject.last.as_ref() == Some(&state);
        if !repeats && subject.told < AT_ONCE {
            subject.told = subject.told.saturating_add(1);
            subject.is_news = true;
        }
        subject.last = Some(state);
        // The order of what befell stays: only the newest grows, or one of those that wait because there are too many.
        let is_crowded = subject.told >= AT_ONCE || subject.waiting.len() >= AT_ONCE as usize;
        let like = subject.waiting.iter().rposition(|one| one.is_like(&notice));
        let newest = subject.waiting.len().checked_sub(1);
        match like.filter(|place| is_crowded || repeats || Some(*place) == newest) {
            Some(place) => {
                if let Some(one) = subject.waiting.get_mut(place) {
                    one.count = one.count.saturating_add(1);
                    (one.notice, one.at) = (notice, at);
                }
            }
            None => subject.waiting.push(Waiting { notice, at, count: 1, since: at }),
        }
    }

    /// When something is to be told of, if nothing new befalls.
    pub(super) fn next(&self) -> Option<Instant> {
        let waiting = self.subjects.values().filter(|subject| !subject.waiting.is_empty());
        waiting.filter_map(|subject| if subject.is_news { Some(subject.begun) } else { subject.end() }).min()
    }

    /// What is to be told of now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Waiting> {
        let mut due = Vec::new();
        for subject in self.subjects.values_mut() {
            let is_over = subject.is_over(now);
            if subject.is_news || is_over {
                due.append(&mut subject.waiting);
                subject.is_news = false;
            }
            if is_over {
                (subject.begun, subject.told) = (now, 0);
            }
        }
        due
    }

    /// Everything that waits.
    pub(super) fn all(&mut self) -> Vec<Waiting> {
        self.subjects.values_mut().flat_map(|subject| std::mem::take(&mut subject.waiting)).collect()
    }

    /// What could not be told waits on, before what came since.
    pub(super) fn put_back(&mut self, one: Waiting) {
        if let Some(subject) = self.subjects.get_mut(&key(one.notice.kind, &one.notice.subject)) {
            let place = subject.waiting.iter().position(|newer| newer.since > one.since);
            subject.waiting.insert(place.unwrap_or(subject.waiting.len()), one);
            subject.is_news = true;
        }
    }
}
