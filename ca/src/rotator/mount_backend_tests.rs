//! A backend that certifies issuing CAs of ours and publishes its revocation list, as Vault does, in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;
use signet_core::authority::Root;
use signet_core::identity::TrustDomain;
use signet_core::key_type::KeyType;
use signet_core::revocation::{RevocationList, RevocationReason, Revoked};
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::custody::{KeyCustody as _, SigningKey};
use signet_core::seams::upstream_authority::{Certified, ListContent, UpstreamAuthority};
use signet_core::source::{Offer, OfferedCa, RevokedBy, SourceFingerprint};
use signet_core::unknown_fields::Unknown;
use signet_plugins::authority::{SelfSignedRoot, sign_list};
use signet_plugins::custody::MemoryCustody;
use time::OffsetDateTime;

use crate::world_tests::{DAY, NOW};

/// What it says at the moment.
#[derive(Default)]
pub(super) struct Said {
    /// Nothing at all.
    pub(super) is_away: bool,
    /// This list.
    pub(super) list: Option<RevocationList>,
    /// What it has been asked to revoke.
    pub(super) revoked: Vec<CertificateDer<'static>>,
}

/// The backend.
pub(super) struct Mount {
    inner: SelfSignedRoot,
    custody: Arc<MemoryCustody>,
    root: Root,
    said: Mutex<Said>,
}

impl Mount {
    pub(super) async fn new() -> Arc<Self> {
        let (custody, domain) = (Arc::new(MemoryCustody::new()), TrustDomain::parse("cluster.local").unwrap());
        let inner = SelfSignedRoot::new(domain, Arc::clone(&custody) as _, KeyType::EcP256, 365 * DAY);
        let root = inner.prepare_root(1, NOW).await.unwrap();
        Arc::new(Self { inner, custody, root, said: Mutex::default() })
    }

    pub(super) fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap()
    }

    /// Its root, as others see it.
    pub(super) fn root(&self) -> Root {
        Root { key: None, ..self.root.clone() }
    }

    /// A list of it from then on, that ends a week later, with certificates of these serial numbers on it.
    pub(super) async fn list(&self, this_update: OffsetDateTime, serials: &[&str]) -> RevocationList {
        let revoked = serials.iter().map(|serial| Revoked {
            serial: (*serial).to_owned(),
            issuer: self.root.id.clone(),
            reason: RevocationReason::Unspecified,
            at: this_update.unix_timestamp(),
            not_after: i64::MAX,
            unknown: Unknown::default(),
        });
        let (revoked, next_update): (Vec<_>, _) = (revoked.collect(), this_update + 7 * DAY);
        let revoked: Vec<&Revoked> = revoked.iter().collect();
        let number = u64::try_from(this_update.unix_timestamp()).unwrap();
        let content = ListContent { number, revoked: &revoked, this_update, next_update };
        let key = self.custody.open(self.root.key.as_ref().unwrap()).await.unwrap();
        let der = sign_list(key, &self.root.certificate, &content).await.unwrap();
        let (issuer, next_update) = (self.root.id.clone(), next_update.unix_timestamp());
        RevocationList { issuer, der, next_update, unknown: Unknown::default() }
    }
}

#[async_trait]
impl UpstreamAuthority for Mount {
    fn revoked_by(&self) -> RevokedBy {
        RevokedBy::Upstream
    }

    async fn prepare_root(&self, _generation: u64, _now: OffsetDateTime) -> Result<Root, SignError> {
        Err(SignError::Failed("the root is its own".to_owned()))
    }

    async fn offer(&self) -> Result<Option<Offer>, SignError> {
        let said = self.said();
        if said.is_away {
            return Err(SignError::Unavailable("it is sealed".to_owned()));
        }
        Ok(Some(Offer {
            roots: vec![self.root()],
            signer: self.root.id.clone(),
            issuing: OfferedCa::Certified { until: self.root.not_after },
            revocation_lists: said.list.clone().into_iter().collect(),
            lists_on_demand: true,
            fingerprint: SourceFingerprint::of_set(&self.root.certificate, [], [&self.root.certificate]),
        }))
    }

    async fn revoke(&self, certificate: &CertificateDer<'static>) -> Result<(), SignError> {
        let mut said = self.said();
        if said.is_away {
            return Err(SignError::Unavailable("it is sealed".to_owned()));
        }
        said.revoked.push(certificate.clone());
        Ok(())
    }

    async fn certify(
        &self,
        root: &Root,
        key: &dyn SigningKey,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<Certified, SignError> {
        assert_eq!(root.id, self.root.id);
        self.inner.certify(&self.root, key, ttl, now).await
    }
}
