//! gRPC by hand over HTTP/2: exact bytes out, exact bytes in, one connection that never reconnects behind our back.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{PingPong, RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use super::tls;
use crate::failure::{Failure, Outcome};

/// The full name of the call.
pub const PATH: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// The room for each answer that HTTP/2 begins with, in bytes.
const ROOM: u32 = 65_535;

/// One HTTP/2 connection.
pub struct Raw {
    sender: SendRequest<Bytes>,
    pings: Option<PingPong>,
    widen: Option<oneshot::Sender<()>>,
    server_certificate: Vec<u8>,
    _connection: JoinSet<()>,
}

/// An answer, undecoded.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// Response headers.
    pub headers: HeaderMap,
    /// The body, with gRPC's five bytes before each message.
    pub body: Bytes,
    /// The trailers; the headers when the answer has no body.
    pub trailers: HeaderMap,
}

/// A call whose answer has begun and is not read any further than asked. Dropped, it is given up.
pub struct Answering {
    content: RecvStream,
}

/// A call whose body is not complete yet.
pub struct Unfinished {
    body: SendStream<Bytes>,
    answer: ResponseFuture,
}

impl Raw {
    /// Connects, with TLS as `config` says.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn connect(address: std::net::SocketAddr, config: Arc<ClientConfig>) -> Outcome<Self> {
        Self::speak(tls::connect(address, config).await?, ROOM).await
    }

    /// The same, with room for only so many bytes of each answer until [`widen`](Self::widen).
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn narrow(address: std::net::SocketAddr, config: Arc<ClientConfig>, room: u32) -> Outcome<Self> {
        Self::speak(tls::connect(address, config).await?, room).await
    }

    /// The same over a TCP connection that is there already.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn over(stream: TcpStream, config: Arc<ClientConfig>) -> Outcome<Self> {
        Self::speak(tls::over(stream, config).await?, ROOM).await
    }

    async fn speak(stream: TlsStream<TcpStream>, room: u32) -> Outcome<Self> {
        let certificates: Option<&[CertificateDer<'_>]> = stream.get_ref().1.peer_certificates();
        let server_certificate =
            certificates.and_then(<[_]>::first).map(|certificate| certificate.to_vec()).unwrap_or_default();
        let (sender, mut connection) = h2::client::Builder::new()
            .initial_window_size(room)
            .handshake(stream)
            .await
            .map_err(Failure::while_doing("speak HTTP/2"))?;
        let pings = connection.ping_pong();
        let mut task = JoinSet::new();
        let (widen, widened) = oneshot::channel();
        task.spawn(async move {
            let goes_on = tokio::select! { _ = &mut connection => false, asked = widened => asked.is_ok() };
            // Its end shows in the calls that it carried.
            let _shown = goes_on.then(|| connection.set_initial_window_size(ROOM));
            let _ended = connection.await;
        });
        Ok(Self { sender, pings, widen: Some(widen), server_certificate, _connection: task })
    }

    /// The certificate that the server showed in the handshake, DER.
    #[must_use]
    pub fn server_certificate(&self) -> &[u8] {
        &self.server_certificate
    }

    /// Makes the usual room for answers, also for those that have begun.
    pub fn widen(&mut self) {
        let _gone = self.widen.take().map(|widen| widen.send(()));
    }

    /// A ping and its answer.
    ///
    /// # Errors
    /// [`Failure`] when the connection is gone.
    pub async fn ping(&mut self) -> Outcome {
        let pings = self.pings.as_mut().ok_or_else(|| Failure::unexpected("pings were taken"))?;
        pings.ping(h2::Ping::opaque()).await.map(drop).map_err(Failure::while_doing("ping the server"))
    }

    /// Begins a call; of its body nothing is sent yet.
    ///
    /// # Errors
    /// [`Failure`] when the connection takes no more calls.
    pub async fn begin(&mut self, head: Request<()>) -> Outcome<Unfinished> {
        let ready = self.sender.clone().ready().await;
        self.sender = ready.map_err(Failure::while_doing("get a free stream"))?;
        let (answer, body) = self.sender.send_request(head, false).map_err(Failure::while_doing("send a request"))?;
        Ok(Unfinished { body, answer })
    }

    /// Makes a whole call with this body.
    ///
    /// # Errors
    /// [`Failure`] when there is no answer.
    pub async fn call(&mut self, head: Request<()>, body: Bytes) -> Outcome<Answer> {
        self.begin(head).await?.finish(body).await
    }
}

