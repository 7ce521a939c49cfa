//! TLS on the certificate port: each handshake picks up the newest serving certificate, and the newest roots for clients
//! that show a certificate.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WantsServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{CipherSuite, ConfigBuilder, ServerConfig, SupportedCipherSuite, WantsVerifier};
use rustls_pki_types::UnixTime;
use signet_core::clock::SharedClock;
use tokio_rustls::TlsAcceptor;

use super::sessions::{Noticing, Sessions};
use crate::client_identity::{ClientVerifier, unix};
use crate::serving_certificate::ServingReader;

/// The certificate of one handshake.
#[derive(Debug)]
struct Chosen(Option<Arc<CertifiedKey>>);

impl ResolvesServerCert for Chosen {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
}

/// The clock of the CA as rustls asks it.
pub(crate) struct WallClock(pub(crate) SharedClock);

impl std::fmt::Debug for WallClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WallClock")
    }
}

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix(self.0.now()))
    }
}

/// Where the newest serving certificate is found.
type Newest = Box<dyn Fn() -> Option<Arc<CertifiedKey>> + Send + Sync>;

/// What handshakes on the certificate port are made with: TLS 1.2 and 1.3 with ALPN `h2`. Clients may show a certificate,
/// which is verified then; one that is refused ends the handshake. Those without one prove who they are by a token.
pub struct Handshakes {
    builder: ConfigBuilder<ServerConfig, WantsVerifier>,
    newest: Newest,
    clients: Arc<ClientVerifier>,
    sessions: Sessions,
}

impl Handshakes {
    /// With the certificate that `serving` has at the time of each.
    ///
    /// # Errors
    /// [`rustls::Error`] when the provider lacks a protocol version, which is a bug.
    pub fn new(
        serving: ServingReader,
        clients: Arc<ClientVerifier>,
        clock: SharedClock,
    ) -> Result<Self, rustls::Error> {
        let newest = move || serving.borrow().as_ref().map(|serving| Arc::clone(&serving.certified));
        Self::with(Box::new(newest), clients, clock)
    }

    /// The same with any serving certificate.
    pub(crate) fn with(
        newest: Newest,
        clients: Arc<ClientVerifier>,
        clock: SharedClock,
    ) -> Result<Self, rustls::Error> {
        let builder = ServerConfig::builder_with_details(Arc::new(provider()), Arc::new(WallClock(clock)))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
        Ok(Self { builder, newest, clients, sessions: Sessions::default() })
    }

    /// What accepts the next connection, and that one only: what it learns of the client decides whether that gets a
    /// ticket.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        let certificate = (self.newest)();
        let has_shown = Arc::new(AtomicBool::new(false));
        let tickets = certificate.as_ref().and_then(|certificate| self.sessions.under(certificate, &has_shown));
        let clients = Noticing { clients: Arc::clone(&self.clients), has_shown };
        let builder: ConfigBuilder<ServerConfig, WantsServerCert> =
            self.builder.clone().with_client_cert_verifier(Arc::new(clients));
        let mut config = builder.with_cert_resolver(Arc::new(Chosen(certificate)));
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.ignore_client_order = true;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // One is enough for the next connection, which brings another one.
        config.send_tls13_tickets = tickets.is_some().into();
        if let Some(tickets) = tickets {
            config.ticketer = tickets;
        }
        TlsAcceptor::from(Arc::new(config))
    }
}

/// With the suites that are made of SHA-256 and AES-128 first: P-256 is no stronger (NIST SP 800-57 part 1 table 2), and for SHA-384
/// processors have no instructions that the library uses.
fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    let is_quick = |suite: &SupportedCipherSuite| {
        let suite = suite.suite();
        suite == CipherSuite::TLS13_AES_128_GCM_SHA256
            || suite == CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            || suite == CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    };
    provider.cipher_suites.sort_by_key(|suite| !is_quick(suite));
    provider
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
