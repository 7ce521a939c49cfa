//! Pages of the audit log: found by the words that are kept of pieces of it, and where it has none, by looking at each event.
//! The same for every database; each says how it reads.

use std::ops::Range;

use signet_core::audit::{AuditEvent, AuditQuery, Page, ROOM, StoredEvent};
use signet_core::seams::store::StoreError;
use signet_core::time_math::after;

use super::rows::{Found, LogRow, SEGMENT, page};
use super::terms::{MAX_IDENTITIES, Plan, TermRow};

/// How many events are looked at for one page at most. It bounds how long a question takes to which there is no answer, in a
/// part of the log that has no words yet.
const MAX_EVENTS: usize = 16_384;

/// How many rows of words are read for one page at most: those of 67 million events for a question with one filter.
const MAX_ROWS: usize = 65_536;

/// How many events are looked at with the first statement of several, and with the largest one.
const EVENTS_AT_ONCE: Range<u64> = 128..2048;

/// How many segments are looked into at once at most.
const MAX_SEGMENTS: u64 = 64;

/// The most certificates that are found by the beginning of a serial number in the index of these.
const MAX_SERIALS: usize = 2048;

/// The ends of the log, and of the part that has words.
pub(super) struct Ends {
    /// The position after the last event.
    pub(super) head: u64,
    /// Positions whose words are kept.
    pub(super) closed: Range<u64>,
}

/// A database that a page is read from. Every statement reads a bounded part of an index. The log only grows, so that no
/// transaction is needed.
pub(super) trait Source: Send {
    /// Where the log ends, and which part of it has words; these are not read after it.
    fn ends(&mut self) -> impl Future<Output = Result<Ends, StoreError>> + Send;

    /// The position of the first event below `head` that is not before this time, or `head`.
    fn first_at(&mut self, head: u64, micros: i64) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// SPIFFE IDs with this prefix that are in some piece of the log, `most` of them at most.
    fn identities(&mut self, prefix: &str, most: usize)
    -> impl Future<Output = Result<Vec<String>, StoreError>> + Send;

    /// The positions of certificates with serial numbers from `from` on and below `to`, `most` of them at most.
    fn serials(
        &mut self,
        from: &[u8],
        to: &[u8],
        most: usize,
    ) -> impl Future<Output = Result<Vec<u64>, StoreError>> + Send;

    /// The rows of words with these keys.
    fn words(&mut self, keys: &[i64]) -> impl Future<Output = Result<Vec<TermRow>, StoreError>> + Send;

    /// The events at these positions, newest first.
    fn at(&mut self, positions: &[u64]) -> impl Future<Output = Result<Vec<LogRow>, StoreError>> + Send;

    /// The newest events within `range`, `most` of them at most and newest first, for which holds what columns say of the
    /// query's serial number, kind, outcome and time.
    fn read(
        &mut self,
        query: &AuditQuery,
        range: Range<u64>,
        most: usize,
    ) -> impl Future<Output = Result<Vec<LogRow>, StoreError>> + Send;
}

/// Finds one page.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn search(source: &mut impl Source, query: &AuditQuery) -> Result<Page<StoredEvent>, StoreError> {
    let Ends { head, closed } = source.ends().await?;
    let lower = match query.since {
        None => 0,
        Some(since) => source.first_at(head, AuditEvent::micros(since)).await?,
    };
    let end = match query.until {
        None => head,
        // Among what is after the first later event, some may be earlier.
        Some(until) => source.first_at(head, AuditEvent::micros(after(until, ROOM)).saturating_add(1)).await?,
    };
    let upper = query.before.map_or(end, |before| before.min(end));
    let wanted = usize::try_from(query.limit).unwrap_or(usize::MAX).saturating_add(1);
    let mut search =
        Search { source, query, lower, upper, wanted, found: Vec::new(), events: MAX_EVENTS, rows: MAX_ROWS };
    search.whole(closed).await?;
    let Search { lower, upper, found, .. } = search;
    Ok(page(found, query.limit, Some(upper).filter(|upper| *upper > lower)))
}

/// A page that is being filled, from the top of the log downwards.
struct Search<'a, S> {
    source: &'a mut S,
    query: &'a AuditQuery,
    lower: u64,
    /// Events from here on were seen.
    upper: u64,
    /// One more than the page holds.
    wanted: usize,
    found: Vec<Found>,
    /// How many events may still be looked at.
    events: usize,
    /// How many rows of words may still be read.
    rows: usize,
}

