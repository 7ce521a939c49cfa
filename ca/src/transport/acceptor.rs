//! Accepts connections and shakes hands: beside each other, bounded in number and time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected as _;

use super::connection::Connection;
use super::connections::{Connections, NotLetIn, Place};
use super::proxy_protocol;
use super::tls::Handshakes;
use crate::client_address::Source;
use crate::client_identity::{ClientFault, ClientIdentity, ClientRefused};
use crate::metrics::CaMetrics;
use crate::over_limit::Limit;

/// How long a client may take for its handshake, with what a load balancer says before it.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a client may take to read why its certificate is refused, and how many reads of what it sent meanwhile.
const LINGER: Duration = Duration::from_secs(1);
const MOST_UNREAD: usize = 64;

/// The pause after a failed accept, which is mostly a lack of file descriptors and would otherwise spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections of load balancers whose PROXY header has not arrived. They send it at once.
const AWAITED_HEADERS: usize = 256;

/// Accepts connections and hands over those whose handshake succeeded, until `stop`.
pub struct Acceptor {
    /// Where clients connect.
    pub listener: TcpListener,
    /// What handshakes are made with.
    pub handshakes: Handshakes,
    /// The places.
    pub connections: Connections,
    /// Load balancers that say by the PROXY protocol where their connections come from.
    pub proxies: Vec<IpNet>,
    /// Where finished handshakes go.
    pub ready: mpsc::Sender<io::Result<Connection<TlsStream<TcpStream>>>>,
    /// Measurements.
    pub metrics: Arc<CaMetrics>,
}

impl Acceptor {
    /// Runs until `stop`; handshakes that have begun are abandoned then.
    ///
    /// # Errors
    /// None: a failed accept or handshake costs nobody else anything.
    pub async fn run(self, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        let (mut headers, mut handshakes) = (JoinSet::new(), JoinSet::new());
        loop {
            let (stream, from) = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Some(_) = handshakes.join_next() => continue,
                Some(read) = headers.join_next() => match read {
                    Ok(Some(accepted)) => accepted,
                    _ => continue,
                },
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, from)) if self.is_proxy(from) => {
                        if headers.len() < AWAITED_HEADERS {
                            headers.spawn(self.read_proxy_header(stream, from));
                        }
                        continue;
                    }
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            let Some(place) = stop.run_until_cancelled(self.enter(from)).await else { return Ok(()) };
            if let Some(place) = place {
                let handshake = Handshake { stream, from, place, metrics: Arc::clone(&self.metrics) };
                handshakes.spawn(handshake.run(self.handshakes.acceptor(), self.ready.clone()));
            }
        }
    }

    fn is_proxy(&self, from: SocketAddr) -> bool {
        let address = from.ip().to_canonical();
        self.proxies.iter().any(|network| network.contains(&address))
    }

    /// The same connection with the address that its load balancer tells.
    fn read_proxy_header(
        &self,
        mut stream: TcpStream,
        proxy: SocketAddr,
    ) -> impl Future<Output = Option<(TcpStream, SocketAddr)>> + use<> {
        let turned_away = Arc::clone(self.connections.turned_away());
        async move {
            match tokio::time::timeout(HANDSHAKE, proxy_protocol::read(&mut stream)).await {
                Ok(Ok(client)) => Some((stream, client.unwrap_or(proxy))),
                Ok(Err(error)) => {
                    tracing::debug!(%error, %proxy, "a connection of a load balancer was closed");
                    None
                }
                Err(_) => {
                    turned_away.note(Limit::HandshakeTime);
                    None
                }
            }
        }
    }

    /// A place for a connection, waited for if need be; none when it is to be closed.
    async fn enter(&self, from: SocketAddr) -> Option<Arc<Place>> {
        if self.connections.are_leaving() {
            // One in, one out: a flood would use up the open files before those who gave way are closed.
            drop(tokio::time::timeout(ACCEPT_PAUSE, self.connections.freed()).await);
        }
        loop {
            match self.connections.enter(Source::from(from.ip())) {
                Ok(place) => return Some(place),
                Err(NotLetIn::Handshakes) => return None,
                Err(NotLetIn::Full) => self.connections.freed().await,
            }
        }
    }
}

/// A connection before its handshake is done.
pub(crate) struct Handshake {
    pub(crate) stream: TcpStream,
    pub(crate) from: SocketAddr,
    pub(crate) place: Arc<Place>,
    pub(crate) metrics: Arc<CaMetrics>,
}

impl Handshake {
    pub(crate) async fn run(
        self,
        acceptor: TlsAcceptor,
        ready: mpsc::Sender<io::Result<Connection<TlsStream<TcpStream>>>>,
    ) {
        let Self { stream, from, place, metrics } = self;
        // Replies are one small write; waiting to fill a segment would only delay them.
        drop(stream.set_nodelay(true));
        let mut tcp = stream.connect_info();
        tcp.remote_addr = Some(from);
        let mut gave_way = std::future::poll_fn(|cx| {
            if place.is_closing(cx.waker()) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        });
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream).into_fallible()) => shaken,
            () = &mut gave_way => return,
        };
        let mut refused = None;
        let done = match shaken {
            Ok(Ok(stream)) => identify(&stream).map(|identity| (stream, identity)).map_err(|refused| {
                let error = refused.into();
                (ClientFault::explain(&error), ClientFault::of(&error))
            }),
            Ok(Err((error, stream))) => {
                refused = Some(stream);
                let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
                let text = cause.map_or_else(|| error.to_string(), ClientFault::explain);
                Err((text, cause.and_then(ClientFault::of)))
            }
            Err(_) => {
                place.note(Limit::HandshakeTime);
                Err(("it took too long".to_owned(), None))
            }
        };
        match done {
            Ok((stream, identity)) => {
                if let Some(identity) = &identity {
                    place.prove(identity.spiffe_id.as_str());
                }
                drop(ready.send(Ok(Connection::new(stream, tcp, identity, place))).await);
            }
            Err((error, fault)) => {
                metrics.handshake_failures.inc();
                if let Some(fault) = fault {
                    metrics.refused_clients.note(fault, from, &error);
                }
                tracing::debug!(error, "a TLS handshake failed");
                if let Some(stream) = refused.filter(|_| fault.is_some()) {
                    tokio::select! {
                        () = linger(stream) => {}
                        () = &mut gave_way => {}
                    }
                }
            }
        }
    }
}

/// Waits a moment for the client to read why its certificate is refused. It takes the handshake for done and has sent its
/// request: a connection that is closed with that unread is reset, and what was said before is lost (RFC 1122 section
/// 4.2.2.13).
async fn linger(mut stream: TcpStream) {
    let mut unread = [0; 4096];
    let reading = async {
        // Fails when the client is gone already.
        if stream.shutdown().await.is_err() {
            return;
        }
        for _ in 0..MOST_UNREAD {
            if !matches!(stream.read(&mut unread).await, Ok(1..)) {
                return;
            }
        }
    };
    // Who takes longer has had the time to read.
    drop(tokio::time::timeout(LINGER, reading).await);
}

fn identify(stream: &TlsStream<TcpStream>) -> Result<Option<Arc<ClientIdentity>>, ClientRefused> {
    let shown = stream.get_ref().1.peer_certificates();
    shown.map(|chain| ClientIdentity::of_verified(chain).map(Arc::new)).transpose()
}
