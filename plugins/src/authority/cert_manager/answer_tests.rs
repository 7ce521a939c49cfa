//! Answers that are what was asked for, and each way in which one is not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use serde_json::Value;
use signet_core::key_type::KeyType;
use signet_core::pem::pem;
use signet_core::seams::custody::SigningKey as _;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::super::super::test_pki::{Ca, DAY, NOW};
use super::super::request::{State, state, tests::recorded};
use super::*;
use crate::custody::LocalKey;

const URI: &str = "spiffe://cluster.local";

/// What an issuer would make of our request, before it is changed.
pub(in super::super) fn as_asked(params: &mut CertificateParams) {
    params.subject_alt_names = vec![super::super::super::certificates::uri(URI).unwrap()];
    // As cert-manager does it: no path length, and no backdate.
    (params.not_before, params.not_after) = (NOW, NOW + 30 * DAY);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
}

#[tokio::test]
async fn what_is_not_what_was_asked_for_is_refused_with_the_reason() {
    let (root, other) = (Ca::root("root"), Ca::root("other"));
    let middle = root.below("middle", |_| {});
    let (key, _) = LocalKey::generate(KeyType::EcP256).await.unwrap();
    let ours = Root::new(root.der.clone(), None).unwrap();
    let theirs = Root::new(other.der.clone(), None).unwrap();
    let known = [ours.clone(), theirs.clone()];
    let asked = Asked { spki_der: key.spki_der(), uri: URI, ttl: 30 * DAY, root: &ours, roots: (&known, "the map") };
    let signed = |by: &Ca, change: &dyn Fn(&mut CertificateParams)| {
        by.signs_key(key.spki_der(), |params| {
            as_asked(params);
            change(params);
        })
    };
    let chain = |ders: &[&CertificateDer<'static>]| ders.iter().map(|der| pem(der)).collect::<String>().into_bytes();
    let plain = |_: &mut CertificateParams| {};

    // Right below the root, with what lies between, and with a root that nobody asked for.
    let direct = judge(&chain(&[&signed(&root, &plain)]), &asked, NOW).unwrap();
    assert!(direct.intermediates.is_empty());
    let deeper = signed(&middle, &plain);
    for sent in [chain(&[&deeper, &middle.der]), chain(&[&deeper, &middle.der, &root.der])] {
        let found = judge(&sent, &asked, NOW).unwrap();
        assert_eq!((&found.certificate, &found.intermediates), (&deeper, &vec![middle.der.clone()]));
    }
    // It may be shorter than asked for, and a few minutes longer.
    for days in [1, 30] {
        let end = NOW + days * DAY + LONGER.min(days * DAY);
        judge(&chain(&[&signed(&root, &|params| params.not_after = end)]), &asked, NOW).unwrap();
    }

    let (stranger, _) = LocalKey::generate(KeyType::EcP256).await.unwrap();
    let strange = root.signs_key(stranger.spki_der(), as_asked);
    let refused = [
        (chain(&[]), "holds no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA".to_vec(), "cannot be read"),
        (chain(&[&strange]), "is for another key"),
        (chain(&[&signed(&root, &|params| params.is_ca = IsCa::ExplicitNoCa)]), "is not one of a CA"),
        (
            chain(&[&signed(&root, &|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign])]),
            "may not sign revocation lists",
        ),
        (chain(&[&signed(&root, &|params| params.subject_alt_names.clear())]), "does not have the URI"),
        (
            chain(&[&signed(&root, &|params| {
                params.subject_alt_names = vec![super::super::super::certificates::uri("spiffe://other").unwrap()];
            })]),
            "does not have the URI",
        ),
        (
            chain(&[&signed(&root, &|params| {
                params.subject_alt_names.push(rcgen::SanType::DnsName("a.example".try_into().unwrap()));
            })]),
            "names that nobody asked for",
        ),
        (chain(&[&signed(&root, &|params| params.distinguished_name = rcgen::DistinguishedName::new())]), "no subject"),
        // As cert-manager honours durations of zero and less.
        (chain(&[&signed(&root, &|params| params.not_after = NOW)]), "was never of use"),
        (chain(&[&signed(&root, &|params| params.not_after = NOW - DAY)]), "was never of use"),
        (chain(&[&signed(&root, &|params| params.not_after = NOW + 31 * DAY)]), "longer than"),
        (chain(&[&signed(&root, &|params| params.not_before = NOW + 2 * AHEAD)]), "is a clock wrong?"),
        (
            chain(&[&signed(&root, &|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
            })]),
            "restricted by its extendedKeyUsage",
        ),
        // A part of the chain is missing.
        (chain(&[&deeper]), "no way leads from the certificate to a root in the map"),
        (chain(&[&signed(&Ca::root("nobody"), &plain)]), "no way leads from the certificate to a root in the map"),
        (chain(&[&signed(&other, &plain)]), "put that root first in the map"),
        (
            chain(&[&signed(
                &root.below("short", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
                &plain,
            )]),
            "no way leads",
        ),
        ((0..=MOST).map(|_| pem(&root.der)).collect::<String>().into_bytes(), "the most that make sense"),
    ];
    for (sent, words) in refused {
        let why = judge(&sent, &asked, NOW).unwrap_err();
        assert!(why.contains(words), "{words:?} is not in {why:?}");
    }
}

#[test]
fn what_cert_manager_has_really_answered_is_judged_for_what_it_is() {
    let recorded = recorded();
    for (name, refused) in [
        ("intermediate-approved", None),
        ("approved-by-us-intermediate", None),
        // Without usages it adds what signs certificates, and no more.
        ("intermediate-no-usages", Some("may not sign revocation lists")),
        // Leaves, which such durations were tried with.
        ("duration-negative", Some("is not one of a CA")),
    ] {
        let one = &recorded[name];
        let csr = STANDARD.decode(one["request"].as_str().unwrap()).unwrap();
        let (_, block) = x509_parser::pem::parse_x509_pem(&csr).unwrap();
        let (_, request) = X509CertificationRequest::from_der(&block.contents).unwrap();
        let spki = request.certification_request_info.subject_pki.raw.to_vec();
        let last: &Value = &one["events"].as_array().unwrap().last().unwrap()["object"];
        let State::Issued(issued) = state(last) else { panic!("{name}") };
        let root = Root::new(read(&issued.ca).unwrap().remove(0), None).unwrap();
        let now = Facts::read(&read(&issued.chain).unwrap()[0]).unwrap().not_before;
        let roots = [root.clone()];
        let asked = Asked { spki_der: &spki, uri: URI, ttl: 30 * DAY, root: &root, roots: (&roots, "status.ca") };
        match (judge(&issued.chain, &asked, now), refused) {
            (Ok(_), None) => {}
            (Err(why), Some(words)) => assert!(why.contains(words), "{name}: {why}"),
            (found, _) => panic!("{name}: {found:?}"),
        }
    }
}
