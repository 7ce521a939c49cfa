//! Tests that nothing but the decided certificate gets past the check.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use super::*;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use time::OffsetDateTime;

use crate::authority::AuthorityId;
use crate::certificate::Serial;
use crate::csr::CertificateRequest;
use crate::identity::{TrustDomain, WorkloadId};
use crate::policy::{CsrNames, CsrUse, IssuerLimits, LeafPolicy, decide};

const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);
const DAY: Duration = Duration::from_secs(86_400);
const ID: &str = "spiffe://cluster.local/ns/default/sa/web";

struct World {
    root: CertificateDer<'static>,
    issuing: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = NOW - DAY;
    params.not_after = NOW + 30 * DAY;
    params.use_authority_key_identifier_extension = true;
    params
}

fn world() -> World {
    let root_key = KeyPair::generate().unwrap();
    let root_params = ca_params("root");
    let root = root_params.self_signed(&root_key).unwrap().der().clone();
    let root_issuer = Issuer::new(root_params, root_key);
    let key = KeyPair::generate().unwrap();
    let params = ca_params("issuing");
    let issuing = params.signed_by(&key, &root_issuer).unwrap().der().clone();
    World { root, issuing, issuer: Issuer::new(params, key) }
}

fn plain_csr() -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

fn request() -> SigningRequest {
    request_for(&plain_csr())
}

fn request_for(pem: &str) -> SigningRequest {
    request_of(pem, None)
}

fn request_of(pem: &str, life: impl Into<crate::policy::AskedLife>) -> SigningRequest {
    let policy = LeafPolicy {
        trust_domain: TrustDomain::parse("cluster.local").unwrap(),
        default_ttl: DAY,
        max_ttl: DAY,
        csr_names: CsrNames::Ignore,
    };
    let (authority, takes) = (AuthorityId::new(b"", b"i"), CsrUse::Key);
    let limits = IssuerLimits { authority, not_before: NOW - DAY, not_after: NOW + 30 * DAY, takes };
    let csr = CertificateRequest::parse(pem).unwrap();
    decide(&policy, WorkloadId::parse(ID).unwrap(), csr, life, &limits, Serial::new(NOW, [9; 16]), NOW).unwrap()
}

fn leaf_params(request: &SigningRequest) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(request.serial().as_bytes()));
    params.not_before = request.not_before();
    params.not_after = request.not_after();
    params.subject_alt_names = vec![SanType::URI(ID.try_into().unwrap())];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params
}

fn verified(world: &World) -> VerifiedPath {
    let bundle = TrustBundle::new(TrustDomain::parse("cluster.local").unwrap(), 1, vec![world.root.clone()]).unwrap();
    VerifiedPath::check(std::slice::from_ref(&world.issuing), &[], &bundle).unwrap()
}

fn check(change: impl FnOnce(&mut CertificateParams)) -> Result<(), Mismatch> {
    check_of(Signer::Here, change)
}

fn check_of(signer: Signer, change: impl FnOnce(&mut CertificateParams)) -> Result<(), Mismatch> {
    let world = world();
    let request = request();
    let mut params = leaf_params(&request);
    change(&mut params);
    let key = SubjectPublicKeyInfo::from_der(request.key().spki_der()).unwrap();
    let leaf = params.signed_by(&key, &world.issuer).unwrap().der().clone();
    let path = verified(&world);
    let chain = CertificateChain::new(leaf, vec![world.issuing]);
    check_issued(request, chain, &path, signer).map(drop)
}

#[test]
fn the_decided_certificate_passes() {
    assert_eq!(check(|_| {}), Ok(()));
    assert_eq!(check_of(Signer::Elsewhere, |_| {}), Ok(()));
}

