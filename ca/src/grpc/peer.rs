//! Who is on the other end of the admin socket, by the kernel's word.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::server::Connected;

/// The user id of a peer.
#[derive(Debug, Clone, Copy)]
pub struct PeerUser(pub Option<u32>);

/// A connection on the admin socket.
pub struct AdminConnection(UnixStream);

impl Connected for AdminConnection {
    type ConnectInfo = PeerUser;
    fn connect_info(&self) -> PeerUser {
        PeerUser(self.0.peer_cred().ok().map(|credentials| credentials.uid()))
    }
}

impl AsyncRead for AdminConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for AdminConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Connections as they arrive.
pub fn incoming(listener: UnixListener) -> impl tokio_stream::Stream<Item = io::Result<AdminConnection>> {
    use tokio_stream::StreamExt;
    tokio_stream::wrappers::UnixListenerStream::new(listener).map(|stream| stream.map(AdminConnection))
}
