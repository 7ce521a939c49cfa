//! One TLS connection: it holds its place, and ends when it has to give way, when what it has begun does not end, when it
//! proves nothing and asks for nothing, and when it sends frames that are of no use. What leaves through it is seen here.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tonic::Request;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::connections::Place;
use super::frames::Frames;
use super::gathered::Gathered;
use super::outgoing::Outgoing;
use super::replies::Replies;
use crate::client_identity::ClientIdentity;
use crate::over_limit::Limit;

/// How long the client's first bytes, a frame, or the headers of a request may take from the first byte to the last.
const HEADER_TIME: Duration = Duration::from_secs(10);

/// How long a connection that has proved nothing may go without a request. Those that have may be idle for hours, as
/// istio-agent's and ztunnel's are.
const IDLE: Duration = Duration::from_secs(30);

/// Who is on the other end, as requests carry it in their extensions.
#[derive(Clone)]
pub struct ConnectionInfo {
    /// The TCP connection. Behind a load balancer that speaks the PROXY protocol, with the client's address.
    pub tcp: TcpConnectInfo,
    /// Who the client is, when it showed a certificate.
    pub identity: Option<Arc<ClientIdentity>>,
    /// Its place among the connections; none in tests of what does not need one.
    pub place: Option<Arc<Place>>,
    /// Where its replies are seen off; none in tests of what does not need that.
    pub replies: Option<Arc<Replies>>,
}

/// Who sent a request, when the client showed a certificate in its handshake.
#[must_use]
pub fn client_identity<T>(request: &Request<T>) -> Option<&ClientIdentity> {
    request.extensions().get::<ConnectionInfo>()?.identity.as_deref()
}

/// The same, to keep.
#[must_use]
pub fn shown<T>(request: &Request<T>) -> Option<Arc<ClientIdentity>> {
    request.extensions().get::<ConnectionInfo>()?.identity.clone()
}

/// The place of the connection that a request came over.
#[must_use]
pub fn place<T>(request: &Request<T>) -> Option<Arc<Place>> {
    request.extensions().get::<ConnectionInfo>()?.place.clone()
}

/// Where a request came from. [`Request::remote_addr`] knows tonic's own connections only.
#[must_use]
pub fn remote_addr<T>(request: &Request<T>) -> Option<SocketAddr> {
    request.extensions().get::<ConnectionInfo>()?.tcp.remote_addr()
}

/// A connection after its handshake, over any stream of bytes.
pub struct Connection<S> {
    stream: Gathered<S>,
    tcp: TcpConnectInfo,
    identity: Option<Arc<ClientIdentity>>,
    place: Arc<Place>,
    frames: Frames,
    outgoing: Outgoing,
    replies: Arc<Replies>,
    /// Rings at the next deadline or before it: setting it anew for each frame would cost more than ringing in vain.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Connection<S> {
    /// Puts a bound around `stream`, which holds `place`.
    pub fn new(stream: S, tcp: TcpConnectInfo, identity: Option<Arc<ClientIdentity>>, place: Arc<Place>) -> Self {
        // The handshake was the first thing that it did.
        place.asked();
        let (frames, outgoing, replies) = (Frames::new(), Outgoing::default(), Arc::default());
        Self { stream: Gathered::new(stream), tcp, identity, place, frames, outgoing, replies, timer: None }
    }

    /// When the connection ends unless something happens before, and by which limit.
    fn deadline(&self) -> Option<(Instant, Limit)> {
        if let Some(begun) = self.frames.within() {
            return Some((begun + HEADER_TIME, Limit::HeaderTime));
        }
        (!self.place.is_proved()).then(|| (self.place.asked_at() + IDLE, Limit::Idle))
    }

    /// Called whenever there is nothing to read or no room to write.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.place.is_closing(cx.waker()) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        loop {
            let Some((at, limit)) = self.deadline() else { return Ok(()) };
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if timer.deadline() > at {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            if Instant::now() >= at {
                self.place.note(limit);
                return Err(io::ErrorKind::TimedOut.into());
            }
            timer.as_mut().reset(at);
        }
    }

    /// Sees off what was written of `bufs`.
    fn follow<'a>(&mut self, written: &Poll<io::Result<usize>>, bufs: impl IntoIterator<Item = &'a [u8]>) {
        let mut left = match written {
            Poll::Ready(Ok(written)) => *written,
            // Nobody knows how much of it has left. It is not flushed any more, so nothing of it counts as received.
            Poll::Ready(Err(_)) => usize::MAX,
            Poll::Pending => return,
        };
        for buf in bufs {
            let now = buf.get(..left).unwrap_or(buf);
            left = left.saturating_sub(now.len());
            self.outgoing.written(now, &self.replies);
        }
    }

    fn checked<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_pending() {
            self.check(cx)?;
        }
        done
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        self.outgoing.close(&self.replies);
    }
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = ConnectionInfo;
    fn connect_info(&self) -> ConnectionInfo {
        let (tcp, identity) = (self.tcp.clone(), self.identity.clone());
        let (place, replies) = (Some(Arc::clone(&self.place)), Some(Arc::clone(&self.replies)));
        ConnectionInfo { tcp, identity, place, replies }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() && self.frames.read(buf.filled().get(before..).unwrap_or_default()).is_err() {
            self.place.note(Limit::ControlFrames);
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        self.checked(cx, read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.follow(&written, [buf]);
        self.checked(cx, written)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if let Poll::Ready(Ok(())) = flushed {
            let Self { outgoing, replies, .. } = &mut *self;
            outgoing.flushed(replies);
        }
        self.checked(cx, flushed)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.checked(cx, shut)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.follow(&written, bufs.iter().map(|buf| &**buf));
        self.checked(cx, written)
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
