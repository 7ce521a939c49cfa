//! One address in front of several CA processes, as a Service of Kubernetes is: each new connection goes to one of them
//! that takes it, in turn.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::rotation::Replica;
use super::{Dev, ports};
use crate::failure::{Failure, Outcome};

/// How long a process may take to accept before the next one is tried: one that was stopped accepts in the kernel only,
/// one that was killed refuses at once.
const ACCEPT: Duration = Duration::from_secs(1);

/// The running entrance; it and its connections end when this is dropped.
pub struct Entrance {
    /// Where clients connect.
    pub address: SocketAddr,
    /// The processes behind it.
    pub behind: Vec<SocketAddr>,
    _tasks: JoinSet<()>,
}

impl Entrance {
    /// Opens `address` in front of these processes.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub async fn open(address: SocketAddr, behind: Vec<SocketAddr>) -> Outcome<Self> {
        let listener = TcpListener::bind(address).await.map_err(Failure::io(format!("listen on {address}")))?;
        let address = listener.local_addr().map_err(Failure::io("read a port"))?;
        let mut tasks = JoinSet::new();
        let all = behind.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            for turn in 0.. {
                let Ok((mut client, _)) = listener.accept().await else { return };
                while connections.try_join_next().is_some() {}
                let first = turn % behind.len().max(1);
                let order: Vec<SocketAddr> = behind.iter().cycle().skip(first).take(behind.len()).copied().collect();
                connections.spawn(async move {
                    let Some(mut server) = reach(&order).await else { return };
                    // Whoever ends first ends the connection.
                    let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Ok(Self { address, behind: all, _tasks: tasks })
    }
}

impl Dev {
    /// Puts the CA of this installation and a second one behind one entrance, which takes over the address that clients
    /// know. Neither is started by this.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn pair(&self) -> Outcome<(Replica, Entrance)> {
        let replica = self.replica()?;
        let own = ports::free()?;
        self.set_ca("listen", own.to_string())?;
        let entrance = Entrance::open(self.listen, vec![own, replica.listen]).await?;
        Ok((replica, entrance))
    }
}

/// A connection to the first of these that takes one.
async fn reach(order: &[SocketAddr]) -> Option<TcpStream> {
    for address in order {
        if let Ok(Ok(stream)) = tokio::time::timeout(ACCEPT, TcpStream::connect(address)).await {
            return stream.set_nodelay(true).is_ok().then_some(stream);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpSocket;

    use super::*;

    async fn says(name: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(name).await.unwrap();
            }
        });
        address
    }

    async fn heard(entrance: &Entrance) -> Vec<u8> {
        let mut text = Vec::new();
        TcpStream::connect(entrance.address).await.unwrap().read_to_end(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn connections_go_round_and_past_whoever_is_gone() {
        let (one, other) = (says(b"one").await, says(b"other").await);
        let here = || (Ipv4Addr::LOCALHOST, 0).into();
        let entrance = Entrance::open(here(), vec![one, other]).await.unwrap();
        let mut both = [heard(&entrance).await, heard(&entrance).await];
        both.sort();
        assert_eq!(both, [b"one".to_vec(), b"other".to_vec()]);
        // A port that is held, so that nobody else gets it, and takes no connections.
        let gone = TcpSocket::new_v4().unwrap();
        gone.bind(here()).unwrap();
        let entrance = Entrance::open(here(), vec![one, gone.local_addr().unwrap()]).await.unwrap();
        for _ in 0..4 {
            assert_eq!(heard(&entrance).await, b"one");
        }
    }
}
