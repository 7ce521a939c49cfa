//! TLS on the certificate port: handshakes run beside each other, bounded in number and time, and each picks up the
//! newest serving certificate and the newest roots for clients that show a certificate.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use signet_core::clock::SharedClock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::client_identity::{ClientIdentity, ClientRefused, ClientVerifier, unix};
use crate::metrics::CaMetrics;
use crate::serving::ServingReader;

/// How long a client may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The pause after a failed accept, which is mostly a lack of file descriptors and would otherwise spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Picks the newest serving certificate for every handshake; open connections keep theirs.
#[derive(Debug)]
struct Newest(ServingReader);

impl ResolvesServerCert for Newest {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.borrow().as_ref().map(|serving| Arc::clone(&serving.certified))
    }
}

/// The clock of the CA as rustls asks it.
struct WallClock(SharedClock);

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

/// How long a client may take for its first bytes after the handshake: HTTP/2 clients send theirs at once
/// (RFC 9113 section 3.4), and one that stays silent must not hold its place for ever.
const FIRST_BYTES: Duration = Duration::from_secs(10);

/// Who is on the other end, as requests carry it in their extensions.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// The TCP connection.
    pub tcp: TcpConnectInfo,
    /// Who the client is, when it showed a certificate.
    pub identity: Option<Arc<ClientIdentity>>,
}

/// Who sent a request, when the client showed a certificate in its handshake.
#[must_use]
pub fn client_identity<T>(request: &Request<T>) -> Option<&ClientIdentity> {
    request.extensions().get::<ConnectionInfo>()?.identity.as_deref()
}

/// The same, to keep.
#[must_use]
pub(super) fn shown<T>(request: &Request<T>) -> Option<Arc<ClientIdentity>> {
    request.extensions().get::<ConnectionInfo>()?.identity.clone()
}

/// Where a request came from. [`Request::remote_addr`] knows tonic's own connections only.
#[must_use]
pub fn remote_addr<T>(request: &Request<T>) -> Option<SocketAddr> {
    request.extensions().get::<ConnectionInfo>()?.tcp.remote_addr()
}

/// A TLS connection that holds its place among the permitted ones.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    identity: Option<Arc<ClientIdentity>>,
    /// Runs until the first bytes have arrived.
    silence: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

struct Place {
    _permit: OwnedSemaphorePermit,
    metrics: Arc<CaMetrics>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}

impl Connected for Connection {
    type ConnectInfo = ConnectionInfo;
    fn connect_info(&self) -> ConnectionInfo {
        ConnectionInfo { tcp: self.stream.get_ref().0.connect_info(), identity: self.identity.clone() }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            self.silence = None;
        } else if let Some(silence) = &mut self.silence
            && silence.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

/// Accepts connections and hands over those whose handshake succeeded, until `stop`.
pub struct Acceptor {
    /// Where clients connect.
    pub listener: TcpListener,
    /// From [`server_config`].
    pub config: Arc<ServerConfig>,
    /// Connections open at the same time.
    pub connections: usize,
    /// Where finished handshakes go.
    pub ready: mpsc::Sender<io::Result<Connection>>,
    /// Measurements.
    pub metrics: Arc<CaMetrics>,
}

impl Acceptor {
    /// Runs until `stop`; handshakes that have begun are abandoned then.
    ///
    /// # Errors
    /// None: a failed accept or handshake costs nobody else anything.
    pub async fn run(self, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        let places = Arc::new(Semaphore::new(self.connections));
        let acceptor = TlsAcceptor::from(Arc::clone(&self.config));
        let mut handshakes = JoinSet::new();
        loop {
            let next = async {
                let permit = Arc::clone(&places).acquire_owned().await;
                (permit, self.listener.accept().await)
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Some(_) = handshakes.join_next() => {}
                (permit, accepted) = next => match (permit, accepted) {
                    (Ok(permit), Ok((stream, _))) => {
                        self.metrics.connections.inc();
                        let place = Place { _permit: permit, metrics: Arc::clone(&self.metrics) };
                        handshakes.spawn(handshake(acceptor.clone(), stream, place, self.ready.clone()));
                    }
                    (Ok(_), Err(error)) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                    (Err(_), _) => return Ok(()),
                },
            }
        }
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    place: Place,
    ready: mpsc::Sender<io::Result<Connection>>,
) {
    // Replies are one small write; waiting to fill a segment would only delay them.
    drop(stream.set_nodelay(true));
    let metrics = Arc::clone(&place.metrics);
    let done = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => identify(&stream).map(|identity| (stream, identity)).map_err(|error| error.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it took too long".to_owned()),
    };
    match done {
        Ok((stream, identity)) => {
            let silence = Some(Box::pin(tokio::time::sleep(FIRST_BYTES)));
            drop(ready.send(Ok(Connection { stream, identity, silence, _place: place })).await);
        }
        Err(error) => {
            metrics.handshake_failures.inc();
            tracing::debug!(error, "a TLS handshake failed");
        }
    }
}

fn identify(stream: &TlsStream<TcpStream>) -> Result<Option<Arc<ClientIdentity>>, ClientRefused> {
    let shown = stream.get_ref().1.peer_certificates();
    shown.map(|chain| ClientIdentity::of_verified(chain).map(Arc::new)).transpose()
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
