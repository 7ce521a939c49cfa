//! Encodings that are fixed for ever, those of programs before and after this one, and everything in between.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::audit::leaf_hash;

/// An issued certificate, a refusal with everything that is odd, a certificate that was issued to another one, one of the CA
/// itself, of which the fingerprint is known, and an event of a newer version of this format; each with its leaf hash. They were encoded by another program, and are in `docs/audit-format.md`.
const ISSUED: [&str; 2] = [
    "8201a6011b00066164e51398890250873727c985905bf739d30e07f103fe650300040007aa01782b7370696666653a2f2f636c75737465722e6c\
     6f63616c2f6e732f64656661756c742f73612f636c69656e74026764656661756c740366636c69656e7404506844d09091284cbf8b6a5252524f\
     2eec0577636c69656e742d356439633662376638642d78327834760650f09e7871a7a34f648905c2805ff7ee7c07686465762d6e6f6465096a4b\
     756265726e657465730a646a776b730b6f3132372e302e302e313a343132333008a7015046b0bce5404127f1a88fe9096d6daa9f02582093563a\
     8b73a7331085e0162faa41df4c62c64fcbdc29c74c29cd372297163e8e041a6b0bcddc051a6b0bce90065498004306e7c56201f049d40959548f\
     ad8b18b5f0070108f5",
    "8808dbe24859e54f02a39d82b3111922e04e60d73f7711faba9094d9e48494f0",
];
const REFUSED: [&str; 2] = [
    "8201a90120026003000401056d746f6b656e5f6578706972656406726578702077617320e2809c7468656ee2809d07a304696e6f742061205549\
     440850612551140d654ea88d970616854c6a9c0c6570726f787908a70161300262414203826a63612e6578616d706c65633a3a31040005210660\
     070009a2011904d2021b00060a24148ab900",
    "88f83db1ee57a04e97f591b25a6d6fe292e1be15117687503bc898a6e5a8c0dd",
];
const RENEWED: [&str; 2] = [
    "8201a6011b00066165bba4e1000250873727c985905bf739d30e07f103fe660300040007a901782b7370696666653a2f2f636c75737465\
     722e6c6f63616c2f6e732f64656661756c742f73612f636c69656e74026764656661756c740366636c69656e7404506844d09091284cbf\
     8b6a5252524f2eec096a4b756265726e657465730a72636c69656e742d63657274696669636174650e50c62bfcf7e45c4541afd4deca89\
     78d1b00f5046b0bce5404127f1a88fe9096d6daa9f101b00066164e513988908a6015046b0cae1404127f1a88fe9096d6daaa002582093\
     563a8b73a7331085e0162faa41df4c62c64fcbdc29c74c29cd372297163e8f041a6b0bdbec051a6b0bdca0065498004306e7c56201f049\
     d40959548fad8b18b5f00701",
    "4a6daa8c770003c491938bb77fda43cf2f2410d8bd383dfe8ecc81f3747f1532",
];
const SERVING: [&str; 2] = [
    "8201a6011b00066165bbb4234002600302040007a008a8015046b0cae5404127f1a88fe9096d6daaa102582093563a8b73a7331085e0162faa41\
     df4c62c64fcbdc29c74c29cd372297163e9003816a63612e6578616d706c65041a6b0bdbed051a6b0bdca1065498004306e7c56201f049d40959\
     548fad8b18b5f00701095820c2a4e3c1d7f0b58e96a3104f7be2d95860c1f3a27d4be8905361fa9c0e7d42b8",
    "c9452daca677e85ad672fa474c0ac0496a960378f0b3c62fa81b9e17c80e79d0",
];
const FUTURE: [&str; 2] = [
    "8201a8010502600311040907a2016c7370696666653a2f2f782f790d824200ffa16161f609a30102020003f50a636e65772024",
    "dee6fc7d8d6a8073f566f3ec4f3cd6a787418534e104face3480715b3c01b16c",
];

