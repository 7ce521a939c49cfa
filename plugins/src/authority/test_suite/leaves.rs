//! What every backend that signs leaves must do: exactly what was decided, with a chain that leads to the root, for many at once,
//! whoever goes meanwhile. One that signs elsewhere has an outage besides.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData as _, SanType};
use rustls_pki_types::CertificateDer;
use signet_core::bundle::TrustBundle;
use signet_core::certificate::{Facts, Serial};
use signet_core::csr::CertificateRequest;
use signet_core::identity::{TrustDomain, WorkloadId};
use signet_core::policy::{CsrNames, CsrUse, IssuerLimits, LeafPolicy, SigningRequest, decide};
use signet_core::seams::certificate_authority::{CertificateAuthority, SignError};
use signet_core::verify::{Signer, VerifiedPath, check_issued};
use time::OffsetDateTime;
use tokio::time::timeout;

use super::super::test_pki::openssl_accepts;
use super::eventually;

/// A backend that signs leaves, and what is done to it.
#[async_trait(?Send)]
pub(in crate::authority) trait Leaves {
    /// The backend itself.
    fn authority(&self) -> Arc<dyn CertificateAuthority>;

    /// The root, and the certificate that signs.
    fn path(&self) -> (CertificateDer<'static>, CertificateDer<'static>);

    /// What time it is for it.
    fn now(&self) -> OffsetDateTime;

    /// It is away, or back. `None` where nobody is asked who could be.
    async fn away(&self, _is_away: bool) -> Option<()> {
        None
    }
}

const ID: &str = "spiffe://cluster.local/ns/default/sa/web";

/// The decision to certify a workload with this key for this long.
fn request(member: &impl Leaves, limits: &IssuerLimits, key: &KeyPair, number: u8, ttl: Duration) -> SigningRequest {
    let (trust_domain, now) = (TrustDomain::parse("cluster.local").unwrap(), member.now());
    let policy = LeafPolicy { trust_domain, default_ttl: ttl, max_ttl: ttl, csr_names: CsrNames::Ignore };
    // What it asks for beyond its key is nobody's business; of a backend that signs it as it stands, nothing else is taken.
    let mut asked = CertificateParams::new(vec!["admin.example".to_owned()]).unwrap();
    asked.distinguished_name.push(rcgen::DnType::CommonName, "admin");
    if limits.takes == CsrUse::Names {
        asked = CertificateParams::default();
        asked.distinguished_name = DistinguishedName::new();
        asked.subject_alt_names = vec![SanType::URI(ID.try_into().unwrap())];
    }
    let csr = CertificateRequest::parse(&asked.serialize_request(key).unwrap().pem().unwrap()).unwrap();
    let (workload, serial) = (WorkloadId::parse(ID).unwrap(), Serial::new(now, [number; 16]));
    decide(&policy, workload, csr, None, limits, serial, now).unwrap()
}

/// Has one signed, and judged as before its release.
async fn signed(member: &impl Leaves, key: &KeyPair, number: u8, ttl: Duration) -> Result<Facts, SignError> {
    let authority = member.authority();
    let decided = request(member, authority.limits(), key, number, ttl);
    let until = decided.not_after();
    let chain = authority.sign(&decided).await?;
    let facts = Facts::read(chain.leaf()).unwrap();
    assert_eq!((facts.spki_der.clone(), facts.uris.clone()), (key.subject_public_key_info(), vec![ID.to_owned()]));
    assert_eq!((facts.dns.len(), facts.ips.len(), facts.other_names, facts.is_ca), (0, 0, 0, false));
    assert!(facts.not_after <= until && facts.not_after <= authority.limits().not_after, "{}", facts.not_after);
    assert!(facts.not_before <= member.now() + time::Duration::minutes(1));
    let (root, signer) = member.path();
    openssl_accepts(&chain, &[&root], member.now() + time::Duration::seconds(1));
    let domain = TrustDomain::parse("cluster.local").unwrap();
    let bundle = TrustBundle::new(domain, 1, vec![root]).unwrap();
    let path = VerifiedPath::check(chain.intermediates(), &signer, &bundle).unwrap();
    check_issued(decided, chain, &path, authority.signer()).unwrap();
    Ok(facts)
}

