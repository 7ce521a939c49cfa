//! Filters on the wire, both ways, and what they let through of a stream. A filter that is not mapped here does not compile.

use prost_types::Timestamp;
use signet_core::audit::{AuditEvent, AuditQuery, Outcome};
use signet_core::certificate::Serial;
use signet_core::seams::record_tree::StoredLeaf;
use signet_proto::admin::v1alpha1 as wire;
use time::OffsetDateTime;
use time::ext::NumericalDuration as _;
use tonic::Status;

use super::event::{bare, of_event, read};

/// The query of a filter.
///
/// # Errors
/// `INVALID_ARGUMENT` that says which part cannot be understood.
pub(crate) fn query(filter: Option<&wire::EventFilter>, before: u64, limit: u32) -> Result<AuditQuery, Status> {
    let wrong = |text: String| Status::invalid_argument(text);
    let mut query = AuditQuery::newest(limit).map_err(|error| wrong(format!("limit: {error}")))?;
    query.before = Some(before).filter(|before| *before > 0);
    let Some(filter) = filter else { return Ok(query) };
    unknown(filter)?;
    let wire::EventFilter { spiffe_id, since, until, outcome, serial, shown_certificate, .. } = filter;
    query.spiffe_id = Some(spiffe_id.clone()).filter(|id| !id.is_empty());
    query.since = since.as_ref().map(|at| moment("since", at)).transpose()?;
    query.until = until.as_ref().map(|at| moment("until", at)).transpose()?;
    query.outcome = outcome.map(Outcome::numbered);
    if !serial.is_empty() {
        let found = Serial::parse(serial);
        let found = found.ok_or_else(|| wrong(format!("serial: {serial:?} is not 32 to 40 hexadecimal digits")))?;
        query.serial = Some(found);
    }
    if !shown_certificate.is_empty() {
        if shown_certificate.len() > 40
            || !shown_certificate.bytes().all(|one| matches!(one, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(wrong("shown_certificate: no serial number of at most 40 small hexadecimal digits".to_owned()));
        }
        query.shown = Some(shown_certificate.clone());
    }
    Ok(query)
}

/// The filter of a query.
pub(crate) fn filter(query: &AuditQuery) -> wire::EventFilter {
    let AuditQuery { spiffe_id, since, until, outcome, serial, shown, before: _, limit: _ } = query;
    wire::EventFilter {
        spiffe_id: spiffe_id.clone().unwrap_or_default(),
        since: since.map(timestamp),
        until: until.map(timestamp),
        outcome: outcome.map(Outcome::number),
        serial: serial.map(|serial| serial.to_string()).unwrap_or_default(),
        shown_certificate: shown.clone().unwrap_or_default(),
        ..wire::EventFilter::default()
    }
}

/// Refuses what this version does not look for, which must not be taken for a filter that holds for everything.
fn unknown(filter: &wire::EventFilter) -> Result<(), Status> {
    let unknown = [
        ("spiffe_id_prefix", !filter.spiffe_id_prefix.is_empty()),
        ("namespace", !filter.namespace.is_empty()),
        ("service_account", !filter.service_account.is_empty()),
        ("pod", !filter.pod.is_empty()),
        ("node", !filter.node.is_empty()),
        ("cluster", !filter.cluster.is_empty()),
        ("kind", filter.kind.is_some()),
        ("reason", !filter.reason.is_empty()),
        ("serial_prefix", !filter.serial_prefix.is_empty()),
        ("key_hash", !filter.key_hash.is_empty()),
        ("fingerprint", !filter.fingerprint.is_empty()),
        ("authorities", !filter.authorities.is_empty()),
        ("expires_before", filter.expires_before.is_some()),
        ("expires_after", filter.expires_after.is_some()),
        ("request_id", !filter.request_id.is_empty()),
    ];
    match unknown.into_iter().find(|(_, is_set)| *is_set) {
        Some((name, _)) => Err(Status::invalid_argument(format!("{name}: this version has no such filter"))),
        None => Ok(()),
    }
}

/// Whether an event of a stream is asked for.
fn matches(query: &AuditQuery, event: &AuditEvent) -> bool {
    let AuditQuery { spiffe_id, since, until, outcome, serial, shown, before: _, limit: _ } = query;
    let of_event = || event.what.as_ref().and_then(|what| what.serial());
    spiffe_id.as_ref().is_none_or(|wanted| event.who.spiffe_id.as_ref() == Some(wanted))
        && since.is_none_or(|since| event.at_micros >= AuditEvent::micros(since))
        && until.is_none_or(|until| event.at_micros <= AuditEvent::micros(until))
        && outcome.is_none_or(|wanted| event.outcome == wanted)
        && serial.is_none_or(|wanted| of_event() == Some(wanted))
        && shown.as_ref().is_none_or(|wanted| event.who.certificate.as_ref() == Some(wanted))
}

/// What a stream tells of a stored event; nothing of one that is not asked for. One that cannot be read may be asked for. One that
/// retention has left no bytes of is told of to whoever asks for everything, so that no position is missing there.
pub(crate) fn asked(query: &AuditQuery, leaf: &StoredLeaf) -> Option<wire::Event> {
    match read(leaf) {
        Ok(stored) => matches(query, &stored.event).then(|| of_event(stored)),
        Err(wire::EventProblem::Gone) if !is_for_all(query) => None,
        Err(problem) => Some(bare(leaf.sequence, problem)),
    }
}

/// Whether no filter is set.
fn is_for_all(query: &AuditQuery) -> bool {
    AuditQuery::newest(query.limit).is_ok_and(|all| all == AuditQuery { before: None, ..query.clone() })
}

fn moment(name: &str, at: &Timestamp) -> Result<OffsetDateTime, Status> {
    let whole = OffsetDateTime::from_unix_timestamp(at.seconds).ok();
    let found = whole.and_then(|whole| whole.checked_add(i64::from(at.nanos).nanoseconds()));
    found.ok_or_else(|| Status::invalid_argument(format!("{name}: not a time between the years -9999 and 9999")))
}

fn timestamp(at: OffsetDateTime) -> Timestamp {
    Timestamp { seconds: at.unix_timestamp(), nanos: i32::try_from(at.nanosecond()).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use signet_core::audit::{Attributed, EventKind};
    use tonic::Code;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00:00.5 UTC);

    fn all() -> AuditQuery {
        AuditQuery {
            spiffe_id: Some("spiffe://td/a".into()),
            since: Some(NOW),
            until: Some(NOW),
            outcome: Some(Outcome::Refused),
            serial: Serial::parse(&"5a".repeat(16)),
            shown: Some("ab".into()),
            before: Some(9),
            limit: 7,
        }
    }

    #[test]
    fn a_query_goes_over_the_wire_and_comes_back() {
        let none = AuditQuery::newest(1000).unwrap();
        for asked in [all(), none] {
            assert_eq!(query(Some(&filter(&asked)), asked.before.unwrap_or_default(), asked.limit).unwrap(), asked);
        }
    }

    #[test]
    fn what_retention_has_left_no_bytes_of_is_told_of_where_everything_is_asked_for() {
        let gone = StoredLeaf { sequence: 4, hash: vec![0; 32], body: None };
        let damaged = StoredLeaf { body: Some(vec![1]), ..gone.clone() };
        let (all, some) = (AuditQuery { before: Some(9), ..AuditQuery::newest(3).unwrap() }, all());
        assert_eq!(asked(&all, &gone).unwrap().problem(), wire::EventProblem::Gone);
        assert_eq!(asked(&some, &gone), None);
        for query in [&all, &some] {
            assert_eq!(asked(query, &damaged).unwrap().problem(), wire::EventProblem::Damaged);
        }
    }

    #[test]
    fn what_cannot_be_understood_is_named_and_refused() {
        let at = Timestamp { seconds: i64::MAX, nanos: 0 };
        for (name, wrong, limit) in [
            ("serial", wire::EventFilter { serial: "12".into(), ..filter(&all()) }, 1),
            ("shown_certificate", wire::EventFilter { shown_certificate: "AB".into(), ..filter(&all()) }, 1),
            ("since", wire::EventFilter { since: Some(at), ..filter(&all()) }, 1),
            ("until", wire::EventFilter { until: Some(at), ..filter(&all()) }, 1),
            ("pod", wire::EventFilter { pod: "a".into(), ..filter(&all()) }, 1),
            ("kind", wire::EventFilter { kind: Some(0), ..filter(&all()) }, 1),
            ("limit", filter(&all()), 0),
            ("limit", filter(&all()), 1001),
        ] {
            let status = query(Some(&wrong), 0, limit).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().starts_with(name), "{name}: {status:?}");
        }
    }

    #[test]
    fn each_part_of_a_filter_must_hold() {
        let event = AuditEvent {
            at_micros: AuditEvent::micros(NOW),
            request_id: String::new(),
            kind: EventKind::Certificate,
            outcome: Outcome::Refused,
            reason: None,
            detail: None,
            who: Attributed {
                spiffe_id: Some("spiffe://td/a".into()),
                certificate: Some("ab".into()),
                ..Attributed::default()
            },
            what: None,
            repeated: None,
        };
        let every = AuditQuery { serial: None, ..all() };
        assert!(matches(&every, &event));
        let second = 1.seconds();
        for other in [
            AuditQuery { spiffe_id: Some("spiffe://td/b".into()), ..every.clone() },
            AuditQuery { since: Some(NOW + second), ..every.clone() },
            AuditQuery { until: Some(NOW - second), ..every.clone() },
            AuditQuery { outcome: Some(Outcome::Issued), ..every.clone() },
            AuditQuery { shown: Some("cd".into()), ..every.clone() },
            all(),
        ] {
            assert!(!matches(&other, &event), "{other:?}");
        }
    }
}
