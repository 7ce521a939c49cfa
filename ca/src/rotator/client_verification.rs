//! Judges a new issuing CA before it is taken into use, as its clients would: a serving certificate and one of a workload
//! are signed with it, and verified by the verifier that clients with rustls use. Whatever those look at (name
//! constraints, critical extensions, algorithms, path lengths) needs no rule of ours then.
//!
//! Nobody gets these certificates. Their keys are thrown away, they live for a minute, and they are on record.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rcgen::KeyPair;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use signet_core::audit::{Attributed, AuditEvent, Certified, EventKind, Outcome};
use signet_core::authority::{AuthorityId, IssuingCa};
use signet_core::bundle::TrustBundle;
use signet_core::certificate::{CertificateChain, Facts, Serial, subject};
use signet_core::digest::sha256;
use signet_core::identity::{SpiffeId, TrustDomain};
use signet_core::policy::{self, CsrNames, LeafPolicy, SigningRequest};
use signet_core::record_before_release::Unreleased;
use signet_core::seams::certificate_authority::{CertificateAuthority, SignError};
use signet_core::seams::custody::KeyCustody;
use signet_core::verify::{self, Signer};
use time::OffsetDateTime;
use tokio::time::Instant;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::publish::{signer, verified_path};
use super::{OpenIssuer, StepError};
use crate::audit_log::AuditLog;
use crate::config::Serving;
use crate::own_key;

/// How long the certificates live that are signed for this.
const LIFE: Duration = Duration::from_secs(60);

/// For how long a backend is not asked again that has not signed on trial: at first, and at most.
const HOLD: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// The identities that they are for; no workload can have them.
const NAMES: [&str; 2] = ["signet/ca", "signet/probe"];

/// Judges issuing CAs.
pub struct Judge {
    trust_domain: TrustDomain,
    serving: Serving,
    open_issuer: Arc<OpenIssuer>,
    /// The one that was judged last, by its digest, and what came of it.
    last: Mutex<Option<([u8; 32], Verdict)>>,
}

/// What came of judging an issuing CA.
#[derive(Debug, Clone)]
enum Verdict {
    /// Why clients refuse it, if they do.
    Judged(Option<String>),
    /// The backend that signs with it has not signed on trial. It is not asked again before that, since each time is on record.
    Held { until: Instant, hold: Duration, error: SignError },
}

/// What is judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    /// The issuing CA.
    pub(super) issuing: &'a IssuingCa,
    /// The roots that come with it.
    pub(super) roots: &'a [CertificateDer<'static>],
    /// The sequence of the bundle in use, for the record.
    pub(super) sequence: u64,
    /// When.
    pub(super) now: OffsetDateTime,
}

impl Judge {
    /// Judges for clients in `trust_domain` that dial the names in `serving`.
    #[must_use]
    pub fn new(trust_domain: TrustDomain, serving: Serving, open_issuer: Arc<OpenIssuer>) -> Self {
        Self { trust_domain, serving, open_issuer, last: Mutex::default() }
    }

