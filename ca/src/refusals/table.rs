//! What is remembered of refusals until it is reported: a fixed number of rows, without I/O and without a clock.

use std::collections::HashMap;
use std::time::Duration;

use signet_core::audit::{EventKind, Outcome};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::refused_call::{Class, RefusedCall, Summary};

/// Rows of a class that belong to one subject each. Who comes when all are taken is counted with all others, in one more
/// row for each reason: reasons are a closed set.
pub(super) const OWN_ROWS: usize = 64;

/// What the calls of all others are called together.
const SEVERAL: &str = "several calls";

/// What makes two refusals the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    kind: EventKind,
    outcome: Outcome,
    reason: &'static str,
    call: &'static str,
    /// `None`: all others.
    subject: Option<String>,
}

/// What waits to be reported with one key.
#[derive(Default)]
struct Row {
    /// The first of its kind, until it is on record.
    first: Option<Summary>,
    /// Those after it that are on no record yet.
    more: Option<Summary>,
    /// The request id that they have on record.
    id: String,
    /// Whether some of that id are on their way to the record: until they are there, it is that of all that follow, since
    /// storage may not take them.
    is_on_its_way: bool,
    reported_at: Option<Instant>,
}

#[derive(Default)]
struct Rows {
    rows: HashMap<Key, Row>,
    /// How many of them belong to one subject.
    own: usize,
}

/// What is to be put on record and logged now.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) class: Class,
    pub(super) key: Key,
    pub(super) summary: Summary,
    pub(super) first: bool,
}

impl Report {
    /// Whether it is about callers that had no row of their own.
    pub(super) fn of_others(&self) -> bool {
        self.key.subject.is_none()
    }
}

/// What became of a refusal that was counted.
pub(super) struct Noted {
    /// Whether it is the first of its kind, to be reported at once.
    pub(super) is_first: bool,
    /// Under which request id it will be on record.
    pub(super) request_id: String,
}

/// All that is remembered.
#[derive(Default)]
pub(super) struct Table {
    classes: HashMap<Class, Rows>,
}

impl Table {
    /// Counts a refusal.
    pub(super) fn add(&mut self, refusal: RefusedCall, at: OffsetDateTime) -> Noted {
        let Rows { rows, own } = self.classes.entry(refusal.class).or_default();
        let mut key = Key {
            kind: refusal.kind,
            outcome: refusal.outcome,
            reason: refusal.reason,
            call: refusal.call,
            subject: Some(refusal.subject.clone()),
        };
        if *own >= OWN_ROWS && !rows.contains_key(&key) {
            key = Key { call: SEVERAL, subject: None, ..key };
        }
        let request_id = refusal.request_id.clone();
        let summary = Summary::one(refusal, at);
        if let Some(row) = rows.get_mut(&key) {
            if row.more.is_none() && !row.is_on_its_way {
                row.id.clone_from(&request_id);
            }
            match &mut row.more {
                Some(more) => more.add(summary),
                None => row.more = Some(summary),
            }
            return Noted { is_first: false, request_id: row.id.clone() };
        }
        *own += usize::from(key.subject.is_some());
        rows.insert(key, Row { first: Some(summary), ..Row::default() });
        Noted { is_first: true, request_id }
    }

    /// Takes what is to be reported at `now`, each key not more often than every `quiet`; with no `quiet`, all there is.
    /// And when to come again.
    pub(super) fn take_pending(&mut self, now: Instant, quiet: Duration) -> (Vec<Report>, Option<Instant>) {
        let (mut reports, mut next) = (Vec::new(), None::<Instant>);
        for (class, Rows { rows, own }) in &mut self.classes {
            rows.retain(|key, row| {
                let at = row.reported_at.map_or(now, |last| last + quiet);
                if at > now {
                    next = next.into_iter().chain([at]).min();
                    return true;
                }
                let reported_before = row.reported_at.is_some();
                let mut report = |summary: Option<Summary>, first| {
                    let one = |summary| Report { class: *class, key: key.clone(), summary, first };
                    reports.extend(summary.map(one));
                };
                if row.first.is_none() && row.more.is_none() {
                    *own -= usize::from(key.subject.is_some());
                    return false;
                }
                report(row.first.take(), true);
                // What followed the first waits its time, unless there is none.
                if reported_before || quiet.is_zero() {
                    let more = row.more.take().map(|more| more.under(&row.id));
                    row.is_on_its_way |= more.is_some();
                    report(more, false);
                }
                row.reported_at = Some(now);
                next = next.into_iter().chain([now + quiet]).min();
                true
            });
        }
        (reports, next)
    }

    /// That storage has taken it.
    pub(super) fn recorded(&mut self, report: &Report) {
        let rows = self.classes.get_mut(&report.class).map(|rows| &mut rows.rows);
        if let Some(row) = rows.and_then(|rows| rows.get_mut(&report.key)).filter(|_| !report.first) {
            row.is_on_its_way = false;
        }
    }

    /// Takes back what storage did not take, to be reported with the next record.
    pub(super) fn put_back(&mut self, report: Report) {
        let Rows { rows, own } = self.classes.entry(report.class).or_default();
        let is_own = usize::from(report.key.subject.is_some());
        let row = rows.entry(report.key).or_insert_with(|| {
            *own += is_own;
            Row::default()
        });
        if report.first {
            row.first = Some(report.summary);
        } else {
            row.is_on_its_way = false;
            report.summary.newest.request_id.clone_into(&mut row.id);
            let mut all = report.summary;
            if let Some(more) = row.more.take() {
                all.add(more);
            }
            row.more = Some(all);
        }
    }

    /// How many rows there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.classes.values().map(|class| class.rows.len()).sum()
    }
}
