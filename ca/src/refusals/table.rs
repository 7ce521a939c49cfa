//! What is remembered of refusals until it is told: a fixed number of rows, without I/O and without a clock.

use std::collections::HashMap;
use std::time::Duration;

use signet_core::audit::{EventKind, Outcome};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::refusal::{Class, Refusal, Summary};

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

/// What waits to be told with one key.
#[derive(Default)]
struct Row {
    /// The first of its kind, until it is on record.
    first: Option<Summary>,
    /// Those after it that are on no record yet.
    more: Option<Summary>,
    told_at: Option<Instant>,
}

#[derive(Default)]
struct Rows {
    rows: HashMap<Key, Row>,
    /// How many of them belong to one subject.
    own: usize,
}

/// What is to be told now.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) class: Class,
    pub(super) key: Key,
    pub(super) summary: Summary,
    pub(super) first: bool,
}

impl Told {
    /// Whether it is about callers that had no row of their own.
    pub(super) fn of_others(&self) -> bool {
        self.key.subject.is_none()
    }
}

/// All that is remembered.
#[derive(Default)]
pub(super) struct Table {
    classes: HashMap<Class, Rows>,
}

impl Table {
    /// Counts a refusal; `true` when it is the first of its kind, to be told at once.
    pub(super) fn add(&mut self, refusal: Refusal, at: OffsetDateTime) -> bool {
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
        let summary = Summary::one(refusal, at);
        if let Some(row) = rows.get_mut(&key) {
            match &mut row.more {
                Some(more) => more.add(summary),
                None => row.more = Some(summary),
            }
            return false;
        }
        *own += usize::from(key.subject.is_some());
        rows.insert(key, Row { first: Some(summary), ..Row::default() });
        true
    }

    /// Takes what is to be told at `now`, each key not more often than every `quiet`; with no `quiet`, all there is.
    /// And when to come again.
    pub(super) fn due(&mut self, now: Instant, quiet: Duration) -> (Vec<Told>, Option<Instant>) {
        let (mut told, mut next) = (Vec::new(), None::<Instant>);
        for (class, Rows { rows, own }) in &mut self.classes {
            rows.retain(|key, row| {
                let due = row.told_at.map_or(now, |at| at + quiet);
                if due > now {
                    next = next.into_iter().chain([due]).min();
                    return true;
                }
                let told_before = row.told_at.is_some();
                let mut tell = |summary: Option<Summary>, first| {
                    let told_now = |summary| Told { class: *class, key: key.clone(), summary, first };
                    told.extend(summary.map(told_now));
                };
                if row.first.is_none() && row.more.is_none() {
                    *own -= usize::from(key.subject.is_some());
                    return false;
                }
                tell(row.first.take(), true);
                // What followed the first waits its time, unless there is none.
                if told_before || quiet.is_zero() {
                    tell(row.more.take(), false);
                }
                row.told_at = Some(now);
                next = next.into_iter().chain([now + quiet]).min();
                true
            });
        }
        (told, next)
    }

    /// Takes back what storage did not take, to be told with the next record.
    pub(super) fn put_back(&mut self, told: Told) {
        let Rows { rows, own } = self.classes.entry(told.class).or_default();
        let is_own = usize::from(told.key.subject.is_some());
        let row = rows.entry(told.key).or_insert_with(|| {
            *own += is_own;
            Row::default()
        });
        if told.first {
            row.first = Some(told.summary);
        } else {
            let mut all = told.summary;
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
