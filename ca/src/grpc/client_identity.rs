//! Client certificates on the certificate port: asked for, never required, and judged by the trust bundle and the
//! revocations of this moment. What a client may do with its identity is decided elsewhere.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use signet_core::certificate::Facts;
use signet_core::clock::Clock;
use signet_core::identity::{SpiffeId, TrustDomain};
use signet_core::profile::usage;
use time::OffsetDateTime;

use super::client_standing::{ChainHash, Standing, Trust};
use crate::state::{self, StateReader};

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
    hash: ChainHash,
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
        let (serial, not_after, hash) = (facts.serial_text(), facts.not_after, ChainHash::of(chain.iter()));
        Ok(Self { spiffe_id, serial, not_after, chain: chain.to_vec(), hash })
    }
}

/// Why a client certificate is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientRefused {
    /// There is nothing to verify with yet.
    #[error("the CA has no trust bundle yet")]
    NotReady,
    /// Every root of the bundle is compromised, so that no certificate proves anything.
    #[error("no root is left that clients are verified with: all are marked as compromised")]
    NoRoot,
    /// The chain leads over the key of a compromised root.
    #[error("the client's certificate chains to a compromised root")]
    Compromised,
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
            ClientRefused::Compromised => Self::InvalidCertificate(CertificateError::UnknownIssuer),
            ClientRefused::Revoked => Self::InvalidCertificate(CertificateError::Revoked),
            // The text reaches the log; the client gets an alert only.
            other => Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(other)))),
        }
    }
}

/// Verifies client certificates with the newest trust bundle of the running CA.
pub struct ClientVerifier {
    trust_domain: TrustDomain,
    state: StateReader,
    provider: Arc<CryptoProvider>,
    standing: Standing,
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
        let standing = Standing::new(Arc::clone(&provider));
        Self { trust_domain, state, provider, standing }
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
        let hash = ChainHash::of(std::iter::once(leaf).chain(intermediates));
        self.judge(leaf, intermediates, hash, now, Trust::Any)
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        hash: ChainHash,
        now: UnixTime,
        trust: Trust,
    ) -> Result<SpiffeId, ClientRefused> {
        let state = state::current(&self.state).ok_or(ClientRefused::NotReady)?;
        let roster = self.standing.of(&state)?;
        if let Some(verdict) = self.standing.found(hash, trust, &roster.anchors, now) {
            roster.check_standing(&verdict)?;
            return Ok(verdict.spiffe_id.clone());
        }
        let webpki = roster.anchors.verifier(trust)?;
        webpki.verify_client_cert(leaf, intermediates, now).map_err(ClientRefused::Chain)?;
        let read = |der: &CertificateDer<'_>| Facts::read(der).map_err(|_| ClientRefused::Unreadable);
        let leaf = read(leaf)?;
        let spiffe_id = check_profile(&leaf)?;
        if !spiffe_id.is_member_of(&self.trust_domain) {
            return Err(ClientRefused::Foreign);
        }
        let sent: Vec<Facts> =
            std::iter::once(Ok(leaf)).chain(intermediates.iter().map(read)).collect::<Result<_, _>>()?;
        let verdict = Arc::new(roster.anchors.verdict(spiffe_id.clone(), &sent, trust)?);
        roster.check_standing(&verdict)?;
        self.standing.remember(hash, trust, &roster.anchors, verdict);
        Ok(spiffe_id)
    }

    fn again(&self, identity: &ClientIdentity, now: OffsetDateTime, trust: Trust) -> Result<(), ClientRefused> {
        let (leaf, intermediates) = identity.chain.split_first().ok_or(ClientRefused::Unreadable)?;
        self.judge(leaf, intermediates, identity.hash, unix(now), trust).map(drop)
    }

    /// Whether an identity that was proved when its connection began still holds: connections outlive certificates,
    /// roots and revocations, so a decision that matters asks again. Signatures are verified only when roots have
    /// changed since.
    ///
    /// # Errors
    /// [`ClientRefused`].
    pub fn still_holds(&self, identity: &ClientIdentity, now: OffsetDateTime) -> Result<(), ClientRefused> {
        self.again(identity, now, Trust::Any)
    }

    /// The same for powers over the CA, which nobody gets by a certificate that chains to a compromised root.
    ///
    /// # Errors
    /// [`ClientRefused`].
    pub fn check_again(&self, identity: &ClientIdentity, now: OffsetDateTime) -> Result<(), ClientRefused> {
        self.again(identity, now, Trust::Sound)
    }

    /// Waits until an identity holds no longer: its certificate has ended or is revoked, or its root is gone.
    pub async fn until_refused(&self, identity: &ClientIdentity, clock: &dyn Clock) {
        let mut changes = self.state.clone();
        loop {
            // Before the look, so that no change falls between the two.
            changes.mark_unchanged();
            if self.still_holds(identity, clock.now()).is_err() {
                return;
            }
            tokio::select! {
                () = clock.sleep_until(identity.not_after) => return,
                changed = changes.changed() => if changed.is_err() {
                    // Nobody is left who could change anything: the process ends.
                    return clock.sleep_until(identity.not_after).await;
                },
            }
        }
    }
}

/// A time as rustls has it.
pub(crate) fn unix(at: OffsetDateTime) -> UnixTime {
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
