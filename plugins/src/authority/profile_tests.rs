//! Certificates of all three levels against the rules of the X.509-SVID document, judged by core's own
//! check and by the `openssl` command, over every kind of authority key and leaf key.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rcgen::{CustomExtension, KeyUsagePurpose, SanType};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use signet_core::authority::{AuthorityId, IssuingCa, KeyId, Root};
use signet_core::bundle::TrustBundle;
use signet_core::certificate::{Facts, Serial};
use signet_core::csr::{CertificateRequest, ProvenKey};
use signet_core::digest::{hex, key_identifier};
use signet_core::identity::{SpiffeId, TrustDomain, WorkloadId};
use signet_core::key_type::KeyType;
use signet_core::pem::pem;
use signet_core::policy::{CsrNames, LeafPolicy, SigningRequest, decide, decide_serving};
use signet_core::seams::certificate_authority::{CertificateAuthority, SignError};
use signet_core::seams::custody::SigningKey;
use signet_core::seams::upstream_authority::UpstreamAuthority;
use signet_core::verify::{Signer, VerifiedPath, check_issued};
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::authority::{AuthorityError, NativeAuthority, SelfSignedRoot};
use crate::custody::{LocalKey, MemoryCustody};

const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);
const DAY: Duration = Duration::from_secs(86_400);
const ID: &str = "spiffe://cluster.local/ns/default/sa/web";

fn domain() -> TrustDomain {
    TrustDomain::parse("cluster.local").unwrap()
}

fn policy() -> LeafPolicy {
    LeafPolicy { trust_domain: domain(), default_ttl: DAY, max_ttl: 90 * DAY, csr_names: CsrNames::Ignore }
}

struct Hierarchy {
    root: Root,
    issuing: CertificateDer<'static>,
    authority: NativeAuthority,
}

async fn hierarchy(root_type: KeyType, issuing_type: KeyType) -> Hierarchy {
    let upstream = SelfSignedRoot::new(domain(), Arc::new(MemoryCustody::new()), root_type, 3650 * DAY);
    let root = upstream.prepare_root(1, NOW).await.unwrap();
    let key: Arc<dyn SigningKey> = Arc::new(LocalKey::generate(issuing_type).await.unwrap().0);
    let issuing = upstream.certify(&root, &*key, 30 * DAY, NOW).await.unwrap().certificate;
    let authority = NativeAuthority::new(key, &issuing_ca(&issuing)).unwrap();
    Hierarchy { root, issuing, authority }
}

/// What the journal would say about an issuing CA that lies under a root of Signet.
fn issuing_ca(certificate: &CertificateDer<'static>) -> IssuingCa {
    let facts = Facts::read(certificate);
    let validity = facts.as_ref().map_or((NOW, NOW), |facts| (facts.not_before, facts.not_after));
    IssuingCa {
        id: facts.as_ref().map_or_else(|_| AuthorityId::new(b"", b""), AuthorityId::of),
        key: KeyId::parse("issuing"),
        certificate: certificate.clone(),
        not_before: validity.0,
        not_after: validity.1,
        intermediates: Vec::new(),
    }
}

impl Hierarchy {
    fn path(&self) -> VerifiedPath {
        let bundle = TrustBundle::new(domain(), 1, vec![self.root.certificate.clone()]).unwrap();
        VerifiedPath::check(std::slice::from_ref(&self.issuing), &[], &bundle).unwrap()
    }

    /// A leaf for a workload whose CSR asks for everything it must not get.
    fn workload(&self, csr: &str) -> SigningRequest {
        let csr = CertificateRequest::parse(csr).unwrap();
        let workload = WorkloadId::parse(ID).unwrap();
        let serial = Serial::new(NOW, [9; 16]);
        decide(&policy(), workload, csr, None, self.authority.limits(), serial, NOW).unwrap()
    }
}

async fn leaf_key(key_type: KeyType) -> KeyPair {
    let (_, pkcs8) = LocalKey::generate(key_type).await.unwrap();
    KeyPair::try_from(&PrivatePkcs8KeyDer::from(pkcs8.expose())).unwrap()
}

