//! TLS on the certificate port: each handshake picks up the newest serving certificate, and the newest roots for clients
//! that show a certificate.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use signet_core::clock::SharedClock;

use crate::client_identity::{ClientVerifier, unix};
use crate::serving_certificate::ServingReader;

/// Picks the newest serving certificate for every handshake; open connections keep theirs.
#[derive(Debug)]
struct Newest(ServingReader);

impl ResolvesServerCert for Newest {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.borrow().as_ref().map(|serving| Arc::clone(&serving.certified))
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

/// TLS 1.2 and 1.3 with ALPN `h2`. Clients may show a certificate, which `clients` then verifies; one that it refuses
/// ends the handshake. Those without one prove who they are by a token.
///
/// # Errors
/// [`rustls::Error`] when the provider lacks a protocol version, which is a bug.
pub fn server_config(
    serving: ServingReader,
    clients: Arc<ClientVerifier>,
    clock: SharedClock,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    config_for(Arc::new(Newest(serving)), clients, clock)
}

/// The same with any serving certificate.
pub(crate) fn config_for(
    certificate: Arc<dyn ResolvesServerCert>,
    clients: Arc<ClientVerifier>,
    clock: SharedClock,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(WallClock(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session brings back the client's certificate without verifying it again, so that a client would outlive
    // its certificate, its revocation and its root. Whether a client has a certificate is not known before the session
    // is resumed, hence none is, which costs a signature per connection and connections are few.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
