//! Between events and rows, the same for every database: what the columns hold, what a page of rows means, and
//! which events a query asks for.

use signet_core::audit::{
    AuditEvent, AuditQuery, EventKind, LeafHash, Outcome, Page, StoredEvent, UnknownFields, UnreadEvent, Unreadable,
    leaf_hash,
};
use signet_core::certificate::Serial;
use signet_core::rotation::{Authorities, FormatError};
use signet_core::seams::store::StoreError;

use super::columns::columns;
#[cfg(test)]
use super::holders::column;

/// How many events make a segment of the log. Part of the schema: `identity_key` is computed with it.
pub(super) const SEGMENT: u64 = 8192;

/// Where the log ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The sequence number of the next event.
    pub(super) next: u64,
    /// The largest time of any event so far, microseconds since 1970.
    pub(super) high_micros: i64,
}

impl Head {
    /// The head after an event of this time.
    pub(super) fn after(self, at_micros: i64) -> Self {
        Self { next: self.next.saturating_add(1), high_micros: self.high_micros.max(at_micros) }
    }
}

/// One event with everything that its columns need, computed once.
pub(super) struct NewRow {
    /// The event itself.
    pub(super) event: AuditEvent,
    /// Its serial, when it certified something.
    pub(super) serial: Option<Serial>,
    /// The hash part of its identity key.
    identity_hash: Option<u32>,
    /// Its leaf hash.
    pub(super) leaf_hash: LeafHash,
    /// Its canonical encoding.
    pub(super) body: Vec<u8>,
}

impl NewRow {
    /// Prepares an event for storage.
    pub(super) fn new(event: AuditEvent) -> Self {
        let body = event.encode();
        Self {
            serial: event.what.as_ref().and_then(|what| what.serial()),
            identity_hash: event.who.spiffe_id.as_deref().map(identity_hash),
            leaf_hash: leaf_hash(&body),
            body,
            event,
        }
    }

    /// The value of the column `identity_key` at this position of the log.
    pub(super) fn identity_key(&self, sequence: u64) -> Option<i64> {
        self.identity_hash.map(|hash| identity_key(sequence / SEGMENT, hash, self.event.outcome))
    }
}

/// A short hash of a SPIFFE ID. Two identities may share one: whoever searches by it compares the identity afterwards.
pub(super) fn identity_hash(spiffe_id: &str) -> u32 {
    let [a, b, c, d, ..] = signet_core::digest::sha256(spiffe_id.as_bytes());
    u32::from_be_bytes([a, b, c, d])
}

/// Outcomes that an identity key tells apart; the last stands for all above it, too.
const OUTCOME_SLOTS: u64 = 8;

/// `segment | hash | outcome`: 28, 32 and 3 bits of a positive 64-bit number.
pub(super) fn identity_key(segment: u64, hash: u32, outcome: Outcome) -> i64 {
    let slot = outcome.number().min(OUTCOME_SLOTS - 1);
    let key = (segment << 35) | (u64::from(hash) << 3) | slot;
    i64::try_from(key & (u64::MAX >> 1)).unwrap_or(i64::MAX)
}

/// The keys of an identity within a segment, of all outcomes that there may ever be.
pub(super) fn identity_keys(segment: u64, hash: u32) -> impl Iterator<Item = i64> {
    (0..OUTCOME_SLOTS).map(move |slot| identity_key(segment, hash, Outcome::numbered(slot)))
}

/// The hash in an identity key.
fn hash_of_key(key: i64) -> u32 {
    u32::try_from((key >> 3) & i64::from(u32::MAX)).unwrap_or_default()
}

/// One row of the log as its columns hold it.
pub(super) struct LogRow {
    pub(super) seq: i64,
    at_micros: i64,
    kind: i64,
    outcome: i64,
    identity_key: Option<i64>,
    leaf_hash: Vec<u8>,
    body: Option<Vec<u8>>,
}

/// The columns of a [`LogRow`].
pub(super) const LOG_COLUMNS: &str = "seq, at_micros, kind, outcome, identity_key, leaf_hash, body";

