//! TLS on the certificate port: handshakes run beside each other, bounded in number and time, and each picks up the
//! newest serving certificate.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo};

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

/// TLS 1.2 and 1.3 with ALPN `h2`. Clients need no certificate: their token proves who they are.
///
/// # Errors
/// [`rustls::Error`] when the provider lacks a protocol version, which is a bug.
pub fn server_config(serving: ServingReader) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Newest(serving)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// How long a client may take for its first bytes after the handshake: HTTP/2 clients send theirs at once
/// (RFC 9113 section 3.4), and one that stays silent must not hold its place for ever.
const FIRST_BYTES: Duration = Duration::from_secs(10);

/// A TLS connection that holds its place among the permitted ones.
pub struct Connection {
    stream: TlsStream<TcpStream>,
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
    type ConnectInfo = TcpConnectInfo;
    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.get_ref().0.connect_info()
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
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let silence = Some(Box::pin(tokio::time::sleep(FIRST_BYTES)));
            drop(ready.send(Ok(Connection { stream, silence, _place: place })).await);
        }
        Ok(Err(error)) => {
            metrics.handshake_failures.inc();
            tracing::debug!(%error, "a TLS handshake failed");
        }
        Err(_) => {
            metrics.handshake_failures.inc();
            tracing::debug!("a TLS handshake took too long");
        }
    }
}
