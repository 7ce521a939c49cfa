//! Client certificates on the certificate port: asked for, never required, and judged by the trust bundle and the
//! revocations of this moment. What a client may do with its identity is decided elsewhere.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use signet_core::certificate::Facts;
use signet_core::identity::{SpiffeId, TrustDomain};
use signet_core::profile::usage;
use signet_core::rotation::{AuthorityId, Revoked};
use time::OffsetDateTime;

use crate::state::{self, SigningState, StateReader};

/// Who is on the other end of a TLS connection, by a certificate that was verified in its handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The SPIFFE ID.
    pub spiffe_id: SpiffeId,
    /// The certificate's serial number, 32 hexadecimal digits.
    pub serial: String,
    /// When the certificate ends. A connection may last longer: see [`ClientVerifier::check_again`].
    pub not_after: OffsetDateTime,
    chain: Vec<CertificateDer<'static>>,
}

impl ClientIdentity {
    /// Reads the identity out of a chain, leaf first, that a handshake with a [`ClientVerifier`] has accepted.
    ///
    /// # Errors
    /// [`ClientRefused`] when the leaf is none that such a handshake accepts.
    pub fn of_verified(chain: &[CertificateDer<'static>]) -> Result<Self, ClientRefused> {
        let leaf = chain.first().ok_or(ClientRefused::Unreadable)?;
        let facts = Facts::read(leaf).map_err(|_| ClientRefused::Unreadable)?;
        let spiffe_id = check_profile(&facts)?;
        Ok(Self { spiffe_id, serial: facts.serial_text(), not_after: facts.not_after, chain: chain.to_vec() })
    }
}

/// Why a client certificate is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientRefused {
    /// There is nothing to verify with yet.
    #[error("the CA has no trust bundle yet")]
    NotReady,
    /// The chain does not lead to a root of the bundle, is not valid now, or may not be used by clients.
    #[error("the client's certificate does not verify: {0}")]
    Chain(rustls::Error),
    /// A certificate does not parse.
    #[error("a certificate of the client is unreadable")]
    Unreadable,
    /// The leaf is no X.509-SVID of a workload.
    #[error("the client's certificate is no X.509-SVID: {0}")]
    Profile(&'static str),
    /// The leaf is one of another trust domain.
    #[error("the client's certificate is one of another trust domain")]
    Foreign,
    /// The certificate, or one above it, has been revoked.
    #[error("the client's certificate has been revoked")]
    Revoked,
}

impl From<ClientRefused> for rustls::Error {
    fn from(refused: ClientRefused) -> Self {
        match refused {
            ClientRefused::Chain(error) => error,
            ClientRefused::Unreadable => Self::InvalidCertificate(CertificateError::BadEncoding),
            ClientRefused::Revoked => Self::InvalidCertificate(CertificateError::Revoked),
            // The text reaches the log; the client gets an alert only.
            other => Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(other)))),
        }
    }
}

/// The roots of one bundle sequence, ready to verify with.
struct Known {
    sequence: u64,
    webpki: Arc<dyn ClientCertVerifier>,
}

/// Verifies client certificates with the newest trust bundle of the running CA.
pub struct ClientVerifier {
    trust_domain: TrustDomain,
    state: StateReader,
    provider: Arc<CryptoProvider>,
    known: ArcSwapOption<Known>,
}

impl fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientVerifier").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

