//! Issuing CAs whose certificates clients refuse are not taken into use, and whoever asks is told why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, GeneralSubtree, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, NameConstraints,
};
use signet_core::audit::Outcome;
use signet_core::clock::ManualClock;
use signet_core::seams::store::AuthorityJournal;
use signet_core::seams::upstream_authority::UpstreamAuthority;
use signet_plugins::authority::{FilesAuthority, NativeAuthority};
use signet_plugins::custody::MemoryCustody;
use tempfile::TempDir;

use super::*;
use crate::world_tests::{DAY, NOW, World, application};

/// A root, and certificates for signers below it.
struct Pki {
    params: CertificateParams,
    key: KeyPair,
    directory: TempDir,
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (NOW - 30 * DAY, NOW + 300 * DAY);
    params
}

impl Pki {
    fn new(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (mut params, key) = (named("root"), KeyPair::generate().unwrap());
        change(&mut params);
        Self { params, key, directory: TempDir::new().unwrap() }
    }

    /// Puts the files of a signer with such a certificate.
    fn put(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let (mut params, key) = (named(name), KeyPair::generate().unwrap());
        change(&mut params);
        let signer = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap().pem();
        let root = self.params.self_signed(&self.key).unwrap().pem();
        for (file, content) in [
            ("ca-cert.pem", signer),
            ("ca-key.pem", key.serialize_pem()),
            ("root-cert.pem", root),
            ("cert-chain.pem", String::new()),
        ] {
            std::fs::write(self.directory.path().join(file), content).unwrap();
        }
    }

    /// A CA that has these files.
    fn world(&self) -> World {
        let own = World::empty();
        let custody = Arc::clone(&own.store) as _;
        let files = FilesAuthority::new(self.directory.path().to_owned(), custody, Arc::new(ManualClock::at(NOW)));
        own.another_on(Arc::new(files) as Arc<dyn UpstreamAuthority>)
    }
}

fn constraints(permitted: Vec<GeneralSubtree>, excluded: Vec<GeneralSubtree>) -> Option<NameConstraints> {
    Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded })
}

/// Name constraints with one URI, which the builder cannot write: `[0]` permitted or `[1]` excluded (RFC 5280 section
/// 4.2.1.10).
fn uri_constraint(which: u8, host: &str) -> CustomExtension {
    let element = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let tree = element(0x30, &element(0x86, host.as_bytes()));
    let mut extension =
        CustomExtension::from_oid_content(&[2, 5, 29, 30], element(0x30, &element(0xa0 | which, &tree)));
    extension.set_criticality(true);
    extension
}

fn unknown() -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    extension.set_criticality(true);
    extension
}

fn dns(name: &str) -> GeneralSubtree {
    GeneralSubtree::DnsName(name.to_owned())
}

type Change = fn(&mut CertificateParams);

/// What is wrong with a signer, and what is told.
fn refused() -> [(&'static str, Change, &'static str); 5] {
    [
        ("an excluded URI", |it| it.custom_extensions.push(uri_constraint(1, "cluster.local")), "constraint for URIs"),
        ("a permitted URI", |it| it.custom_extensions.push(uri_constraint(0, "old.example")), "constraint for URIs"),
        (
            "an excluded name of ours",
            |it| it.name_constraints = constraints(vec![], vec![dns("localhost")]),
            "`CN=bad` has name constraints",
        ),
        (
            "another permitted name",
            |it| it.name_constraints = constraints(vec![dns("old.example")], vec![]),
            "`CN=bad` has name constraints",
        ),
        ("an unknown critical extension", |it| it.custom_extensions.push(unknown()), "critical extension 1.2.3.4"),
    ]
}

