//! Which client certificates are accepted, judged without a connection.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};

use super::*;
use crate::grpc::test_mesh::{Shown, TestRoot, nothing, publish, trust_domain, uri};

const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);
const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";

fn judged(verifier: &ClientVerifier, shown: &Shown, now: OffsetDateTime) -> Result<SpiffeId, ClientRefused> {
    verifier.verify(&shown.chain[0], &shown.chain[1..], unix(now))
}

#[test]
fn only_a_workloads_x509_svid_of_the_trust_domain_is_accepted() {
    let (root, stranger) = (TestRoot::new("a"), TestRoot::new("b"));
    let (writer, reader) = nothing();
    publish(&writer, 1, &[&root], &[]);
    let verifier = ClientVerifier::new(trust_domain(), reader);
    let good = root.leaf(WEB, NOW, |_| {});
    assert_eq!(judged(&verifier, &good, NOW).unwrap().as_str(), WEB);

    let hour = Duration::from_secs(3601);
    for (why, shown, at) in [
        ("another CA", stranger.leaf(WEB, NOW, |_| {}), NOW),
        ("expired", root.leaf(WEB, NOW, |_| {}), NOW + hour),
        ("not yet valid", root.leaf(WEB, NOW, |_| {}), NOW - hour),
        ("another trust domain", root.leaf("spiffe://other/ns/default/sa/web", NOW, |_| {}), NOW),
        ("no path (X-3)", root.leaf("spiffe://cluster.local", NOW, |_| {}), NOW),
        ("no SPIFFE ID", root.leaf("https://cluster.local/web", NOW, |_| {}), NOW),
        ("two URIs (X-2)", root.leaf(WEB, NOW, |leaf| leaf.subject_alt_names.push(uri("spiffe://x/y"))), NOW),
        ("no URI", root.leaf(WEB, NOW, |leaf| leaf.subject_alt_names.clear()), NOW),
        ("a CA (X-6)", root.leaf(WEB, NOW, |leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), NOW),
        ("keyCertSign", root.leaf(WEB, NOW, |leaf| leaf.key_usages.push(KeyUsagePurpose::KeyCertSign)), NOW),
        ("cRLSign", root.leaf(WEB, NOW, |leaf| leaf.key_usages.push(KeyUsagePurpose::CrlSign)), NOW),
        ("no key usage", root.leaf(WEB, NOW, |leaf| leaf.key_usages.clear()), NOW),
        (
            "server only",
            root.leaf(WEB, NOW, |leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            NOW,
        ),
    ] {
        assert!(judged(&verifier, &shown, at).is_err(), "{why}");
    }
}

#[test]
fn nobody_is_accepted_before_there_is_a_trust_bundle() {
    let (_writer, reader) = nothing();
    let verifier = ClientVerifier::new(trust_domain(), reader);
    let shown = TestRoot::new("a").leaf(WEB, NOW, |_| {});
    assert!(matches!(judged(&verifier, &shown, NOW), Err(ClientRefused::NotReady)));
}

#[test]
fn the_newest_bundle_decides() {
    let (old, new) = (TestRoot::new("old"), TestRoot::new("new"));
    let (writer, reader) = nothing();
    let verifier = ClientVerifier::new(trust_domain(), reader);
    let (by_old, by_new) = (old.leaf(WEB, NOW, |_| {}), new.leaf(WEB, NOW, |_| {}));
    let accepted = |shown: &Shown| judged(&verifier, shown, NOW).is_ok();
    publish(&writer, 1, &[&old], &[]);
    assert!(accepted(&by_old) && !accepted(&by_new));
    publish(&writer, 2, &[&old, &new], &[]);
    assert!(accepted(&by_old) && accepted(&by_new));
    publish(&writer, 3, &[&new], &[]);
    assert!(!accepted(&by_old) && accepted(&by_new));
}

#[test]
fn roots_are_prepared_once_per_sequence() {
    let root = TestRoot::new("a");
    let (writer, reader) = nothing();
    let verifier = ClientVerifier::new(trust_domain(), reader.clone());
    let known = || verifier.known(&state::current(&reader).unwrap()).unwrap();
    publish(&writer, 1, &[&root], &[]);
    let first = known();
    publish(&writer, 1, &[&root], &[]);
    assert!(Arc::ptr_eq(&first, &known()));
    publish(&writer, 2, &[&root], &[]);
    assert!(!Arc::ptr_eq(&first, &known()));
}

#[test]
fn what_is_revoked_is_refused_and_a_serial_counts_for_its_issuer_only() {
    let root = TestRoot::new("a");
    let (writer, reader) = nothing();
    let verifier = ClientVerifier::new(trust_domain(), reader);
    let shown = root.leaf(WEB, NOW, |_| {});
    for (why, entry, refused) in [
        ("the leaf", shown.revoked(0, root.issuing_id()), true),
        ("its issuing CA", shown.revoked(1, root.id()), true),
        ("the serial at another issuer", shown.revoked(0, root.id()), false),
        ("another leaf", root.leaf("spiffe://cluster.local/x", NOW, |_| {}).revoked(0, root.issuing_id()), false),
    ] {
        publish(&writer, 1, &[&root], &[entry]);
        let judgement = judged(&verifier, &shown, NOW);
        assert_eq!(matches!(judgement, Err(ClientRefused::Revoked)), refused, "{why}: {judgement:?}");
        assert_eq!(judgement.is_ok(), !refused, "{why}");
    }
}

#[test]
fn an_identity_holds_as_long_as_its_certificate_root_and_standing() {
    let (old, new) = (TestRoot::new("old"), TestRoot::new("new"));
    let (writer, reader) = nothing();
    let verifier = ClientVerifier::new(trust_domain(), reader);
    let shown = old.leaf(WEB, NOW, |_| {});
    let identity = ClientIdentity::of_verified(&shown.chain).unwrap();
    assert_eq!((identity.spiffe_id.as_str(), identity.serial.clone()), (WEB, shown.facts().serial_text()));
    publish(&writer, 1, &[&old], &[]);
    assert!(verifier.check_again(&identity, NOW).is_ok());
    assert!(verifier.check_again(&identity, identity.not_after + Duration::from_secs(1)).is_err());
    publish(&writer, 2, &[&old], &[shown.revoked(0, old.issuing_id())]);
    assert!(verifier.check_again(&identity, NOW).is_err());
    publish(&writer, 3, &[&new], &[]);
    assert!(verifier.check_again(&identity, NOW).is_err());
}
