//! Roots, issuing CAs and leaves of every shape for the tests of the edges, and the state that publishes them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use signet_core::authority::{AuthorityId, IssuingCa, KeyId, Root};
use signet_core::certificate::{CertificateChain, Facts, Serial};
use signet_core::identity::TrustDomain;
use signet_core::pem::pem;
use signet_core::policy::{CsrUse, IssuerLimits, SigningRequest};
use signet_core::revocation::{RevocationList, RevocationReason, Revoked};
use signet_core::rotation::{Authorities, AuthorityState, RootAuthority};
use signet_core::seams::certificate_authority::{CertificateAuthority, SignError};
use signet_core::unknown_fields::Unknown;
use signet_core::verify::{Signer, VerifiedPath};
use time::OffsetDateTime;

use crate::signing_state::{ServingIssuer, SigningState, StateReader, StateWriter};

const HOUR: Duration = Duration::from_secs(3600);

/// The trust domain of the mesh.
pub(crate) fn trust_domain() -> TrustDomain {
    TrustDomain::parse("cluster.local").unwrap()
}

/// A root, and the issuing CA below it that makes leaves.
pub(crate) struct TestRoot {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) issuing: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    root: Issuer<'static, KeyPair>,
    name: String,
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

impl TestRoot {
    pub(crate) fn new(name: &str) -> Self {
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root_name = format!("root {name}");
        let root = ca(&root_name);
        let certificate = root.self_signed(&root_key).unwrap().der().clone();
        let params = ca(&format!("issuing {name}"));
        let root = Issuer::new(root, root_key);
        let issuing = params.signed_by(&key, &root).unwrap().der().clone();
        Self { certificate, issuing, issuer: Issuer::new(params, key), root, name: root_name }
    }

