//! The HTTP port for operators: `/metrics`, `/livez`, `/readyz`, and what a program adds. Every connection is bounded in time and number.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    liveness::Liveness,
    metrics::{CONTENT_TYPE, Metrics},
    output::{Table, Width, error_chain},
    readiness::{Readiness, Snapshot},
};

mod more;

pub use self::more::{Answer, MorePages, Page};

/// What one client, and all together, may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// The time to send a request's head.
    head: Duration,
    /// The time of one connection, which carries one request, as a whole.
    connection: Duration,
    /// Connections served at the same time; further ones wait in the kernel's queue.
    connections: usize,
}

const LIMITS: Limits = Limits { head: Duration::from_secs(5), connection: Duration::from_secs(15), connections: 64 };

/// The pause after a failed accept, which is mostly a lack of file descriptors and would otherwise spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const PATHS: &str = "/metrics  Prometheus metrics\n/livez    whether the process still moves\n/readyz   whether it can do its work (JSON with ?output=json)\n";

/// The port could not be opened.
#[derive(Debug, Error)]
#[error("{key}: cannot listen on {address}; choose another address or stop what uses it")]
pub struct BindError {
    /// The configuration key of the address.
    pub key: String,
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// What the port shows.
#[derive(Debug, Clone)]
pub struct Ops {
    /// Behind `/metrics`.
    pub metrics: Metrics,
    /// Behind `/readyz`.
    pub readiness: Readiness,
    /// Behind `/livez`.
    pub liveness: Liveness,
    /// Behind other paths.
    pub more: Option<MorePages>,
}

/// Opens a TCP port; an error names `key`, the configuration key the address came from.
///
/// # Errors
/// [`BindError`].
pub async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { key: key.to_owned(), address, source })
}

/// The task that serves the port until `stop` is cancelled; requests that have begun are still answered.
///
/// # Errors
/// None.
pub async fn serve(listener: TcpListener, ops: Ops, stop: CancellationToken) -> Result<(), Infallible> {
    serve_within(LIMITS, listener, ops, stop).await;
    Ok(())
}

async fn serve_within(limits: Limits, listener: TcpListener, ops: Ops, stop: CancellationToken) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .fallback(more)
        .with_state(ops);
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    serve_connection(limits, stream, router, stop).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(error = %error, "cannot accept a connection on the ops port");
                sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve_connection(limits: Limits, stream: TcpStream, router: Router, stop: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        // Probes and scrapes are seconds apart: an idle connection is only a slot taken.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let serving = async {
        tokio::select! {
            served = connection.as_mut() => served,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    match timeout(limits.connection, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(error = error_chain(&error), "an ops connection failed"),
        Err(_elapsed) => tracing::debug!("an ops connection took too long and was closed"),
    }
}

async fn metrics(State(ops): State<Ops>) -> Response {
    match ops.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error_chain(&error)).into_response(),
    }
}

async fn livez(State(ops): State<Ops>) -> (StatusCode, String) {
    match ops.liveness.stalled() {
        Some(stalled) if stalled.is_empty() => (StatusCode::OK, "alive\n".to_owned()),
        Some(stalled) => {
            let lines = stalled.iter().map(|pulse| {
                let (age, limit) = (pulse.age.as_secs(), pulse.limit.as_secs());
                format!("{}: no heartbeat for {age}s, {limit}s are tolerated\n", pulse.name)
            });
            (StatusCode::SERVICE_UNAVAILABLE, lines.collect())
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "nothing reports a heartbeat, which is a bug\n".to_owned()),
    }
}

async fn readyz(State(ops): State<Ops>, uri: Uri, headers: HeaderMap) -> Response {
    let snapshot = ops.readiness.snapshot();
    let status = if snapshot.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let asked_by_query = uri.query().is_some_and(|query| query.split('&').any(|part| part == "output=json"));
    let accepted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if asked_by_query || accepted.is_some_and(|accept| accept.contains("application/json")) {
        return match serde_json::to_string(&snapshot) {
            Ok(json) => (status, [(header::CONTENT_TYPE, "application/json")], json + "\n").into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        };
    }
    (status, readiness_table(&snapshot)).into_response()
}

async fn more(State(ops): State<Ops>, method: Method, uri: Uri) -> Response {
    let not_found = |more: &str| (StatusCode::NOT_FOUND, format!("not found; there is\n{PATHS}{more}")).into_response();
    let Some(more) = ops.more.filter(|_| method == Method::GET) else { return not_found("") };
    match (more.page)(uri.path().to_owned()).await {
        Ok(Some(Page { content_type, cache_control, body })) => {
            ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, cache_control)], body).into_response()
        }
        Ok(None) => not_found(more.paths),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response(),
    }
}

fn readiness_table(snapshot: &Snapshot) -> String {
    let mut table = Table::new(["check", "state", "detail"]);
    for check in &snapshot.checks {
        table.row([check.name.as_str(), &check.state.to_string(), &check.detail]);
    }
    format!("{}\n\n{}", if snapshot.ready { "ready" } else { "not ready" }, table.render(Width::Unlimited))
}

#[cfg(test)]
mod tests;
