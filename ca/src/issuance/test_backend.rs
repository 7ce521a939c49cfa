//! A backend that signs leaves with a CA of somebody else's, in memory.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use signet_core::authority::{IssuingCa, Root};
use signet_core::certificate::CertificateChain;
use signet_core::policy::{CsrUse, IssuerLimits, Subject};
use signet_core::seams::certificate_authority::CertificateAuthority;
use signet_core::seams::custody::SigningKey;
use signet_core::seams::upstream_authority::{Certified as CertifiedCa, UpstreamAuthority};
use signet_core::source::{Offer, OfferedCa, RevokedBy, SourceFingerprint};
use time::OffsetDateTime;
use tokio::sync::Notify;

use super::super::*;
use crate::world_tests::{DAY, NOW};

/// A backend that signs leaves, with a CA of somebody else's.
pub(super) struct Backend {
    pub(super) ca: Arc<TheirCa>,
    /// All that can be signed with there.
    pub(super) known: Vec<Arc<TheirCa>>,
    /// What it does with a request.
    pub(super) does: Mutex<Does>,
    /// Rung when it was asked; and what it waits for, when it is slow.
    pub(super) asked: Notify,
    pub(super) go_on: Notify,
    serial: Mutex<u8>,
    /// Whether it can revoke leaves, and those that it has revoked.
    pub(super) revokes: AtomicBool,
    pub(super) revoked: Mutex<Vec<CertificateDer<'static>>>,
}

pub(super) struct TheirCa {
    pub(super) root: Root,
    issuer: Issuer<'static, KeyPair>,
}

impl TheirCa {
    pub(super) fn new(name: &str) -> Arc<Self> {
        let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::default());
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (params.not_before, params.not_after) = (NOW - DAY, NOW + 300 * DAY);
        let root = Root::new(params.self_signed(&key).unwrap().der().clone(), None).unwrap();
        Arc::new(Self { root, issuer: Issuer::new(params, key) })
    }

    pub(super) fn issuing(&self) -> IssuingCa {
        IssuingCa::new(self.root.certificate.clone(), None).unwrap()
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Does {
    Signs,
    SignsWhenTold,
    Fails,
    OtherKey,
    IsAway,
}

impl Backend {
    pub(super) fn new() -> Arc<Self> {
        let ca = TheirCa::new("theirs");
        Self::with(&ca, vec![Arc::clone(&ca)])
    }

    pub(super) fn with(ca: &Arc<TheirCa>, known: Vec<Arc<TheirCa>>) -> Arc<Self> {
        Arc::new(Self {
            ca: Arc::clone(ca),
            known,
            does: Mutex::new(Does::Signs),
            asked: Notify::new(),
            go_on: Notify::new(),
            serial: Mutex::new(0),
            revokes: AtomicBool::new(false),
            revoked: Mutex::default(),
        })
    }

    pub(super) fn does(&self, what: Does) {
        *self.does.lock().unwrap() = what;
    }
}

#[async_trait]
impl UpstreamAuthority for Backend {
    fn signs_leaves(&self) -> bool {
        true
    }

    fn has(&self, issuing: &IssuingCa) -> Option<bool> {
        Some(self.known.iter().any(|ca| ca.issuing() == *issuing))
    }

    fn revoked_by(&self) -> RevokedBy {
        if self.revokes.load(Ordering::SeqCst) { RevokedBy::Upstream } else { RevokedBy::Nobody }
    }

    async fn revoke(&self, certificate: &CertificateDer<'static>) -> Result<(), SignError> {
        match *self.does.lock().unwrap() {
            Does::IsAway => Err(SignError::Unavailable("it is away".to_owned())),
            _ => {
                self.revoked.lock().unwrap().push(certificate.clone());
                Ok(())
            }
        }
    }

    async fn prepare_root(&self, _: u64, _: OffsetDateTime) -> Result<Root, SignError> {
        panic!("nobody asks for a root")
    }

    async fn offer(&self) -> Result<Option<Offer>, SignError> {
        let root = &self.ca.root;
        let fingerprint = SourceFingerprint::of_set(&root.certificate, [], [&root.certificate]);
        let issuing = OfferedCa::Given(self.ca.issuing());
        let (roots, signer) = (vec![root.clone()], root.id.clone());
        Ok(Some(Offer { roots, signer, issuing, revocation_lists: Vec::new(), lists_on_demand: false, fingerprint }))
    }

    async fn certify(
        &self,
        _: &Root,
        _: &dyn SigningKey,
        _: Duration,
        _: OffsetDateTime,
    ) -> Result<CertifiedCa, SignError> {
        panic!("nobody asks for a CA")
    }

    fn signer(self: Arc<Self>, issuing: &IssuingCa) -> Result<Arc<dyn CertificateAuthority>, SignError> {
        // As a mount that has it no more: that is told when something is to be signed.
        let ca = self.known.iter().find(|ca| ca.issuing() == *issuing).unwrap_or(&self.ca).clone();
        let (authority, not_before, not_after) = (issuing.id.clone(), issuing.not_before, issuing.not_after);
        let limits = IssuerLimits { authority, not_before, not_after, takes: CsrUse::Key };
        Ok(Arc::new(Leaves { backend: self, ca, limits }))
    }
}

struct Leaves {
    backend: Arc<Backend>,
    ca: Arc<TheirCa>,
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

    fn revokes_leaves(&self) -> bool {
        self.backend.revokes.load(Ordering::SeqCst)
    }

    fn ready(&self) -> Result<(), SignError> {
        match *self.backend.does.lock().unwrap() {
            Does::IsAway => Err(SignError::Unavailable("it is away".to_owned())),
            _ => Ok(()),
        }
    }

    async fn sign(&self, request: &SigningRequest) -> Result<CertificateChain, SignError> {
        let does = *self.backend.does.lock().unwrap();
        self.backend.asked.notify_one();
        if does == Does::SignsWhenTold {
            self.backend.go_on.notified().await;
        }
        if does == Does::Fails {
            return Err(SignError::Unavailable("it has no time".to_owned()));
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let number = {
            let mut last = self.backend.serial.lock().unwrap();
            *last += 1;
            *last
        };
        // Theirs have 20 bytes, and no two CAs give the same.
        let own = self.ca.root.id.as_str().as_bytes();
        let serial: Vec<u8> = [&[0x5a; 11], &own[..8], &[number]].concat();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = request.decided_at() - Duration::from_secs(30);
        params.not_after = request.not_after() - Duration::from_secs(10);
        params.subject_alt_names = vec![SanType::URI(request.spiffe_id().as_str().try_into().unwrap())];
        if let Subject::Serving { dns, .. } = request.subject() {
            params.subject_alt_names.extend(dns.iter().map(|name| SanType::DnsName(name.as_str().try_into().unwrap())));
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let issuer = &self.ca.issuer;
        let leaf = match does {
            Does::OtherKey => params.signed_by(&KeyPair::generate().unwrap(), issuer),
            _ => params.signed_by(&SubjectPublicKeyInfo::from_der(request.key().spki_der()).unwrap(), issuer),
        };
        Ok(CertificateChain::new(leaf.unwrap().der().clone(), Vec::new()))
    }
}
