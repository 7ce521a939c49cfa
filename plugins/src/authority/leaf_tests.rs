//! The copied leaf against the one that rcgen writes for the same decision.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rcgen::{BasicConstraints, KeyPair};
use signet_core::authority::AuthorityId;
use signet_core::certificate::Serial;
use signet_core::csr::CertificateRequest;
use signet_core::identity::{TrustDomain, WorkloadId};
use signet_core::key_type::KeyType;
use signet_core::policy::{CsrNames, CsrUse, IssuerLimits, LeafPolicy, decide};
use time::OffsetDateTime;

use super::*;
use crate::authority::certificates::{CaProfile, prepare, self_sign};
use crate::custody::LocalKey;

const YEAR: u64 = 365 * 86_400;

async fn issuer(key_type: KeyType) -> PreparedIssuer {
    let (key, _) = LocalKey::generate(key_type).await.unwrap();
    let profile = CaProfile {
        trust_domain: &TrustDomain::parse("cluster.local").unwrap(),
        kind: "issuing",
        spki_der: signet_core::seams::custody::SigningKey::spki_der(&key),
        path: BasicConstraints::Constrained(0),
        not_before: datetime!(2020-01-01 0:00 UTC),
        not_after: datetime!(2120-01-01 0:00 UTC),
    };
    let certificate = self_sign(&profile.params().unwrap(), &key).await.unwrap();
    prepare(Arc::new(key), &certificate).unwrap().0
}

fn request(key: &KeyPair, id: &str, serial: [u8; 16], now: OffsetDateTime, ttl: u64) -> SigningRequest {
    let csr = CertificateParams::default().serialize_request(key).unwrap().pem().unwrap();
    let csr = CertificateRequest::parse(&csr).unwrap();
    let ttl = Duration::from_secs(ttl);
    let trust_domain = TrustDomain::parse("cluster.local").unwrap();
    let policy = LeafPolicy { trust_domain, default_ttl: ttl, max_ttl: ttl, csr_names: CsrNames::Ignore };
    let limits = IssuerLimits {
        authority: AuthorityId::new(b"", b""),
        not_before: datetime!(2020-01-01 0:00 UTC),
        not_after: datetime!(2120-01-01 0:00 UTC),
        takes: CsrUse::Key,
    };
    let workload = WorkloadId::parse(id).unwrap();
    decide(&policy, workload, csr, None, &limits, Serial::new(now, serial), now).unwrap()
}

/// What rcgen makes of it.
fn built(profile: &Profile, request: &SigningRequest, issuer: &PreparedIssuer) -> (Vec<u8>, usize) {
    let key = crate::custody::public_key::PublicKey::parse(request.key().spki_der()).unwrap();
    let built = profile.params(request).unwrap().signed_by(&key, &issuer.issuer).unwrap();
    let (content, tbs) = take_apart(built.der()).unwrap();
    with_issuer(content, tbs, &issuer.subject).unwrap()
}

#[tokio::test]
async fn a_copied_leaf_is_byte_for_byte_what_rcgen_writes_under_every_issuer_and_for_every_key() {
    let mut keys = vec![
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap(),
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(),
    ];
    let (_, rsa) = LocalKey::generate(KeyType::Rsa2048).await.unwrap();
    keys.push(KeyPair::try_from(&rustls_pki_types::PrivatePkcs8KeyDer::from(rsa.expose())).unwrap());
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let issuer = issuer(key_type).await;
        let template = LeafTemplate::new(&issuer);
        let (ec, rsa) = (template.ec.skeleton.as_ref().unwrap(), template.rsa.skeleton.as_ref().unwrap());
        let mut runner = proptest::test_runner::TestRunner::default();
        let names = ("[a-z]{1,60}", "[a-z]{1,60}");
        let times = (1_580_000_000_i64..2_900_000_000, 600..40 * YEAR);
        let cases = (names, any::<[u8; 16]>(), times, 0..keys.len());
        let compared = runner.run(&cases, |((namespace, account), serial, (now, ttl), key)| {
            let id = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
            let now = OffsetDateTime::from_unix_timestamp(now).unwrap();
            let request = request(keys.get(key).unwrap(), &id, serial, now, ttl);
            let (skeleton, profile) = match request.key().family() {
                KeyFamily::Ec => (ec, &template.ec),
                KeyFamily::Rsa => (rsa, &template.rsa),
            };
            let copied = skeleton.around(&Parts::of(&request).unwrap());
            prop_assert_eq!(copied, built(profile, &request, &issuer));
            Ok(())
        });
        compared.unwrap();
    }
}

#[test]
fn times_change_their_form_at_the_end_of_2049() {
    for (at, expected) in [
        (datetime!(2049-12-31 23:59:59 UTC), &b"\x17\x0d491231235959Z"[..]),
        (datetime!(2050-01-01 0:00 UTC), b"\x18\x0f20500101000000Z"),
        (datetime!(1999-01-02 3:04:05 UTC), b"\x17\x0d990102030405Z"),
        (datetime!(9999-12-31 23:59:59 UTC), b"\x18\x0f99991231235959Z"),
    ] {
        assert_eq!(time(at), expected, "{at}");
    }
}
