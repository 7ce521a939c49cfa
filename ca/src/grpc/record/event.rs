//! Events on the wire, both ways: the service tells them, the command line reads them back.

use std::collections::HashMap;

use signet_core::audit::{
    Attributed, AuditEvent, Certified, EventKind, Outcome, Page, Repeated, StoredEvent, UnknownFields, UnreadEvent,
    Unreadable, leaf_hash,
};
use signet_core::seams::record_tree::StoredLeaf;
use signet_proto::admin::v1alpha1 as wire;

/// An event as the command line shows it, or what is known of one that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are events")]
pub(crate) enum Told {
    /// One that can be read.
    Event(StoredEvent),
    /// One that cannot.
    Unread(UnreadEvent),
    /// One of which nothing but its position is known here: it cannot be read and stands in a stream, or its bytes are gone.
    Bare {
        /// Its position.
        sequence: u64,
        /// Why.
        problem: &'static str,
    },
}

/// The entries of a page, newest first.
pub(crate) fn entries(page: Page<StoredEvent>) -> Vec<wire::Event> {
    let read = page.items.into_iter().map(of_event);
    let mut all: Vec<wire::Event> = read.chain(page.unread.iter().map(of_unread)).collect();
    all.sort_by_key(|event| std::cmp::Reverse(event.sequence));
    all
}

/// An event.
pub(crate) fn of_event(stored: StoredEvent) -> wire::Event {
    let StoredEvent { sequence, event, unknown_fields } = stored;
    let AuditEvent { at_micros, request_id, kind, outcome, reason, detail, who, what, repeated } = event;
    wire::Event {
        sequence,
        at_micros,
        kind: Some(kind.number()),
        outcome: Some(outcome.number()),
        request_id,
        reason,
        detail,
        who: Some(subject(who)),
        what: what.map(certificate),
        times: repeated.map(|Repeated { count, since_micros }| wire::EventTimes { count, since_micros }),
        unknown_fields: unknown_fields.into_iter().collect::<HashMap<_, _>>(),
        problem: wire::EventProblem::Unspecified.into(),
    }
}

fn of_unread(event: &UnreadEvent) -> wire::Event {
    wire::Event {
        sequence: event.sequence,
        at_micros: event.at_micros,
        kind: Some(event.kind.number()),
        outcome: Some(event.outcome.number()),
        problem: problem(event.problem).into(),
        ..wire::Event::default()
    }
}

fn problem(why: Unreadable) -> wire::EventProblem {
    match why {
        Unreadable::Newer => wire::EventProblem::Newer,
        Unreadable::Damaged => wire::EventProblem::Damaged,
    }
}

/// What is read of the bytes that are stored.
pub(crate) fn read(leaf: &StoredLeaf) -> Result<StoredEvent, wire::EventProblem> {
    let body = leaf.body.as_deref().ok_or(wire::EventProblem::Gone)?;
    if leaf_hash(body).as_slice() != leaf.hash {
        return Err(wire::EventProblem::Damaged);
    }
    let (event, unknown_fields) = AuditEvent::decode(body).map_err(|_| wire::EventProblem::Newer)?;
    Ok(StoredEvent { sequence: leaf.sequence, event, unknown_fields })
}

/// An event of which nothing is known but why.
pub(crate) fn bare(sequence: u64, problem: wire::EventProblem) -> wire::Event {
    wire::Event { sequence, problem: problem.into(), ..wire::Event::default() }
}

fn subject(who: Attributed) -> wire::EventSubject {
    let Attributed {
        spiffe_id,
        namespace,
        service_account,
        service_account_uid,
        pod,
        pod_uid,
        node,
        cluster,
        auth_method,
        peer,
        instance,
        node_uid,
        token_id,
        certificate,
        last_token_micros,
    } = who;
    wire::EventSubject {
        spiffe_id,
        namespace,
        service_account,
        service_account_uid,
        pod,
        pod_uid,
        node,
        node_uid,
        cluster,
        auth_method,
        peer,
        instance,
        token_id,
        certificate,
        last_token_micros,
    }
}

fn certificate(what: Certified) -> wire::EventCertificate {
    let Certified {
        serial,
        key_hash,
        other_names,
        not_before,
        not_after,
        authority,
        bundle_sequence,
        acknowledges,
        fingerprint,
    } = what;
    wire::EventCertificate {
        serial,
        key_hash,
        other_names,
        not_before,
        not_after,
        authority,
        bundle_sequence,
        acknowledges,
        fingerprint,
    }
}

/// What was told, read back. A problem of a newer CA is one that nobody here knows.
pub(crate) fn told(event: wire::Event) -> Told {
    let sequence = event.sequence;
    match (event.problem(), event.kind, event.outcome) {
        (wire::EventProblem::Unspecified, Some(kind), Some(outcome)) if event.problem == 0 => {
            Told::Event(stored(event, EventKind::numbered(kind), Outcome::numbered(outcome)))
        }
        (why @ (wire::EventProblem::Newer | wire::EventProblem::Damaged), Some(kind), Some(outcome)) => {
            let problem = if why == wire::EventProblem::Newer { Unreadable::Newer } else { Unreadable::Damaged };
            let (kind, outcome) = (EventKind::numbered(kind), Outcome::numbered(outcome));
            Told::Unread(UnreadEvent { sequence, at_micros: event.at_micros, kind, outcome, problem })
        }
        (why, ..) => Told::Bare { sequence, problem: in_words(why) },
    }
}

fn in_words(why: wire::EventProblem) -> &'static str {
    match why {
        wire::EventProblem::Newer => "written by a newer version",
        wire::EventProblem::Damaged => "damaged",
        wire::EventProblem::Gone => "removed by retention",
        wire::EventProblem::Unspecified => "it cannot be read",
    }
}

fn stored(event: wire::Event, kind: EventKind, outcome: Outcome) -> StoredEvent {
    let who = event.who.unwrap_or_default();
    let what = event.what.map(|what| Certified {
        serial: what.serial,
        key_hash: what.key_hash,
        other_names: what.other_names,
        not_before: what.not_before,
        not_after: what.not_after,
        authority: what.authority,
        bundle_sequence: what.bundle_sequence,
        acknowledges: what.acknowledges,
        fingerprint: what.fingerprint,
    });
    StoredEvent {
        sequence: event.sequence,
        event: AuditEvent {
            at_micros: event.at_micros,
            request_id: event.request_id,
            kind,
            outcome,
            reason: event.reason,
            detail: event.detail,
            who: Attributed {
                spiffe_id: who.spiffe_id,
                namespace: who.namespace,
                service_account: who.service_account,
                service_account_uid: who.service_account_uid,
                pod: who.pod,
                pod_uid: who.pod_uid,
                node: who.node,
                cluster: who.cluster,
                auth_method: who.auth_method,
                peer: who.peer,
                instance: who.instance,
                node_uid: who.node_uid,
                token_id: who.token_id,
                certificate: who.certificate,
                last_token_micros: who.last_token_micros,
            },
            what,
            repeated: event.times.map(|times| Repeated { count: times.count, since_micros: times.since_micros }),
        },
        unknown_fields: event.unknown_fields.into_iter().collect::<UnknownFields>(),
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
