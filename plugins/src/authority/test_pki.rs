//! An operator's CAs for tests: made with a certificate builder and key identifiers of their own, as other tools do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertificateSigningRequestParams,
    DistinguishedName, DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevokedCertParams,
    SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use signet_core::authority::AuthorityId;
use signet_core::certificate::{CertificateChain, Serial};
use signet_core::csr::CertificateRequest;
use signet_core::identity::{TrustDomain, WorkloadId};
use signet_core::key_type::KeyType;
use signet_core::pem::pem;
use signet_core::policy::{CsrNames, LeafPolicy, SigningRequest, decide};
use signet_core::seams::certificate_authority::CertificateAuthority;
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::custody::LocalKey;
use crate::custody::public_key::PublicKey;

pub(super) const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);
pub(super) const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

/// How a private key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// PKCS#1 for RSA, SEC1 for elliptic curves.
    Traditional,
    Pkcs8,
}

/// A CA of an operator.
#[derive(Clone)]
pub(super) struct Ca {
    pub(super) params: CertificateParams,
    pub(super) der: CertificateDer<'static>,
    pkcs8: Vec<u8>,
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = NOW - 30 * DAY;
    params.not_after = NOW + 300 * DAY;
    params.use_authority_key_identifier_extension = true;
    params
}

/// What most tools write is a SHA-1 over the key; here it is enough that it differs from ours and between keys.
fn key_id(pair: &KeyPair) -> KeyIdMethod {
    KeyIdMethod::PreSpecified(pair.der_bytes()[10..30].to_vec())
}

impl Ca {
    pub(super) fn root(name: &str) -> Self {
        Self::root_with(name, |_| {})
    }

    pub(super) fn root_with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::self_signed(KeyPair::generate().unwrap().serialize_der(), name, change)
    }

    pub(super) async fn root_of(key_type: KeyType, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (_, pkcs8) = LocalKey::generate(key_type).await.unwrap();
        Self::self_signed(pkcs8.expose().to_vec(), name, change)
    }

    fn self_signed(pkcs8: Vec<u8>, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let pair = pair(&pkcs8);
        let mut params = named(name);
        params.use_authority_key_identifier_extension = false;
        params.key_identifier_method = key_id(&pair);
        change(&mut params);
        let der = params.self_signed(&pair).unwrap().der().clone();
        Self { params, der, pkcs8 }
    }

    /// A CA below this one.
    pub(super) fn below(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        self.signs(KeyPair::generate().unwrap().serialize_der(), name, change)
    }

    pub(super) async fn below_of(
        &self,
        key_type: KeyType,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let (_, pkcs8) = LocalKey::generate(key_type).await.unwrap();
        self.signs(pkcs8.expose().to_vec(), name, change)
    }

    fn signs(&self, pkcs8: Vec<u8>, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let own = pair(&pkcs8);
        let mut params = named(name);
        params.key_identifier_method = key_id(&own);
        change(&mut params);
        let key = pair(&self.pkcs8);
        let der = params.signed_by(&own, &Issuer::from_params(&self.params, &key)).unwrap().der().clone();
        Self { params, der, pkcs8 }
    }

    /// A certificate for a key that is somebody else's, given as SubjectPublicKeyInfo.
    pub(super) fn signs_key(
        &self,
        spki_der: &[u8],
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let mut params = named("issuing");
        params.key_identifier_method = KeyIdMethod::PreSpecified(spki_der[spki_der.len() - 20..].to_vec());
        change(&mut params);
        let (own, key) = (PublicKey::parse(spki_der).unwrap(), pair(&self.pkcs8));
        params.signed_by(&own, &Issuer::from_params(&self.params, &key)).unwrap().der().clone()
    }

    /// A certificate that is not one of a CA, with its key.
    pub(super) fn leaf(&self) -> Self {
        self.below("leaf", |params| params.is_ca = IsCa::ExplicitNoCa)
    }

    /// What this CA makes of a certificate signing request: that of a CA that holds for this long.
    pub(super) fn certifies(
        &self,
        csr: &str,
        ttl: std::time::Duration,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut asked = CertificateSigningRequestParams::from_pem(csr).unwrap();
        asked.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        asked.params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (asked.params.not_before, asked.params.not_after) = (NOW - std::time::Duration::from_secs(30), NOW + ttl);
        asked.params.use_authority_key_identifier_extension = true;
        change(&mut asked.params);
        let der = asked.signed_by(&Issuer::from_params(&self.params, &pair(&self.pkcs8))).unwrap().der().clone();
        Self { params: asked.params, der, pkcs8: Vec::new() }
    }

    /// This root again, with the same key and name.
    pub(super) fn renewed(&self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = self.params.clone();
        change(&mut params);
        let der = params.self_signed(&pair(&self.pkcs8)).unwrap().der().clone();
        Self { params, der, pkcs8: self.pkcs8.clone() }
    }

    /// Another root with the key of this one.
    pub(super) fn renamed(&self, name: &str) -> Self {
        self.renewed(|params| params.distinguished_name = named(name).distinguished_name)
    }

    /// A cross certificate: this CA's name and key, certified by another one.
    pub(super) fn crossed_by(&self, other: &Self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = self.params.clone();
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let (own, key) = (pair(&self.pkcs8), pair(&other.pkcs8));
        let der = params.signed_by(&own, &Issuer::from_params(&other.params, &key)).unwrap().der().clone();
        Self { params, der, pkcs8: self.pkcs8.clone() }
    }

    /// The certificate with a bit of its signature flipped.
    pub(super) fn with_broken_signature(&self) -> Self {
        let mut der = self.der.to_vec();
        let last = der.len() - 1;
        der[last] ^= 1;
        Self { der: der.into(), ..self.clone() }
    }

    pub(super) fn id(&self) -> AuthorityId {
        AuthorityId::of(&signet_core::certificate::Facts::read(&self.der).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        pem(&self.der)
    }

    pub(super) fn key_pem(&self, encoding: Encoding) -> String {
        let pkcs8 = pair(&self.pkcs8).serialize_pem();
        match encoding {
            Encoding::Pkcs8 => pkcs8,
            Encoding::Traditional => openssl(&["pkey", "-traditional"], pkcs8.as_bytes()),
        }
    }

    /// An empty revocation list as PEM.
    pub(super) fn crl(&self, this_update: OffsetDateTime, next_update: OffsetDateTime) -> String {
        self.crl_of(this_update, next_update, &[])
    }

    /// A revocation list with these certificates on it as PEM.
    pub(super) fn crl_of(&self, this_update: OffsetDateTime, next_update: OffsetDateTime, revoked: &[&Self]) -> String {
        let entry = |ca: &&Self| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&signet_core::certificate::Facts::read(&ca.der).unwrap().serial),
            revocation_time: this_update,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update,
            next_update,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: self.params.key_identifier_method.clone(),
        };
        params.signed_by(&Issuer::from_params(&self.params, &pair(&self.pkcs8))).unwrap().pem().unwrap()
    }
}