/// Runs all that is asked of a backend that signs leaves.
pub(in crate::authority) async fn every_point(member: &impl Leaves) {
    let pair = || KeyPair::generate().unwrap();
    for ttl in [Duration::from_secs(600), Duration::from_secs(86_400), Duration::from_secs(20 * 365 * 86_400)] {
        signed(member, &pair(), 1, ttl).await.unwrap();
    }
    // A decision that is bound to another authority.
    let authority = member.authority();
    let other = signet_core::authority::AuthorityId::new(b"other", b"other");
    let strange = IssuerLimits { authority: other, ..authority.limits().clone() };
    let strange = request(member, &strange, &pair(), 2, Duration::from_secs(600));
    assert_eq!(authority.sign(&strange).await.err(), Some(SignError::WrongIssuer));

    let hour = Duration::from_secs(3600);
    let keys: Vec<_> = (0..100).map(|number| (number, pair())).collect();
    let all = join_all(keys.iter().map(|(number, key)| signed(member, key, 100 + number, hour))).await;
    let serials: BTreeSet<_> = all.into_iter().map(|one| one.unwrap().serial).collect();
    assert_eq!(serials.len(), 100);

    for step in 0..40 {
        drop(timeout(Duration::from_micros(step * 100), authority.sign(&one_more(member))).await);
    }
    signed(member, &pair(), 3, hour).await.expect("who has gone holds up nobody");

    if member.away(true).await.is_some() {
        let refused = signed(member, &pair(), 4, hour).await.expect_err("it is away");
        assert!(matches!(refused, SignError::Unavailable(_)), "{refused:?}");
        member.away(false).await;
        let key = pair();
        eventually("end of the outage", async || signed(member, &key, 5, hour).await).await;
    } else {
        assert_eq!(authority.signer(), Signer::Here, "who signs elsewhere can be away");
    }
}

/// A decision of its own each time.
fn one_more(member: &impl Leaves) -> SigningRequest {
    let authority = member.authority();
    request(member, authority.limits(), &KeyPair::generate().unwrap(), 6, Duration::from_secs(600))
}

/// The native backend.
mod native {
    use signet_core::authority::{IssuingCa, KeyId};
    use signet_core::key_type::KeyType;

    use super::super::super::NativeAuthority;
    use super::super::super::test_pki::{Ca, NOW};
    use super::*;
    use crate::custody::LocalKey;

    struct Native {
        authority: Arc<NativeAuthority>,
        root: CertificateDer<'static>,
        signer: CertificateDer<'static>,
    }

    #[async_trait(?Send)]
    impl Leaves for Native {
        fn authority(&self) -> Arc<dyn CertificateAuthority> {
            Arc::clone(&self.authority) as _
        }

        fn path(&self) -> (CertificateDer<'static>, CertificateDer<'static>) {
            (self.root.clone(), self.signer.clone())
        }

        fn now(&self) -> OffsetDateTime {
            NOW
        }
    }

    #[tokio::test]
    async fn the_native_backend_passes() {
        let root = Ca::root("root");
        for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
            let (key, _) = LocalKey::generate(key_type).await.unwrap();
            let signer = root.signs_key(signet_core::seams::custody::SigningKey::spki_der(&key), |_| {});
            let issuing = IssuingCa::new(signer.clone(), KeyId::parse("k")).unwrap();
            let authority = Arc::new(NativeAuthority::new(Arc::new(key), &issuing).unwrap());
            every_point(&Native { authority, root: root.der.clone(), signer }).await;
        }
    }
}