fn bytes(hex: &str) -> Vec<u8> {
    from_hex(hex).unwrap()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn issued() -> AuditEvent {
    AuditEvent {
        at_micros: 1_795_935_828_154_505,
        request_id: "873727c985905bf739d30e07f103fe65".into(),
        kind: EventKind::Certificate,
        outcome: Outcome::Issued,
        reason: None,
        detail: None,
        who: Attributed {
            spiffe_id: some("spiffe://cluster.local/ns/default/sa/client"),
            namespace: some("default"),
            service_account: some("client"),
            service_account_uid: some("6844d090-9128-4cbf-8b6a-5252524f2eec"),
            pod: some("client-5d9c6b7f8d-x2x4v"),
            pod_uid: some("f09e7871-a7a3-4f64-8905-c2805ff7ee7c"),
            node: some("dev-node"),
            cluster: some("Kubernetes"),
            auth_method: some("jwks"),
            peer: some("127.0.0.1:41230"),
            ..Attributed::default()
        },
        what: Some(Certified {
            serial: "46b0bce5404127f1a88fe9096d6daa9f".into(),
            key_hash: "93563a8b73a7331085e0162faa41df4c62c64fcbdc29c74c29cd372297163e8e".into(),
            other_names: Vec::new(),
            not_before: 1_795_935_708,
            not_after: 1_795_935_888,
            authority: "98004306e7c56201f049d40959548fad8b18b5f0".into(),
            bundle_sequence: 1,
            acknowledges: true,
            fingerprint: None,
        }),
        repeated: None,
    }
}

/// To the holder of the other one, an hour later.
fn renewed() -> AuditEvent {
    let issued = issued();
    let who = Attributed {
        pod: None,
        pod_uid: None,
        node: None,
        peer: None,
        auth_method: some("client-certificate"),
        token_id: some("c62bfcf7-e45c-4541-afd4-deca8978d1b0"),
        certificate: some("46b0bce5404127f1a88fe9096d6daa9f"),
        last_token_micros: Some(issued.at_micros),
        ..issued.who
    };
    let what = Certified {
        serial: "46b0cae1404127f1a88fe9096d6daaa0".into(),
        key_hash: "93563a8b73a7331085e0162faa41df4c62c64fcbdc29c74c29cd372297163e8f".into(),
        not_before: 1_795_939_308,
        not_after: 1_795_939_488,
        acknowledges: false,
        ..issued.what.unwrap()
    };
    AuditEvent {
        at_micros: 1_795_939_428_000_000,
        request_id: "873727c985905bf739d30e07f103fe66".into(),
        who,
        what: Some(what),
        ..issued
    }
}

fn serving() -> AuditEvent {
    let what = Certified {
        serial: "46b0cae5404127f1a88fe9096d6daaa1".into(),
        key_hash: "93563a8b73a7331085e0162faa41df4c62c64fcbdc29c74c29cd372297163e90".into(),
        other_names: vec!["ca.example".into()],
        not_before: 1_795_939_309,
        not_after: 1_795_939_489,
        acknowledges: false,
        fingerprint: some("c2a4e3c1d7f0b58e96a3104f7be2d95860c1f3a27d4be8905361fa9c0e7d42b8"),
        ..issued().what.unwrap()
    };
    AuditEvent {
        at_micros: 1_795_939_429_000_000,
        request_id: String::new(),
        kind: EventKind::ServingCertificate,
        who: Attributed::default(),
        what: Some(what),
        ..issued()
    }
}

fn refused() -> AuditEvent {
    AuditEvent {
        at_micros: -1,
        request_id: String::new(),
        kind: EventKind::Certificate,
        outcome: Outcome::Refused,
        reason: some("token_expired"),
        detail: some("exp was “then”"),
        who: Attributed {
            service_account_uid: some("not a UID"),
            node_uid: some("61255114-0d65-4ea8-8d97-0616854c6a9c"),
            instance: some("proxy"),
            ..Attributed::default()
        },
        what: Some(Certified {
            serial: "0".into(),
            key_hash: "AB".into(),
            other_names: vec!["ca.example".into(), "::1".into()],
            not_before: 0,
            not_after: -2,
            authority: String::new(),
            bundle_sequence: 0,
            acknowledges: false,
            fingerprint: None,
        }),
        repeated: Some(Repeated { count: 1234, since_micros: 1_699_999_940_000_000 }),
    }
}

#[test]
fn the_encoding_is_fixed_for_ever() {
    for ([text, leaf], event) in [(ISSUED, issued()), (REFUSED, refused()), (RENEWED, renewed()), (SERVING, serving())]
    {
        assert_eq!(hex(&event.encode()), text);
        assert_eq!(AuditEvent::decode(&bytes(text)).unwrap(), (event, UnknownFields::new()));
        assert_eq!(hex(&leaf_hash(&bytes(text))), leaf);
    }
}

#[test]
fn the_last_token_is_the_one_that_was_shown_or_the_one_that_a_certificate_stands_for() {
    let micros = |event: &AuditEvent| event.last_token().map(AuditEvent::micros);
    assert_eq!((micros(&issued()), micros(&renewed())), (Some(issued().at_micros), Some(issued().at_micros)));
    for (method, shown, expected) in [
        // Programs of before knew nothing but tokens, and did not say when one was shown.
        (some("jwks"), None, Some(5)),
        (some("token-review"), None, Some(5)),
        (some("jwks"), Some(7), Some(5)),
        (some("client-certificate"), Some(7), Some(7)),
        (some("client-certificate"), None, None),
        (some("something newer"), Some(7), None),
        (None, Some(7), None),
    ] {
        let who = Attributed { auth_method: method, last_token_micros: shown, ..Attributed::default() };
        assert_eq!(micros(&AuditEvent { at_micros: 5, who, ..issued() }), expected);
    }
}

#[test]
fn what_a_newer_version_adds_is_kept_under_its_number_beside_what_is_understood() {
    let (event, unknown) = AuditEvent::decode(&bytes(FUTURE[0])).unwrap();
    assert_eq!(hex(&leaf_hash(&bytes(FUTURE[0]))), FUTURE[1]);
    assert_eq!((event.kind, event.outcome), (EventKind::Unknown(17), Outcome::Unknown(9)));
    assert_eq!((event.at_micros, event.who.spiffe_id.as_deref()), (5, Some("spiffe://x/y")));
    assert_eq!((event.count(), event.released(), event.holder()), (2, None, None));
    let expected = [("-1", "-5"), ("10", r#""new""#), ("repeated.3", "true"), ("who.13", r#"[h'00ff', {"a": null}]"#)];
    let found: Vec<(&str, &str)> = unknown.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(found, expected);
    assert_eq!(AuditEvent::decode(&bytes("8202a10105")), Err(DecodeError::Format(2)));
    assert_eq!(
        AuditEvent::decode(&bytes("8202617800")),
        Err(DecodeError::Encoding("there are bytes after the value".into()))
    );
    assert_eq!(AuditEvent::decode(&bytes("82036178")), Err(DecodeError::Format(3)));
    assert_eq!(AuditEvent::decode(&bytes("83020000")), Err(DecodeError::Format(2)));
}

#[test]
fn the_page_about_the_format_shows_these_encodings() {
    let page = include_str!("../../../docs/audit-format.md");
    let page: String = page.split_whitespace().collect();
    for text in [ISSUED, REFUSED, RENEWED, SERVING, FUTURE].concat() {
        assert!(page.contains(text), "{text} is not in docs/audit-format.md");
    }
}

#[test]
fn records_of_programs_that_wrote_json_are_read() {
    let text = r#"{"at_micros":1700000000000001,"request_id":"r1","kind":"certificate","outcome":"refused","reason":"token_expired","who":{"peer":"127.0.0.1:5"},"repeated":{"count":1234,"since_micros":1699999940000000}}"#;
    let event = AuditEvent {
        at_micros: 1_700_000_000_000_001,
        request_id: "r1".into(),
        detail: None,
        who: Attributed { peer: some("127.0.0.1:5"), ..Attributed::default() },
        what: None,
        ..refused()
    };
    assert_eq!(AuditEvent::decode(text.as_bytes()).unwrap(), (event.clone(), UnknownFields::new()));
    assert_eq!((event.count(), event.since().unix_timestamp()), (1234, 1_699_999_940));
    // It is the form that programs are shown, too.
    assert_eq!(serde_json::to_string(&event).unwrap(), text);
    let issued = issued();
    let text = serde_json::to_vec(&issued).unwrap();
    assert_eq!(AuditEvent::decode(&text).unwrap().0, issued);
    for bad in ["{", "{}", &format!("{{\"a\":{}", "[".repeat(100_000))] {
        assert!(matches!(AuditEvent::decode(bad.as_bytes()), Err(DecodeError::Encoding(_))));
    }
}

#[test]
fn what_is_not_the_one_encoding_of_an_event_is_refused_and_says_where() {
    for (hex, words) in [
        ("", "end within a value"),
        ("00", "not a format number"),
        ("80", "not a format number"),
        ("8101", "not a format number"),
        ("82a001", "not a format number"),
        ("8301a000", "not a format number"),
        ("820100", "field the event itself"),
        ("8201a0", "field 1 is missing"),
        ("8201a501050260030004000700", "field who"),
        ("8201a50105026003200400 07a0", "field 3 "),
        ("8201a501050260036004 0007a0", "field 3 "),
        ("8201a5013bffffffffffffffff02600300040007a0", "field 1 "),
        // Hexadecimal digits as text, and bytes that are no UID.
        ("8201a5010502623030030004 0007a0", "field 2 "),
        ("8201a501050240030004 0007a0", "field 2 "),
        ("8201a50105026003000400 07a1044100", "field who.4 "),
        ("8201a50105026003000400 07a1010a", "field who.1 "),
        ("8201a60105026003000400 07a008a0", "field what.1 "),
        ("8201a60105026003000400 07a008a7016002600380040005000660 0700", "field what.3 "),
        ("8201a60105026003000400 07a008a701600260040005000660070008f4", "field what.8 "),
        ("8201a60105026003000400 07a009a10101", "field repeated.2 "),
        ("8201a50105026003000400 07a000", "after the value"),
    ] {
        let hex = hex.replace(' ', "");
        let found =
            AuditEvent::decode(&(0..hex.len() / 2).map(|at| bytes(&hex[2 * at..2 * at + 2])[0]).collect::<Vec<_>>());
        let text = found.expect_err(&hex).to_string();
        assert!(text.contains(words), "{hex}: {text}");
    }
}

/// Texts that look like what some fields hold, and others.
fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[0-9a-f]{0,40}",
        "[0-9a-fA-F]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "[0-9a-f-]{36}",
    ]
}

fn events() -> impl Strategy<Value = AuditEvent> {
    let optional = || proptest::option::of(words());
    let who =
        (proptest::collection::vec(optional(), 14), any::<Option<i64>>()).prop_map(|(texts, last_token_micros)| {
            let mut texts = texts.into_iter();
            let mut next = || texts.next().flatten();
            Attributed {
                spiffe_id: next(),
                namespace: next(),
                service_account: next(),
                service_account_uid: next(),
                pod: next(),
                pod_uid: next(),
                node: next(),
                cluster: next(),
                auth_method: next(),
                peer: next(),
                instance: next(),
                node_uid: next(),
                token_id: next(),
                certificate: next(),
                last_token_micros,
            }
        });
    let names = proptest::collection::vec(words(), 0..4);
    let what = (words(), words(), words(), names, any::<(i64, i64, u64, bool)>(), optional());
    let what = what.prop_map(|(serial, key_hash, authority, other_names, numbers, fingerprint)| {
        let (not_before, not_after, bundle_sequence, acknowledges) = numbers;
        Certified {
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
    });
    let repeated = any::<(u64, i64)>().prop_map(|(count, since_micros)| Repeated { count, since_micros });
    let rest = (proptest::option::of(what), proptest::option::of(repeated));
    (any::<(i64, u64, u64)>(), words(), optional(), optional(), who, rest).prop_map(
        |((at_micros, kind, outcome), request_id, reason, detail, who, (what, repeated))| AuditEvent {
            at_micros,
            request_id,
            kind: EventKind::numbered(kind % 8),
            outcome: Outcome::numbered(outcome % 8),
            reason,
            detail,
            who,
            what,
            repeated,
        },
    )
}

proptest! {
    #[test]
    fn every_event_is_read_as_it_was_written(event in events()) {
        let body = event.encode();
        prop_assert_eq!(AuditEvent::decode(&body).unwrap(), (event, UnknownFields::new()));
    }

    #[test]
    fn changed_bytes_are_refused_or_are_the_one_encoding_of_another_event(
        event in events(), at: prop::sample::Index, flip in 1_u8..,
    ) {
        let mut body = event.encode();
        let at = at.index(body.len());
        body[at] ^= flip;
        if let Ok((event, unknown)) = AuditEvent::decode(&body) && unknown.is_empty() {
            prop_assert_eq!(event.encode(), body);
        }
    }
}

#[test]
fn a_body_holds_the_certificate_that_was_shown_as_it_is_looked_for() {
    let shown = |serial: &str| {
        let who = Attributed { certificate: Some(serial.to_owned()), ..Attributed::default() };
        let event = AuditEvent { who, ..refused() };
        let (body, wanted) = (event.encode(), shown_certificate(serial));
        body.windows(wanted.len()).any(|part| part == wanted)
    };
    for serial in ["06501b4a7c1122334455667788990011", "4a", &"4a".repeat(20), "4a1", "what is no serial"] {
        assert!(shown(serial), "{serial}");
    }
    assert_eq!(shown_certificate("4aff"), [0x0f, 0x42, 0x4a, 0xff]);
}