fn pair(pkcs8: &[u8]) -> KeyPair {
    KeyPair::try_from(&PrivatePkcs8KeyDer::from(pkcs8)).unwrap()
}

/// Writes a set of files in Istio's form.
pub(super) fn write(directory: &Path, signer: &Ca, encoding: Encoding, chain: &[&Ca], roots: &[&Ca]) {
    let all = |cas: &[&Ca]| cas.iter().map(|ca| ca.pem()).collect::<String>();
    for (name, content) in [
        ("ca-cert.pem", signer.pem()),
        ("ca-key.pem", signer.key_pem(encoding)),
        ("root-cert.pem", all(roots)),
        ("cert-chain.pem", all(chain)),
    ] {
        std::fs::write(directory.join(name), content).unwrap();
    }
}

/// The decision to certify a workload.
pub(super) fn request_of(authority: &dyn CertificateAuthority, now: OffsetDateTime) -> SigningRequest {
    let trust_domain = TrustDomain::parse("cluster.local").unwrap();
    let policy = LeafPolicy { trust_domain, default_ttl: DAY, max_ttl: 90 * DAY, csr_names: CsrNames::Ignore };
    let csr = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap();
    let csr = CertificateRequest::parse(&csr.pem().unwrap()).unwrap();
    let workload = WorkloadId::parse("spiffe://cluster.local/ns/default/sa/web").unwrap();
    let serial = Serial::new(now, [9; 16]);
    decide(&policy, workload, csr, None, authority.limits(), serial, now).unwrap()
}

/// A workload's leaf and the chain that goes with it.
pub(super) async fn leaf_of(authority: &dyn CertificateAuthority, now: OffsetDateTime) -> CertificateChain {
    authority.sign(&request_of(authority, now)).await.unwrap()
}

/// Asserts that OpenSSL accepts the chain under these roots, as client and as server.
pub(super) fn openssl_accepts(chain: &CertificateChain, roots: &[&[u8]], now: OffsetDateTime) {
    let dir = TempDir::new().unwrap();
    let put = |name: &str, content: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let (leaf, root) = (put("leaf", pem(chain.leaf())), put("root", roots.iter().map(|root| pem(root)).collect()));
    let between = put("between", chain.intermediates().iter().map(|one| pem(one)).collect());
    let at = now.unix_timestamp().to_string();
    for purpose in ["sslserver", "sslclient"] {
        let mut args = vec!["verify", "-attime", &at, "-purpose", purpose, "-CAfile", &root];
        if !chain.intermediates().is_empty() {
            args.extend(["-untrusted", &between]);
        }
        args.push(&leaf);
        assert!(openssl(&args, b"").contains("OK"));
    }
}

pub(super) fn openssl(args: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("openssl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("apt-get install openssl");
    // A command that takes no input may have ended already.
    drop(child.stdin.take().unwrap().write_all(input));
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?} {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