impl Unfinished {
    /// Sends a part of the body.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn send(&mut self, part: Bytes) -> Outcome {
        self.body.send_data(part, false).map_err(Failure::while_doing("send a part of a body"))
    }

    /// Sends the rest of the body and waits for the head of the answer.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn answer(mut self, rest: Bytes) -> Outcome<Answering> {
        self.body.send_data(rest, true).map_err(Failure::while_doing("send a body"))?;
        let response = self.answer.await.map_err(Failure::while_doing("read an answer"))?;
        Ok(Answering { content: response.into_body() })
    }

    /// Sends the rest of the body and reads the answer.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn finish(mut self, rest: Bytes) -> Outcome<Answer> {
        self.body.send_data(rest, true).map_err(Failure::while_doing("send a body"))?;
        let response = self.answer.await.map_err(Failure::while_doing("read an answer"))?;
        let (parts, mut stream) = response.into_parts();
        let mut body = BytesMut::new();
        while let Some(chunk) = stream.data().await {
            let chunk = chunk.map_err(Failure::while_doing("read an answer's body"))?;
            // A window update that cannot be sent shows as a missing chunk.
            let _shown_later = stream.flow_control().release_capacity(chunk.len());
            body.put(chunk);
        }
        let trailers = stream.trailers().await.map_err(Failure::while_doing("read trailers"))?;
        Ok(Answer {
            status: parts.status,
            trailers: trailers.unwrap_or_else(|| parts.headers.clone()),
            headers: parts.headers,
            body: body.freeze(),
        })
    }
}

impl Answering {
    /// Reads what there is room for, and makes none; gives the number of bytes.
    ///
    /// # Errors
    /// [`Failure`] when there is no more, or the call has failed.
    pub async fn read(&mut self) -> Outcome<usize> {
        let chunk = self.content.data().await.ok_or_else(|| Failure::unexpected("the answer has ended"))?;
        chunk.map(|chunk| chunk.len()).map_err(Failure::while_doing("read an answer's body"))
    }

    /// Waits for the last frame.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn ended(&mut self) -> Outcome {
        while self.content.data().await.transpose().map_err(Failure::while_doing("read an answer's body"))?.is_some() {}
        self.content.trailers().await.map(drop).map_err(Failure::while_doing("read trailers"))
    }
}

impl Answer {
    /// The gRPC status code.
    #[must_use]
    pub fn grpc_status(&self) -> Option<i32> {
        self.trailers.get("grpc-status")?.to_str().ok()?.parse().ok()
    }

    /// The elements of a certificate reply, read by hand: one uncompressed message, nothing in it but field 1 of wire
    /// type 2, again and again.
    ///
    /// # Errors
    /// [`Failure`] that says which byte is not as it should be.
    pub fn certificates(&self) -> Outcome<Vec<String>> {
        let mut rest: &[u8] = &self.body;
        let [0, length @ ..] = rest else { return Err(Failure::unexpected("the message is compressed or absent")) };
        let Some((length, message)) = length.split_first_chunk::<4>() else {
            return Err(Failure::unexpected("the message has no length"));
        };
        if u32::from_be_bytes(*length) as usize != message.len() {
            return Err(Failure::unexpected("the body is not exactly one message"));
        }
        rest = message;
        let mut elements = Vec::new();
        while let Some((tag, after)) = rest.split_first() {
            if *tag != 0x0a {
                return Err(Failure::unexpected(format!("tag {tag:#04x} instead of 0x0a")));
            }
            let (length, after) = varint(after).ok_or_else(|| Failure::unexpected("a broken length"))?;
            let (text, after) =
                after.split_at_checked(length).ok_or_else(|| Failure::unexpected("an element is cut short"))?;
            elements.push(String::from_utf8(text.to_vec()).map_err(Failure::while_doing("read an element"))?);
            rest = after;
        }
        Ok(elements)
    }
}

fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

/// The head of a gRPC request with these further headers.
///
/// # Errors
/// [`Failure`] when a header cannot be written.
pub fn head(headers: &[(&str, &str)]) -> Outcome<Request<()>> {
    let mut request = Request::post(format!("https://{}{PATH}", tls::SERVER_NAME))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).map_err(Failure::while_doing("write request headers"))
}

/// A message with gRPC's five bytes before it.
#[must_use]
pub fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put(message);
    framed.freeze()
}

/// A length-delimited protobuf field, by hand.
#[must_use]
pub fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    let mut length = content.len();
    while length >= 0x80 {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(content);
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn fields_written_by_hand_are_read_by_hand() {
        let long = "x".repeat(1000);
        let message = [field(0x0a, b"leaf"), field(0x0a, long.as_bytes())].concat();
        let (status, headers) = (StatusCode::OK, HeaderMap::new());
        let answer = Answer { status, headers: headers.clone(), body: framed(&message), trailers: headers };
        assert_eq!(answer.certificates().unwrap(), ["leaf".to_owned(), long]);
        let bent = Answer { body: framed(&field(0x12, b"x")), ..answer };
        assert!(bent.certificates().is_err());
    }
}
