//! The same load sent to OpenBao itself: `pki/sign`, over plain HTTP with kept connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::json;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Bao;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::load::Measured;
use crate::requests::Requests;

/// One connection and the requests that are sent on it.
struct Lane {
    sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
    bodies: Vec<Bytes>,
    next: usize,
    connection: JoinSet<()>,
}

/// A connection, and what drives it.
async fn connect(address: SocketAddr) -> Outcome<(SendRequest<Full<Bytes>>, JoinSet<()>)> {
    let stream = TcpStream::connect(address).await.map_err(Failure::io("connect to OpenBao"))?;
    stream.set_nodelay(true).map_err(Failure::io("configure a connection"))?;
    let (sender, driver) = handshake(TokioIo::new(stream)).await.map_err(Failure::while_doing("speak HTTP"))?;
    let mut connection = JoinSet::new();
    connection.spawn(async move {
        // Its end shows in the calls that it carried.
        let _ended = driver.await;
    });
    Ok((sender, connection))
}

/// All connections, open.
pub(crate) struct Raw {
    lanes: Vec<Arc<Mutex<Lane>>>,
    path: String,
    host: String,
}

impl Raw {
    /// Opens so many connections, and deals the requests of the identities out to them.
    pub(crate) async fn open(bao: &Bao, role: &str, requests: &Requests, connections: usize) -> Outcome<Self> {
        let mut lanes = Vec::new();
        for lane in 0..connections {
            let (sender, connection) = connect(bao.address).await?;
            let own = requests.each.iter().skip(lane).step_by(connections);
            let bodies = own
                .map(|one| Bytes::from(json!({ "csr": one.csr, "uri_sans": one.identity, "ttl": "24h" }).to_string()))
                .collect();
            lanes.push(Arc::new(Mutex::new(Lane { sender, address: bao.address, bodies, next: 0, connection })));
        }
        let (path, host) = (format!("/v1/pki/sign/{role}"), bao.address.to_string());
        Ok(Self { lanes, path, host })
    }

    /// Sends requests on every connection for so long; any answer but a certificate is an error.
    pub(crate) async fn run(&self, duration: Duration) -> Outcome<Measured> {
        let start = Instant::now();
        let mut running = JoinSet::new();
        for lane in &self.lanes {
            let (lane, path, host) = (Arc::clone(lane), self.path.clone(), self.host.clone());
            running.spawn(async move {
                let mut lane = lane.lock().await;
                let mut times = Vec::with_capacity(16_384);
                while start.elapsed() < duration {
                    let sent = Instant::now();
                    lane.call(&path, &host).await?;
                    times.push(sent.elapsed());
                }
                Ok::<_, Failure>(times)
            });
        }
        let mut times = Vec::new();
        while let Some(lane) = running.join_next().await {
            times.append(&mut lane.map_err(Failure::while_doing("run a connection"))??);
        }
        let elapsed = start.elapsed();
        times.sort_unstable();
        Ok(Measured { elapsed, times, turned_away: Vec::new() })
    }
}

impl Lane {
    async fn call(&mut self, path: &str, host: &str) -> Outcome {
        let body = self.bodies.get(self.next % self.bodies.len().max(1)).cloned();
        let body = body.ok_or_else(|| Failure::unexpected("fewer identities than connections"))?;
        self.next += 1;
        let request = hyper::Request::post(path)
            .header("host", host)
            .header("x-vault-token", Bao::TOKEN)
            .body(Full::new(body))
            .map_err(Failure::while_doing("build a request"))?;
        // OpenBao closes one that says nothing for ten seconds, while others have their turns.
        if self.sender.is_closed() {
            (self.sender, self.connection) = connect(self.address).await?;
        }
        // The answer before may not have been taken off the connection whole.
        self.sender.ready().await.map_err(Failure::while_doing("wait for a connection"))?;
        let answer = self.sender.send_request(request).await.map_err(Failure::while_doing("send a request"))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(Failure::while_doing("read an answer"))?.to_bytes();
        ensure(status.as_u16() == 200, || format!("OpenBao answers {status}: {}", String::from_utf8_lossy(&body)))
    }
}
