//! Good replies in each shape that real CAs send, and every way in which a reply can be wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use rcgen::{CertificateParams, IsCa, KeyPair, PublicKeyData, SanType};

use rustls_pki_types::pem::PemObject;

use super::*;
use crate::tests::test_ca::{Authority, leaf_params};

const ID: &str = "spiffe://td/ns/prod/sa/web";
const HOUR: Duration = Duration::from_secs(3600);

struct World {
    root: Authority,
    issuing: Authority,
    key: KeyPair,
    now: OffsetDateTime,
}

impl World {
    fn new() -> Self {
        let root = Authority::root("root");
        let issuing = root.intermediate("issuing");
        let now = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        Self { root, issuing, key: KeyPair::generate().unwrap(), now }
    }

    fn leaf_with(&self, change: impl FnOnce(&mut CertificateParams)) -> String {
        let mut params = leaf_params(ID, self.now - HOUR, self.now + HOUR);
        change(&mut params);
        self.issuing.sign(&self.key, &params)
    }

    fn leaf(&self) -> String {
        self.leaf_with(|_| {})
    }

    fn check(&self, elements: &[String]) -> Result<Issued, ReplyError> {
        self.check_at(elements, self.now)
    }

    fn check_at(&self, elements: &[String], now: OffsetDateTime) -> Result<Issued, ReplyError> {
        let spiffe_id = SpiffeId::parse(ID).unwrap();
        let trust_domain = TrustDomain::parse("td").unwrap();
        let spki_der = self.key.subject_public_key_info();
        let asked = Asked { spiffe_id: &spiffe_id, trust_domain: &trust_domain, spki_der: &spki_der };
        let reply = Reply { elements: elements.to_vec(), sequence: Some(7) };
        check(&reply, asked, Secret::new(b"private".to_vec()), now)
    }

    fn with_leaf(&self, leaf: String) -> Result<Issued, ReplyError> {
        self.check(&[leaf, self.issuing.pem(), self.root.pem()])
    }
}

#[test]
fn a_good_reply_is_split_into_chain_and_roots_in_each_shape_cas_send() {
    let world = World::new();
    let (leaf, issuing, root) = (world.leaf(), world.issuing.pem(), world.root.pem());
    let other_root = Authority::root("other").pem();
    let shapes: [(Vec<String>, usize); 5] = [
        (vec![leaf.clone(), issuing.clone(), root.clone()], 1),
        // Istio's own CA files often repeat the root within the chain.
        (vec![leaf.clone(), format!("{issuing}{root}"), root.clone()], 1),
        (vec![leaf.clone(), issuing.clone(), root.clone(), root.clone()], 1),
        (vec![leaf.clone(), issuing.clone(), format!("{other_root}{root}")], 2),
        // A root that is no part of the bundle does not belong into the chain either.
        (vec![leaf.clone(), issuing.clone(), other_root, root.clone()], 1),
    ];
    for (elements, roots) in shapes {
        let issued = world.check(&elements).unwrap();
        assert_eq!(issued.chain.pem(), format!("{leaf}{issuing}"), "no root in the chain");
        assert_eq!(issued.bundle.roots().len(), roots);
        assert_eq!((issued.sequence, issued.bundle.sequence()), (Some(7), 7));
        assert!((0.0..=1.0).contains(&issued.jitter));
        assert!(issued.bundle.pem().contains(&root));
        assert_eq!(issued.issuer, "CN=issuing");
        assert!(issued.serial.len() >= 32 && issued.authority.len() >= 40, "{issued:?}");
        assert!(issued.renew_at > issued.not_before && issued.renew_at < issued.not_after);
        assert!(!format!("{issued:?}").contains("private"));
    }
    let short = world.leaf_with(|params| params.serial_number = Some(0xabc_u64.into()));
    let short = world.check(&[short, issuing.clone(), root.clone()]).unwrap();
    assert_eq!(short.serial, format!("{:0>32}", "abc"), "as records and hints name it");
    let self_signed = world.root.sign(&world.key, &leaf_params(ID, world.now - HOUR, world.now + HOUR));
    assert_eq!(world.check(&[self_signed, root]).unwrap().chain.intermediates().len(), 0);
}

#[test]
fn short_or_malformed_replies_are_refused() {
    let world = World::new();
    let (leaf, issuing, root) = (world.leaf(), world.issuing.pem(), world.root.pem());
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_owned();
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
    assert!(matches!(world.check(&[]), Err(ReplyError::TooShort(0))));
    assert!(matches!(world.check(std::slice::from_ref(&leaf)), Err(ReplyError::TooShort(1))));
    let many = vec![root.clone(); MAX_CERTIFICATES + 1];
    assert!(matches!(world.check(&many), Err(ReplyError::TooLong)));
    let most = [vec![leaf.clone()], vec![issuing.clone(); MAX_CERTIFICATES - 2], vec![root.clone()]].concat();
    assert_eq!((most.len(), world.check(&most).map(|_| ()).is_ok()), (MAX_CERTIFICATES, true));
    let together = |count| world.check(&[leaf.clone(), issuing.repeat(count), root.clone()]);
    assert!(together(MAX_CERTIFICATES - 2).is_ok());
    assert!(matches!(together(MAX_CERTIFICATES - 1), Err(ReplyError::TooLong)));
    let long = root.repeat(MAX_CERTIFICATES + 1);
    assert!(matches!(world.check(&[leaf.clone(), long]), Err(ReplyError::TooLong)));
    for (elements, index) in [
        (vec![String::new(), root.clone()], 0),
        (vec!["junk".to_owned(), root.clone()], 0),
        (vec![key.clone(), root.clone()], 0),
        (vec![format!("{leaf}{leaf}"), root.clone()], 0),
        (vec![leaf.clone(), key, root.clone()], 1),
        (vec![leaf.clone(), String::new()], 1),
        (vec![leaf.clone(), issuing.clone(), "-----BEGIN CERTIFICATE-----\n".to_owned()], 2),
    ] {
        let refused = world.check(&elements).unwrap_err();
        assert!(matches!(refused, ReplyError::NotPem(at) if at == index), "{refused}");
    }
    assert!(matches!(world.check(&[broken.clone(), root.clone()]), Err(ReplyError::Unreadable(_))));
    assert!(matches!(world.check(&[leaf.clone(), broken.clone(), root]), Err(ReplyError::Unreadable(_))));
    assert!(matches!(world.check(&[leaf.clone(), issuing.clone(), broken]), Err(ReplyError::Bundle(_))));
    let leaf_as_root = world.check(&[leaf.clone(), issuing, leaf]);
    assert!(matches!(leaf_as_root, Err(ReplyError::Bundle(BundleError::NotCa(0)))));
}

