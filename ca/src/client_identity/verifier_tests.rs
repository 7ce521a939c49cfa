//! Which client certificates are accepted, judged without a connection.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};

use super::*;
use crate::client_identity::ClientFault;
use crate::client_identity::test_mesh::{
    Shown, TestRoot, authorities, nothing, publish, publish_authorities, trust_domain, uri,
};

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

#[test]
fn a_compromised_root_gives_nobody_power_but_its_holders_still_hear_of_the_next_bundle() {
    let (old, new) = (TestRoot::new("old"), TestRoot::new("new"));
    let (writer, reader) = nothing();
    let verifier = ClientVerifier::new(trust_domain(), reader);
    let (by_old, by_new) = (old.leaf(WEB, NOW, |_| {}), new.leaf(WEB, NOW, |_| {}));
    let [old_client, new_client] = [&by_old, &by_new].map(|shown| ClientIdentity::of_verified(&shown.chain).unwrap());
    // The sequence does not change when a root is declared compromised.
    let publish = |tainted: [bool; 2]| {
        let mut authorities = authorities(1, &[&old, &new], &[]);
        for (root, tainted) in authorities.roots.iter_mut().zip(tainted) {
            root.tainted_at = tainted.then_some(NOW);
        }
        publish_authorities(&writer, authorities, &new);
    };
    let accepted = || {
        let clients = [&old_client, &new_client];
        assert!(clients.iter().all(|client| verifier.still_holds(client, NOW).is_ok()));
        assert!([&by_old, &by_new].iter().all(|shown| judged(&verifier, shown, NOW).is_ok()));
        clients.map(|client| verifier.check_again(client, NOW).is_ok())
    };
    for (tainted, expected) in
        [([false, false], [true, true]), ([true, false], [false, true]), ([false, true], [true, false])]
    {
        publish(tainted);
        assert_eq!(accepted(), expected, "{tainted:?}");
    }
    publish([true, true]);
    assert!(matches!(verifier.check_again(&new_client, NOW), Err(ClientRefused::NoRoot)));
    assert!(!verifier.client_auth_mandatory());
}

#[test]
fn a_sound_root_does_not_bring_back_the_key_of_a_compromised_one() {
    let (old, new) = (TestRoot::new("old"), TestRoot::new("new"));
    let (writer, reader) = nothing();
    let verifier = ClientVerifier::new(trust_domain(), reader);
    let mut shown = old.leaf(WEB, NOW, |_| {});
    shown.chain.push(new.vouches_for(&old));
    for (tainted, accepted) in [(None, true), (Some(NOW), false)] {
        let mut authorities = authorities(1, &[&old, &new], &[]);
        authorities.roots[0].tainted_at = tainted;
        publish_authorities(&writer, authorities, &new);
        let client = ClientIdentity::of_verified(&shown.chain).unwrap();
        let judgement = verifier.check_again(&client, NOW);
        assert_eq!(judgement.is_ok(), accepted, "{judgement:?}");
        assert_eq!(matches!(judgement, Err(ClientRefused::Compromised)), !accepted);
    }
}

#[test]
fn a_serial_on_a_list_of_its_issuer_is_refused_without_an_entry_in_the_journal() {
    let (root, other) = (TestRoot::new("a"), TestRoot::new("b"));
    let (writer, reader) = nothing();
    let verifier = ClientVerifier::new(trust_domain(), reader);
    let shown = root.leaf(WEB, NOW, |_| {});
    let serial = shown.facts().serial;
    let cases = [
        ("its issuer's list", vec![other.list(&[]), root.list(&[vec![7], serial.clone()])], true),
        ("another issuer's list", vec![other.list(&[serial]), root.list(&[])], false),
        ("another serial", vec![root.list(&[vec![7]])], false),
    ];
    for (sequence, (why, lists, refused)) in (1..).zip(cases) {
        let mut authorities = authorities(sequence, &[&other, &root], &[]);
        authorities.revocations.lists = lists;
        publish_authorities(&writer, authorities, &root);
        let judgement = judged(&verifier, &shown, NOW);
        assert_eq!(matches!(judgement, Err(ClientRefused::Revoked)), refused, "{why}: {judgement:?}");
        assert_eq!(judgement.is_ok(), !refused, "{why}: {judgement:?}");
    }
}

/// As numbers of an operator's own CAs may be; in DER a zero goes before it.
#[test]
fn a_serial_with_its_highest_bit_set_is_found_on_a_list() {
    let root = TestRoot::new("a");
    let (writer, reader) = nothing();
    let verifier = ClientVerifier::new(trust_domain(), reader);
    let serial = vec![0x80; 16];
    let shown = root.leaf(WEB, NOW, |params| params.serial_number = Some(serial.clone().into()));
    let mut authorities = authorities(1, &[&root], &[]);
    authorities.revocations.lists = vec![root.list(std::slice::from_ref(&serial))];
    publish_authorities(&writer, authorities, &root);
    assert!(matches!(judged(&verifier, &shown, NOW), Err(ClientRefused::Revoked)));
}

#[test]
fn whoever_has_made_a_certificate_for_himself_is_a_stranger_and_not_invalid() {
    let (root, stranger) = (TestRoot::new("a"), TestRoot::new("b"));
    let (writer, reader) = nothing();
    publish(&writer, 1, &[&root], &[]);
    let verifier = ClientVerifier::new(trust_domain(), reader);
    let fault = |leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]| {
        ClientFault::of(&verifier.verify(leaf, rest, unix(NOW)).unwrap_err().into())
    };
    // As `openssl req -x509` makes them: a CA.
    assert_eq!(fault(&stranger.certificate, &[]), Some(ClientFault::UnknownIssuer));
    assert_eq!(fault(&stranger.issuing, &[]), Some(ClientFault::UnknownIssuer));
    assert_eq!(fault(&root.issuing, &[]), Some(ClientFault::Invalid), "a CA of this mesh is no workload");
    // Nor is one below an issuing CA, which is known by what was sent with it.
    let below = root.leaf(WEB, NOW, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(fault(&below.chain[0], &below.chain[1..]), Some(ClientFault::Invalid));
    assert_eq!(fault(&below.chain[0], &[]), Some(ClientFault::UnknownIssuer));
}
