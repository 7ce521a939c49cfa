//! Each way in which a certificate proves nobody, and what of the record one that is in order proves.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;
use crate::revocation::{RevocationReason, Revoked};
use crate::rotation::test_authorities::{START, first, id};
use crate::unknown_fields::Unknown;

const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";
const HOUR: Duration = Duration::from_secs(3600);
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// Everything that a decision is made of.
struct Case {
    shown: Shown,
    event: Option<AuditEvent>,
    authorities: Authorities,
    cluster: &'static str,
    now: OffsetDateTime,
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

impl Case {
    /// A certificate in order: of a token an hour ago.
    fn good() -> Self {
        let authorities = first();
        let (serial, key_hash) = ("46".repeat(16), "ab".repeat(32));
        let not_after = START + 30 * HOUR;
        let what = Certified {
            serial: serial.clone(),
            key_hash: key_hash.clone(),
            other_names: Vec::new(),
            not_before: START.unix_timestamp(),
            not_after: not_after.unix_timestamp(),
            authority: id("r1-issuing").to_string(),
            bundle_sequence: 1,
            acknowledges: false,
            fingerprint: None,
        };
        let who = Attributed {
            spiffe_id: text(WEB),
            namespace: text("default"),
            service_account: text("web"),
            service_account_uid: text("account-uid"),
            pod: text("web-1"),
            pod_uid: text("pod-uid"),
            node: text("node-a"),
            node_uid: text("node-uid"),
            cluster: text("Kubernetes"),
            auth_method: text("token-review"),
            token_id: text("token-id"),
            ..Attributed::default()
        };
        let event = AuditEvent {
            at_micros: AuditEvent::micros(START),
            request_id: "r1".into(),
            kind: EventKind::Certificate,
            outcome: Outcome::Issued,
            reason: None,
            detail: None,
            who,
            what: Some(what),
            repeated: None,
        };
        let issuer_key_id = authorities.roots[0].issuing[0].key_id();
        let spiffe_id = SpiffeId::parse(WEB).unwrap();
        let shown = Shown { spiffe_id, serial, key_hash, not_after, issuer_key_id };
        Self { shown, event: Some(event), authorities, cluster: "Kubernetes", now: START + HOUR }
    }

    fn event(&mut self) -> &mut AuditEvent {
        self.event.as_mut().unwrap()
    }

    fn what(&mut self) -> &mut Certified {
        self.event().what.as_mut().unwrap()
    }