columns!(LogRow { seq, at_micros, kind, outcome, identity_key, leaf_hash, body } from
    #[cfg(feature = "postgres")] sqlx::postgres::PgRow,
    #[cfg(feature = "sqlite")] sqlx::sqlite::SqliteRow);

/// An event of a page, or one that cannot be read.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are events")]
pub(super) enum Found {
    Event(StoredEvent),
    Unread(UnreadEvent),
}

impl Found {
    fn sequence(&self) -> u64 {
        match self {
            Self::Event(event) => event.sequence,
            Self::Unread(event) => event.sequence,
        }
    }
}

impl LogRow {
    /// The event, or why it cannot be read; `None` when retention has removed the body.
    pub(super) fn read(&self) -> Option<Result<(AuditEvent, UnknownFields), Unreadable>> {
        let body = self.body.as_deref()?;
        if leaf_hash(body).as_slice() != self.leaf_hash {
            return Some(Err(Unreadable::Damaged));
        }
        Some(AuditEvent::decode(body).map_err(|error| {
            tracing::debug!(sequence = self.seq, %error, "an event cannot be read");
            Unreadable::Newer
        }))
    }

    /// The event, if the query asks for it. One that cannot be read is asked for when its columns do not speak against it.
    pub(super) fn found(self, query: &AuditQuery) -> Option<Found> {
        let sequence = self.seq.unsigned_abs();
        let problem = match self.read()? {
            Ok((event, unknown_fields)) => {
                let found = query.matches(&event);
                return found.then_some(Found::Event(StoredEvent { sequence, event, unknown_fields }));
            }
            Err(problem) => problem,
        };
        let unread = UnreadEvent {
            sequence,
            at_micros: self.at_micros,
            kind: EventKind::numbered(self.kind.unsigned_abs()),
            outcome: Outcome::numbered(self.outcome.unsigned_abs()),
            problem,
        };
        let may = query.since.is_none_or(|since| unread.at_micros >= AuditEvent::micros(since))
            && query.until.is_none_or(|until| unread.at_micros <= AuditEvent::micros(until))
            && query.outcome.is_none_or(|wanted| unread.outcome == wanted)
            && query.kind.is_none_or(|wanted| unread.kind == wanted)
            && query.spiffe_id.as_deref().is_none_or(|wanted| self.may_be_of(wanted));
        may.then_some(Found::Unread(unread))
    }

    /// The row that this event has at this position.
    #[cfg(test)]
    pub(super) fn of(sequence: u64, row: &NewRow) -> Self {
        Self {
            seq: column(sequence),
            at_micros: row.event.at_micros,
            kind: column(row.event.kind.number()),
            outcome: column(row.event.outcome.number()),
            identity_key: row.identity_key(sequence),
            leaf_hash: row.leaf_hash.to_vec(),
            body: Some(row.body.clone()),
        }
    }

    /// The same with a hash that is not that of its body.
    #[cfg(test)]
    pub(super) fn damaged(self) -> Self {
        Self { leaf_hash: vec![0; 32], ..self }
    }

    /// The same after retention has removed the body.
    #[cfg(test)]
    pub(super) fn removed(self) -> Self {
        Self { body: None, ..self }
    }

    /// Whether it may be about this identity, by its column.
    fn may_be_of(&self, spiffe_id: &str) -> bool {
        self.identity_key.is_some_and(|key| hash_of_key(key) == identity_hash(spiffe_id))
    }
}

/// An event that was not stored as bytes.
pub(super) fn remembered(sequence: u64, event: AuditEvent) -> Found {
    Found::Event(StoredEvent { sequence, event, unknown_fields: UnknownFields::new() })
}

/// Cuts what was found, newest first, to a page of `limit`. `stopped` is from where on there may be more when it is not full.
pub(super) fn page(mut found: Vec<Found>, limit: u32, stopped: Option<u64>) -> Page<StoredEvent> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = found.len() > limit;
    found.truncate(limit);
    let next = if more { found.last().map(Found::sequence) } else { stopped };
    let (mut items, mut unread) = (Vec::with_capacity(found.len()), Vec::new());
    for one in found {
        match one {
            Found::Event(event) => items.push(event),
            Found::Unread(event) => unread.push(event),
        }
    }
    Page { items, unread, next }
}

/// A journal entry as text.
///
/// # Errors
/// [`StoreError::Schema`] when this program may not write it.
pub(super) fn encode_authorities(authorities: &Authorities) -> Result<String, StoreError> {
    authorities.encode().map_err(|error| StoreError::Schema(error.to_string()))
}

