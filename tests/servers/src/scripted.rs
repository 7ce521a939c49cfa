//! An API server that says what a test wants, when it wants it: for timing that a real one does not give. What it says is held
//! to what real ones have said (`tests/kubernetes/exchanges`), and a test compares the two.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

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
    /// Its body, when that is JSON.
    pub body: Value,
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The kind of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A JSON body with this status code.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self { status, content_type: "application/json", body: body.to_string() }
    }

    /// The response of a recorded exchange.
    ///
    /// # Errors
    /// When it is not one.
    pub fn recorded(exchange: &str) -> Result<Self, ServerError> {
        let wrong = |what: &str| ServerError::refused("replay an exchange", what.to_owned());
        let exchange: Value = serde_json::from_str(exchange).map_err(|error| wrong(&error.to_string()))?;
        let response = &exchange["response"];
        let status = response["status"].as_u64().and_then(|status| status.try_into().ok());
        let status = status.ok_or_else(|| wrong("it has no status"))?;
        Ok(match &response["body"] {
            Value::String(text) => Self { status, content_type: "text/plain; charset=utf-8", body: text.clone() },
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
                connections.spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    let _gone = http.serve_connection(TokioIo::new(connection), service).await;
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

async fn respond(
    request: Request<Incoming>,
    answer: Arc<dyn Fn(Asked) -> Answering + Send + Sync>,
    seen: Arc<Mutex<Vec<Asked>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let accept = head.headers.get(http::header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let asked = Asked {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        accept: accept.map(str::to_owned),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
    let Answer { status, content_type, body } = answer(asked).await;
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    if let Ok(kind) = content_type.parse() {
        response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    }
    Ok(response)
}
