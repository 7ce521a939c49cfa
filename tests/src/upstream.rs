//! The service behind the server's proxy: answers every request with the headers it received, as JSON.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::failure::{Failure, Outcome};

/// The running service; it ends when this is dropped.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Upstream {
    /// Starts the service on a free port.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn start() -> Outcome<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Failure::io("open a port"))?;
        let address = listener.local_addr().map_err(Failure::io("read a port"))?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(echo));
                    // A caller that hangs up is none of the service's business.
                    let _hung_up = served.await;
                });
            }
        });
        Ok(Self { address, _tasks: tasks })
    }
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let headers: serde_json::Map<String, serde_json::Value> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned().into()))
        .collect();
    Ok(Response::new(Full::new(Bytes::from(serde_json::Value::Object(headers).to_string()))))
}