/// A journal entry from its text.
///
/// # Errors
/// [`StoreError::Damaged`], or [`StoreError::Schema`] when only a newer program can read it.
pub(super) fn decode_authorities(version: i64, body: &str) -> Result<Authorities, StoreError> {
    Authorities::decode(body).map_err(|error| match error {
        FormatError::Damaged(why) => StoreError::Damaged(format!("journal version {version}: {why}")),
        newer => StoreError::Schema(newer.to_string()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn identity_keys_are_fixed_for_ever_and_ordered_by_segment() {
        assert_eq!(identity_hash("spiffe://cluster.local/ns/a/sa/b"), 0x0cdf_a33b);
        assert_eq!(identity_key(0, 1, Outcome::Issued), 8);
        assert_eq!(identity_key(1, 0, Outcome::Done), (1 << 35) | 3);
        assert!(identity_key(1, 0, Outcome::Issued) > identity_key(0, u32::MAX, Outcome::Done));
        assert_eq!(hash_of_key(identity_key(u64::MAX, 0xfedc_ba98, Outcome::Unknown(9))), 0xfedc_ba98);
        assert!(identity_key(u64::MAX / SEGMENT, u32::MAX, Outcome::Done) > 0);
    }

    #[test]
    fn only_a_body_without_its_hash_is_damaged_and_filters_hold_for_what_columns_say() {
        let row = |body: Option<&[u8]>, hashed: &[u8]| LogRow {
            seq: 3,
            at_micros: 2_000_000,
            kind: 4,
            outcome: 9,
            identity_key: Some(identity_key(5, identity_hash("a"), Outcome::Issued)),
            leaf_hash: leaf_hash(hashed).to_vec(),
            body: body.map(<[u8]>::to_vec),
        };
        let all = AuditQuery::newest(1).unwrap();
        assert_eq!(row(None, b"x").found(&all), None, "retention has removed it");
        let problem = |body: &[u8], hashed: &[u8], query: &AuditQuery| match row(Some(body), hashed).found(query) {
            Some(Found::Unread(event)) => {
                assert_eq!((event.sequence, event.at().unix_timestamp()), (3, 2));
                assert_eq!((event.kind, event.outcome), (EventKind::Admin, Outcome::Unknown(9)));
                Some(event.problem)
            }
            Some(Found::Event(event)) => panic!("{event:?}"),
            None => None,
        };
        assert_eq!(problem(b"{ }", b"{}", &all), Some(Unreadable::Damaged));
        for newer in [&b"{}"[..], b"\x82\x02\x00", b"\xff", b""] {
            assert_eq!(problem(newer, newer, &all), Some(Unreadable::Newer), "{newer:?}");
        }
        let since = |seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok();
        for (query, found) in [
            (AuditQuery { since: since(2), ..all.clone() }, true),
            (AuditQuery { since: since(3), ..all.clone() }, false),
            (AuditQuery { outcome: Some(Outcome::Done), ..all.clone() }, false),
            (AuditQuery { outcome: Some(Outcome::Unknown(9)), ..all.clone() }, true),
            (AuditQuery { spiffe_id: Some("a".into()), ..all.clone() }, true),
            (AuditQuery { spiffe_id: Some("b".into()), ..all.clone() }, false),
            (AuditQuery { kind: Some(EventKind::Admin), ..all.clone() }, true),
            (AuditQuery { kind: Some(EventKind::Authority), ..all.clone() }, false),
            // Nothing is known of that.
            (AuditQuery { pod: Some("a".into()), ..all.clone() }, true),
        ] {
            assert_eq!(problem(b"{}", b"{}", &query).is_some(), found, "{query:?}");
        }
    }

    #[test]
    fn a_journal_that_a_newer_program_has_closed_to_this_one_is_read_and_not_written() {
        let newer = r#"{"format":9,"oldest_writer":9,"bundle_sequence":4,"roots":[]}"#;
        let read = decode_authorities(3, newer).unwrap();
        assert_eq!(read.bundle_sequence, 4);
        let Err(StoreError::Schema(text)) = encode_authorities(&read) else { panic!("written") };
        assert!(text.contains("format 9"), "{text}");
        let Err(StoreError::Schema(_)) = decode_authorities(3, r#"{"format":9}"#) else { panic!("read") };
        let Err(StoreError::Damaged(text)) = decode_authorities(3, "{}") else { panic!("read") };
        assert!(text.contains("journal version 3"), "{text}");
    }
}
