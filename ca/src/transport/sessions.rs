//! Which TLS sessions are resumed: those of clients that have shown no certificate, while the serving certificate that they
//! have verified is the one in use.
//!
//! A session that is resumed brings back what its first handshake has found out, without verifying it again (RFC 8446
//! section 2.2). A client that has shown a certificate would so outlive its certificate, its revocation and its root: it is
//! given no ticket. One that has shown none proves who it is by a token in each request, and saves the CA a signature and
//! itself the verification of a chain. Whether a client shows one is known in the middle of its handshake, hence each
//! connection has a ticketer of its own. Tickets are sealed with a key that is never written anywhere, so that a CA which
//! starts again knows none of before; nothing is kept for a session here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::ProducesTickets;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::client_identity::ClientVerifier;

/// Seals and opens tickets under the serving certificate in use.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<Option<Epoch>>);

/// The time of one serving certificate. Whoever has verified another one verifies this one, too: with a root that is tainted
/// go the sessions of those who believed in it.
#[derive(Debug)]
struct Epoch {
    certificate: Arc<CertifiedKey>,
    tickets: Arc<dyn ProducesTickets>,
}

impl Sessions {
    /// The ticketer of one connection that is served with this certificate; its client gets a ticket unless `has_shown` is
    /// set. None when there is no randomness for a key.
    pub(super) fn under(
        &self,
        certificate: &Arc<CertifiedKey>,
        has_shown: &Arc<AtomicBool>,
    ) -> Option<Arc<dyn ProducesTickets>> {
        let mut epoch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lasting = epoch.as_ref().filter(|epoch| Arc::ptr_eq(&epoch.certificate, certificate));
        let tickets = match lasting {
            Some(epoch) => Arc::clone(&epoch.tickets),
            None => {
                // With keys that change every six hours, and tickets that are good for twelve.
                let tickets = rustls::crypto::ring::Ticketer::new().ok()?;
                *epoch = Some(Epoch { certificate: Arc::clone(certificate), tickets: Arc::clone(&tickets) });
                tickets
            }
        };
        Some(Arc::new(ForTokens { tickets, has_shown: Arc::clone(has_shown) }))
    }
}

/// Gives no ticket to a client that has shown a certificate.
#[derive(Debug)]
struct ForTokens {
    tickets: Arc<dyn ProducesTickets>,
    has_shown: Arc<AtomicBool>,
}

impl ProducesTickets for ForTokens {
    fn enabled(&self) -> bool {
        self.tickets.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.tickets.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        if self.has_shown.load(Ordering::Relaxed) { None } else { self.tickets.encrypt(plain) }
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.tickets.decrypt(cipher)
    }
}

/// Verifies the client of one connection, and notices that there was something to verify.
#[derive(Debug)]
pub(super) struct Noticing {
    pub(super) clients: Arc<ClientVerifier>,
    pub(super) has_shown: Arc<AtomicBool>,
}

impl ClientCertVerifier for Noticing {
    fn client_auth_mandatory(&self) -> bool {
        self.clients.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.has_shown.store(true, Ordering::Relaxed);
        self.clients.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.clients.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.clients.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.clients.supported_verify_schemes()
    }
}
