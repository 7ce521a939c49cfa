//! Between events and rows, the same for every database: what the columns hold, what a page of rows means, and
//! which events a query asks for.

use signet_core::audit::{AuditEvent, AuditQuery, LeafHash, Outcome, Page, StoredEvent, leaf_hash};
use signet_core::certificate::Serial;
use signet_core::rotation::{Authorities, FormatError};
use signet_core::seams::store::StoreError;

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
    pub(super) body: String,
}

impl NewRow {
    /// Prepares an event for storage.
    pub(super) fn new(event: AuditEvent) -> Self {
        let body = event.encode();
        Self {
            serial: event.what.as_ref().and_then(|what| what.serial()),
            identity_hash: event.who.spiffe_id.as_deref().map(identity_hash),
            leaf_hash: leaf_hash(&body),
            // JSON is UTF-8 always.
            body: String::from_utf8(body).unwrap_or_default(),
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
    let [a, b, c, d, ..] = signet_core::certificate::key_hash(spiffe_id.as_bytes());
    u32::from_be_bytes([a, b, c, d])
}

/// `segment | hash | outcome`: 28, 32 and 3 bits of a positive 64-bit number.
pub(super) fn identity_key(segment: u64, hash: u32, outcome: Outcome) -> i64 {
    let outcome = match outcome {
        Outcome::Issued => 0,
        Outcome::Refused => 1,
        Outcome::Failed => 2,
        Outcome::Done => 3,
        Outcome::Intended => 4,
    };
    let key = (segment << 35) | (u64::from(hash) << 3) | outcome;
    i64::try_from(key & (u64::MAX >> 1)).unwrap_or(i64::MAX)
}

/// Whether all filters of a query but its cursor hold.
pub(super) fn matches(query: &AuditQuery, event: &AuditEvent) -> bool {
    let serial = || event.what.as_ref().and_then(|what| what.serial());
    query.spiffe_id.as_ref().is_none_or(|wanted| event.who.spiffe_id.as_ref() == Some(wanted))
        && query.since.is_none_or(|since| event.at_micros >= AuditEvent::micros(since))
        && query.outcome.is_none_or(|wanted| event.outcome == wanted)
        && query.serial.is_none_or(|wanted| serial() == Some(wanted))
}

/// Turns a row back into the event; `None` when retention has removed its body.
///
/// # Errors
/// [`StoreError::Damaged`] when the body is not what was once hashed.
pub(super) fn stored(sequence: i64, leaf: &[u8], body: Option<&str>) -> Result<Option<StoredEvent>, StoreError> {
    let Some(body) = body else { return Ok(None) };
    if leaf_hash(body.as_bytes()) != leaf {
        return Err(StoreError::Damaged(format!("audit event {sequence} does not have its hash")));
    }
    let damaged = |cause: String| StoreError::Damaged(format!("audit event {sequence} cannot be read: {cause}"));
    let event = serde_json::from_str(body).map_err(|error| damaged(error.to_string()))?;
    let sequence = u64::try_from(sequence).map_err(|error| damaged(error.to_string()))?;
    Ok(Some(StoredEvent { sequence, event }))
}

/// Cuts events, newest first and one more than fit, to a page of `limit`.
pub(super) fn page(mut items: Vec<StoredEvent>, limit: u32) -> Page<StoredEvent> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| last.sequence);
    Page { items, next }
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
        assert!(identity_key(u64::MAX / SEGMENT, u32::MAX, Outcome::Done) > 0);
    }

    #[test]
    fn a_changed_body_is_damage_and_a_pruned_one_is_not() {
        let leaf = leaf_hash(b"{}");
        assert_eq!(stored(3, &leaf, None).unwrap(), None);
        for body in ["{ }", "{}"] {
            let Err(StoreError::Damaged(text)) = stored(3, &leaf, Some(body)) else { panic!("accepted {body}") };
            assert!(text.contains("audit event 3"), "{text}");
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