/// Everything that a request can hold, each part marked so that it would be seen in a leaf.
fn greedy_csr(key: &KeyPair) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "greedy-cn");
    params.distinguished_name.push(DnType::OrganizationName, "greedy-org");
    params.subject_alt_names = vec![
        SanType::URI("spiffe://cluster.local/ns/greedy/sa/admin".try_into().unwrap()),
        SanType::DnsName("greedy.example".try_into().unwrap()),
        SanType::Rfc822Name("greedy@example".try_into().unwrap()),
    ];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::KeyAgreement];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    params.custom_extensions =
        vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999], b"\x04\x06greedy".to_vec())];
    params.serialize_request(key).unwrap().pem().unwrap()
}

/// Runs `openssl` and returns whether it agreed and what it said.
fn openssl(args: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").args(args).output().expect("apt-get install openssl");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// The certificates of one chain as files.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new(root: &[u8], issuing: &[u8], leaf: &[u8]) -> Self {
        let dir = TempDir::new().unwrap();
        for (name, der) in [("root", root), ("issuing", issuing), ("leaf", leaf)] {
            std::fs::write(dir.path().join(name), pem(der)).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> String {
        Path::join(self.dir.path(), name).to_str().unwrap().to_owned()
    }

    fn verify(&self, name: &str, purpose: &str, extra: &[&str]) -> (bool, String) {
        let (root, issuing, at, file) =
            (self.path("root"), self.path("issuing"), NOW.unix_timestamp().to_string(), self.path(name));
        let mut args = vec!["verify", "-x509_strict", "-check_ss_sig", "-attime", &at, "-purpose", purpose];
        args.extend(["-CAfile", &root, "-untrusted", &issuing]);
        args.extend(extra);
        args.push(&file);
        openssl(&args)
    }

    /// The text form, with each line's indentation removed.
    fn text(&self, name: &str) -> String {
        let (done, text) = openssl(&["x509", "-noout", "-text", "-in", &self.path(name)]);
        assert!(done, "{text}");
        text.lines().map(|line| format!("{}\n", line.trim())).collect()
    }
}

fn signature_name(key_type: KeyType) -> &'static str {
    match key_type {
        KeyType::EcP256 => "ecdsa-with-SHA256",
        KeyType::EcP384 => "ecdsa-with-SHA384",
        KeyType::Rsa2048 | KeyType::Rsa4096 => "sha256WithRSAEncryption",
    }
}

fn check_rules(what: &str, rules: &[(&str, bool)]) {
    for (rule, holds) in rules {
        assert!(holds, "{what} breaks {rule}");
    }
}

fn check_leaf(what: &str, der: &[u8], files: &Files, rsa: bool, issuing: &Facts) {
    let (leaf, text) = (Facts::read(der).unwrap(), files.text("leaf"));
    let uri: Vec<_> = leaf.uris.iter().map(|uri| SpiffeId::parse(uri).unwrap()).collect();
    let usages = if rsa { "Digital Signature, Key Encipherment\n" } else { "Digital Signature\n" };
    let eku = "X509v3 Extended Key Usage:\nTLS Web Server Authentication, TLS Web Client Authentication\n";
    check_rules(
        what,
        &[
            ("X-1, X-2: exactly one URI", leaf.uris == [ID] && text.matches("URI:").count() == 1),
            ("X-3: the ID has a path", uri.iter().all(|id| !id.path().is_empty())),
            ("X-4: empty subject", leaf.subject_empty && text.contains("Subject:\n")),
            ("X-4: critical SAN", text.contains("X509v3 Subject Alternative Name: critical\n")),
            ("X-1: no other SAN", leaf.dns.is_empty() && leaf.ips.is_empty() && leaf.other_names == 0),
            ("X-7: cA false", !leaf.is_ca && text.contains("X509v3 Basic Constraints: critical\nCA:FALSE\n")),
            ("X-9, X-10: key usage", text.contains(&format!("X509v3 Key Usage: critical\n{usages}"))),
            ("X-10b: no signing usages", !leaf.has_usage(5) && !leaf.has_usage(6)),
            ("X-11a, X-11b: extended key usage", text.contains(eku)),
            (
                "RFC 5280 4.2.1.1: AKI",
                leaf.authority_key_id == issuing.subject_key_id && issuing.subject_key_id.is_some(),
            ),
            ("five extensions and the SKI, nothing else", text.matches("X509v3 ").count() == 7),
            ("nothing of the CSR", !der.windows(6).any(|window| window.eq_ignore_ascii_case(b"greedy"))),
        ],
    );
}

