//! An operator's own CA in memory, and a backend that brings what a test puts there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;
use signet_core::authority::{AuthorityId, IssuingCa, KeyId, Root};
use signet_core::certificate::Facts;
use signet_core::revocation::RevocationList;
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::custody::{KeyCustody, SigningKey};
use signet_core::seams::upstream_authority::{Certified, UpstreamAuthority};
use signet_core::secret::Secret;
use signet_core::source::{Offer, OfferedCa, RevokedBy, SourceFingerprint};
use signet_core::unknown_fields::Unknown;
use time::OffsetDateTime;

use crate::world_tests::{DAY, NOW, World};

/// A CA of an operator.
pub(super) struct OwnCa {
    params: CertificateParams,
    key: KeyPair,
    der: CertificateDer<'static>,
    /// From this one up to, and without, the root.
    chain: Vec<CertificateDer<'static>>,
}

impl OwnCa {
    pub(super) fn root(name: &str) -> Self {
        let (params, key) = (named(name), KeyPair::generate().unwrap());
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { params, key, der, chain: Vec::new() }
    }

    /// Another root with the key of this one.
    pub(super) fn renamed(&self, name: &str) -> Self {
        let (params, key) = (named(name), KeyPair::from_pem(&self.key.serialize_pem()).unwrap());
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { params, key, der, chain: Vec::new() }
    }

    pub(super) fn below(&self, name: &str) -> Self {
        let (params, key) = (named(name), KeyPair::generate().unwrap());
        let der = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap().der().clone();
        let chain = std::iter::once(der.clone()).chain(self.chain.iter().cloned()).collect();
        Self { params, key, der, chain }
    }

    pub(super) fn id(&self) -> AuthorityId {
        AuthorityId::of(&Facts::read(&self.der).unwrap())
    }

    /// A list of this CA. Only its owner and its end matter here.
    pub(super) fn list(&self, content: u8, end: OffsetDateTime) -> RevocationList {
        RevocationList {
            issuer: self.id(),
            der: vec![content].into(),
            next_update: end.unix_timestamp(),
            unknown: Unknown::default(),
        }
    }

    /// The set of files in which this one signs, with its key in the custody of that world.
    pub(super) async fn set(&self, world: &World, root: &Self, lists: Vec<RevocationList>) -> Offer {
        let key = KeyId::parse(&format!("files-{}", self.id())).unwrap();
        world.store.import(&key, &Secret::new(self.key.serialize_der())).await.unwrap();
        let between: Vec<_> = self.chain.iter().skip(1).cloned().collect();
        let fingerprint = SourceFingerprint::of_set(&self.der, &between, [&root.der]).with_lists(&lists);
        let facts = Facts::read(&self.der).unwrap();
        let issuing = IssuingCa {
            id: self.id(),
            key: Some(key),
            certificate: self.der.clone(),
            not_before: facts.not_before,
            not_after: facts.not_after,
            intermediates: between,
        };
        let issuing = OfferedCa::Given(issuing);
        Offer {
            roots: vec![root.authority()],
            signer: root.id(),
            issuing,
            revocation_lists: lists,
            lists_on_demand: false,
            fingerprint,
        }
    }

    fn authority(&self) -> Root {
        Root::new(self.der.clone(), None).unwrap()
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = NOW - 30 * DAY;
    params.not_after = NOW + 300 * DAY;
    params.use_authority_key_identifier_extension = true;
    params
}

/// A directory of files, without files.
pub(super) struct Directory(Mutex<Result<Offer, SignError>>);

impl Directory {
    pub(super) fn with(set: &Offer) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Ok(set.clone()))))
    }

    pub(super) fn put(&self, set: &Offer) {
        *self.0.lock().unwrap() = Ok(set.clone());
    }

    pub(super) fn damage(&self) {
        *self.0.lock().unwrap() = Err(SignError::Unusable("the files are incomplete".to_owned()));
    }
}

#[async_trait]
impl UpstreamAuthority for Directory {
    fn revoked_by(&self) -> RevokedBy {
        RevokedBy::Owner
    }

    async fn prepare_root(&self, _generation: u64, _now: OffsetDateTime) -> Result<Root, SignError> {
        Err(SignError::Failed("files make no roots".to_owned()))
    }

    async fn offer(&self) -> Result<Option<Offer>, SignError> {
        self.0.lock().unwrap().clone().map(Some)
    }

    async fn certify(
        &self,
        _root: &Root,
        _key: &dyn SigningKey,
        _ttl: Duration,
        _now: OffsetDateTime,
    ) -> Result<Certified, SignError> {
        Err(SignError::Failed("files certify nobody".to_owned()))
    }
}
