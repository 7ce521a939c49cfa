//! Stored events: whoever can write to the database file can put anything there.
//!
//! Promises: what is taken and holds nothing unknown is the one encoding of its event, unless it is JSON of before; what was
//! understood can be written and is read as the same again; unknown fields are told in words.

use signet_core::audit::AuditEvent;

use super::{Verdict, promise, readable};

pub(super) const WORDS: &[&str] = &[
    "at_micros",
    "request_id",
    "kind",
    "outcome",
    "reason",
    "detail",
    "who",
    "what",
    "repeated",
    "certificate",
    "admin",
    "issued",
    "refused",
    "spiffe_id",
    "pod_uid",
    "serial",
    "key_hash",
    "other_names",
    "not_after",
    "bundle_sequence",
    "acknowledges",
    "count",
    "since_micros",
    "00ff",
    "6844d090-9128-4cbf-8b6a-5252524f2eec",
    "\u{1}",
    "\u{7}",
    "a0",
];

pub(super) fn run(input: &[u8]) -> Verdict {
    let (event, unknown) = match AuditEvent::decode(input) {
        Err(error) => {
            readable(&error.to_string())?;
            return Ok(format!("{error:?}").chars().take(60).collect());
        }
        Ok(decoded) => decoded,
    };
    let again = event.encode();
    let is_json = input.first() == Some(&b'{');
    promise(is_json || !unknown.is_empty() || again == input, || format!("a second encoding of {event:?}"))?;
    let read = AuditEvent::decode(&again).map_err(|error| format!("{event:?} is not read again: {error}"))?;
    promise(read.0 == event && read.1.is_empty(), || format!("{event:?} is read as {read:?}"))?;
    let told = unknown.iter().all(|(name, value)| !name.is_empty() && !value.is_empty());
    promise(told, || format!("unknown without words: {unknown:?}"))?;
    let (kind, outcome) = (event.kind.as_str(), event.outcome.as_str());
    Ok(format!("{kind} {outcome} json {is_json} unknown {:?}", unknown.keys().take(4).collect::<Vec<_>>()))
}
