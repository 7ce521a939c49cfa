//! Leaves that an issuer of cert-manager's signs, one request each, which it signs as it stands. Which CA that is, it tells with
//! an answer only: a trial leaf shows it, for an identity that nobody has and a key that is thrown away.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls_pki_types::CertificateDer;
use signet_core::authority::IssuingCa;
use signet_core::certificate::{CertificateChain, Facts, subject};
use signet_core::csr::KeyFamily;
use signet_core::identity::TrustDomain;
use signet_core::pem::pem_block;
use signet_core::policy::{CsrUse, IssuerLimits, SigningRequest};
use signet_core::seams::certificate_authority::{CertificateAuthority, SignError};
use signet_core::signature::verify_certificate;
use signet_core::time_math;
use signet_core::verify::Signer;
use time::OffsetDateTime;
use tokio::time::Instant;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::super::certificates::{is_self_signed, sent_with_leaves, uri};
use super::super::files::way_to_root;
use super::request::Asks;
use super::roots::Roots;
use super::{CertManagerAuthority, TRIAL, answer};

/// After how many failures in a row nobody is to count on it, and for how long.
const FAILURES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(5);

/// What certificates from there are called.
const CHAIN: &str = "the answer of cert-manager";

/// How leaves went of late.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    failures: u32,
    until: Option<(Instant, String)>,
}

impl Trouble {
    fn note(&mut self, result: Result<(), &SignError>, now: Instant) {
        match result {
            Err(SignError::Unavailable(text)) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= FAILURES {
                    self.until = now.checked_add(PAUSE).map(|until| (until, text.clone()));
                }
            }
            _ => *self = Self::default(),
        }
    }

    fn now(&self, now: Instant) -> Option<SignError> {
        self.until.as_ref().filter(|(until, _)| now < *until).map(|(_, text)| SignError::Unavailable(text.clone()))
    }
}

/// A request for a trial leaf, PEM, and whose it is.
pub(super) fn trial_csr(trust_domain: &TrustDomain) -> Result<(String, String), String> {
    let identity = format!("{}/signet/probe", trust_domain.id());
    let key = KeyPair::generate().map_err(|error| format!("making a key: {error}"))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri(&identity).map_err(|error| error.to_string())?];
    let csr = params.serialize_request(&key).map_err(|error| format!("making a request: {error}"))?;
    Ok((pem_block("CERTIFICATE REQUEST", csr.der()), identity))
}

impl CertManagerAuthority {
    /// Makes sure that it is known what signs leaves under these roots.
    pub(super) async fn learned(&self, roots: &Roots) -> Result<(), SignError> {
        let is_known = self.with_state(|state| state.issuing.is_some() && state.roots.as_ref() == Some(roots));
        if is_known {
            return Ok(());
        }
        let (csr, identity) = trial_csr(&self.settings.trust_domain).map_err(SignError::Failed)?;
        let asks = Asks::Leaf(&identity, KeyFamily::Ec);
        let issued = self.asking().await?.issue(&csr, asks, TRIAL.1).await?;
        let found = self.issuing(&issued.chain, roots);
        let issuing = found.map_err(|cause| {
            SignError::Unusable(format!("what {} has answered to a trial is not used: {cause}", self.settings.issuer))
        })?;
        tracing::info!(issuer = %self.settings.issuer, authority.id = %issuing.id, "what signs leaves is known by a trial");
        self.with_state(|state| state.issuing = Some(issuing));
        Ok(())
    }

    /// What has signed the leaf of an answer.
    fn issuing(&self, chain: &[u8], roots: &Roots) -> Result<IssuingCa, String> {
        let certificates = answer::read(chain)?;
        let (leaf, above) = certificates.split_first().ok_or("the answer holds no certificate")?;
        // A root that comes with it is not trusted for that.
        let is_root = |der: &CertificateDer<'static>| Facts::read(der).is_ok_and(|facts| is_self_signed(der, &facts));
        let mut among: Vec<_> = above.iter().filter(|der| !is_root(der)).cloned().collect();
        among.extend(roots.all.iter().map(|root| root.certificate.clone()));
        let from = &self.settings.roots;
        let issuer = among.iter().find(|der| has_signed(der, leaf)).cloned().ok_or_else(|| {
            format!(
                "nothing in the answer, and no root in {from}, where that of the issuer belongs, has signed the leaf"
            )
        })?;
        let way = way_to_root(&issuer, &among, 0, CHAIN, self.clock.now())?;
        if way.root != roots.signer.certificate {
            let (theirs, ours) = (subject(&way.root), subject(&roots.signer.certificate));
            return Err(format!("the issuer signs under root {theirs}, not {ours}: put that root first in {from}"));
        }
        IssuingCa::below(issuer, None, way.intermediates, &roots.signer).map_err(|error| error.to_string())
    }
}