#[tokio::test]
async fn a_signer_that_clients_refuse_is_refused_and_the_one_before_goes_on() {
    let pki = Pki::new(|_| {});
    pki.put("good", |_| {});
    let world = pki.world();
    world.make_authority().await;
    world.rotator.turn().await.unwrap();
    let before = world.state.borrow().clone().unwrap();
    let events = world.events().await.len();
    for (what, change, expected) in refused() {
        pki.put("bad", change);
        for _ in 0..3 {
            world.rotator.turn().await.unwrap();
        }
        let told = world.rotator.executor.source_problem().unwrap();
        let parts = ["clients would refuse every certificate of the new issuing CA `CN=bad`", expected];
        assert!(parts.iter().all(|part| told.contains(part)), "{what}: {told}");
        let now = world.state.borrow().clone().unwrap();
        assert_eq!(now.authorities, before.authorities, "{what}");
        world.issuance.issue(&application()).await.unwrap();
    }
    // Each once, whatever the number of looks: with the name of the CA, or that of the probe too.
    let tried: Vec<_> = world.events().await.into_iter().map(|stored| stored.event).collect();
    let tried = tried.iter().filter(|event| event.outcome == Outcome::Intended && event.what.is_some());
    let (count, all) = (tried.clone().count(), tried.collect::<Vec<_>>());
    assert!((5 + 2..=10 + 2).contains(&count), "{count} {all:?} after {events}");
    for event in all {
        let (what, who) = (event.what.as_ref().unwrap(), event.who.spiffe_id.as_deref().unwrap());
        assert!(what.not_after - what.not_before <= 66, "a minute");
        assert!(NAMES.iter().any(|name| who == format!("spiffe://cluster.local/{name}")), "{who}");
        assert_eq!((event.holder(), event.released()), (None, None));
    }
    pki.put("good again", |_| {});
    world.rotator.turn().await.unwrap();
    assert_eq!(world.rotator.executor.source_problem(), None);
    assert_ne!(world.state.borrow().clone().unwrap().authorities, before.authorities);
}

#[tokio::test]
async fn no_first_authority_is_made_of_a_ca_that_clients_refuse() {
    for (what, change, expected) in refused() {
        let pki = Pki::new(|_| {});
        pki.put("bad", change);
        let world = pki.world();
        let operator = crate::operations::Operator::of_this_process();
        let told = world.operations.init(&operator, &[]).await.unwrap_err().to_string();
        assert!(told.contains(expected), "{what}: {told}");
        assert_eq!(world.store.load().await.unwrap(), None);
    }
}

#[tokio::test]
async fn constraints_of_a_root_count_and_constraints_that_allow_our_names_do_no_harm() {
    let root = Pki::new(|it| it.custom_extensions.push(uri_constraint(0, "cluster.local")));
    root.put("bad", |_| {});
    let operator = crate::operations::Operator::of_this_process();
    let told = root.world().operations.init(&operator, &[]).await.unwrap_err().to_string();
    assert!(told.contains("`CN=root` has a name constraint for URIs"), "{told}");
    for allowed in [constraints(vec![dns("localhost")], vec![]), constraints(vec![], vec![dns("old.example")])] {
        let pki = Pki::new(|_| {});
        pki.put("good", |it| it.name_constraints = allowed);
        pki.world().make_authority().await;
    }
}

#[tokio::test]
async fn an_issuing_ca_of_our_own_is_tried_out_before_it_is_used() {
    let world = World::new().await;
    let events: Vec<_> = world.events().await.into_iter().map(|stored| stored.event).collect();
    let tried = events.iter().filter(|event| event.outcome == Outcome::Intended && event.what.is_some());
    assert_eq!(tried.count(), NAMES.len());
}

#[tokio::test]
async fn what_is_certified_on_trial_is_judged_as_an_issuing_ca_is() {
    let (pki, custody) = (Pki::new(|_| {}), Arc::new(MemoryCustody::new()));
    let directory = pki.directory.path().to_owned();
    let files = FilesAuthority::new(directory, Arc::clone(&custody) as _, Arc::new(ManualClock::at(NOW)));
    let domain = TrustDomain::parse("cluster.local").unwrap();
    let serving = Serving { dns_names: vec!["localhost".to_owned()], ip_addresses: Vec::new(), ttl: DAY };
    let good: (Change, _) = (|_| {}, None);
    for (change, expected) in refused().into_iter().map(|(_, change, words)| (change, Some(words))).chain([good]) {
        pki.put("bad", change);
        let offer = files.offer().await.unwrap().unwrap();
        let issuing = offer.given().unwrap();
        let authority =
            NativeAuthority::new(custody.open(issuing.key.as_ref().unwrap()).await.unwrap(), issuing).unwrap();
        let roots: Vec<_> = offer.roots.iter().map(|root| root.certificate.clone()).collect();
        let verdict = client_verdict(&domain, &serving, (&authority, issuing), &roots, NOW).await.unwrap();
        match expected {
            None => assert_eq!(verdict, None),
            Some(words) => assert!(verdict.as_ref().is_some_and(|why| why.contains(words)), "{words}: {verdict:?}"),
        }
    }
}