    /// Signs with the candidate and has that verified, unless it is the one of the last time.
    ///
    /// # Errors
    /// [`SignError::Unusable`] says why clients refuse it; any other [`StepError`], that it could not be judged.
    pub(super) async fn judge(
        &self,
        candidate: Candidate<'_>,
        custody: &dyn KeyCustody,
        audit: &AuditLog,
    ) -> Result<(), StepError> {
        let issuing = candidate.issuing;
        let path = || std::iter::once(&issuing.certificate).chain(&issuing.intermediates).chain(candidate.roots);
        let digest = sha256(&path().flat_map(|der| sha256(der)).collect::<Vec<u8>>());
        let known = self.last().as_ref().filter(|(judged, _)| *judged == digest).map(|(_, verdict)| verdict.clone());
        let hold = match &known {
            Some(Verdict::Held { until, error, .. }) if Instant::now() < *until => return Err(error.clone().into()),
            Some(Verdict::Held { hold, .. }) => hold.saturating_mul(2).min(HOLD.1),
            _ => HOLD.0,
        };
        let why = match known {
            Some(Verdict::Judged(why)) => why,
            _ => {
                let authority = signer(custody, &*self.open_issuer, issuing).await?;
                authority.ready()?;
                let why = self.try_out(candidate, &*authority, audit).await.inspect_err(|error| {
                    if let (StepError::Sign(error), Signer::Elsewhere) = (error, authority.signer()) {
                        let until = Instant::now().checked_add(hold).unwrap_or_else(Instant::now);
                        *self.last() = Some((digest, Verdict::Held { until, hold, error: error.clone() }));
                    }
                })?;
                let why = why.map(|error| told(&error, path()));
                *self.last() = Some((digest, Verdict::Judged(why.clone())));
                why
            }
        };
        match why {
            None => Ok(()),
            Some(why) => Err(SignError::Unusable(format!(
                "clients would refuse every certificate of the new issuing CA `{}`: {why}",
                subject(&issuing.certificate)
            ))
            .into()),
        }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<([u8; 32], Verdict)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why clients refuse what it signs, if they do.
    async fn try_out(
        &self,
        candidate: Candidate<'_>,
        authority: &dyn CertificateAuthority,
        audit: &AuditLog,
    ) -> Result<Option<rustls::Error>, StepError> {
        let [serving, probe] = NAMES.map(|path| SpiffeId::parse(&format!("{}/{path}", self.trust_domain.id())));
        let failed = |error: String| SignError::Failed(error);
        let (dns, ips) = (self.serving.dns_names.clone(), self.serving.ip_addresses.clone());
        for (id, dns, ips) in [(serving, dns, ips), (probe, Vec::new(), Vec::new())] {
            let id = id.map_err(|error| failed(error.to_string()))?;
            let names = server_names(&dns, &ips);
            let chain = self.sign(candidate, authority, audit, (id, dns, ips)).await?;
            // A backend that does not backdate has signed it after this began.
            let begins = Facts::read(chain.leaf()).ok().map(|facts| facts.not_before);
            let begins = begins.filter(|_| authority.signer() == Signer::Elsewhere).unwrap_or(candidate.now);
            if let Err(error) = verify(&chain, candidate.roots, &names, candidate.now.max(begins)) {
                return Ok(Some(error));
            }
        }
        Ok(None)
    }

    async fn sign(
        &self,
        candidate: Candidate<'_>,
        authority: &dyn CertificateAuthority,
        audit: &AuditLog,
        (id, dns, ips): (SpiffeId, Vec<String>, Vec<IpAddr>),
    ) -> Result<CertificateChain, StepError> {
        let name = id.to_string();
        let request = decided(&self.trust_domain, authority, (id, dns, ips), candidate.now)?;
        let event = AuditEvent {
            at_micros: AuditEvent::micros(candidate.now),
            request_id: request.serial().to_string(),
            kind: EventKind::Authority,
            outcome: Outcome::Intended,
            reason: None,
            detail: Some("a certificate to try out a new issuing CA, which nobody gets".to_owned()),
            who: Attributed { spiffe_id: Some(name), ..Attributed::default() },
            what: Some(Certified::by(&request, candidate.sequence)),
            repeated: None,
        };
        // Before it is signed: what is signed and not on record must not exist anywhere.
        if authority.signer() == Signer::Here {
            audit.record(event).await?;
            return Ok(authority.sign(&request).await?);
        }
        audit.record(event.clone().intended()).await?;
        let signed = self.sign_there(candidate, authority, request).await;
        let outcome = match &signed {
            Ok((_, unreleased)) => {
                let what = event.what.clone().map(|what| what.signed(unreleased));
                AuditEvent { outcome: Outcome::Done, what, ..event }
            }
            Err(error) => {
                let (reason, detail) = (Some("sign_failed".to_owned()), Some(error.to_string()));
                AuditEvent { outcome: Outcome::Failed, reason, detail, ..event.intended() }
            }
        };
        audit.record(outcome).await?;
        Ok(signed?.0)
    }

    /// What a backend makes of a request is set there: it is held against what was decided, as every leaf will be.
    async fn sign_there(
        &self,
        candidate: Candidate<'_>,
        authority: &dyn CertificateAuthority,
        request: SigningRequest,
    ) -> Result<(CertificateChain, Unreleased), StepError> {
        let failed = |error: String| SignError::Failed(format!("trying out an issuing CA: {error}"));
        let chain = authority.sign(&request).await?;
        let bundle = TrustBundle::new(self.trust_domain.clone(), candidate.sequence, candidate.roots.to_vec());
        let bundle = bundle.map_err(|error| failed(error.to_string()))?;
        let roots = candidate.roots.iter().filter_map(|root| Facts::read(root).ok());
        let root = roots.map(|facts| AuthorityId::of(&facts)).find(|id| *id == candidate.issuing.id);
        let path = verified_path(&root.unwrap_or_else(|| AuthorityId::new(b"", b"")), candidate.issuing, &bundle)?;
        let checked = verify::check_issued(request, chain.clone(), &path, Signer::Elsewhere);
        let unreleased = checked.map_err(|mismatch| SignError::Unusable(mismatch.to_string()))?;
        Ok((chain, unreleased))
    }
}

/// Why clients would refuse what a CA signs whose key is thrown away, if they do. What it signs for that is on no record of its own:
/// the CA is, and ends within a minute.
///
/// # Errors
/// [`StepError`] when it could not be judged.
pub async fn client_verdict(
    trust_domain: &TrustDomain,
    serving: &Serving,
    (authority, issuing): (&dyn CertificateAuthority, &IssuingCa),
    roots: &[CertificateDer<'static>],
    now: OffsetDateTime,
) -> Result<Option<String>, StepError> {
    let path = || std::iter::once(&issuing.certificate).chain(&issuing.intermediates).chain(roots);
    let names = (serving.dns_names.clone(), serving.ip_addresses.clone());
    for (path_of_id, (dns, ips)) in NAMES.into_iter().zip([names, Default::default()]) {
        let id = SpiffeId::parse(&format!("{}/{path_of_id}", trust_domain.id()));
        let id = id.map_err(|error| SignError::Failed(error.to_string()))?;
        let dialled = server_names(&dns, &ips);
        let request = decided(trust_domain, authority, (id, dns, ips), now)?;
        let chain = authority.sign(&request).await?;
        if let Err(error) = verify(&chain, roots, &dialled, now) {
            return Ok(Some(told(&error, path())));
        }
    }
    Ok(None)
}

/// The decision to sign one that is tried, with a key that is thrown away.
fn decided(
    trust_domain: &TrustDomain,
    authority: &dyn CertificateAuthority,
    (id, dns, ips): (SpiffeId, Vec<String>, Vec<IpAddr>),
    now: OffsetDateTime,
) -> Result<SigningRequest, StepError> {
    let failed = |error: String| SignError::Failed(format!("trying out an issuing CA: {error}"));
    let key = KeyPair::generate().map_err(|error| failed(error.to_string()))?;
    let key = own_key::proven(&key, &id, &dns, &ips).map_err(failed)?;
    let mut random = [0; 16];
    SystemRandom::new().fill(&mut random).map_err(|_| StepError::Random)?;
    let serial = Serial::new(now, random);
    let trust_domain = trust_domain.clone();
    let policy = LeafPolicy { trust_domain, default_ttl: LIFE, max_ttl: LIFE, csr_names: CsrNames::Ignore };
    let request = policy::decide_serving(&policy, id, dns, ips, key, authority.limits(), serial, now);
    Ok(request.map_err(|refusal| SignError::Unusable(refusal.to_string()))?)
}

fn server_names(dns: &[String], ips: &[IpAddr]) -> Vec<ServerName<'static>> {
    // What no client can dial, such as a pattern, is not verified as a name.
    let dns = dns.iter().filter_map(|name| ServerName::try_from(name.clone()).ok());
    dns.chain(ips.iter().map(|ip| ServerName::from(*ip))).collect()
}

/// Verifies as clients and servers with rustls do, which trust these roots and nothing else.
fn verify(
    chain: &CertificateChain,
    roots: &[CertificateDer<'static>],
    names: &[ServerName<'_>],
    now: OffsetDateTime,
) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut store = RootCertStore::empty();
    // One that rustls cannot use is no reason to refuse what chains to another one.
    let (_usable, _unusable) = store.add_parsable_certificates(roots.iter().cloned());
    let (leaf, intermediates) = (ParsedCertificate::try_from(chain.leaf())?, chain.intermediates());
    let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.unix_timestamp()).unwrap_or_default()));
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&leaf, &store, intermediates, at, algorithms)?;
    for name in names {
        verify_server_name(&leaf, name)?;
    }
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider).build();
    let clients = clients.map_err(|error| rustls::Error::General(error.to_string()))?;
    clients.verify_client_cert(chain.leaf(), intermediates, at).map(|_verified| ())
}

