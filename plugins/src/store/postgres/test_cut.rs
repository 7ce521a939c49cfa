//! A way to the server that is cut in the middle of a commit, for tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Where a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The server never gets it.
    Before,
    /// The server has done it, and its answer is lost.
    After,
    /// The server gets it when [`Way::release`] says so, long after the client was told that the connection is gone.
    Late,
}

/// A way to a server on this machine.
pub(super) struct Way {
    pub(super) port: u16,
    inner: Arc<Inner>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Inner {
    /// Text in what the client sends, and what happens at it, once.
    armed: Mutex<Option<(&'static str, Cut)>>,
    release: Notify,
    /// What was late has arrived, and was answered.
    arrived: Notify,
}

impl Way {
    pub(super) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let inner = Arc::new(Inner::default());
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&inner);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                connections.spawn(relay(client, server, Arc::clone(&shared)));
            }
        });
        Self { port: own, inner, _tasks: tasks }
    }

    /// Cuts the connection at the next message in which `text` stands.
    pub(super) fn arm(&self, text: &'static str, cut: Cut) {
        *self.inner.armed.lock().unwrap() = Some((text, cut));
    }

    /// Whether a cut is still to come.
    pub(super) fn is_armed(&self) -> bool {
        self.inner.armed.lock().unwrap().is_some()
    }

    /// Lets arrive what is late, and waits until the server has answered it or has ended the connection.
    pub(super) async fn release(&self) {
        self.inner.release.notify_one();
        self.inner.arrived.notified().await;
    }
}

impl Inner {
    fn cut(&self, bytes: &[u8]) -> Option<Cut> {
        let mut armed = self.armed.lock().unwrap();
        let (text, cut) = (*armed)?;
        let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
        if found { armed.take().map(|_| cut) } else { None }
    }
}

/// Forwards until it is cut. What a client sends at once arrives in one piece here, small as it is.
async fn relay(mut client: TcpStream, mut server: TcpStream, inner: Arc<Inner>) {
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (mut up, mut down) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let cut = tokio::select! {
            read = client.read(&mut up) => match read {
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    let bytes = &up[..length];
                    let cut = inner.cut(bytes);
                    match cut {
                        Some(Cut::Before) => return,
                        Some(Cut::Late) => {
                            drop(client);
                            inner.release.notified().await;
                            server.write_all(bytes).await.unwrap();
                            drop(server.read(&mut down).await);
                            inner.arrived.notify_one();
                            return;
                        }
                        Some(Cut::After) | None => {}
                    }
                    if server.write_all(bytes).await.is_err() {
                        return;
                    }
                    cut
                }
            },
            read = server.read(&mut down) => match read {
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    if client.write_all(&down[..length]).await.is_err() {
                        return;
                    }
                    None
                }
            },
        };
        if cut.is_some() {
            // The whole answer ends with ReadyForQuery: type Z, length 5, state idle.
            let mut answer = Vec::new();
            while !answer.ends_with(b"Z\0\0\0\x05I") {
                let length = server.read(&mut down).await.unwrap();
                assert!(length > 0, "the server ended the connection by itself");
                answer.extend_from_slice(&down[..length]);
            }
            return;
        }
    }
}