fn check_ca(what: &str, der: &[u8], text: &str, constraints: &str) {
    let facts = Facts::read(der).unwrap();
    let id = key_identifier(&facts.spki_der);
    let name = format!("Subject: O = cluster.local, CN = Signet {what} {}\n", &hex(&id)[..8]);
    check_rules(
        what,
        &[
            ("X-5a: cA, critical", text.contains(&format!("X509v3 Basic Constraints: critical\n{constraints}\n"))),
            ("X-9, X-10d: key usage", text.contains("X509v3 Key Usage: critical\nCertificate Sign, CRL Sign\n")),
            ("X-5b, X-5c: the trust domain's own ID", facts.uris == ["spiffe://cluster.local"]),
            ("X-11c: no extended key usage", facts.extended_key_usage.is_none()),
            ("a name of its own", text.contains(&name)),
            ("RFC 7093: the key identifier", facts.subject_key_id == Some(id.to_vec())),
            ("a serial of 16 bytes", facts.serial.len() == 16),
            ("two minutes backdated", facts.not_before == NOW - Duration::from_secs(120)),
        ],
    );
}

async fn every_rule_holds(root_type: KeyType, issuing_type: KeyType) {
    let hierarchy = hierarchy(root_type, issuing_type).await;
    let issuing = Facts::read(&hierarchy.issuing).unwrap();
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let what = format!("a {key_type} leaf under {issuing_type} under {root_type}");
        let request = hierarchy.workload(&greedy_csr(&leaf_key(key_type).await));
        let chain = hierarchy.authority.sign(&request).await.unwrap();
        assert_eq!(chain.intermediates(), std::slice::from_ref(&hierarchy.issuing));
        let leaf = chain.leaf().clone();
        check_issued(request, chain, &hierarchy.path(), Signer::Elsewhere).expect(&what);

        let files = Files::new(&hierarchy.root.certificate, &hierarchy.issuing, &leaf);
        check_leaf(&what, &leaf, &files, key_type == KeyType::Rsa2048, &issuing);
        let expected = format!("Signature Algorithm: {}\n", signature_name(issuing_type));
        assert!(files.text("leaf").contains(&expected), "{what}");
        for purpose in ["sslserver", "sslclient"] {
            let (valid, said) = files.verify("leaf", purpose, &[]);
            assert!(valid, "X-12: {what} as {purpose}: {said}");
            let (valid, _) = files.verify("issuing", purpose, &[]);
            assert!(!valid, "X-6, X-13: a signing certificate passed as {purpose}");
        }
    }
    let files = Files::new(&hierarchy.root.certificate, &hierarchy.issuing, b"");
    let (root, middle) = (files.text("root"), files.text("issuing"));
    check_ca("root", &hierarchy.root.certificate, &root, "CA:TRUE");
    check_ca("issuing", &hierarchy.issuing, &middle, "CA:TRUE, pathlen:0");
    for text in [root, middle] {
        assert!(text.contains(&format!("Signature Algorithm: {}\n", signature_name(root_type))));
    }
    let root = Facts::read(&hierarchy.root.certificate).unwrap();
    assert_eq!(issuing.authority_key_id, root.subject_key_id);
    assert_ne!(issuing.subject_der, root.subject_der);
}

#[tokio::test]
async fn rules_x1_to_x13_hold_under_a_p256_authority() {
    every_rule_holds(KeyType::EcP256, KeyType::EcP256).await;
}

#[tokio::test]
async fn rules_x1_to_x13_hold_under_a_p384_authority() {
    every_rule_holds(KeyType::EcP384, KeyType::EcP384).await;
}

#[tokio::test]
async fn rules_x1_to_x13_hold_under_an_rsa_2048_authority() {
    every_rule_holds(KeyType::Rsa2048, KeyType::Rsa2048).await;
}

#[tokio::test]
async fn rules_x1_to_x13_hold_under_an_rsa_4096_root_with_an_issuing_ca_of_another_kind() {
    every_rule_holds(KeyType::Rsa4096, KeyType::EcP384).await;
}

