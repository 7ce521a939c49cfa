//! The operators' Unix socket: the file, and who is on the other end of it by the kernel's word.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::server::Connected;

/// The socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("admin: cannot listen on {path}: {cause}")]
pub struct AdminSocketError {
    /// The socket.
    path: PathBuf,
    /// What is wrong, and what to do.
    cause: String,
}

/// Listens on the admin socket with mode 0600. A socket left over by a crash is replaced, one in use is not.
///
/// # Errors
/// [`AdminSocketError`].
pub fn bind(path: &Path) -> Result<(UnixListener, SocketFile), AdminSocketError> {
    let failed = |cause: String| AdminSocketError { path: path.to_owned(), cause };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| failed(error.to_string()))?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(failed("something that is not a socket is there; remove it".to_owned()));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(failed("another process answers there; stop it or choose another path".to_owned()));
        }
        Ok(_) => std::fs::remove_file(path).map_err(|error| failed(error.to_string()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error.to_string())),
    }
    let listener = UnixListener::bind(path).map_err(|error| failed(error.to_string()))?;
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, private).map_err(|error| failed(error.to_string()))?;
    let made = std::fs::symlink_metadata(path).map_err(|error| failed(error.to_string()))?;
    Ok((listener, SocketFile { path: path.to_owned(), identity: (made.dev(), made.ino()) }))
}

/// Removes the socket at the end, unless a successor has put its own in the place.
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let still_ours =
            std::fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if still_ours {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

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