    fn judged(&self) -> Result<Caller, AuthenticationError> {
        let demands = Demands { cluster: self.cluster, last_token_within: WEEK };
        self.shown.proves(self.event.as_ref(), &self.authorities, demands, self.now)
    }
}

#[test]
fn what_is_proved_is_what_the_record_says_of_the_holder_with_the_time_of_its_last_token() {
    let mut case = Case::good();
    let caller = case.judged().unwrap();
    let expected = Caller {
        identity: WorkloadId::parse(WEB).unwrap(),
        service_account_uid: "account-uid".into(),
        pod: Some(BoundObject { name: "web-1".into(), uid: "pod-uid".into() }),
        node: Some(BoundNode { name: "node-a".into(), uid: text("node-uid") }),
        cluster: "Kubernetes".into(),
        method: AuthMethod::ClientCertificate,
        credential: Credential {
            token_id: text("token-id"),
            certificate: Some(ShownCertificate { serial: "46".repeat(16), last_token: START }),
        },
        made_at: None,
        until: Some(START + 30 * HOUR),
    };
    assert_eq!(caller, expected);
    // And what is on record of what it gets proves the same again, with the same time.
    case.event().who = Attributed::to_caller(&caller, "peer".into());
    case.event().at_micros = AuditEvent::micros(START + HOUR);
    assert_eq!(case.judged().unwrap(), expected);
}

#[test]
fn everything_else_proves_nobody_for_a_reason_of_its_own() {
    type Change = fn(&mut Case);
    let cases: &[(&str, Change, &str)] = &[
        ("not on record", |it| it.event = None, "certificate_not_on_record"),
        ("another serial", |it| it.what().serial = "47".repeat(16), "certificate_not_on_record"),
        ("another key", |it| it.what().key_hash = "ac".repeat(32), "certificate_not_on_record"),
        ("another end", |it| it.what().not_after += 1, "certificate_not_on_record"),
        (
            "another identity",
            |it| it.event().who.spiffe_id = text("spiffe://cluster.local/ns/default/sa/x"),
            "certificate_not_on_record",
        ),
        ("another issuer", |it| it.shown.issuer_key_id = "00".into(), "certificate_not_on_record"),
        ("refused", |it| it.event().outcome = Outcome::Refused, "certificate_not_on_record"),
        ("never given out", |it| it.event().outcome = Outcome::Intended, "certificate_not_on_record"),
        ("the CA's own", |it| it.event().kind = EventKind::ServingCertificate, "certificate_not_on_record"),
        ("nothing issued", |it| it.event().what = None, "certificate_not_on_record"),
        ("nobody's account", |it| it.event().who.service_account_uid = None, "certificate_not_on_record"),
        ("of another cluster", |it| it.cluster = "west", "certificate_of_other_cluster"),
        ("of no cluster", |it| it.event().who.cluster = None, "certificate_of_other_cluster"),
        ("of a node agent", |it| it.event().who.service_account = text("ztunnel"), "certificate_of_node_agent"),
        (
            "of a node agent elsewhere",
            |it| it.event().who.namespace = text("istio-system"),
            "certificate_of_node_agent",
        ),
        ("root compromised", |it| it.authorities.roots[0].tainted_at = Some(START), "certificate_authority_tainted"),
        (
            "issuing CA compromised",
            |it| it.authorities.taint_issuing(&id("r1-issuing"), START),
            "certificate_authority_tainted",
        ),
        ("root gone", |it| it.authorities.roots.clear(), "certificate_authority_gone"),
        ("revoked", revoke, "certificate_revoked"),
        ("at its end", |it| it.now = START + 30 * HOUR, "certificate_expired"),
        ("a week after the token", |it| it.now = START + WEEK, "token_too_long_ago"),
        ("after a token of an unknown time", |it| it.event().who.auth_method = None, "token_too_long_ago"),
        ("after no token", |it| it.event().who.auth_method = text("client-certificate"), "token_too_long_ago"),
        ("a token of the future", |it| it.now = START - CLOCKS - HOUR, "token_too_long_ago"),
    ];
    for (what, change, label) in cases {
        let mut case = Case::good();
        // Only those that are about the end meet it.
        if *what == "a week after the token" {
            case.shown.not_after = START + 2 * WEEK;
            case.what().not_after = (START + 2 * WEEK).unix_timestamp();
        }
        change(&mut case);
        let error = case.judged().unwrap_err();
        assert_eq!(error.label(), *label, "{what}: {error}");
    }
}

fn revoke(case: &mut Case) {
    let serial = case.shown.serial.clone();
    let entry = |serial: String, issuer: &str| Revoked {
        serial,
        issuer: id(issuer),
        reason: RevocationReason::KeyCompromise,
        at: 0,
        not_after: i64::MAX,
        unknown: Unknown::default(),
    };
    // Serials are unique per issuer only.
    case.authorities.revocations.entries = vec![entry(serial.clone(), "r1"), entry("47".repeat(16), "r1-issuing")];
    assert!(case.judged().is_ok());
    case.authorities.revocations.entries.push(entry(serial, "r1-issuing"));
}

#[test]
fn the_week_counts_from_the_last_token_through_any_number_of_certificates() {
    let mut case = Case::good();
    let step = Duration::from_secs(86_400);
    for day in 1..=8_u32 {
        case.now = START + day * step;
        // Each is of the one before, and lives for two days.
        case.shown.not_after = case.now + step;
        let not_after = case.shown.not_after.unix_timestamp();
        case.what().not_after = not_after;
        match case.judged() {
            Ok(caller) if day < 7 => {
                case.event().who = Attributed::to_caller(&caller, "peer".into());
                let at = AuditEvent::micros(case.now);
                case.event().at_micros = at;
            }
            Err(error) if day >= 7 => assert_eq!(error.label(), "token_too_long_ago"),
            other => unreachable!("on day {day}: {other:?}"),
        }
    }
}
