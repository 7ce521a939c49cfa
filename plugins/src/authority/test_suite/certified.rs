//! What is certified: exactly what was decided, below the root, and no longer than it may be.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use signet_core::authority::{KeyId, Root};
use signet_core::bundle::TrustBundle;
use signet_core::certificate::Facts;
use signet_core::identity::TrustDomain;
use signet_core::key_type::KeyType;
use signet_core::seams::certificate_authority::CertificateAuthority as _;
use signet_core::verify::{Signer, VerifiedPath, check_issued};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::super::NativeAuthority;
use super::super::certificates::is_self_signed;
use super::super::test_pki::{openssl_accepts, request_of};
use super::{Member, TTL, issue, root};

/// keyCertSign and cRLSign, as [`Facts`] has them.
const CA_USAGES: u16 = 1 << 5 | 1 << 6;

pub(super) async fn one_root(member: &impl Member) {
    let (authority, now) = (member.authority(), member.now());
    match authority.offer().await.unwrap() {
        Some(offer) => {
            let signer: Vec<_> = offer.roots.iter().filter(|root| root.id == offer.signer).collect();
            assert_eq!(signer.len(), 1, "{offer:?}");
            let facts = Facts::read(&signer[0].certificate).unwrap();
            assert!(is_self_signed(&signer[0].certificate, &facts) && facts.may_be_anchor());
            assert!(signer[0].not_before <= now && now < signer[0].not_after);
            assert_eq!(authority.offer().await.unwrap(), Some(offer), "the same as long as nothing changes");
            authority.prepare_root(2, now).await.expect_err("what is followed makes no roots on demand");
        }
        None => {
            let (one, two) =
                (authority.prepare_root(1, now).await.unwrap(), authority.prepare_root(2, now).await.unwrap());
            assert!(one.key.is_some() && one.id != two.id, "{one:?} {two:?}");
        }
    }
}

pub(super) async fn decided(member: &impl Member) {
    let root = root(member).await;
    let mut serials = Vec::new();
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let made = member.issue(&root, key_type, TTL).await.unwrap();
        let certificate = &made.issuing.certificate;
        let facts = Facts::read(certificate).unwrap();
        assert_eq!(facts.spki_der, made.key.spki_der(), "{key_type:?}");
        assert_eq!(facts.uris, ["spiffe://cluster.local"]);
        assert_eq!((facts.dns.len(), facts.ips.len(), facts.other_names), (0, 0, 0));
        assert!(facts.is_ca && !facts.subject_empty && !facts.is_version_1);
        assert_eq!((facts.key_usage, facts.extended_key_usage), (Some(CA_USAGES), None));
        assert_eq!(facts.unknown_critical, 0);
        let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
        let constraints = parsed.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical);
        assert_eq!(constraints.value.path_len_constraint, member.path_length());
        serials.push(facts.serial);
    }
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 3);
}

pub(super) async fn chain(member: &impl Member) {
    let root = root(member).await;
    let made = issue(member, &root).await.unwrap();
    let path: Vec<_> = std::iter::once(&made.issuing.certificate).chain(&made.issuing.intermediates).collect();
    for (below, above) in path.iter().zip(path.iter().skip(1).copied().chain([&root.certificate])) {
        let (below, above) = (X509Certificate::from_der(below).unwrap().1, X509Certificate::from_der(above).unwrap().1);
        assert_eq!(below.issuer().as_raw(), above.subject().as_raw());
        below.verify_signature(Some(above.public_key())).unwrap();
    }
    let is_root = |der: &[u8]| is_self_signed(der, &Facts::read(der).unwrap());
    assert!(!path.iter().any(|der| is_root(der)), "a root is never part of a chain");
    let now = member.now();
    let authority = NativeAuthority::new(made.key.clone(), &made.issuing).unwrap();
    let request = request_of(&authority, now);
    let chain = authority.sign(&request).await.unwrap();
    openssl_accepts(&chain, &[&root.certificate], now);
    let domain = TrustDomain::parse("cluster.local").unwrap();
    let bundle = TrustBundle::new(domain, 1, vec![root.certificate.clone()]).unwrap();
    let path = VerifiedPath::check(chain.intermediates(), &made.issuing.certificate, &bundle).unwrap();
    check_issued(request, chain, &path, Signer::Elsewhere).unwrap();
}

pub(super) async fn expiry(member: &impl Member) {
    let root = root(member).await;
    let beyond = Duration::try_from(root.not_after - member.now()).unwrap() * 2;
    for ttl in [Duration::from_secs(600), TTL, beyond] {
        let asked = member.now();
        let made = member.issue(&root, KeyType::EcP256, ttl).await.unwrap();
        let facts = Facts::read(&made.issuing.certificate).unwrap();
        let (first, last) = (facts.not_before, facts.not_after);
        // Whole seconds, and a signature takes its time.
        let latest = asked.checked_add(time::Duration::try_from(ttl).unwrap_or(time::Duration::MAX)).unwrap_or(last);
        assert!(last <= latest + super::SOON, "{ttl:?}: until {last}, asked at {asked}");
        assert!(last <= root.not_after, "{ttl:?}: until {last}, and the root until {}", root.not_after);
        assert!(first <= member.now() && asked < last, "{ttl:?}: {first} to {last} at {asked}");
        assert!(asked - first <= time::Duration::minutes(5), "{ttl:?}: from {first}, asked at {asked}");
        assert!(ttl == beyond || latest - last <= time::Duration::seconds(60), "{ttl:?}: only until {last}");
        let ends = |der: &rustls_pki_types::CertificateDer<'static>| Facts::read(der).unwrap().not_after;
        let above: OffsetDateTime = made.issuing.intermediates.iter().map(ends).min().unwrap_or(root.not_after);
        assert!(made.issuing.not_after <= above.min(last), "its record ends when the first of them does");
        assert!(!member.is_cut_to_what_is_above() || last <= above, "{ttl:?}: until {last}, above it until {above}");
    }
    for nothing in [Duration::ZERO, Duration::from_millis(999)] {
        let made = member.issue(&root, KeyType::EcP256, nothing).await;
        assert!(made.is_err(), "{nothing:?} is no life");
        member.rested().await;
    }
}

pub(super) async fn other_root(member: &impl Member) {
    let known = root(member).await;
    let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::default());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "stranger");
    (params.not_before, params.not_after) = (known.not_before, known.not_after);
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let strange = Root::new(certificate, KeyId::parse("root-of-a-stranger")).unwrap();
    let (key, _) = crate::custody::LocalKey::generate(KeyType::EcP256).await.unwrap();
    let made = member.authority().certify(&strange, &key, TTL, member.now()).await;
    assert!(made.is_err(), "certified under a root that is another's");
    member.rested().await;
    issue(member, &known).await.unwrap();
}
