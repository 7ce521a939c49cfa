//! A way to a server: it counts what is sent to it, and can lead to another one, as a name does after a failover.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::failure::{Failure, Outcome};

/// The running way; it and its connections end when this is dropped. It has a thread of its own: a test may wait for a program
/// in the middle of its tasks.
pub struct Way {
    /// Where clients connect.
    pub address: SocketAddr,
    inner: Arc<Inner>,
    tasks: Option<Runtime>,
}

struct Inner {
    messages: AtomicU64,
    bytes: [AtomicU64; 2],
    server: Mutex<SocketAddr>,
}

impl Way {
    /// Opens a way to `server`.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub fn to(server: SocketAddr) -> Outcome<Self> {
        let tasks = Builder::new_multi_thread().worker_threads(1).enable_io().build();
        let tasks = tasks.map_err(Failure::io("start a thread"))?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(Failure::io("open a port"))?;
        let address = listener.local_addr().map_err(Failure::io("read a port"))?;
        listener.set_nonblocking(true).map_err(Failure::io("open a port"))?;
        let inner =
            Arc::new(Inner { messages: AtomicU64::new(0), bytes: Default::default(), server: Mutex::new(server) });
        let shared = Arc::clone(&inner);
        tasks.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let inner = Arc::clone(&shared);
                // Whoever ends first ends the connection.
                connections.spawn(async move { inner.relay(client).await.unwrap_or_default() });
            }
        });
        Ok(Self { address, inner, tasks: Some(tasks) })
    }

    /// Messages of clients up to now.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.inner.messages.load(Ordering::Relaxed)
    }

    /// Bytes that went to the server and came back up to now.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        let [there, back] = self.inner.bytes.each_ref().map(|bytes| bytes.load(Ordering::Relaxed));
        (there, back)
    }

    /// Leads new connections to another server; those that are open stay with theirs.
    pub fn lead_to(&self, server: SocketAddr) {
        *self.inner.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
    }
}

impl Inner {
    async fn relay(&self, client: TcpStream) -> std::io::Result<()> {
        let server = *self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let server = TcpStream::connect(server).await?;
        server.set_nodelay(true)?;
        client.set_nodelay(true)?;
        let ((mut asked, mut answer), (mut answered, mut ask)) = (client.into_split(), server.into_split());
        let [sent, received] = &self.bytes;
        let there = async {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let length = asked.read(&mut buffer).await?;
                if length == 0 {
                    return ask.shutdown().await;
                }
                ask.write_all(buffer.get(..length).unwrap_or_default()).await?;
                self.messages.fetch_add(1, Ordering::Relaxed);
                sent.fetch_add(length as u64, Ordering::Relaxed);
            }
        };
        let back = async {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let length = answered.read(&mut buffer).await?;
                if length == 0 {
                    return answer.shutdown().await;
                }
                answer.write_all(buffer.get(..length).unwrap_or_default()).await?;
                received.fetch_add(length as u64, Ordering::Relaxed);
            }
        };
        tokio::try_join!(there, back).map(drop)
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        if let Some(tasks) = self.tasks.take() {
            tasks.shutdown_background();
        }
    }
}
