//! TLS to a CA elsewhere. In TLS 1.3 a server judges its client's certificate after the client takes the handshake for done;
//! what it says then is kept here, since the gRPC library makes a new connection and forgets why the one before broke.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::{Request, Response, Uri};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::{BoxError, Service};

use super::admin_client::is_judgement;

/// The port of `https` without one.
const HTTPS: u16 = 443;

/// Connects to one CA.
#[derive(Clone)]
pub(super) struct TlsWay {
    connector: TlsConnector,
    name: ServerName<'static>,
    judgement: Judgement,
}

/// What the CA has said of the client's certificate, if anything.
type Judgement = Arc<Mutex<Option<Error>>>;

impl TlsWay {
    /// A way to the server of this name.
    pub(super) fn new(config: ClientConfig, name: ServerName<'static>) -> Self {
        Self { connector: TlsConnector::from(Arc::new(config)), name, judgement: Judgement::default() }
    }

    /// Connects. Whoever has been judged is not judged again: one certificate is shown once.
    pub(super) async fn connect(self, address: Uri) -> io::Result<Connection> {
        if let Some(error) = said(&self.judgement) {
            return Err(io::Error::other(error));
        }
        let host = address.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let tcp = TcpStream::connect((host, address.port_u16().unwrap_or(HTTPS))).await?;
        tcp.set_nodelay(true)?;
        let stream = self.connector.connect(self.name, tcp).await?;
        Ok(Connection { stream, judgement: self.judgement })
    }
}

/// Calls over a connection. One that is broken by what the CA said of the client's certificate says so: whichever call
/// the library was about to make is only told that there is no connection any more.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    channel: Channel,
    judgement: Judgement,
}

impl Calls {
    /// Over a channel that `way` has connected.
    pub(super) fn by(way: &TlsWay, channel: Channel) -> Self {
        Self { channel, judgement: Arc::clone(&way.judgement) }
    }
}

/// Over one whose other side does not judge by certificates.
impl From<Channel> for Calls {
    fn from(channel: Channel) -> Self {
        Self { channel, judgement: Judgement::default() }
    }
}

impl Service<Request<Body>> for Calls {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.channel.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (answer, judgement) = (self.channel.call(request), Arc::clone(&self.judgement));
        Box::pin(async move {
            answer.await.map_err(|error| match said(&judgement) {
                Some(judged) => io::Error::other(judged).into(),
                None => error.into(),
            })
        })
    }
}

fn said(judgement: &Judgement) -> Option<Error> {
    judgement.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// A connection that keeps what the server says of the client's certificate.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    judgement: Judgement,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Poll::Ready(Err(error)) = &read
            && let Some(error @ Error::AlertReceived(alert)) = error.get_ref().and_then(|error| error.downcast_ref())
            && is_judgement(*alert)
        {
            *self.judgement.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