impl ClientVerifier {
    /// A verifier of members of `trust_domain` that follows `state`.
    #[must_use]
    pub fn new(trust_domain: TrustDomain, state: StateReader) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Self { trust_domain, state, provider, known: ArcSwapOption::empty() }
    }

    /// Checks a chain: signatures, validity and client usage up to a root of the newest bundle, then what makes
    /// the leaf an X.509-SVID of a workload of the trust domain, then revocation.
    ///
    /// # Errors
    /// [`ClientRefused`].
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<SpiffeId, ClientRefused> {
        let state = state::current(&self.state).ok_or(ClientRefused::NotReady)?;
        self.known(&state)?.webpki.verify_client_cert(leaf, intermediates, now).map_err(ClientRefused::Chain)?;
        let spiffe_id = check_profile(&Facts::read(leaf).map_err(|_| ClientRefused::Unreadable)?)?;
        if !spiffe_id.is_member_of(&self.trust_domain) {
            return Err(ClientRefused::Foreign);
        }
        check_revocation(&state, leaf, intermediates)?;
        Ok(spiffe_id)
    }

    /// Whether an identity that was proved when its connection began still holds: connections outlive certificates,
    /// roots and revocations, so a decision that matters asks again.
    ///
    /// # Errors
    /// [`ClientRefused`].
    pub fn check_again(&self, identity: &ClientIdentity, now: OffsetDateTime) -> Result<(), ClientRefused> {
        let (leaf, intermediates) = identity.chain.split_first().ok_or(ClientRefused::Unreadable)?;
        self.verify(leaf, intermediates, unix(now)).map(drop)
    }

    /// Built anew only when the sequence has changed: it changes with every change of the roots.
    fn known(&self, state: &SigningState) -> Result<Arc<Known>, ClientRefused> {
        let sequence = state.bundle().sequence();
        if let Some(known) = self.known.load_full().filter(|known| known.sequence == sequence) {
            return Ok(known);
        }
        let mut roots = RootCertStore::empty();
        // A root that webpki cannot read must not take the others with it.
        let (_, unreadable) = roots.add_parsable_certificates(state.bundle().roots().iter().cloned());
        if unreadable > 0 {
            tracing::warn!(unreadable, sequence, "roots of the trust bundle cannot verify clients");
        }
        let webpki = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .allow_unauthenticated()
            .build()
            .map_err(|_| ClientRefused::NotReady)?;
        let known = Arc::new(Known { sequence, webpki });
        self.known.store(Some(Arc::clone(&known)));
        Ok(known)
    }
}

/// A time as rustls has it.
pub(super) fn unix(at: OffsetDateTime) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at.unix_timestamp()).unwrap_or_default()))
}

fn check_profile(leaf: &Facts) -> Result<SpiffeId, ClientRefused> {
    let wrong = |what| Err(ClientRefused::Profile(what));
    let [uri] = leaf.uris.as_slice() else { return wrong("it needs exactly one URI name") };
    let Ok(id) = SpiffeId::parse(uri) else { return wrong("its URI is no SPIFFE ID") };
    if id.path().is_empty() {
        return wrong("its SPIFFE ID has no path");
    }
    if leaf.is_ca || leaf.has_usage(usage::KEY_CERT_SIGN) || leaf.has_usage(usage::CRL_SIGN) {
        return wrong("it is one of a CA");
    }
    if !leaf.has_usage(usage::DIGITAL_SIGNATURE) {
        return wrong("its key usage does not allow signatures");
    }
    Ok(id)
}

/// Refuses when any certificate that the client sent is revoked. Whatever path was built is made of them, so none with
/// a revoked member gets through; the journal's entries count, not the lists, which may be a moment behind.
fn check_revocation(
    state: &SigningState,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<(), ClientRefused> {
    let entries = &state.authorities.revocations.entries;
    if entries.is_empty() {
        return Ok(());
    }
    let read = |der: &CertificateDer<'_>| Facts::read(der).map_err(|_| ClientRefused::Unreadable);
    let sent: Vec<Facts> = std::iter::once(leaf).chain(intermediates).map(read).collect::<Result<_, _>>()?;
    let roots: Vec<Facts> = state.bundle().roots().iter().map(read).collect::<Result<_, _>>()?;
    // Serials are unique per issuer only (RFC 5280 section 4.1.2.2), and an operator's own CAs often count from one.
    let is_from = |facts: &Facts, issuer: &AuthorityId| {
        let named = sent.iter().chain(&roots).filter(|one| one.subject_der == facts.issuer_der);
        named.into_iter().any(|one| AuthorityId::from_spki(&one.spki_der) == *issuer)
    };
    let is_revoked = |facts: &Facts| {
        let serial = facts.serial_text();
        entries.iter().any(|entry: &Revoked| entry.serial == serial && is_from(facts, &entry.issuer))
    };
    if sent.iter().any(is_revoked) { Err(ClientRefused::Revoked) } else { Ok(()) }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        // Workloads that have nothing but a token are the rule.
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Some clients send nothing when they do not recognise a hint, and the hints would name every root to anybody.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "client_identity_tests.rs"]
mod tests;
