//! Which of two backends signs with an issuing CA, and revokes what it has signed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Mutex;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use signet_core::authority::{AuthorityId, KeyId};
use signet_core::policy::CsrUse;
use signet_core::source::{OfferedCa, SourceFingerprint};
use signet_core::unknown_fields::Unknown;

use super::*;

/// What a backend says of an issuing CA, and what it has been told to revoke.
struct Backend {
    name: &'static str,
    signs: bool,
    has: Mutex<Option<bool>>,
    revoked_by: RevokedBy,
    revoked: Mutex<usize>,
    offers: Mutex<Option<Offer>>,
    lists: Mutex<Vec<RevocationList>>,
}

impl Backend {
    fn new(name: &'static str, signs: bool, has: Option<bool>) -> Arc<Self> {
        let (revoked_by, revoked) = (if signs { RevokedBy::Upstream } else { RevokedBy::Here }, Mutex::default());
        let (offers, lists) = (Mutex::default(), Mutex::default());
        Arc::new(Self { name, signs, has: Mutex::new(has), revoked_by, revoked, offers, lists })
    }

    fn sees(&self, has: Option<bool>) {
        *self.has.lock().unwrap() = has;
    }

    fn told(&self) -> usize {
        *self.revoked.lock().unwrap()
    }
}

#[async_trait]
impl UpstreamAuthority for Backend {
    async fn prepare_root(&self, _generation: u64, _now: OffsetDateTime) -> Result<Root, SignError> {
        Err(SignError::Failed(self.name.to_owned()))
    }

    async fn offer(&self) -> Result<Option<Offer>, SignError> {
        Ok(self.offers.lock().unwrap().clone())
    }

    fn lists(&self) -> Vec<RevocationList> {
        self.lists.lock().unwrap().clone()
    }

    async fn certify(
        &self,
        _root: &Root,
        _key: &dyn SigningKey,
        _ttl: Duration,
        _now: OffsetDateTime,
    ) -> Result<Certified, SignError> {
        Err(SignError::Failed(self.name.to_owned()))
    }

    fn signer(self: Arc<Self>, issuing: &IssuingCa) -> Result<Arc<dyn CertificateAuthority>, SignError> {
        if !self.signs {
            return Err(SignError::Unusable(self.name.to_owned()));
        }
        let (not_before, not_after) = (issuing.not_before, issuing.not_after);
        let takes = if self.name == "now" { CsrUse::Names } else { CsrUse::Key };
        let limits = IssuerLimits { authority: issuing.id.clone(), not_before, not_after, takes };
        Ok(Arc::new(Leaves { name: self.name, limits }))
    }

    fn signs_leaves(&self) -> bool {
        self.signs
    }

    fn has(&self, _issuing: &IssuingCa) -> Option<bool> {
        *self.has.lock().unwrap()
    }

    fn revoked_by(&self) -> RevokedBy {
        self.revoked_by
    }

    async fn revoke(&self, _certificate: &CertificateDer<'static>) -> Result<(), SignError> {
        *self.revoked.lock().unwrap() += 1;
        Ok(())
    }
}

struct Leaves {
    name: &'static str,
    limits: IssuerLimits,
}

#[async_trait]
impl CertificateAuthority for Leaves {
    fn limits(&self) -> &IssuerLimits {
        &self.limits
    }

    fn signer(&self) -> Signer {
        Signer::Elsewhere
    }

    fn ready(&self) -> Result<(), SignError> {
        Err(SignError::Unavailable(self.name.to_owned()))
    }

    async fn sign(&self, _request: &SigningRequest) -> Result<CertificateChain, SignError> {
        Err(SignError::Unavailable(self.name.to_owned()))
    }
}

fn issuing(key: Option<KeyId>) -> IssuingCa {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "one");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    IssuingCa::new(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone(), key).unwrap()
}

fn both(now: &Arc<Backend>, former: &Arc<Backend>) -> Arc<WithFormer> {
    Arc::new(WithFormer::new(Arc::clone(now) as _, Arc::clone(former) as _))
}