/// The error with what may have caused it, since a verifier does not say which certificate it is about.
fn told<'a>(error: &rustls::Error, path: impl Iterator<Item = &'a CertificateDer<'static>>) -> String {
    let mut causes: Vec<String> = path.flat_map(|der| oddities(der)).collect();
    causes.dedup();
    match causes.as_slice() {
        [] => error.to_string(),
        causes => format!("{}; the verifier says: {error}", causes.join("; ")),
    }
}

/// What verifiers stumble upon in the certificate of a CA.
pub(crate) fn oddities(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    let (name, mut found) = (subject(der), Vec::new());
    if certificate.validity().not_before.timestamp() < 0 {
        found.push(format!("`{name}` begins before 1970, and clients with rustls read no such time"));
    }
    let is_root = certificate.subject().as_raw() == certificate.issuer().as_raw();
    // RSA and ECDSA.
    let sha1 = ["1.2.840.113549.1.1.5", "1.2.840.10045.4.1"];
    if !is_root && sha1.contains(&certificate.signature_algorithm.algorithm.to_id_string().as_str()) {
        found.push(format!("`{name}` is signed with SHA-1"));
    }
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::NameConstraints(constraints) => {
                let trees = [&constraints.permitted_subtrees, &constraints.excluded_subtrees];
                let is_uri = |name: &GeneralName<'_>| matches!(name, GeneralName::URI(_));
                let has_uri = trees.into_iter().flatten().flatten().any(|tree| is_uri(&tree.base));
                found.push(match has_uri {
                    true => format!(
                        "`{name}` has a name constraint for URIs, and clients with rustls refuse every certificate below such a CA"
                    ),
                    false => format!("`{name}` has name constraints"),
                });
            }
            ParsedExtension::UnsupportedExtension { .. } | ParsedExtension::Unparsed if extension.critical => {
                found.push(format!("`{name}` has the critical extension {}, which nobody knows", extension.oid));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
#[path = "client_verification_tests.rs"]
mod tests;