/// What a backend may choose, and what not: never a name, a key, a power, or a longer life.
#[test]
fn a_backend_chooses_the_serial_number_and_a_life_within_what_was_decided() {
    type Change = Box<dyn FnOnce(&mut CertificateParams)>;
    let second = Duration::from_secs(1);
    let refused = |field| Err(Mismatch::Field(field));
    let of = |change: fn(&mut CertificateParams)| Box::new(change) as Change;
    let ends = |by: Duration| Box::new(move |p: &mut CertificateParams| p.not_after += by) as Change;
    let begins = |at: OffsetDateTime| Box::new(move |p: &mut CertificateParams| p.not_before = at) as Change;
    let start = request().not_before();
    let table = [
        (of(|p| p.serial_number = Some(SerialNumber::from_slice(&[0x7f; 20]))), Ok(())),
        (of(|p| p.serial_number = Some(SerialNumber::from_slice(&[0]))), refused("serial number")),
        (of(|p| p.key_usages.push(KeyUsagePurpose::KeyEncipherment)), Ok(())),
        (of(|p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment]), refused("key usage")),
        (of(|p| p.key_usages.push(KeyUsagePurpose::KeyCertSign)), refused("key usage")),
        (of(|p| p.key_usages.push(KeyUsagePurpose::CrlSign)), refused("key usage")),
        (of(|p| p.not_after = NOW + Duration::from_secs(60)), Ok(())),
        (of(|p| p.not_after = NOW), refused("validity")),
        (ends(LATER), Ok(())),
        (ends(LATER + second), refused("validity")),
        (begins(NOW), Ok(())),
        (begins(NOW + LATER), Ok(())),
        (begins(NOW + LATER + second), refused("validity")),
        (begins(start - EARLIER), Ok(())),
        (begins(start - EARLIER - second), refused("validity")),
        (of(|p| p.distinguished_name.push(DnType::OrganizationName, "")), Ok(())),
        (of(|p| p.distinguished_name.push(DnType::OrganizationName, "admins")), refused("subject")),
    ];
    for (at, (change, expected)) in table.into_iter().enumerate() {
        assert_eq!(check_of(Signer::Elsewhere, change), expected, "case {at}");
    }
}

/// An API server counts from the start to the end.
#[test]
fn where_the_whole_life_was_asked_for_a_backend_may_not_make_it_longer() {
    let world = world();
    for (begins_earlier, expected) in [(0, Ok(())), (1, Err(Mismatch::Field("validity")))] {
        let most = Duration::from_secs(7200);
        let asked = crate::policy::AskedLife::Whole { least: Duration::from_secs(3600), most };
        let request = request_of(&plain_csr(), asked);
        let mut params = leaf_params(&request);
        params.not_before -= Duration::from_secs(begins_earlier);
        let key = SubjectPublicKeyInfo::from_der(request.key().spki_der()).unwrap();
        let leaf = params.signed_by(&key, &world.issuer).unwrap().der().clone();
        let chain = CertificateChain::new(leaf, vec![world.issuing.clone()]);
        let checked = check_issued(request, chain, &verified(&world), Signer::Elsewhere);
        assert_eq!(checked.map(drop), expected);
    }
}

/// What signs may say less than what was decided with: an issuing CA whose life a backend has cut, or whose clock is ahead.
#[test]
fn a_leaf_lives_within_every_certificate_that_it_was_verified_by() {
    let root_key = KeyPair::generate().unwrap();
    let root_params = ca_params("root");
    let root = root_params.self_signed(&root_key).unwrap().der().clone();
    let root_issuer = Issuer::new(root_params, root_key);
    let request_life = || {
        let request = request();
        (request.not_before(), request.not_after())
    };
    let (start, end) = request_life();
    let second = Duration::from_secs(1);
    for (of_root, not_before, not_after, expected) in [
        (false, start, end, Ok(())),
        (false, start + second, end, Err(Mismatch::Chain("a certificate starts before its issuer"))),
        (false, start, end - second, Err(Mismatch::Chain("a certificate outlives its issuer"))),
        (true, start + second, end, Err(Mismatch::Chain("a certificate starts before its issuer"))),
        (true, start, end - second, Err(Mismatch::Chain("a certificate outlives its issuer"))),
    ] {
        let key = KeyPair::generate().unwrap();
        let mut params = ca_params("issuing");
        let (mut root, mut bounded) = (root.clone(), ca_params("root"));
        if of_root {
            (bounded.not_before, bounded.not_after) = (not_before, not_after);
            root = bounded.self_signed(root_issuer.key()).unwrap().der().clone();
        } else {
            (params.not_before, params.not_after) = (not_before, not_after);
        }
        let issuing = params.signed_by(&key, &root_issuer).unwrap().der().clone();
        let world = World { root, issuing, issuer: Issuer::new(params, key) };
        let request = request();
        let leaf_key = SubjectPublicKeyInfo::from_der(request.key().spki_der()).unwrap();
        let leaf = leaf_params(&request).signed_by(&leaf_key, &world.issuer).unwrap().der().clone();
        let path = verified(&world);
        let chain = CertificateChain::new(leaf, vec![world.issuing]);
        let found = check_issued(request, chain, &path, Signer::Elsewhere).map(drop);
        assert_eq!(found, expected, "of the root: {of_root}, {not_before} to {not_after}");
    }
}

