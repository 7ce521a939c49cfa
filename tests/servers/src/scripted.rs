//! An API server that says what a test wants, when it wants it: for timing that a real one does not give. What it says is held
//! to what real ones have said (`tests/kubernetes/exchanges`), and a test compares the two.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::error::ServerError;

/// A request that was answered, or is being answered.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The value of `accept`.
    pub accept: Option<String>,
    /// The value of `authorization`.
    pub authorization: Option<String>,
    /// Its body, when that is JSON.
    pub body: Value,
}

/// What is answered.
#[derive(Debug)]
pub struct Answer {
    /// The status code; 0 for no answer at all.
    pub status: u16,
    /// The kind of the body.
    pub content_type: &'static str,
    /// The body, or how it begins.
    pub body: String,
    /// The rest of the body, until its sender is dropped.
    pub more: Option<mpsc::UnboundedReceiver<String>>,
    /// After how many seconds to come again.
    pub retry_after: Option<u64>,
}

impl Clone for Answer {
    /// Without more to come.
    fn clone(&self) -> Self {
        let Self { status, content_type, body, more: _, retry_after } = self;
        Self { status: *status, content_type, body: body.clone(), more: None, retry_after: *retry_after }
    }
}

impl Answer {
    /// A JSON body with this status code.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/json", &body.to_string())
    }

    /// Any body with this status code.
    #[must_use]
    pub fn text(status: u16, content_type: &'static str, body: &str) -> Self {
        Self { status, content_type, body: body.to_owned(), more: None, retry_after: None }
    }

    /// That there is too much to do, as a real one says it.
    #[must_use]
    pub fn throttled(seconds: u64) -> Self {
        let text = "Too many requests, please try again later.\n";
        Self { retry_after: Some(seconds), ..Self::text(429, "text/plain; charset=utf-8", text) }
    }

    /// None: the connection ends.
    #[must_use]
    pub fn reset() -> Self {
        Self::text(0, "", "")
    }

    /// A watch that begins with these events and goes on with those that are sent, until their sender is dropped.
    #[must_use]
    pub fn watch(events: &[Value], more: mpsc::UnboundedReceiver<String>) -> Self {
        let body = events.iter().map(|event| format!("{event}\n")).collect();
        Self { status: 200, content_type: "application/json", body, more: Some(more), retry_after: None }
    }

    /// The response of a recorded exchange.
    ///
    /// # Errors
    /// When it is not one.
    pub fn recorded(exchange: &str) -> Result<Self, ServerError> {
        let wrong = |what: &str| ServerError::refused("replay an exchange", what.to_owned());
        let exchange: Value = serde_json::from_str(exchange).map_err(|error| wrong(&error.to_string()))?;
        let status = exchange.pointer("/response/status").and_then(Value::as_u64);
        let status = status.and_then(|status| status.try_into().ok()).ok_or_else(|| wrong("it has no status"))?;
        Ok(match exchange.pointer("/response/body").unwrap_or(&Value::Null) {
            Value::String(text) => Self::text(status, "text/plain; charset=utf-8", text),
            body => Self::json(status, body),
        })
    }
}

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A server on a free port, until it is dropped.
pub struct ScriptedApi {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Ends with this.
    _serving: JoinSet<()>,
}

impl ScriptedApi {
    /// Starts one that answers like this.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start<F>(answer: impl Fn(Asked) -> F + Send + Sync + 'static) -> Result<Self, ServerError>
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        Self::serve(None, answer).await
    }

    /// The same over TLS, with the root that its certificate chains to, in PEM.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start_tls<F>(
        answer: impl Fn(Asked) -> F + Send + Sync + 'static,
    ) -> Result<(Self, String), ServerError>
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let (acceptor, root) = tls()?;
        Ok((Self::serve(Some(acceptor), answer).await?, root))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    async fn serve<F>(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(Asked) -> F + Send + Sync + 'static,
    ) -> Result<Self, ServerError>
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(ServerError::io("listen"))?;
        let address = listener.local_addr().map_err(ServerError::io("listen"))?;
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let seen = Arc::clone(&asked);
        let answer: Arc<dyn Fn(Asked) -> Answering + Send + Sync> = Arc::new(move |asked| Box::pin(answer(asked)));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                let service = service_fn(move |request| respond(request, Arc::clone(&answer), Arc::clone(&seen)));
                let tls = tls.clone();
                connections.spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    let _gone = match tls {
                        None => http.serve_connection(TokioIo::new(connection), service).await,
                        Some(tls) => match tls.accept(connection).await {
                            Ok(connection) => http.serve_connection(TokioIo::new(connection), service).await,
                            Err(_) => Ok(()),
                        },
                    };
                });
            }
        });
        Ok(Self { address, asked, _serving: serving })
    }

    /// A kubeconfig of somebody with a token, as text.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        let url = format!("http://{}", self.address);
        format!(
            "apiVersion: v1\n\
             kind: Config\n\
             clusters: [{{name: test, cluster: {{server: \"{url}\"}}}}]\n\
             users: [{{name: test, user: {{token: ours}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n\
             current-context: test\n"
        )
    }

    /// What it was asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A certificate for 127.0.0.1 that is its own root.
fn tls() -> Result<(TlsAcceptor, String), ServerError> {
    let refused = |error: &dyn std::fmt::Display| ServerError::refused("make a certificate", error.to_string());
    let key = rcgen::KeyPair::generate().map_err(|error| refused(&error))?;
    let made = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).map_err(|error| refused(&error))?;
    let made = made.self_signed(&key).map_err(|error| refused(&error))?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| refused(&error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(&error))?
        .with_no_client_auth()
        .with_single_cert(vec![made.der().clone()], private)
        .map_err(|error| refused(&error))?;
    Ok((TlsAcceptor::from(Arc::new(config)), made.pem()))
}

async fn respond(
    request: Request<Incoming>,
    answer: Arc<dyn Fn(Asked) -> Answering + Send + Sync>,
    seen: Arc<Mutex<Vec<Asked>>>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let asked = Asked {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        accept: header(http::header::ACCEPT),
        authorization: header(http::header::AUTHORIZATION),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
    let Answer { status, content_type, body, more, retry_after } = answer(asked).await;
    if status == 0 {
        return Err(std::io::ErrorKind::ConnectionReset.into());
    }
    let body = match more {
        None => Full::from(body).boxed(),
        Some(more) => {
            let begun = tokio_stream::once(body).chain(UnboundedReceiverStream::new(more));
            BoxBody::new(StreamBody::new(begun.map(|text| Ok(Frame::data(Bytes::from(text))))))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    if let Some(Ok(seconds)) = retry_after.map(|seconds| seconds.to_string().parse()) {
        response.headers_mut().insert(http::header::RETRY_AFTER, seconds);
    }
    if let Ok(kind) = content_type.parse() {
        response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    }
    Ok(response)
}
