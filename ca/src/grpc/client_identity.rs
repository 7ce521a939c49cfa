//! Client certificates on the certificate port: asked for, never required, and judged by the trust bundle and the
//! revocations of this moment. What a client may do with its identity is decided elsewhere.

use std::collections::HashSet;
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
use signet_core::rotation::{AuthorityId, RevocationList, RootAuthority};
use time::OffsetDateTime;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

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

/// What one bundle says about clients, ready to verify with.
struct Known {
    sequence: u64,
    /// Roots that prove nothing: whoever has such a key makes any certificate.
    tainted: Vec<AuthorityId>,
    /// With every root. A holder under a compromised one must still hear of its successor.
    webpki: Option<Arc<dyn ClientCertVerifier>>,
    /// With the sound ones only; nothing when all roots are tainted.
    sound: Option<Arc<dyn ClientCertVerifier>>,
    /// Subject and id of every root.
    roots: Vec<(Vec<u8>, AuthorityId)>,
    /// Issuer and serial number of whatever a revocation list names.
    listed: HashSet<(AuthorityId, Vec<u8>)>,
}

impl Known {
    fn is_of(&self, state: &SigningState) -> bool {
        self.sequence == state.bundle().sequence() && tainted(state).eq(&self.tainted)
    }
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

    /// Checks a chain: signatures, validity and client usage up to a root of the newest bundle, then what makes the leaf an X.509-SVID of a workload of the trust domain, then
    /// revocation.
    ///
    /// # Errors
    /// [`ClientRefused`].
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<SpiffeId, ClientRefused> {
        self.judge(leaf, intermediates, now, false)
    }

    /// With `sound`, whoever chains to a compromised root proves nothing.
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        sound: bool,
    ) -> Result<SpiffeId, ClientRefused> {
        let state = state::current(&self.state).ok_or(ClientRefused::NotReady)?;
        let known = self.known(&state)?;
        let webpki = if sound { &known.sound } else { &known.webpki };
        let webpki = webpki.as_ref().ok_or(ClientRefused::NoRoot)?;
        webpki.verify_client_cert(leaf, intermediates, now).map_err(ClientRefused::Chain)?;
        let read = |der: &CertificateDer<'_>| Facts::read(der).map_err(|_| ClientRefused::Unreadable);
        let leaf = read(leaf)?;
        let spiffe_id = check_profile(&leaf)?;
        if !spiffe_id.is_member_of(&self.trust_domain) {
            return Err(ClientRefused::Foreign);
        }
        let sent: Vec<Facts> =
            std::iter::once(Ok(leaf)).chain(intermediates.iter().map(read)).collect::<Result<_, _>>()?;
        check_standing(&state, &known, &sent, sound)?;
        Ok(spiffe_id)
    }

    /// Whether an identity that was proved when its connection began still holds: connections outlive certificates,
    /// roots and revocations, so a decision that matters asks again.
    ///
    /// # Errors
    /// [`ClientRefused`].
    pub fn still_holds(&self, identity: &ClientIdentity, now: OffsetDateTime) -> Result<(), ClientRefused> {
        let (leaf, intermediates) = identity.chain.split_first().ok_or(ClientRefused::Unreadable)?;
        self.judge(leaf, intermediates, unix(now), false).map(drop)
    }

    /// The same for powers over the CA, which nobody gets by a certificate that chains to a compromised root.
    ///
    /// # Errors
    /// [`ClientRefused`].
    pub fn check_again(&self, identity: &ClientIdentity, now: OffsetDateTime) -> Result<(), ClientRefused> {
        let (leaf, intermediates) = identity.chain.split_first().ok_or(ClientRefused::Unreadable)?;
        self.judge(leaf, intermediates, unix(now), true).map(drop)
    }

    /// Built anew only when the sequence has changed, which it does with every change of the roots and of the lists, or
    /// what is compromised, which changes neither.
    fn known(&self, state: &SigningState) -> Result<Arc<Known>, ClientRefused> {
        if let Some(known) = self.known.load_full().filter(|known| known.is_of(state)) {
            return Ok(known);
        }
        let sequence = state.bundle().sequence();
        let all = &state.authorities.roots;
        let sound = all.iter().filter(|root| root.tainted_at.is_none());
        let named =
            |der| Facts::read(der).ok().map(|facts| (facts.subject_der, AuthorityId::from_spki(&facts.spki_der)));
        let known = Arc::new(Known {
            sequence,
            tainted: tainted(state).cloned().collect(),
            webpki: self.webpki(all.iter())?,
            sound: self.webpki(sound)?,
            roots: all.iter().filter_map(|root| named(&root.certificate)).collect(),
            listed: state.authorities.revocations.lists.iter().flat_map(entries).collect(),
        });
        self.known.store(Some(Arc::clone(&known)));
        Ok(known)
    }
}

