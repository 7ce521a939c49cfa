//! Client certificates on the certificate port: asked for, never required, and judged by the trust bundle and the
//! revocations of this moment. What a client may do with its identity is decided elsewhere.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use signet_core::certificate::Facts;
use signet_core::clock::Clock;
use signet_core::identity::{SpiffeId, TrustDomain};
use time::OffsetDateTime;

use super::identity::{ClientIdentity, check_profile};
use super::refused::ClientRefused;
use super::verdicts::{ChainHash, Trust, Verdicts};
use crate::signing_state::{self, StateReader};

/// Verifies client certificates with the newest trust bundle of the running CA.
pub struct ClientVerifier {
    trust_domain: TrustDomain,
    state: StateReader,
    provider: Arc<CryptoProvider>,
    verdicts: Verdicts,
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
        let verdicts = Verdicts::new(Arc::clone(&provider));
        Self { trust_domain, state, provider, verdicts }
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
        let state = signing_state::current(&self.state).ok_or(ClientRefused::NotReady)?;
        let roster = self.verdicts.of(&state)?;
        if let Some(verdict) = self.verdicts.found(hash, trust, &roster.anchors, now) {
            roster.check_revoked(&verdict)?;
            return Ok(verdict.spiffe_id.clone());
        }
        let webpki = roster.anchors.verifier(trust)?;
        let verified = webpki.verify_client_cert(leaf, intermediates, now);
        verified.map_err(|error| roster.anchors.refused(leaf, intermediates, error))?;
        let read = |der: &CertificateDer<'_>| Facts::read(der).map_err(|_| ClientRefused::Unreadable);
        let leaf = read(leaf)?;
        let spiffe_id = check_profile(&leaf)?;
        if !spiffe_id.is_member_of(&self.trust_domain) {
            return Err(ClientRefused::Foreign);
        }
        let sent: Vec<Facts> =
            std::iter::once(Ok(leaf)).chain(intermediates.iter().map(read)).collect::<Result<_, _>>()?;
        let verdict = Arc::new(roster.anchors.verdict(spiffe_id.clone(), &sent, trust)?);
        roster.check_revoked(&verdict)?;
        self.verdicts.remember(hash, trust, &roster.anchors, verdict);
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

/// A time as rustls has it.
pub(crate) fn unix(at: OffsetDateTime) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at.unix_timestamp()).unwrap_or_default()))
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;