#[test]
fn a_leaf_for_another_identity_or_with_more_names_is_refused() {
    let world = World::new();
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    for names in [
        vec![uri("spiffe://td/ns/prod/sa/other")],
        vec![uri("spiffe://td/ns/prod/sa/web/")],
        vec![uri("SPIFFE://td/ns/prod/sa/web")],
        vec![uri(ID), uri("spiffe://td/ns/prod/sa/other")],
        vec![uri(ID), SanType::DnsName("web".try_into().unwrap())],
        vec![uri(ID), SanType::IpAddress([10, 0, 0, 1].into())],
        vec![uri(ID), SanType::Rfc822Name("web@td".try_into().unwrap())],
        vec![SanType::DnsName("web".try_into().unwrap())],
        vec![],
    ] {
        let refused = world.with_leaf(world.leaf_with(|params| params.subject_alt_names = names)).unwrap_err();
        assert!(matches!(refused, ReplyError::Identity { .. }), "{refused}");
    }
}

#[test]
fn peers_refuse_a_certificate_when_its_own_root_is_gone_whatever_else_is_left() {
    let world = World::new();
    let [other, third] = ["other", "third"].map(Authority::root);
    let both = world.root.pem() + &other.pem();
    let issued = world.check(&[world.leaf(), world.issuing.pem(), both]).unwrap();
    for (roots, is_cut_off) in [
        (vec![&world.root, &other, &third], false),
        (vec![&world.root, &third], false),
        (vec![&other, &third], true),
        (vec![&third], true),
    ] {
        let roots: Vec<_> = roots.into_iter().map(|root| root.der.clone()).collect();
        let bundle = TrustBundle::new(TrustDomain::parse("td").unwrap(), 8, roots).unwrap();
        // Whether it has begun, or is over, is another question.
        for now in [world.now - 2 * HOUR, world.now, world.now + 2 * HOUR] {
            assert_eq!(issued.is_cut_off_by(&bundle, now), is_cut_off, "{} roots at {now}", bundle.roots().len());
        }
    }
}

#[test]
fn a_leaf_with_another_key_or_with_ca_rights_is_refused() {
    let world = World::new();
    let params = leaf_params(ID, world.now - HOUR, world.now + HOUR);
    let foreign = world.issuing.sign(&KeyPair::generate().unwrap(), &params);
    assert!(matches!(world.with_leaf(foreign), Err(ReplyError::Key)));
    let ca = world.leaf_with(|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
    assert!(matches!(world.with_leaf(ca), Err(ReplyError::IsCa)));
}

#[test]
fn a_leaf_must_be_valid_now_give_or_take_the_skew() {
    let world = World::new();
    let elements = [world.leaf(), world.issuing.pem(), world.root.pem()];
    let (from, to) = (world.now - HOUR, world.now + HOUR);
    let second = Duration::from_secs(1);
    assert!(world.check_at(&elements, to - second).is_ok());
    assert!(matches!(world.check_at(&elements, to), Err(ReplyError::Expired(_))));
    assert!(world.check_at(&elements, from - SKEW).is_ok());
    let early = world.check_at(&elements, from - SKEW - second).unwrap_err();
    assert!(early.to_string().contains("check this machine's clock"), "{early}");
}

#[test]
fn a_chain_that_does_not_lead_to_a_root_it_came_with_is_refused() {
    let world = World::new();
    let (leaf, issuing, root) = (world.leaf(), world.issuing.pem(), world.root.pem());
    // A root of the right name with another key, a missing intermediate, and another intermediate of the same name.
    let namesake_root = Authority::root("root").pem();
    let namesake = world.root.intermediate("issuing").pem();
    let mut forged = CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap().as_ref().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let forged = signet_core::pem::pem(&forged);
    for elements in [
        vec![leaf.clone(), issuing.clone(), namesake_root],
        vec![leaf.clone(), root.clone()],
        vec![leaf.clone(), namesake, root.clone()],
        vec![forged, issuing.clone(), root.clone()],
    ] {
        let refused = world.check(&elements).unwrap_err();
        assert!(matches!(refused, ReplyError::Chain(_)), "{refused}");
    }
    // Not usable by a TLS server.
    let client_only = world.leaf_with(|params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    assert!(matches!(world.check(&[client_only, issuing, root]), Err(ReplyError::Chain(_))));
}