/// Whether the key in one certificate has signed the other, in its name.
fn has_signed(issuer: &[u8], leaf: &[u8]) -> bool {
    let (Ok((_, issuer)), Ok((_, leaf))) = (X509Certificate::from_der(issuer), X509Certificate::from_der(leaf)) else {
        return false;
    };
    issuer.subject().as_raw() == leaf.issuer().as_raw() && verify_certificate(&leaf, issuer.public_key()).is_ok()
}

/// An issuer of cert-manager's as the issuing CA of leaves.
pub(super) struct CertManagerLeaves {
    of: Arc<CertManagerAuthority>,
    certificate: CertificateDer<'static>,
    limits: IssuerLimits,
    intermediates: Vec<CertificateDer<'static>>,
}

impl CertManagerLeaves {
    pub(super) fn new(of: Arc<CertManagerAuthority>, issuing: &IssuingCa) -> Result<Self, SignError> {
        if !of.settings.leaves {
            return Err(SignError::Unusable(format!(
                "cert-manager signs leaves with issuing CA {} only in `authority.cert_manager.mode: leaf`",
                issuing.id
            )));
        }
        let facts = Facts::read(&issuing.certificate).map_err(|error| SignError::Failed(error.to_string()))?;
        let intermediates = sent_with_leaves(issuing, &facts);
        let (not_before, not_after) = (issuing.not_before, issuing.not_after);
        // Names are in the CSR alone.
        let limits = IssuerLimits { authority: issuing.id.clone(), not_before, not_after, takes: CsrUse::Names };
        Ok(Self { of, certificate: issuing.certificate.clone(), limits, intermediates })
    }

    async fn signed(&self, request: &SigningRequest) -> Result<CertificateDer<'static>, SignError> {
        let csr = request.key().request().ok_or_else(|| {
            SignError::Unusable(
                "cert-manager takes PKCS#10 requests only, and this key was proved in another way".to_owned(),
            )
        })?;
        let csr = pem_block("CERTIFICATE REQUEST", csr);
        let asks = Asks::Leaf(request.spiffe_id().as_str(), request.key().family());
        let ttl = time_math::until(self.of.clock.now(), request.not_after());
        let issued = self.of.asking().await?.issue(&csr, asks, ttl).await?;
        let leaf = answer::read(&issued.chain).map_err(SignError::Unusable)?.into_iter().next();
        let leaf = leaf.ok_or_else(|| SignError::Unusable("the answer holds no certificate".to_owned()))?;
        if !has_signed(&self.certificate, &leaf) {
            // Somebody has given it another key: what it is now is to be learned and followed.
            self.of.with_state(|state| (state.issuing, state.look_at) = (None, None));
            let text = format!("{} signs with another CA now, which is looked at first", self.of.settings.issuer);
            return Err(SignError::Unavailable(text));
        }
        self.begins(&leaf).await?;
        Ok(leaf)
    }

    /// Its clock may be a little ahead, and it never backdates.
    async fn begins(&self, leaf: &CertificateDer<'static>) -> Result<(), SignError> {
        let start = Facts::read(leaf).map_or(OffsetDateTime::UNIX_EPOCH, |facts| facts.not_before);
        let begins = tokio::time::timeout(answer::AHEAD, self.of.clock.sleep_until(start)).await;
        begins.map_err(|_| SignError::Unavailable("the certificate has not begun; is a clock wrong?".to_owned()))
    }
}

#[async_trait]
impl CertificateAuthority for CertManagerLeaves {
    fn limits(&self) -> &IssuerLimits {
        &self.limits
    }

    fn signer(&self) -> Signer {
        Signer::Elsewhere
    }

    fn ready(&self) -> Result<(), SignError> {
        self.of.with_state(|state| state.trouble.now(Instant::now())).map_or(Ok(()), Err)
    }

    async fn sign(&self, request: &SigningRequest) -> Result<CertificateChain, SignError> {
        if *request.issuer() != self.limits.authority {
            return Err(SignError::WrongIssuer);
        }
        let leaf = self.signed(request).await;
        self.of.with_state(|state| state.trouble.note(leaf.as_ref().map(drop), Instant::now()));
        Ok(CertificateChain::new(leaf?, self.intermediates.clone()))
    }
}

impl fmt::Debug for CertManagerLeaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertManagerLeaves").field("limits", &self.limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "leaf_tests.rs"]
mod tests;
