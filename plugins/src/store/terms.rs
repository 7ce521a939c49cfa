//! What events are found by: words of an event as short hashes, kept for pieces of the log that are full.
//!
//! For each piece of [`PIECE`] events there is a row for each bucket of hashes, with where in the piece a word occurs. So an
//! event costs some 6 bytes for each word that it has alone, and less than one for what many have in common, and rows are few. The
//! piece follows the log: an append pays nothing, and what is in no piece yet is read as it is. Hashes may be alike, so
//! whoever searches by them looks at the event afterwards.

mod piece;
mod plan;

use std::collections::BTreeSet;
use std::ops::Range;

use signet_core::audit::AuditEvent;
use signet_core::digest::sha256;

pub(super) use self::piece::Piece;
pub(super) use self::plan::{MAX_IDENTITIES, Plan, TermRow};
use super::rows::SEGMENT;

/// How many events make a piece. Part of the schema.
pub(super) const PIECE: u64 = 1024;

/// Over how many rows the words of a piece are spread. Part of the schema.
const BUCKETS: u8 = 128;

/// The row that says when certificates end, by [`unit`]s in the place of hashes.
const ENDS: u8 = BUCKETS;

/// The hash that stands for events that cannot be read, in every row of a piece that has any: they may be what is looked for.
const UNREAD: u32 = u32::MAX;

/// How much time of the ends of certificates is taken together, in seconds.
const UNIT: i64 = 600;

/// A word, as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Term {
    bucket: u8,
    hash: u32,
}

/// Which field a word is of. The numbers are part of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Identity = 1,
    Namespace = 2,
    ServiceAccount = 3,
    Pod = 4,
    Node = 5,
    Cluster = 6,
    Outcome = 7,
    Kind = 8,
    Reason = 9,
    /// The first 6, 7 or 8 digits of a serial number that begins with the time, as ours do: many are alike in those.
    SerialPrefix = 10,
    /// The first 6 digits of any other one.
    OtherSerialPrefix = 11,
    KeyHash = 12,
    Fingerprint = 13,
    Authority = 14,
    Shown = 15,
    Request = 16,
}

/// How many digits of a serial number words are made of.
const SERIAL_DIGITS: [usize; 3] = [6, 7, 8];

/// How long the serial numbers are that this program makes, in digits.
const OWN_SERIAL: usize = 32;

impl Term {
    fn new(field: Field, value: &[u8]) -> Self {
        let mut named = Vec::with_capacity(value.len().saturating_add(1));
        named.push(field as u8);
        named.extend_from_slice(value);
        let [first, a, b, c, d, ..] = sha256(&named);
        Self { bucket: first % BUCKETS, hash: u32::from_be_bytes([a, b, c, d]).min(UNREAD - 1) }
    }

    fn text(field: Field, value: &str) -> Self {
        Self::new(field, value.as_bytes())
    }

    fn number(field: Field, value: u64) -> Self {
        Self::new(field, &value.to_be_bytes())
    }

    /// The words of an event.
    fn all_of(event: &AuditEvent) -> Vec<Self> {
        let (who, what) = (&event.who, event.what.as_ref());
        let texts = [
            (Field::Identity, who.spiffe_id.as_deref()),
            (Field::Namespace, who.namespace.as_deref()),
            (Field::ServiceAccount, who.service_account.as_deref()),
            (Field::Pod, who.pod.as_deref()),
            (Field::Node, who.node.as_deref()),
            (Field::Cluster, who.cluster.as_deref()),
            (Field::Reason, event.reason.as_deref()),
            (Field::KeyHash, what.map(|what| what.key_hash.as_str())),
            (Field::Fingerprint, what.and_then(|what| what.fingerprint.as_deref())),
            (Field::Authority, what.map(|what| what.authority.as_str())),
            (Field::Shown, who.certificate.as_deref()),
            (Field::Request, Some(event.request_id.as_str())),
        ];
        let texts = texts.into_iter().filter_map(|(field, text)| Some((field, text.filter(|text| !text.is_empty())?)));
        let mut all: Vec<Self> = texts.map(|(field, text)| Self::text(field, text)).collect();
        all.push(Self::number(Field::Outcome, event.outcome.number()));
        all.push(Self::number(Field::Kind, event.kind.number()));
        let serial = what.map(|what| what.serial.as_str()).unwrap_or_default();
        let own = serial.len() == OWN_SERIAL;
        for digits in SERIAL_DIGITS.into_iter().take(if own { SERIAL_DIGITS.len() } else { 1 }) {
            let field = if own { Field::SerialPrefix } else { Field::OtherSerialPrefix };
            all.extend(serial.get(..digits).map(|prefix| Self::text(field, prefix)));
        }
        all
    }
}

/// The part of time that this moment, in seconds since 1970, is in; as a number that is no [`UNREAD`].
fn unit(seconds: i64) -> u32 {
    u32::try_from(seconds.div_euclid(UNIT).max(0)).unwrap_or(UNREAD).min(UNREAD - 1)
}

/// The key of a row: the segment of the log comes first, so that rows are added at the end, and those of several pieces for
/// one bucket stand beside each other.
fn key(segment: u64, bucket: u8) -> i64 {
    i64::try_from((segment << 8) | u64::from(bucket)).unwrap_or(i64::MAX)
}

/// Which piece gets its rows next, and what has them with it. They are made forwards while the log grows, and backwards to
/// its beginning where it was there before them: the newest events are looked for first.
pub(super) fn next(closed: &Range<u64>, head: u64) -> Option<(u64, Range<u64>)> {
    let full = head / PIECE;
    if closed.is_empty() {
        let last = full.checked_sub(1)?;
        return Some((last, last.saturating_mul(PIECE)..full.saturating_mul(PIECE)));
    }
    let (first, end) = (closed.start / PIECE, closed.end / PIECE);
    if end < full {
        return Some((end, closed.start..end.saturating_add(1).saturating_mul(PIECE)));
    }
    let before = first.checked_sub(1)?;
    Some((before, before.saturating_mul(PIECE)..closed.end))
}

/// The pieces with rows that these positions are in, when `closed` has rows.
pub(super) fn pieces_of(positions: &[u64], closed: &Range<u64>) -> BTreeSet<u64> {
    positions.iter().filter(|position| closed.contains(position)).map(|position| position / PIECE).collect()
}

/// The keys of all rows of a piece.
pub(super) fn keys_of(piece: u64) -> Range<i64> {
    let segment = segment_of(piece);
    key(segment, 0)..key(segment.saturating_add(1), 0)
}

/// The segment of the log that a piece is in.
fn segment_of(piece: u64) -> u64 {
    piece.saturating_mul(PIECE) / SEGMENT
}

#[cfg(test)]
#[path = "terms_tests.rs"]
mod tests;
