//! Filters on the wire, both ways, and what they let through of a stream. A filter that is not mapped here does not compile.

use prost_types::Timestamp;
use signet_core::audit::{AuditEvent, AuditQuery, EventKind, Outcome};
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
    let wire::EventFilter {
        spiffe_id,
        since,
        until,
        outcome,
        serial,
        shown_certificate,
        spiffe_id_prefix,
        namespace,
        service_account,
        pod,
        node,
        cluster,
        kind,
        reason,
        serial_prefix,
        key_hash,
        fingerprint,
        authorities,
        expires_before,
        expires_after,
        request_id,
    } = filter;
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let at = |name, at: &Option<Timestamp>| at.as_ref().map(|at| moment(name, at)).transpose();
    let serial = match serial.as_str() {
        "" => None,
        digits => Some(Serial::parse(digits).ok_or_else(|| {
            wrong(format!("serial: {digits:?} is not 32 to 40 hexadecimal digits; serial_prefix takes fewer"))
        })?),
    };
    let query = AuditQuery {
        spiffe_id: text(spiffe_id),
        spiffe_id_prefix: text(spiffe_id_prefix),
        namespace: text(namespace),
        service_account: text(service_account),
        pod: text(pod),
        node: text(node),
        cluster: text(cluster),
        since: at("since", since)?,
        until: at("until", until)?,
        outcome: outcome.map(Outcome::numbered),
        kind: kind.map(EventKind::numbered),
        reason: text(reason),
        serial,
        serial_prefix: text(serial_prefix),
        key_hash: text(key_hash),
        fingerprint: text(fingerprint),
        authorities: authorities.clone(),
        expires_before: at("expires_before", expires_before)?,
        expires_after: at("expires_after", expires_after)?,
        shown: text(shown_certificate),
        request_id: text(request_id),
        before: query.before,
        limit: query.limit,
    };
    query.checked().map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        wrong(errors.join("; "))
    })
}

/// The filter of a query.
pub(crate) fn filter(query: &AuditQuery) -> wire::EventFilter {
    let AuditQuery {
        spiffe_id,
        spiffe_id_prefix,
        namespace,
        service_account,
        pod,
        node,
        cluster,
        since,
        until,
        outcome,
        kind,
        reason,
        serial,
        serial_prefix,
        key_hash,
        fingerprint,
        authorities,
        expires_before,
        expires_after,
        shown,
        request_id,
        before: _,
        limit: _,
    } = query;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    wire::EventFilter {
        spiffe_id: text(spiffe_id),
        since: since.map(timestamp),
        until: until.map(timestamp),
        outcome: outcome.map(Outcome::number),
        serial: serial.map(|serial| serial.to_string()).unwrap_or_default(),
        shown_certificate: text(shown),
        spiffe_id_prefix: text(spiffe_id_prefix),
        namespace: text(namespace),
        service_account: text(service_account),
        pod: text(pod),
        node: text(node),
        cluster: text(cluster),
        kind: kind.map(EventKind::number),
        reason: text(reason),
        serial_prefix: text(serial_prefix),
        key_hash: text(key_hash),
        fingerprint: text(fingerprint),
        authorities: authorities.clone(),
        expires_before: expires_before.map(timestamp),
        expires_after: expires_after.map(timestamp),
        request_id: text(request_id),
    }
}

/// Whether an event of a stream is asked for.
fn matches(query: &AuditQuery, event: &AuditEvent) -> bool {
    query.matches(event) && query.until.is_none_or(|until| event.at_micros <= AuditEvent::micros(until))
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
    use signet_core::audit::Attributed;
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
            spiffe_id_prefix: Some("spiffe://td/".into()),
            namespace: Some("n".into()),
            service_account: Some("s".into()),
            pod: Some("p".into()),
            node: Some("o".into()),
            cluster: Some("c".into()),
            kind: Some(EventKind::Certificate),
            reason: Some("r".into()),
            serial_prefix: Some("5a5a5a".into()),
            key_hash: Some("6b".repeat(32)),
            fingerprint: Some("7c".repeat(32)),
            authorities: vec!["a1".into(), "a2".into()],
            expires_before: Some(NOW),
            expires_after: Some(NOW),
            request_id: Some("q".into()),
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
            ("shown", wire::EventFilter { shown_certificate: "xy".into(), ..filter(&all()) }, 1),
            ("since", wire::EventFilter { since: Some(at), ..filter(&all()) }, 1),
            ("until", wire::EventFilter { until: Some(at), ..filter(&all()) }, 1),
            ("serial_prefix", wire::EventFilter { serial_prefix: "5a".into(), ..filter(&all()) }, 1),
            ("key_hash", wire::EventFilter { key_hash: "zz".into(), ..filter(&all()) }, 1),
            ("expires_before", wire::EventFilter { expires_before: Some(at), ..filter(&all()) }, 1),
            ("limit", filter(&all()), 0),
            ("limit", filter(&all()), 1001),
        ] {
            let status = query(Some(&wrong), 0, limit).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().starts_with(name), "{name}: {status:?}");
        }
    }

    #[test]
    fn a_stream_ends_at_the_time_that_was_given() {
        let event = AuditEvent {
            at_micros: AuditEvent::micros(NOW),
            request_id: String::new(),
            kind: EventKind::Certificate,
            outcome: Outcome::Refused,
            reason: None,
            detail: None,
            who: Attributed::default(),
            what: None,
            repeated: None,
        };
        let until = |until| AuditQuery { until: Some(until), ..AuditQuery::newest(1).unwrap() };
        assert!(matches(&until(NOW), &event));
        assert!(!matches(&until(NOW - 1.seconds()), &event));
        assert!(!matches(&AuditQuery { pod: Some("p".into()), ..until(NOW) }, &event));
    }
}
