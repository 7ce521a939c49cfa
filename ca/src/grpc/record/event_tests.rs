//! Nothing of an event is lost on the wire.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;

fn full(sequence: u64) -> StoredEvent {
    let text = |text: &str| Some(text.to_owned());
    let who = Attributed {
        spiffe_id: text("spiffe://td/ns/a/sa/b"),
        namespace: text("1"),
        service_account: text("2"),
        service_account_uid: text("3"),
        pod: text("4"),
        pod_uid: text("5"),
        node: text("6"),
        cluster: text("7"),
        auth_method: text("8"),
        peer: text("9"),
        instance: text("10"),
        node_uid: text("11"),
        token_id: text("12"),
        certificate: text("13"),
        last_token_micros: Some(14),
    };
    let what = Certified {
        serial: "aa".into(),
        key_hash: "bb".into(),
        other_names: vec!["dns".into()],
        not_before: 15,
        not_after: 16,
        authority: "cc".into(),
        bundle_sequence: 17,
        acknowledges: true,
        fingerprint: text("dd"),
    };
    let event = AuditEvent {
        at_micros: -5,
        request_id: "r".into(),
        kind: EventKind::Unknown(77),
        outcome: Outcome::Unknown(78),
        reason: text(""),
        detail: text("why"),
        who,
        what: Some(what),
        repeated: Some(Repeated { count: 3, since_micros: -9 }),
    };
    let unknown_fields = UnknownFields::from([("who.13".to_owned(), "h'00'".to_owned())]);
    StoredEvent { sequence, event, unknown_fields }
}

#[test]
fn what_is_told_is_read_back_as_it_was() {
    let nothing = AuditEvent {
        kind: EventKind::Admin,
        outcome: Outcome::Done,
        reason: None,
        detail: None,
        who: Attributed::default(),
        what: None,
        repeated: None,
        ..full(1).event
    };
    let nothing = StoredEvent { sequence: 1, event: nothing, unknown_fields: UnknownFields::new() };
    for stored in [full(7), nothing] {
        assert_eq!(told(of_event(stored.clone())), Told::Event(stored));
    }
    for problem in [Unreadable::Newer, Unreadable::Damaged] {
        let (kind, outcome) = (EventKind::Admin, Outcome::Done);
        let unread = UnreadEvent { sequence: 3, at_micros: 4, kind, outcome, problem };
        assert_eq!(told(of_unread(&unread)), Told::Unread(unread));
    }
    let gone = told(bare(5, wire::EventProblem::Gone));
    assert_eq!(gone, Told::Bare { sequence: 5, problem: "removed by retention" });
    // Of a newer CA: not taken for an event.
    let newer = wire::Event { problem: 99, kind: Some(0), outcome: Some(0), ..wire::Event::default() };
    assert!(matches!(told(newer), Told::Bare { .. }));
}

#[test]
fn bytes_are_an_event_only_with_their_hash() {
    let event = AuditEvent { kind: EventKind::Admin, outcome: Outcome::Done, ..full(1).event };
    let body = event.encode();
    let leaf = |hash: &[u8], body: Option<&[u8]>| StoredLeaf {
        sequence: 4,
        hash: hash.to_vec(),
        body: body.map(<[u8]>::to_vec),
    };
    let good = leaf_hash(&body);
    assert_eq!(read(&leaf(&good, Some(&body))).unwrap().event, event);
    assert_eq!(read(&leaf(&[0; 32], Some(&body))).unwrap_err(), wire::EventProblem::Damaged);
    assert_eq!(read(&leaf(&good, None)).unwrap_err(), wire::EventProblem::Gone);
    let newer = b"\xff";
    assert_eq!(read(&leaf(&leaf_hash(newer), Some(newer))).unwrap_err(), wire::EventProblem::Newer);
}