/// Whose the signer is.
fn whose(signer: &dyn CertificateAuthority) -> String {
    match signer.ready() {
        Err(SignError::Unavailable(name)) => name,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_makes_anything_new_is_the_backend_of_now_and_the_former_signs_where_it_does_not() {
    let (now, former) = (Backend::new("now", false, Some(false)), Backend::new("former", true, None));
    let (both, issuing) = (both(&now, &former), issuing(None));
    // Also while the former has not been seen, or has lost that CA: nobody else could sign.
    for has in [None, Some(true), Some(false)] {
        former.sees(has);
        assert_eq!(whose(&*Arc::clone(&both).signer(&issuing).unwrap()), "former", "{has:?}");
        assert!(both.is_formers(&issuing));
    }
    assert!(both.signs_leaves());
    assert_eq!(both.revoked_by(), RevokedBy::Here);
    assert_eq!(both.leaves_revoked_by(&issuing), RevokedBy::Upstream);
    assert!(!both.is_formers(&self::issuing(KeyId::parse("ours"))), "a key that is here is nobody else's");
}

#[test]
fn of_two_that_sign_leaves_each_signs_with_what_it_has_as_soon_as_that_is_seen() {
    let (now, former) = (Backend::new("now", true, None), Backend::new("former", true, None));
    let (both, issuing) = (both(&now, &former), issuing(None));
    let signer = Arc::clone(&both).signer(&issuing).unwrap();
    for (of_now, of_former, expected) in [
        // The one in use is the former's, unless somebody has said something else.
        (None, None, "former"),
        (Some(false), None, "former"),
        (None, Some(true), "former"),
        (Some(false), Some(true), "former"),
        (Some(true), None, "now"),
        (Some(true), Some(false), "now"),
        // The same mount twice, with other roles.
        (Some(true), Some(true), "now"),
        // A rotation of the new one that has thrown its key away.
        (None, Some(false), "now"),
        (Some(false), Some(false), "now"),
    ] {
        now.sees(of_now);
        former.sees(of_former);
        assert_eq!(whose(&*signer), expected, "{of_now:?} {of_former:?}");
        assert_eq!(both.is_formers(&issuing), expected == "former");
        // With what is read of a CSR there.
        let takes = if expected == "now" { CsrUse::Names } else { CsrUse::Key };
        assert_eq!(signer.limits().takes, takes, "{of_now:?} {of_former:?}");
    }
}

#[tokio::test]
async fn a_leaf_is_revoked_by_whoever_has_signed_it_and_a_ca_by_whoever_certifies_them() {
    let (now, former) = (Backend::new("now", false, Some(false)), Backend::new("former", true, Some(true)));
    let issuing = issuing(None);
    let leaf = issuing.certificate.clone();
    both(&now, &former).revoke_leaf(&leaf, &issuing).await.unwrap();
    assert_eq!((now.told(), former.told()), (0, 1));
    let (now, former) = (Backend::new("now", true, Some(false)), Backend::new("former", true, Some(true)));
    let two = both(&now, &former);
    two.revoke_leaf(&leaf, &issuing).await.unwrap();
    assert_eq!((now.told(), former.told()), (0, 1));
    two.revoke(&leaf).await.unwrap();
    assert_eq!((now.told(), former.told()), (1, 1));
    now.sees(Some(true));
    two.revoke_leaf(&leaf, &issuing).await.unwrap();
    assert_eq!((now.told(), former.told()), (2, 1));
}

#[tokio::test]
async fn lists_of_the_former_are_offered_beside_those_that_are_to_be_had_at_any_time() {
    let (now, former) = (Backend::new("now", true, Some(false)), Backend::new("former", true, Some(true)));
    let (both, root) = (both(&now, &former), Root::new(issuing(None).certificate, None).unwrap());
    let list = |issuer: &str, content: u8| RevocationList {
        issuer: AuthorityId::new(b"", issuer.as_bytes()),
        der: vec![content].into(),
        next_update: 0,
        unknown: Unknown::default(),
    };
    *former.lists.lock().unwrap() = vec![list("a", 1), list("b", 2)];
    assert_eq!(both.offer().await.unwrap(), None);
    assert_eq!(both.former_lists(), [list("a", 1), list("b", 2)]);
    for (lists_on_demand, expected) in [(true, vec![list("b", 3), list("a", 1)]), (false, vec![list("b", 3)])] {
        *now.offers.lock().unwrap() = Some(Offer {
            roots: vec![root.clone()],
            signer: root.id.clone(),
            issuing: OfferedCa::Certified { until: root.not_after },
            revocation_lists: vec![list("b", 3)],
            lists_on_demand,
            fingerprint: SourceFingerprint::own(),
        });
        assert_eq!(both.offer().await.unwrap().unwrap().revocation_lists, expected, "{lists_on_demand}");
    }
}