impl ClientVerifier {
    /// What verifies with these roots; nothing when there is none.
    fn webpki<'r>(
        &self,
        roots: impl Iterator<Item = &'r RootAuthority>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, ClientRefused> {
        let mut store = RootCertStore::empty();
        // A root that webpki cannot read must not take the others with it.
        let (_, unreadable) = store.add_parsable_certificates(roots.map(|root| root.certificate.clone()));
        if unreadable > 0 {
            tracing::warn!(unreadable, "roots of the trust bundle cannot verify clients");
        }
        if store.is_empty() {
            return Ok(None);
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::clone(&self.provider));
        Ok(Some(builder.allow_unauthenticated().build().map_err(|_| ClientRefused::NotReady)?))
    }
}

fn tainted(state: &SigningState) -> impl Iterator<Item = &AuthorityId> {
    state.authorities.roots.iter().filter(|root| root.tainted_at.is_some()).map(|root| &root.id)
}

/// What a list names, whoever made it: an operator's own lists know what the journal does not. Their signatures were
/// verified when they came into the journal.
fn entries(list: &RevocationList) -> Vec<(AuthorityId, Vec<u8>)> {
    let Ok((_, parsed)) = CertificateRevocationList::from_der(&list.der) else {
        tracing::warn!(authority.id = list.issuer.as_str(), "a revocation list is unreadable and revokes no client");
        return Vec::new();
    };
    let serial = |raw: &[u8]| raw.iter().copied().skip_while(|byte| *byte == 0).collect();
    parsed.iter_revoked_certificates().map(|one| (list.issuer.clone(), serial(one.raw_serial()))).collect()
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

/// Refuses when any certificate that the client sent is revoked, or is one for the key of a compromised root, by which
/// another root may vouch for it. Whatever path was built is made of them, so none with such a member gets through. The
/// journal's entries count beside the lists, which may be a moment behind.
fn check_standing(state: &SigningState, known: &Known, sent: &[Facts], sound: bool) -> Result<(), ClientRefused> {
    let sent: Vec<(&Facts, AuthorityId)> =
        sent.iter().map(|facts| (facts, AuthorityId::from_spki(&facts.spki_der))).collect();
    if sound && sent.iter().any(|(_, id)| known.tainted.contains(id)) {
        return Err(ClientRefused::Compromised);
    }
    let entries = &state.authorities.revocations.entries;
    // Serials are unique per issuer only (RFC 5280 section 4.1.2.2), and an operator's own CAs often count from one.
    let is_revoked = |(facts, _): &(&Facts, AuthorityId)| {
        let serial = facts.serial_text();
        let sent = sent.iter().map(|(facts, id)| (&facts.subject_der, id));
        let all = sent.chain(known.roots.iter().map(|(subject, id)| (subject, id)));
        let mut issuers = all.filter(|(subject, _)| **subject == facts.issuer_der).map(|(_, id)| id);
        issuers.any(|issuer| {
            entries.iter().any(|entry| entry.serial == serial && entry.issuer == *issuer)
                || known.listed.contains(&(issuer.clone(), facts.serial.clone()))
        })
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