#[test]
fn any_difference_from_the_decision_is_found() {
    type Change = fn(&mut CertificateParams);
    let table: [(&str, Change); 14] = [
        ("URI SAN", |p| {
            p.subject_alt_names = vec![SanType::URI("spiffe://cluster.local/ns/a/sa/b".try_into().unwrap())]
        }),
        ("URI SAN", |p| p.subject_alt_names.push(SanType::URI("spiffe://cluster.local/ns/a/sa/b".try_into().unwrap()))),
        ("URI SAN", |p| p.subject_alt_names.clear()),
        ("set of other SANs", |p| p.subject_alt_names.push(SanType::DnsName("a.b".try_into().unwrap()))),
        ("set of other SANs", |p| p.subject_alt_names.push(SanType::IpAddress([1, 1, 1, 1].into()))),
        ("subject", |p| p.distinguished_name.push(DnType::CommonName, "admin")),
        ("serial number", |p| p.serial_number = Some(SerialNumber::from_slice(&[5; 16]))),
        ("validity", |p| p.not_after = NOW + 2 * DAY),
        ("validity", |p| p.not_before = NOW - DAY),
        ("CA flag", |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        ("key usage", |p| p.key_usages.push(KeyUsagePurpose::KeyCertSign)),
        ("key usage", |p| p.key_usages.clear()),
        ("extended key usage", |p| p.extended_key_usages.truncate(1)),
        ("extended key usage", |p| p.extended_key_usages.push(ExtendedKeyUsagePurpose::CodeSigning)),
    ];
    for (field, change) in table {
        assert_eq!(check(change), Err(Mismatch::Field(field)));
    }
}

#[test]
fn a_certificate_for_another_key_is_found() {
    let world = world();
    let request = request();
    let stranger = KeyPair::generate().unwrap();
    let leaf = leaf_params(&request).signed_by(&stranger, &world.issuer).unwrap().der().clone();
    let path = verified(&world);
    let chain = CertificateChain::new(leaf, vec![world.issuing]);
    assert_eq!(check_issued(request, chain, &path, Signer::Here).map(drop), Err(Mismatch::Field("public key")));
}

#[test]
fn a_path_that_misses_its_root_or_a_signature_is_found() {
    let (ours, stranger) = (world(), world());
    let domain = || TrustDomain::parse("cluster.local").unwrap();
    let foreign = TrustBundle::new(domain(), 1, vec![stranger.root]).unwrap();
    let refused = VerifiedPath::check(std::slice::from_ref(&ours.issuing), &[], &foreign);
    assert_eq!(refused, Err(Mismatch::Chain("key identifiers differ")));

    let own = TrustBundle::new(domain(), 1, vec![ours.root.clone()]).unwrap();
    let mut forged = ours.issuing.as_ref().to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let refused = VerifiedPath::check(&[forged.into()], &[], &own);
    assert_eq!(refused, Err(Mismatch::Chain("a signature does not verify")));

    assert!(VerifiedPath::check(&[], &[1, 2, 3], &own).is_err());
    assert!(VerifiedPath::check(&[], &ours.issuing, &own).is_err());
    assert!(VerifiedPath::check(&[], &ours.root, &own).is_ok());
}

#[test]
fn a_chain_other_than_the_verified_one_or_a_forged_leaf_is_found() {
    let (ours, stranger) = (world(), world());
    let leaf = |request: &SigningRequest, issuer: &Issuer<'static, KeyPair>| {
        let key = SubjectPublicKeyInfo::from_der(request.key().spki_der()).unwrap();
        leaf_params(request).signed_by(&key, issuer).unwrap().der().clone()
    };
    let path = verified(&ours);
    let check = |request, leaf, intermediate: &CertificateDer<'static>, signer| {
        check_issued(request, CertificateChain::new(leaf, vec![intermediate.clone()]), &path, signer).map(drop)
    };

    let one = request();
    let good = leaf(&one, &ours.issuer);
    assert!(matches!(check(one, good, &stranger.issuing, Signer::Here), Err(Mismatch::Chain(_))));

    let one = request();
    let strange = leaf(&one, &stranger.issuer);
    let refused = check(one, strange, &ours.issuing, Signer::Here);
    assert_eq!(refused, Err(Mismatch::Chain("key identifiers differ")));

    let one = request();
    let mut forged = leaf(&one, &ours.issuer).as_ref().to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let refused = check(one, forged.into(), &ours.issuing, Signer::Elsewhere);
    assert_eq!(refused, Err(Mismatch::Chain("a signature does not verify")));
}

/// What a backend may bring that certificates of common libraries cannot be made to say.
#[test]
fn a_leaf_that_is_not_marked_as_decided_is_found() {
    type Change = fn(&mut Facts);
    let world = world();
    let table: [(&str, Change); 7] = [
        ("subject", |facts| facts.san_critical = false),
        ("subject", |facts| facts.subject_empty = false),
        ("key usage", |facts| facts.key_usage_critical = false),
        ("key usage", |facts| facts.key_usage = None),
        ("extended key usage", |facts| facts.extended_key_usage = None),
        ("set of other SANs", |facts| facts.other_names = 1),
        ("set of critical extensions", |facts| facts.unknown_critical = 1),
    ];
    let request = request();
    let key = SubjectPublicKeyInfo::from_der(request.key().spki_der()).unwrap();
    let leaf = Facts::read(leaf_params(&request).signed_by(&key, &world.issuer).unwrap().der()).unwrap();
    assert_eq!(check_made_here(&request, &leaf), Ok(request.serial()));
    for (field, change) in table {
        let mut other = leaf.clone();
        change(&mut other);
        assert_eq!(check_made_here(&request, &other), Err(Mismatch::Field(field)));
    }
}