#[tokio::test]
async fn a_serving_certificate_names_its_id_first_and_then_what_clients_dial() {
    let hierarchy = hierarchy(KeyType::EcP256, KeyType::EcP256).await;
    let decided = |dns: &str| {
        let key = ProvenKey::own(rcgen::PublicKeyData::subject_public_key_info(&KeyPair::generate().unwrap())).unwrap();
        let (limits, serial) = (hierarchy.authority.limits(), Serial::new(NOW, [3; 16]));
        let (id, dns) = (SpiffeId::parse("spiffe://cluster.local/signet/ca").unwrap(), vec![dns.to_owned()]);
        let ips = vec!["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        decide_serving(&policy(), id, dns, ips, key, limits, serial, NOW).unwrap()
    };
    let request = decided("ca.signet.svc");
    let chain = hierarchy.authority.sign(&request).await.unwrap();
    let files = Files::new(&hierarchy.root.certificate, &hierarchy.issuing, chain.leaf());
    check_issued(request, chain, &hierarchy.path(), Signer::Elsewhere).unwrap();
    let san =
        "URI:spiffe://cluster.local/signet/ca, DNS:ca.signet.svc, IP Address:10.0.0.1, IP Address:0:0:0:0:0:0:0:1\n";
    assert!(files.text("leaf").contains(&format!("X509v3 Subject Alternative Name: critical\n{san}")));
    assert!(files.verify("leaf", "sslserver", &["-verify_hostname", "ca.signet.svc"]).0);
    assert!(!files.verify("leaf", "sslserver", &["-verify_hostname", "other.signet.svc"]).0);

    let refused = hierarchy.authority.sign(&decided("straße")).await;
    assert!(matches!(refused, Err(SignError::Failed(_))));
}

#[tokio::test]
async fn a_decision_bound_to_another_authority_is_not_signed() {
    let (one, other) =
        (hierarchy(KeyType::EcP256, KeyType::EcP256).await, hierarchy(KeyType::EcP256, KeyType::EcP256).await);
    let request = one.workload(&greedy_csr(&KeyPair::generate().unwrap()));
    assert_eq!(other.authority.sign(&request).await, Err(SignError::WrongIssuer));
    assert_eq!(one.authority.signer(), Signer::Here);
    assert_eq!(one.authority.limits().authority, AuthorityId::of(&Facts::read(&one.issuing).unwrap()));
    assert_eq!(one.authority.limits().not_after, NOW + 30 * DAY);
}

#[tokio::test]
async fn a_trust_domain_longer_than_an_organization_name_may_be_still_makes_a_chain() {
    let long = TrustDomain::parse(&"a".repeat(255)).unwrap();
    let upstream = SelfSignedRoot::new(long, Arc::new(MemoryCustody::new()), KeyType::EcP256, DAY);
    let root = upstream.prepare_root(1, NOW).await.unwrap();
    let issuing =
        upstream.certify(&root, &LocalKey::generate(KeyType::EcP256).await.unwrap().0, DAY, NOW).await.unwrap();
    let issuing = issuing.certificate;
    let files = Files::new(&root.certificate, &issuing, b"");
    assert!(files.verify("issuing", "any", &[]).0);
    assert!(files.text("root").contains(&format!("Subject: O = {}, CN", "a".repeat(64))));
}

#[tokio::test]
async fn a_key_and_a_certificate_that_make_no_authority_are_refused() {
    type Change = fn(&mut CertificateParams);
    let (key, pkcs8) = LocalKey::generate(KeyType::EcP256).await.unwrap();
    let pair = KeyPair::try_from(&PrivatePkcs8KeyDer::from(pkcs8.expose())).unwrap();
    let key: Arc<dyn SigningKey> = Arc::new(key);
    let made = |change: Change| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        change(&mut params);
        issuing_ca(params.self_signed(&pair).unwrap().der())
    };
    let table: [(Change, AuthorityError); 3] = [
        (|params| params.is_ca = IsCa::ExplicitNoCa, AuthorityError::NotCa),
        (|params| params.key_usages = vec![KeyUsagePurpose::CrlSign], AuthorityError::NotCa),
        (|params| params.distinguished_name = DistinguishedName::new(), AuthorityError::NoSubject),
    ];
    assert!(NativeAuthority::new(Arc::clone(&key), &made(|_| {})).is_ok());
    for (change, expected) in table {
        assert_eq!(NativeAuthority::new(Arc::clone(&key), &made(change)).err(), Some(expected));
    }
    let stranger: Arc<dyn SigningKey> = Arc::new(LocalKey::generate(KeyType::EcP256).await.unwrap().0);
    assert_eq!(NativeAuthority::new(stranger, &made(|_| {})).err(), Some(AuthorityError::OtherKey));
    let mut cut = made(|_| {}).certificate.to_vec();
    cut.pop();
    let cut = issuing_ca(&cut.into());
    assert!(matches!(NativeAuthority::new(key, &cut).err(), Some(AuthorityError::Unreadable(_))));
}