    /// A certificate of this root for name and key of another one.
    pub(crate) fn vouches_for(&self, other: &Self) -> CertificateDer<'static> {
        ca(&other.name).signed_by(other.root.key(), &self.root).unwrap().der().clone()
    }

    pub(crate) fn id(&self) -> AuthorityId {
        AuthorityId::of(&Facts::read(&self.certificate).unwrap())
    }

    pub(crate) fn issuing_id(&self) -> AuthorityId {
        AuthorityId::of(&Facts::read(&self.issuing).unwrap())
    }

    /// An X.509-SVID that was made at `now` for an hour, after `change` has spoilt it.
    pub(crate) fn leaf(&self, id: &str, now: OffsetDateTime, change: impl FnOnce(&mut CertificateParams)) -> Shown {
        let mut params = CertificateParams::default();
        let random = [u8::try_from(id.len()).unwrap(); 16];
        params.serial_number = Some(Serial::new(now, random).as_bytes().to_vec().into());
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![uri(id)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.not_before = now - Duration::from_secs(60);
        params.not_after = now + HOUR;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Shown { chain: vec![leaf.der().clone(), self.issuing.clone()], key }
    }

    /// The revocation list of the issuing CA, with these serial numbers.
    pub(crate) fn list(&self, serials: &[Vec<u8>]) -> RevocationList {
        let at = OffsetDateTime::UNIX_EPOCH;
        let revoked = |serial: &Vec<u8>| RevokedCertParams {
            serial_number: serial.clone().into(),
            revocation_time: at,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: at,
            next_update: at + HOUR,
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let der = params.signed_by(&self.issuer).unwrap().der().clone();
        RevocationList { issuer: self.issuing_id(), der, next_update: i64::MAX, unknown: Unknown::default() }
    }

    fn authority(&self, generation: u64, state: AuthorityState) -> RootAuthority {
        let (root, issuing) = (Facts::read(&self.certificate).unwrap(), Facts::read(&self.issuing).unwrap());
        RootAuthority {
            ca: Root {
                id: self.id(),
                key: Some(KeyId::parse("root").unwrap()),
                certificate: self.certificate.clone(),
                not_before: root.not_before,
                not_after: root.not_after,
            },
            generation,
            state,
            issuing: vec![
                IssuingCa {
                    id: self.issuing_id(),
                    key: KeyId::parse("issuing"),
                    certificate: self.issuing.clone(),
                    not_before: issuing.not_before,
                    not_after: issuing.not_after,
                    intermediates: Vec::new(),
                }
                .into(),
            ],
            published: generation,
            since: OffsetDateTime::UNIX_EPOCH,
            tainted_at: None,
            pinned: false,
            unknown: Unknown::default(),
        }
    }
}

pub(crate) fn uri(id: &str) -> SanType {
    SanType::URI(id.try_into().unwrap())
}

/// A certificate chain with its key.
pub(crate) struct Shown {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl Shown {
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    pub(crate) fn chain_pem(&self) -> String {
        self.chain.iter().map(|der| pem(der)).collect()
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts::read(&self.chain[0]).unwrap()
    }

    /// The entry that revokes certificate `index` of the chain, made by `issuer`.
    pub(crate) fn revoked(&self, index: usize, issuer: AuthorityId) -> Revoked {
        let serial = Facts::read(&self.chain[index]).unwrap().serial_text();
        Revoked {
            serial,
            issuer,
            reason: RevocationReason::KeyCompromise,
            at: 0,
            not_after: i64::MAX,
            unknown: Unknown::default(),
        }
    }
}

/// A serving certificate for handshakes.
pub(crate) fn serves(shown: &Shown) -> Arc<CertifiedKey> {
    let key = rustls::crypto::ring::sign::any_supported_type(&shown.key()).unwrap();
    Arc::new(CertifiedKey::new(shown.chain.clone(), key))
}

/// Signs nothing: the edges only read what it published.
struct NoAuthority(IssuerLimits);

#[async_trait]
impl CertificateAuthority for NoAuthority {
    fn limits(&self) -> &IssuerLimits {
        &self.0
    }
    fn signer(&self) -> Signer {
        Signer::Here
    }
    async fn sign(&self, _: &SigningRequest) -> Result<CertificateChain, SignError> {
        Err(SignError::Failed("a test".into()))
    }
}

/// The authorities that these roots make; the last one is active.
pub(crate) fn authorities(sequence: u64, roots: &[&TestRoot], revoked: &[Revoked]) -> Authorities {
    let state = |index| if index + 1 == roots.len() { AuthorityState::Active } else { AuthorityState::OLD };
    let mut authorities = Authorities { bundle_sequence: sequence, ..Authorities::default() };
    for (index, root) in roots.iter().enumerate() {
        authorities.roots.push(root.authority(u64::try_from(index).unwrap() + 1, state(index)));
    }
    authorities.revocations.entries = revoked.to_vec();
    authorities
}

/// What a CA with these roots publishes.
pub(crate) fn publish(writer: &StateWriter, sequence: u64, roots: &[&TestRoot], revoked: &[Revoked]) {
    publish_authorities(writer, authorities(sequence, roots, revoked), roots.last().unwrap());
}

/// The same with authorities of any kind, of which `signer` signs.
pub(crate) fn publish_authorities(writer: &StateWriter, authorities: Authorities, signer: &TestRoot) {
    let validation = authorities.validation(&trust_domain()).unwrap();
    let issuing = Facts::read(&signer.issuing).unwrap();
    let path = VerifiedPath::check(
        std::slice::from_ref(&signer.issuing),
        issuing.subject_key_id.as_deref().unwrap_or_default(),
        &validation.bundle,
    );
    let (not_before, not_after, takes) = (issuing.not_before, issuing.not_after, CsrUse::Key);
    let limits = IssuerLimits { authority: signer.issuing_id(), not_before, not_after, takes };
    let authority = Arc::new(NoAuthority(limits));
    let (authority, path): (Arc<dyn CertificateAuthority>, _) = (authority, path.unwrap());
    let is = (signer.id(), signer.issuing_id());
    let serving = ServingIssuer { authority: authority.clone(), path: path.clone(), is: is.clone(), wanted: is };
    let state = SigningState { authority, path, serving, validation, authorities };
    writer.send_replace(Some(Arc::new(state)));
}

/// A state that nothing has been published to yet.
pub(crate) fn nothing() -> (StateWriter, StateReader) {
    tokio::sync::watch::channel(None)
}
