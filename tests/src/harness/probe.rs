//! One HTTP/1.1 request to a local port, as an operator's `curl` would send it.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::failure::{Failure, Outcome};

const DEADLINE: Duration = Duration::from_secs(30);

/// The status and body of `GET http://address/path`.
///
/// # Errors
/// [`Failure`] when there is no answer within half a minute.
pub async fn fetch(address: SocketAddr, path: &str) -> Outcome<(u16, String)> {
    let (status, body) = fetch_bytes(address, path).await?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// The same of a body that is no text.
///
/// # Errors
/// As [`fetch`].
pub async fn fetch_bytes(address: SocketAddr, path: &str) -> Outcome<(u16, Bytes)> {
    let what = format!("an answer of http://{address}{path}");
    timeout(DEADLINE, exchange(address, path)).await.map_err(|_| Failure::Deadline {
        what,
        within: DEADLINE,
        context: String::new(),
    })?
}

async fn exchange(address: SocketAddr, path: &str) -> Outcome<(u16, Bytes)> {
    let stream = TcpStream::connect(address).await.map_err(Failure::io(format!("connect to {address}")))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(Failure::while_doing("speak HTTP"))?;
    let request = hyper::Request::get(path)
        .header("host", address.to_string())
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(Failure::while_doing("build a request"))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(Failure::while_doing("send a request"))?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(Failure::while_doing("read an answer"))?.to_bytes();
        Ok((status, body))
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        result = &mut answer => result,
        // The connection may close right after the last byte; the answer is complete then.
        _closed = &mut connection => answer.await,
    }
}
