//! Serves SDS and inspection on the Unix socket until the agent stops.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use signet_proto::agent::v1alpha1::agent_inspection_server::AgentInspectionServer;
use signet_runtime::readiness::Condition;
use signet_sds::service::SdsService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::{Connected, UdsConnectInfo};

use crate::inspection::Inspection;
use crate::socket::unix::Socket;

/// The pause after a failed accept, which is mostly a lack of file descriptors and would otherwise spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Flow control windows in bytes. Requests are small; the library's own default of a megabyte is for uploads.
const WINDOW: u32 = 64 * 1024;

/// Serves until `stop` is cancelled and every stream has ended. `condition` is ready while the socket is served.
///
/// # Errors
/// What the server says, though it has no known reason to end by itself.
pub(crate) async fn serve(
    socket: Socket,
    sds: SdsService,
    inspection: Inspection,
    max_connections: usize,
    condition: Condition,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    condition.ready(format!("listening on {}", socket.path().display()));
    tracing::info!(socket = %socket.path().display(), "serving SDS");
    Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(u32::try_from(max_connections).ok())
        .add_service(sds.into_server())
        .add_service(AgentInspectionServer::new(inspection).max_decoding_message_size(1024))
        .serve_with_incoming_shutdown(connections(socket, max_connections), stop.cancelled_owned())
        .await
}

/// Connections as they come, at most `max` at a time; further ones wait in the kernel's queue.
fn connections(socket: Socket, max: usize) -> impl Stream<Item = io::Result<Connection>> {
    let slots = Arc::new(Semaphore::new(max));
    futures::stream::unfold((socket, slots), async |(socket, slots)| {
        let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
        let stream = loop {
            match socket.accept().await {
                Ok(stream) => break stream,
                Err(error) => {
                    tracing::warn!(error = %error, "cannot accept a connection on the SDS socket");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        Some((Ok(Connection { stream, _slot: slot }), (socket, slots)))
    })
}

/// A connection that gives its slot back when it ends.
struct Connection {
    stream: UnixStream,
    _slot: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
