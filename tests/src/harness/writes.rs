//! How far a storage has been written, as far as that is seen from outside: moments to be killed at.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::Dev;
use super::database::{Store, shared};
use crate::failure::{Failure, Outcome};

/// Something that changes with each write.
pub enum Writes {
    /// The size of SQLite's `-wal`.
    File(PathBuf),
    /// The messages to the server.
    Messages(Way),
}

impl Writes {
    /// A number that is another one after a write.
    #[must_use]
    pub fn count(&self) -> u64 {
        match self {
            Self::File(file) => std::fs::metadata(file).map_or(0, |found| found.len()),
            Self::Messages(way) => way.messages.load(Ordering::Relaxed),
        }
    }
}

/// A way to a server that counts what is sent to it. It has a thread of its own: a test may wait for a program in the middle
/// of its tasks.
pub struct Way {
    messages: Arc<AtomicU64>,
    tasks: Option<Runtime>,
}

impl Way {
    /// Opens a way to `server`; gives it and its address.
    fn to(server: SocketAddr) -> Outcome<(Self, SocketAddr)> {
        let tasks = Builder::new_multi_thread().worker_threads(1).enable_io().build();
        let tasks = tasks.map_err(Failure::io("start a thread"))?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(Failure::io("open a port"))?;
        let address = listener.local_addr().map_err(Failure::io("read a port"))?;
        listener.set_nonblocking(true).map_err(Failure::io("open a port"))?;
        let messages = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&messages);
        tasks.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let count = Arc::clone(&count);
                // Whoever ends first ends the connection.
                connections.spawn(async move { relay(client, server, &count).await.unwrap_or_default() });
            }
        });
        Ok((Self { messages, tasks: Some(tasks) }, address))
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        if let Some(tasks) = self.tasks.take() {
            tasks.shutdown_background();
        }
    }
}

async fn relay(client: TcpStream, server: SocketAddr, count: &AtomicU64) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let ((mut asked, mut answer), (mut answered, mut ask)) = (client.into_split(), server.into_split());
    let there = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = asked.read(&mut buffer).await?;
            if length == 0 {
                return ask.shutdown().await;
            }
            ask.write_all(buffer.get(..length).unwrap_or_default()).await?;
            count.fetch_add(1, Ordering::Relaxed);
        }
    };
    let back = async { tokio::io::copy(&mut answered, &mut answer).await.map(drop) };
    tokio::try_join!(there, back).map(drop)
}

impl Dev {
    /// Watches what is written into the storage from now on. Processes that are started later are seen.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn watch_writes(&self) -> Outcome<Writes> {
        match self.store()? {
            Store::Sqlite => Ok(Writes::File(self.path("signet.db-wal"))),
            Store::Postgres => {
                let name = self.database()?;
                let (way, address) = Way::to(SocketAddr::from(([127, 0, 0, 1], shared()?.port())))?;
                self.set_ca("storage", shared()?.url_through(address.port(), &name))?;
                Ok(Writes::Messages(way))
            }
        }
    }
}
