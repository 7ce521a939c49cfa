//! Accepts connections and shakes hands: beside each other, bounded in number and time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rustls::ServerConfig;
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
use crate::client_address::Source;
use crate::client_identity::{ClientFault, ClientIdentity, ClientRefused};
use crate::metrics::CaMetrics;
use crate::over_limit::Limit;

/// How long a client may take for its handshake, with what a load balancer says before it.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The pause after a failed accept, which is mostly a lack of file descriptors and would otherwise spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections of load balancers whose PROXY header has not arrived. They send it at once.
const AWAITED_HEADERS: usize = 256;

/// Accepts connections and hands over those whose handshake succeeded, until `stop`.
pub struct Acceptor {
    /// Where clients connect.
    pub listener: TcpListener,
    /// From [`server_config`](super::tls::server_config).
    pub config: Arc<ServerConfig>,
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
                handshakes.spawn(handshake.run(TlsAcceptor::from(Arc::clone(&self.config)), self.ready.clone()));
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
        let gave_way = std::future::poll_fn(|cx| {
            if place.is_closing(cx.waker()) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        });
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)) => shaken,
            () = gave_way => return,
        };
        let done = match shaken {
            Ok(Ok(stream)) => identify(&stream).map(|identity| (stream, identity)).map_err(|refused| {
                let text = refused.to_string();
                (text, ClientFault::of(&refused.into()))
            }),
            Ok(Err(error)) => Err((error.to_string(), fault(&error))),
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
            }
        }
    }
}

/// What is wrong with the client's certificate, when that is why a handshake failed.
fn fault(error: &io::Error) -> Option<ClientFault> {
    ClientFault::of(error.get_ref()?.downcast_ref()?)
}

fn identify(stream: &TlsStream<TcpStream>) -> Result<Option<Arc<ClientIdentity>>, ClientRefused> {
    let shown = stream.get_ref().1.peer_certificates();
    shown.map(|chain| ClientIdentity::of_verified(chain).map(Arc::new)).transpose()
}
