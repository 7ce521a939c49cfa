//! Who is on the other end of the admin socket, by the kernel's word.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::server::Connected;
use tonic::{Request, Status};

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

/// Lets root and the CA's own user through.
///
/// # Errors
/// `PERMISSION_DENIED` for everybody else.
pub fn check<T>(request: &Request<T>, own: u32) -> Result<(), Status> {
    match request.extensions().get::<PeerUser>() {
        Some(PeerUser(Some(uid))) if *uid == 0 || *uid == own => Ok(()),
        _ => Err(Status::permission_denied("only root and the CA's own user may use this socket")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_own_user_get_through() {
        let from = |uid: Option<u32>| {
            let mut request = Request::new(());
            request.extensions_mut().insert(PeerUser(uid));
            check(&request, 1000).is_ok()
        };
        assert!(from(Some(0)) && from(Some(1000)));
        assert!(!from(Some(1001)) && !from(None));
        assert!(check(&Request::new(()), 1000).is_err());
    }
}