#[test]
fn an_rsa_key_may_encipher_and_an_ec_key_may_not() {
    use KeyUsagePurpose::{DigitalSignature, KeyEncipherment};
    let refused = Err(Mismatch::Field("key usage"));
    let world = world();
    let rsa = || request_for(include_str!("testdata/csr/keytool-rsa.csr"));
    for (is_rsa, usages, expected) in [
        (true, vec![DigitalSignature, KeyEncipherment], Ok(())),
        (true, vec![DigitalSignature], refused.clone()),
        (true, vec![KeyEncipherment], refused.clone()),
        (false, vec![DigitalSignature], Ok(())),
        (false, vec![DigitalSignature, KeyEncipherment], refused),
    ] {
        let request = if is_rsa { rsa() } else { request() };
        let mut params = leaf_params(&request);
        params.key_usages.clone_from(&usages);
        let key = SubjectPublicKeyInfo::from_der(request.key().spki_der()).unwrap();
        let leaf = Facts::read(params.signed_by(&key, &world.issuer).unwrap().der()).unwrap();
        assert_eq!(check_made_here(&request, &leaf).map(drop), expected, "RSA: {is_rsa}, {usages:?}");
    }
}

#[test]
fn a_certificate_names_the_key_of_its_issuer_as_far_as_cas_do() {
    let world = world();
    let facts = Facts::read(&world.issuing).unwrap();
    let own = facts.key_id();
    let with = |named: Option<&[u8]>, identifier: Option<&[u8]>| {
        let below = Facts { authority_key_id: named.map(<[u8]>::to_vec), ..facts.clone() };
        let issuer = Facts { subject_key_id: identifier.map(<[u8]>::to_vec), ..facts.clone() };
        (names_key_of(&below, &issuer, Signer::Here), names_key_of(&below, &issuer, Signer::Elsewhere))
    };
    let hash = Facts { subject_key_id: None, ..facts.clone() }.key_id();
    // By our own signer, and by somebody else's.
    for (named, identifier, expected) in [
        (Some(&own[..]), Some(&own[..]), (true, true)),
        (Some(b"other"), Some(&own[..]), (false, false)),
        (Some(b"other"), Some(b"other"), (true, true)),
        (Some(&hash[..]), None, (true, true)),
        (Some(b"other"), None, (false, true)),
        (None, Some(&own[..]), (false, true)),
        (None, None, (false, true)),
    ] {
        assert_eq!(with(named, identifier), expected, "{named:?} {identifier:?}");
    }
}

/// A root that signs leaves is the one with that name and that key, with and without a cross certificate of it.
#[test]
fn neither_the_name_nor_the_key_alone_makes_a_certificate_one_of_a_root() {
    let (root_key, other_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let named = |name: &str, key: &KeyPair| ca_params(name).self_signed(key).unwrap().der().clone();
    let above = Issuer::new(ca_params("above"), KeyPair::generate().unwrap());
    let cross = |name: &str, key: &KeyPair| ca_params(name).signed_by(key, &above).unwrap().der().clone();
    let root = named("root", &root_key);
    let bundle = TrustBundle::new(TrustDomain::parse("cluster.local").unwrap(), 1, vec![root.clone()]).unwrap();
    let roots = [Facts::read(&root).unwrap()];
    let signs = |leaf_issuer: &CertificateDer<'static>, chain: &[&CertificateDer<'static>]| {
        let chain: Vec<_> = chain.iter().map(|der| (Facts::read(der).unwrap(), *der)).collect();
        root_that_signs(leaf_issuer, &chain, &roots, &bundle).map(|found| found.is_some())
    };
    let nobody = Err(Mismatch::Chain("no root of that name and key"));
    for (leaf_issuer, expected) in [
        (named("root", &root_key), Ok(true)),
        (named("root", &other_key), nobody.clone()),
        (named("other", &root_key), nobody),
    ] {
        assert_eq!(signs(&leaf_issuer, &[]), expected);
    }
    let crossed = cross("root", &root_key);
    assert_eq!(signs(&root, &[&crossed]), Ok(true));
    assert_eq!(signs(&crossed, &[&crossed]), Ok(false), "the first of the chain signs itself");
    assert_eq!(signs(&root, &[&cross("root", &other_key)]), Ok(false));
    assert_eq!(signs(&root, &[&cross("other", &root_key)]), Ok(false));
}
