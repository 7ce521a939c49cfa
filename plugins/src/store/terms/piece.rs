//! The rows of one piece of the log: how they are made, and how they are read.

use std::collections::{BTreeMap, BTreeSet};

use signet_core::audit::AuditEvent;

use super::super::rows::LogRow;
use super::{BUCKETS, ENDS, PIECE, Term, UNREAD, key, segment_of, unit};

/// The longest SPIFFE ID, in bytes (SPIFFE-ID section 2.3).
const MAX_IDENTITY: usize = 2048;

/// Places in a piece, one bit for each event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places([u64; 16]);

impl Places {
    pub(super) const NONE: Self = Self([0; 16]);
    pub(super) const ALL: Self = Self([u64::MAX; 16]);

    fn add(&mut self, place: u16) {
        if let Some(word) = self.0.get_mut(usize::from(place / 64)) {
            *word |= 1 << (place % 64);
        }
    }

    pub(super) fn and(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= other);
    }

    /// These and those.
    pub(super) fn with(mut self, other: &Self) -> Self {
        self.or(other);
        self
    }

    fn or(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
    }

    /// The positions in the log, newest first.
    pub(super) fn positions(&self, piece: u64) -> impl Iterator<Item = u64> {
        let words = self.0;
        let start = piece.saturating_mul(PIECE);
        (0..PIECE)
            .rev()
            .filter(move |place| {
                let word = usize::try_from(place / 64).ok().and_then(|at| words.get(at));
                word.is_some_and(|word| word >> (place % 64) & 1 == 1)
            })
            .map(move |place| start.saturating_add(place))
    }
}

/// More places than this are written as bits.
const LISTED: usize = 63;

/// What stands before several places, with how many, and before bits.
const SEVERAL: u16 = 0x8000;
const BITS: u16 = 0xffff;

/// Everything that is kept of a piece.
pub(in super::super) struct Piece {
    /// Key, number of the piece, and entries.
    pub(in super::super) rows: Vec<(i64, i64, Vec<u8>)>,
    /// Every SPIFFE ID in it.
    pub(in super::super) identities: BTreeSet<String>,
    /// How many of its events have been forgotten.
    pub(in super::super) forgotten: i64,
}

impl Piece {
    /// Makes the rows of events, which are all those of this piece.
    pub(in super::super) fn new(number: u64, events: &[LogRow]) -> Self {
        let mut found: BTreeMap<Term, Vec<u16>> = BTreeMap::new();
        let (mut identities, mut forgotten) = (BTreeSet::new(), 0_i64);
        for row in events {
            let place = u16::try_from(row.seq.unsigned_abs() % PIECE).unwrap_or_default();
            let mut note = |term| {
                let places = found.entry(term).or_default();
                if places.last() != Some(&place) {
                    places.push(place);
                }
            };
            match row.read() {
                // Retention has removed it.
                None => forgotten = forgotten.saturating_add(1),
                Some(Ok((event, _))) => {
                    Term::all_of(&event).into_iter().for_each(&mut note);
                    ends_of(&event).into_iter().for_each(&mut note);
                    identities.extend(event.who.spiffe_id.filter(|id| id.len() <= MAX_IDENTITY && !id.contains('\0')));
                }
                Some(Err(_)) => (0..=BUCKETS).map(|bucket| Term { bucket, hash: UNREAD }).for_each(&mut note),
            }
        }
        let mut rows: Vec<(i64, i64, Vec<u8>)> = Vec::new();
        let segment = segment_of(number);
        for (term, places) in found {
            let key = key(segment, term.bucket);
            if rows.last().is_none_or(|(last, ..)| *last != key) {
                rows.push((key, i64::try_from(number).unwrap_or(i64::MAX), Vec::new()));
            }
            if let Some((.., entries)) = rows.last_mut() {
                write(entries, term.hash, &places);
            }
        }
        Self { rows, identities, forgotten }
    }
}

/// When the certificate of an event ends.
fn ends_of(event: &AuditEvent) -> Option<Term> {
    event.what.as_ref().map(|what| Term { bucket: ENDS, hash: unit(what.not_after) })
}

/// An entry: the hash, and one place, or how many and where, or a bit for each event.
fn write(entries: &mut Vec<u8>, hash: u32, places: &[u16]) {
    entries.extend_from_slice(&hash.to_be_bytes());
    match places {
        [place] => entries.extend_from_slice(&place.to_be_bytes()),
        several if several.len() <= LISTED => {
            let count = SEVERAL | u16::try_from(several.len()).unwrap_or_default();
            entries.extend_from_slice(&count.to_be_bytes());
            several.iter().for_each(|place| entries.extend_from_slice(&place.to_be_bytes()));
        }
        many => {
            let mut bits = Places::NONE;
            many.iter().for_each(|place| bits.add(*place));
            entries.extend_from_slice(&BITS.to_be_bytes());
            bits.0.iter().for_each(|word| entries.extend_from_slice(&word.to_be_bytes()));
        }
    }
}

/// Where the events are for whose hashes `wanted` is true, and those that cannot be read; `None` when these are no entries.
pub(super) fn read(mut entries: &[u8], wanted: impl Fn(u32) -> bool) -> Option<Places> {
    let mut found = Places::NONE;
    while let Some((hash, rest)) = entries.split_first_chunk::<4>() {
        let (head, rest) = rest.split_first_chunk::<2>()?;
        let hash = u32::from_be_bytes(*hash);
        let is_wanted = hash == UNREAD || wanted(hash);
        let head = u16::from_be_bytes(*head);
        let length = match head {
            BITS => 128,
            several if several & SEVERAL != 0 => usize::from(several & !SEVERAL) * 2,
            _ => 0,
        };
        let (places, rest) = rest.split_at_checked(length)?;
        entries = rest;
        if !is_wanted {
            continue;
        }
        match head {
            BITS => {
                let mut bits = Places::NONE;
                let words = places.as_chunks::<8>().0;
                bits.0.iter_mut().zip(words).for_each(|(word, bytes)| *word = u64::from_be_bytes(*bytes));
                found.or(&bits);
            }
            several if several & SEVERAL != 0 => {
                places.as_chunks::<2>().0.iter().for_each(|place| found.add(u16::from_be_bytes(*place)));
            }
            place => found.add(place),
        }
    }
    entries.is_empty().then_some(found)
}
