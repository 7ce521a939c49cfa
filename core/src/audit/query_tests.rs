//! Which events each filter is for, and which filters are of no use.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::audit::{Attributed, Certified};
use time::macros::datetime;

const END: OffsetDateTime = datetime!(2026-03-02 12:00 UTC);

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn issued() -> AuditEvent {
    AuditEvent {
        at_micros: AuditEvent::micros(datetime!(2026-03-01 12:00 UTC)),
        request_id: "r1".into(),
        kind: EventKind::Certificate,
        outcome: Outcome::Issued,
        reason: text("late"),
        detail: None,
        who: Attributed {
            spiffe_id: text("spiffe://cluster.local/ns/shop/sa/web"),
            namespace: text("shop"),
            service_account: text("web"),
            pod: text("web-1"),
            node: text("n1"),
            cluster: text("c1"),
            certificate: text("0a"),
            ..Attributed::default()
        },
        what: Some(Certified {
            serial: "46b0bce5404127f1a88fe9096d6daa9f".into(),
            key_hash: "ab".repeat(32),
            other_names: Vec::new(),
            not_before: 0,
            not_after: END.unix_timestamp(),
            authority: "cd".repeat(20),
            bundle_sequence: 1,
            acknowledges: false,
            fingerprint: Some("ef".repeat(32)),
        }),
        repeated: None,
    }
}

#[test]
fn each_filter_alone_tells_an_event_from_one_that_differs_in_just_that() {
    let all = || AuditQuery::newest(1).unwrap();
    let second = time::Duration::SECOND;
    let serial = Serial::parse("46b0bce5404127f1a88fe9096d6daa9f");
    let other = Serial::parse("46b0bce5404127f1a88fe9096d6daaa0");
    let id = "spiffe://cluster.local/ns/shop/sa/we";
    for (right, wrong) in [
        (AuditQuery { spiffe_id: text(&format!("{id}b")), ..all() }, AuditQuery { spiffe_id: text(id), ..all() }),
        (
            AuditQuery { spiffe_id_prefix: text(id), ..all() },
            AuditQuery { spiffe_id_prefix: text(&format!("{id}b-")), ..all() },
        ),
        (AuditQuery { namespace: text("shop"), ..all() }, AuditQuery { namespace: text("sho"), ..all() }),
        (AuditQuery { service_account: text("web"), ..all() }, AuditQuery { service_account: text("w"), ..all() }),
        (AuditQuery { pod: text("web-1"), ..all() }, AuditQuery { pod: text("web"), ..all() }),
        (AuditQuery { node: text("n1"), ..all() }, AuditQuery { node: text("n"), ..all() }),
        (AuditQuery { cluster: text("c1"), ..all() }, AuditQuery { cluster: text("c2"), ..all() }),
        (
            AuditQuery { since: Some(datetime!(2026-03-01 12:00 UTC)), ..all() },
            AuditQuery { since: Some(datetime!(2026-03-01 12:00:01 UTC)), ..all() },
        ),
        (
            AuditQuery { until: Some(datetime!(2026-03-01 12:00 UTC)), ..all() },
            AuditQuery { until: Some(datetime!(2026-03-01 11:59:59 UTC)), ..all() },
        ),
        (
            AuditQuery { outcome: Some(Outcome::Issued), ..all() },
            AuditQuery { outcome: Some(Outcome::Failed), ..all() },
        ),
        (
            AuditQuery { kind: Some(EventKind::Certificate), ..all() },
            AuditQuery { kind: Some(EventKind::Admin), ..all() },
        ),
        (AuditQuery { reason: text("late"), ..all() }, AuditQuery { reason: text("early"), ..all() }),
        (AuditQuery { serial, ..all() }, AuditQuery { serial: other, ..all() }),
        (AuditQuery { serial_prefix: text("46b0bc"), ..all() }, AuditQuery { serial_prefix: text("6b0bce"), ..all() }),
        (
            AuditQuery { key_hash: Some("ab".repeat(32)), ..all() },
            AuditQuery { key_hash: Some("ac".repeat(32)), ..all() },
        ),
        (
            AuditQuery { fingerprint: Some("ef".repeat(32)), ..all() },
            AuditQuery { fingerprint: Some("ab".repeat(32)), ..all() },
        ),
        (
            AuditQuery { authorities: vec!["aa".into(), "cd".repeat(20)], ..all() },
            AuditQuery { authorities: vec!["cd".into()], ..all() },
        ),
        (
            AuditQuery { expires_before: Some(END.saturating_add(second)), ..all() },
            AuditQuery { expires_before: Some(END), ..all() },
        ),
        (
            AuditQuery { expires_after: Some(END), ..all() },
            AuditQuery { expires_after: Some(END.saturating_add(second)), ..all() },
        ),
        (AuditQuery { shown: text("0a"), ..all() }, AuditQuery { shown: text("0b"), ..all() }),
        (AuditQuery { request_id: text("r1"), ..all() }, AuditQuery { request_id: text("r"), ..all() }),
    ] {
        assert!(right.matches(&issued()), "{right:?}");
        assert!(!wrong.matches(&issued()), "{wrong:?}");
        let bare = AuditEvent { who: Attributed::default(), what: None, reason: None, ..issued() };
        let bare = AuditEvent { at_micros: 0, request_id: String::new(), kind: EventKind::Authority, ..bare };
        let is_early = right.until.is_some();
        assert_eq!(right.matches(&AuditEvent { outcome: Outcome::Done, ..bare }), is_early, "{right:?}");
    }
    assert!(all().matches(&issued()));
}

#[test]
fn digits_are_taken_as_people_write_them_and_every_mistake_is_named() {
    let all = || AuditQuery::newest(1).unwrap();
    let given = AuditQuery {
        serial_prefix: text("46:B0:bC"),
        key_hash: Some("AB".repeat(32)),
        fingerprint: Some(vec!["ef"; 32].join(":")),
        shown: text("0A"),
        ..all()
    };
    let taken = given.checked().unwrap();
    assert_eq!((taken.serial_prefix.as_deref(), taken.shown.as_deref()), (Some("46b0bc"), Some("0a")));
    assert_eq!((taken.key_hash, taken.fingerprint), (Some("ab".repeat(32)), Some("ef".repeat(32))));
    let wrong = AuditQuery {
        serial_prefix: text("46b0b"),
        key_hash: text("ab"),
        fingerprint: Some("eg".repeat(32)),
        shown: text("0"),
        pod: text(""),
        authorities: vec!["a".to_owned(); MAX_AUTHORITIES + 1],
        limit: MAX_PAGE + 1,
        ..all()
    };
    let told: Vec<String> = wrong.checked().unwrap_err().iter().map(ToString::to_string).collect();
    let begins = [
        "a page holds 1 to 1000 events, not 1001",
        "serial_prefix: \"46b0b\" is not the beginning of a serial number, which is 6 to 40 hexadecimal digits",
        "key_hash: \"ab\" is not a SHA-256, which is 64 hexadecimal digits",
        "fingerprint: \"egeg",
        "shown: \"0\" is not a serial number, which is 2 to 40 hexadecimal digits",
        "pod: a text of 1 to 2048 bytes is wanted, not one of 0",
        "authorities: at most 256 can be asked for at once, not 257",
    ];
    assert_eq!(told.len(), begins.len(), "{told:?}");
    assert!(told.iter().zip(begins).all(|(told, begin)| told.starts_with(begin)), "{told:?}");
}
