//! What is asked, and what answers mean: those that cert-manager's own controllers gave once, and those of others.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use signet_core::key_type::KeyType;
use signet_core::signature::verify_request;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer, ParsedExtension};

use super::super::settings::{IssuerRef, RootsFrom};
use super::*;
use crate::custody::LocalKey;

pub(in super::super) fn settings() -> CertManagerSettings {
    CertManagerSettings {
        trust_domain: TrustDomain::parse("cluster.local").unwrap(),
        namespace: "mesh".to_owned(),
        issuer: IssuerRef { name: "ca".to_owned(), kind: "Issuer".to_owned(), group: GROUP.to_owned() },
        roots: RootsFrom::File("/roots.pem".into()),
        deadline: Duration::from_secs(30),
        approve: false,
        leaves: false,
    }
}

/// What cert-manager's controllers did to requests, and what those asked for.
pub(in super::super) fn recorded() -> Value {
    serde_json::from_str(include_str!("testdata/states.json")).unwrap()
}

fn last(recorded: &Value, name: &str) -> State {
    state(&recorded[name]["events"].as_array().unwrap().last().unwrap()["object"])
}

#[tokio::test]
async fn a_request_asks_for_a_ca_in_our_name_and_leaves_usages_to_the_object() {
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let (key, _) = LocalKey::generate(key_type).await.unwrap();
        let text = csr(&settings().trust_domain, &key).await.unwrap();
        let (_, block) = x509_parser::pem::parse_x509_pem(text.as_bytes()).unwrap();
        let (_, request) = X509CertificationRequest::from_der(&block.contents).unwrap();
        verify_request(&request).unwrap();
        assert_eq!(request.certification_request_info.subject_pki.raw, key.spki_der());
        let (mut is_ca, mut uris) = (false, Vec::new());
        for extension in request.requested_extensions().unwrap() {
            match extension {
                ParsedExtension::BasicConstraints(found) => is_ca = found.ca && found.path_len_constraint == Some(0),
                ParsedExtension::SubjectAlternativeName(names) => {
                    uris.extend(names.general_names.iter().map(ToString::to_string));
                }
                other => panic!("{other:?} would have to be equal to the usages of the object"),
            }
        }
        assert!(is_ca);
        assert_eq!(uris, ["URI(spiffe://cluster.local)"]);
    }
}

#[test]
fn the_object_says_whose_it_is_until_when_and_exactly_what_is_needed() {
    let ends = time::macros::datetime!(2026-03-01 12:00 UTC);
    let made = object(&settings(), "csr", Asks::Ca, Duration::from_secs(3600), ends).unwrap();
    assert_eq!(
        made.data["spec"],
        json!({
            "request": STANDARD.encode("csr"), "issuerRef": {"name": "ca", "kind": "Issuer", "group": "cert-manager.io"},
            "duration": "3600s", "isCA": true, "usages": ["cert sign", "crl sign"],
        })
    );
    let labels = made.metadata.labels.as_ref().unwrap();
    for part in selector(&settings()).split(',') {
        let (name, value) = part.split_once('=').unwrap();
        assert_eq!(labels.get(name).map(String::as_str), Some(value));
        assert!(value.len() <= 63);
    }
    assert_eq!(given_up_at(&made.metadata), Some(ends.unix_timestamp()));
    assert_ne!(made.metadata.name, object(&settings(), "csr", Asks::Ca, Duration::ZERO, ends).unwrap().metadata.name);
    // Zero would be taken literally.
    assert_eq!(object(&settings(), "csr", Asks::Ca, Duration::ZERO, ends).unwrap().data["spec"]["duration"], "1s");
    let other = CertManagerSettings { trust_domain: TrustDomain::parse("other").unwrap(), ..settings() };
    assert_ne!(selector(&other), selector(&settings()));
}

#[test]
fn each_state_that_cert_manager_was_seen_in_means_what_it_says() {
    let recorded = recorded();
    for name in [
        "intermediate-approved",
        "approved-by-us-intermediate",
        "clusterissuer",
        "issuer-mid-only",
        "issuerref-defaults",
    ] {
        let State::Issued(issued) = last(&recorded, name) else { panic!("{name}") };
        assert!(issued.chain.starts_with(b"-----BEGIN CERTIFICATE-----"), "{name}");
    }
    let pending = |name: &str| match last(&recorded, name) {
        State::Pending(pending) => pending.words(&settings()),
        other => panic!("{name}: {other:?}"),
    };
    for (name, words) in [
        ("unapproved", "nobody approves it"),
        ("issuer-external-group", "external issuer that is not installed"),
        ("ca-secret-missing", "says: Referenced issuer does not have a Ready status condition"),
        ("ca-secret-garbage", "says: Referenced issuer does not have a Ready status condition"),
        ("issuer-missing", "not found"),
    ] {
        let text = pending(name);
        assert!(text.contains(words) && text.contains("within 30s"), "{name}: {text}");
    }
    // Said before the condition that ends it.
    let denied = recorded["denied"]["events"].as_array().unwrap();
    for event in &denied[1..] {
        assert_eq!(state(&event["object"]), State::Denied("Denied by Signet".to_owned()));
    }
}

#[test]
fn states_of_external_issuers_mean_what_the_contract_says() {
    let of = |conditions: Value| state(&json!({"status": {"conditions": conditions, "certificate": ""}}));
    let one = |kind: &str, status: &str, reason: &str| json!({"type": kind, "status": status, "reason": reason, "message": "because\n of x"});
    let said = || "because of x".to_owned();
    let approved = one("Approved", "True", "policy");
    for (conditions, expected) in [
        (json!([one("InvalidRequest", "True", "Bad")]), State::Invalid(said())),
        (json!([one("InvalidRequest", "True", "Bad"), one("Ready", "False", "Failed")]), State::Invalid(said())),
        (json!([approved, one("Ready", "False", "Failed")]), State::Failed(said())),
        (json!([one("Ready", "False", "Denied")]), State::Denied(said())),
        (
            json!([approved, one("Ready", "False", "Pending")]),
            State::Pending(Pending { approved: true, said: Some(said()) }),
        ),
        // Without the certificate it is not over.
        (json!([approved, one("Ready", "True", "Issued")]), State::Pending(Pending { approved: true, said: None })),
        (json!([approved]), State::Pending(Pending { approved: true, said: None })),
        (json!([one("Denied", "False", "x")]), State::Pending(Pending::default())),
        (Value::Null, State::Pending(Pending::default())),
    ] {
        assert_eq!(of(conditions.clone()), expected, "{conditions}");
    }
    let approved = of(json!([approved]));
    let State::Pending(pending) = approved else { panic!("{approved:?}") };
    assert!(pending.words(&settings()).contains("nobody signs it"));
}