impl<S: Source> Search<'_, S> {
    fn missing(&self) -> usize {
        self.wanted.saturating_sub(self.found.len())
    }

    /// Whether there is something to look for, and where.
    fn goes_on(&self) -> bool {
        self.lower < self.upper && self.missing() > 0 && self.events > 0 && self.rows > 0
    }

    async fn whole(&mut self, closed: Range<u64>) -> Result<(), StoreError> {
        if self.query.serial.is_some() {
            return self.by_columns().await;
        }
        if let Some(prefix) = &self.query.serial_prefix {
            let (from, to) = serial_range(prefix);
            let serials = self.source.serials(&from, &to, MAX_SERIALS + 1).await?;
            if serials.len() <= MAX_SERIALS {
                return self.by_serials(serials).await;
            }
        }
        let identities = match &self.query.spiffe_id_prefix {
            None => None,
            Some(prefix) => Some(self.source.identities(prefix, MAX_IDENTITIES + 1).await?),
        };
        let plan = Plan::new(self.query, identities.as_deref().filter(|all| all.len() <= MAX_IDENTITIES));
        if plan.is_empty() && identities.is_none() {
            return self.by_columns().await;
        }
        if !plan.is_empty() {
            self.by_reading(closed.end).await?;
            self.by_words(&plan, &closed).await?;
        }
        self.by_reading(0).await
    }

    /// Takes what columns give.
    async fn by_columns(&mut self) -> Result<(), StoreError> {
        let mut fewest = 0;
        while self.goes_on() {
            let most = self.missing().max(fewest);
            let rows = self.source.read(self.query, self.lower..self.upper, most).await?;
            // A full answer may have left events below the last one; one that is not has all.
            let last = rows.last().filter(|_| rows.len() >= most).map(|row| row.seq.unsigned_abs());
            self.events = self.events.saturating_sub(rows.len());
            // Retention has been here.
            fewest = usize::try_from(EVENTS_AT_ONCE.end).unwrap_or(usize::MAX);
            self.take(rows);
            self.upper = last.unwrap_or(self.lower);
        }
        Ok(())
    }

    /// Looks at each event down to `bottom`.
    async fn by_reading(&mut self, bottom: u64) -> Result<(), StoreError> {
        let bottom = bottom.max(self.lower);
        let mut length = EVENTS_AT_ONCE.start.max(u64::from(self.query.limit));
        while self.upper > bottom && self.goes_on() {
            let from = bottom.max(self.upper.saturating_sub(length));
            let rows = self.source.read(self.query, from..self.upper, usize::MAX).await?;
            let seen = self.upper.saturating_sub(from);
            self.events = self.events.saturating_sub(usize::try_from(seen).unwrap_or(usize::MAX));
            self.take(rows);
            self.upper = from;
            length = length.saturating_mul(2).min(EVENTS_AT_ONCE.end);
        }
        Ok(())
    }

    /// Looks at the events that the kept words say may be meant.
    async fn by_words(&mut self, plan: &Plan, closed: &Range<u64>) -> Result<(), StoreError> {
        let bottom = self.lower.max(closed.start);
        let mut window = 1;
        while self.upper > bottom && self.goes_on() {
            let last = self.upper.saturating_sub(1) / SEGMENT;
            let first = last.saturating_sub(window - 1);
            let from = bottom.max(first.saturating_mul(SEGMENT));
            let rows = self.source.words(&plan.keys(first..=last)).await?;
            self.rows = self.rows.saturating_sub(rows.len().max(1));
            let positions = plan.positions(&rows, from..self.upper).map_err(|piece| {
                StoreError::Damaged(format!("what events are found by, in piece {piece} of the audit log"))
            })?;
            self.at(positions, from).await?;
            window = window.saturating_mul(2).min(MAX_SEGMENTS).min(plan.segments_at_once());
        }
        Ok(())
    }

    async fn by_serials(&mut self, mut positions: Vec<u64>) -> Result<(), StoreError> {
        positions.retain(|position| (self.lower..self.upper).contains(position));
        positions.sort_unstable_by(|one, other| other.cmp(one));
        self.at(positions, self.lower).await
    }

    /// Looks at the events at these positions, newest first, which are all that may be meant down to `bottom`.
    async fn at(&mut self, positions: Vec<u64>, bottom: u64) -> Result<(), StoreError> {
        let mut rest = positions.as_slice();
        while !rest.is_empty() && self.goes_on() {
            let fewest = usize::try_from(EVENTS_AT_ONCE.start).unwrap_or(usize::MAX);
            // Nearly all of them are meant, as a rule.
            let some = if rest.len() < positions.len() { fewest.max(self.missing()) } else { self.missing() };
            let (now, later) = rest.split_at_checked(some).unwrap_or((rest, &[]));
            let rows = self.source.at(now).await?;
            self.events = self.events.saturating_sub(now.len());
            self.take(rows);
            self.upper = now.last().copied().unwrap_or(self.upper);
            rest = later;
        }
        if rest.is_empty() {
            self.upper = bottom;
        }
        Ok(())
    }

    fn take(&mut self, rows: Vec<LogRow>) {
        self.found.extend(rows.into_iter().filter_map(|row| row.found(self.query)));
    }
}

/// What is above every serial number.
const ABOVE_SERIALS: [u8; 21] = [0xff; 21];

/// From which serial number on, and below which one, they begin with these digits, as bytes.
fn serial_range(prefix: &str) -> (Vec<u8>, Vec<u8>) {
    let digits: Vec<u8> =
        prefix.chars().map(|digit| u8::try_from(digit.to_digit(16).unwrap_or(0)).unwrap_or(0)).collect();
    let bytes = |digits: &[u8]| -> Vec<u8> {
        digits
            .chunks(2)
            .map(|pair| pair.first().map_or(0, |high| high << 4) | pair.get(1).copied().unwrap_or(0))
            .collect()
    };
    let mut next = digits.clone();
    while next.last() == Some(&15) {
        next.pop();
    }
    if let Some(last) = next.last_mut() {
        *last += 1;
    }
    (bytes(&digits), if next.is_empty() { ABOVE_SERIALS.to_vec() } else { bytes(&next) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_with_a_beginning_are_a_range() {
        for (prefix, from, to) in [
            ("46b0bc", &[0x46, 0xb0, 0xbc][..], &[0x46, 0xb0, 0xbd][..]),
            ("46b0bce", &[0x46, 0xb0, 0xbc, 0xe0], &[0x46, 0xb0, 0xbc, 0xf0]),
            ("46b0bcf", &[0x46, 0xb0, 0xbc, 0xf0], &[0x46, 0xb0, 0xbd]),
            ("46b0ff", &[0x46, 0xb0, 0xff], &[0x46, 0xb1]),
            ("ffffff", &[0xff, 0xff, 0xff], &ABOVE_SERIALS),
        ] {
            assert_eq!(serial_range(prefix), (from.to_vec(), to.to_vec()), "{prefix}");
        }
    }
}
