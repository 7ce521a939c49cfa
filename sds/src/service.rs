//! The gRPC edge: one driver per stream feeds a [`Sotw`] session with the client's requests and the newest snapshot.
//!
//! A driver runs only when the transport has room for the next response. A client that does not read therefore costs
//! one idle driver and delays nobody: when it reads again it gets what is newest then, and nothing that lay between.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryService;
use futures::Stream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{TcpConnectInfo, UdsConnectInfo};
use tonic::{Request, Status, Streaming};

use crate::ledger::{AcknowledgementListener, Ledger, OpenStream, not_served};
use crate::resources::{SECRET_TYPE_URL, packed, packed_with_comment};
use crate::server::SdsServer;
use crate::session::{self, InvalidRequest, Response, Sotw};
use crate::snapshot::{Snapshot, Version};

/// What a stream is answered with. Dropping it ends the stream.
pub type Responses = Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, Status>> + Send>>;
type DeltaResponses = Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

/// Serves the newest snapshot to everybody who asks. Who may ask is decided by the transport, or by whoever calls
/// [`SdsService::stream`].
pub struct SdsService {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    ledger: Ledger,
    stop: CancellationToken,
}

impl SdsService {
    /// Serves what `snapshots` holds and keeps `ledger`, until `stop` is cancelled: streams then end, so that a server can drain.
    #[must_use]
    pub fn new(snapshots: watch::Receiver<Arc<Snapshot>>, ledger: Ledger, stop: CancellationToken) -> Self {
        Self { snapshots, ledger, stop }
    }

    /// The tonic service, to be added to a server.
    #[must_use]
    pub fn into_server(self) -> SdsServer<Self> {
        SdsServer::new(self)
    }

    /// Runs one stream for a service of its own that has found out who asks. `peer` is shown to operators; `listener`
    /// is told what is said about each secret, by the versions in the snapshot.
    ///
    /// That service is to be served by an [`SdsServer`] too, which limits its messages.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when there are too many streams; the listener is then told nothing.
    pub fn stream(
        &self,
        requests: Streaming<DiscoveryRequest>,
        peer: &str,
        listener: Option<Arc<dyn AcknowledgementListener>>,
    ) -> Result<tonic::Response<Responses>, Status> {
        let open = self.ledger.enter(peer, listener).ok_or_else(|| {
            let most = self.ledger.max_streams();
            Status::resource_exhausted(format!("{most} streams are open already, which is the limit"))
        })?;
        let id = open.id();
        let comment = format!("stream {id:x}, {}", open.opened_at().unix_timestamp_nanos());
        let driver = Driver {
            requests,
            snapshots: self.snapshots.clone(),
            session: Sotw::new(format!("{id:x}")),
            open,
            stop: self.stop.clone(),
            started: Instant::now(),
            comment,
        };
        let responses = futures::stream::unfold(Some(driver), |driver| async move { driver?.next().await });
        Ok(tonic::Response::new(Box::pin(responses)))
    }

    /// Answers one `FetchSecrets` call: what is known of what was asked for, without a stream.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an absurd request, `NOT_FOUND` when nothing asked for is ever served, `UNAVAILABLE` when
    /// nothing asked for is known yet.
    pub fn fetch(&self, message: &DiscoveryRequest) -> Result<DiscoveryResponse, Status> {
        session::check(&view(message)).map_err(invalid)?;
        let snapshot = Arc::clone(&self.snapshots.borrow());
        let mut names: Vec<_> = snapshot.iter().map(|(name, _)| Arc::clone(name)).collect();
        let wanted: BTreeSet<&str> = message.resource_names.iter().map(String::as_str).collect();
        if !wanted.is_empty() && !wanted.contains(session::WILDCARD) {
            names.retain(|name| wanted.contains(&**name));
            let unserved: Vec<&str> = wanted.iter().copied().filter(|name| !snapshot.serves(name)).collect();
            self.ledger.count_unserved(unserved.len());
            if unserved.len() == wanted.len() {
                return Err(Status::not_found(not_served(&unserved, &snapshot)));
            }
        }
        if names.is_empty() {
            return Err(Status::unavailable("none of these secrets is known yet; ask again later"));
        }
        let versions = names.iter().filter_map(|name| Some((&**name, snapshot.secret(name)?.version())));
        let resource = |name| Some(packed(name, snapshot.secret(name)?.content()));
        Ok(DiscoveryResponse {
            version_info: Version::of_set(versions).to_string(),
            resources: names.iter().filter_map(|name| resource(name)).collect(),
            type_url: SECRET_TYPE_URL.to_owned(),
            ..DiscoveryResponse::default()
        })
    }
}

#[tonic::async_trait]
impl SecretDiscoveryService for SdsService {
    type StreamSecretsStream = Responses;
    type DeltaSecretsStream = DeltaResponses;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<tonic::Response<Responses>, Status> {
        let peer = peer(&request);
        self.stream(request.into_inner(), &peer, None)
    }

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<tonic::Response<DeltaResponses>, Status> {
        Err(Status::unimplemented("incremental SDS is not served yet; use the api_type GRPC"))
    }

    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<tonic::Response<DiscoveryResponse>, Status> {
        self.fetch(request.get_ref()).map(tonic::Response::new)
    }
}

/// One stream. Dropped with the response stream, hence with the connection; its place in the ledger goes with it.
struct Driver {
    requests: Streaming<DiscoveryRequest>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    session: Sotw,
    open: OpenStream,
    stop: CancellationToken,
    started: Instant,
    /// Different for every stream, also of processes before and after this one.
    comment: String,
}

type Step = Option<(Result<DiscoveryResponse, Status>, Option<Driver>)>;

impl Driver {
    /// Waits until there is something to send. `None` ends the stream in peace, an error ends it with a status.
    async fn next(mut self) -> Step {
        loop {
            let wake_at = self.session.wake_at().map(|after| self.started + after);
            let wake = async {
                match wake_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let (response, snapshot) = tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    return Some((Err(Status::unavailable("the server is stopping; connect again")), None));
                }
                changed = self.snapshots.changed() => {
                    // Nobody is left who could change anything, which means that the process ends.
                    changed.ok()?;
                    let snapshot = self.newest();
                    (self.session.on_snapshot(&snapshot), snapshot)
                }
                () = wake => {
                    let snapshot = self.newest();
                    (self.session.on_wake(&snapshot, self.started.elapsed()), snapshot)
                }
                request = self.requests.message() => {
                    let request = match request {
                        Ok(request) => request?,
                        Err(status) if status.code() == tonic::Code::InvalidArgument => return Some((Err(status), None)),
                        // A broken connection is an everyday thing and nobody is there to hear of it.
                        Err(_) => return None,
                    };
                    let snapshot = self.newest();
                    match self.take(&request, &snapshot) {
                        Ok(response) => (response, snapshot),
                        Err(error) => return Some((Err(invalid(error)), None)),
                    }
                }
            };
            if let Some(response) = response {
                self.open.pushed(&response);
                return Some((Ok(message_of(&response, &snapshot, &self.comment)), Some(self)));
            }
        }
    }

    fn newest(&mut self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow_and_update())
    }

    fn take(&mut self, request: &DiscoveryRequest, snapshot: &Snapshot) -> Result<Option<Response>, InvalidRequest> {
        let outcome = self.session.on_request(&view(request), snapshot, self.started.elapsed())?;
        let node = request.node.as_ref().map(|node| node.id.as_str());
        self.open.requested((&outcome.event, &request.version_info, node), &mut self.session, snapshot);
        Ok(outcome.response)
    }
}

fn view(message: &DiscoveryRequest) -> session::Request<'_> {
    session::Request {
        type_url: &message.type_url,
        names: &message.resource_names,
        nonce: &message.response_nonce,
        version: &message.version_info,
        error: message.error_detail.as_ref().map(|status| status.message.as_str()),
    }
}

fn message_of(response: &Response, snapshot: &Snapshot, comment: &str) -> DiscoveryResponse {
    let resource = |name| {
        let content = response.content(name, snapshot)?;
        let is_new = response.is_new_to_client;
        Some(if is_new { packed_with_comment(name, content, comment) } else { packed(name, content) })
    };
    DiscoveryResponse {
        version_info: response.version.to_string(),
        resources: response.names.iter().filter_map(|name| resource(name)).collect(),
        type_url: SECRET_TYPE_URL.to_owned(),
        nonce: response.nonce.clone(),
        ..DiscoveryResponse::default()
    }
}

/// The one map from errors to the wire.
fn invalid(request: InvalidRequest) -> Status {
    match request {
        InvalidRequest::WrongType | InvalidRequest::TooManyNames(_) | InvalidRequest::NameTooLong(_) => {
            Status::invalid_argument(request.to_string())
        }
    }
}

/// Who is connected: process and user on a Unix socket, the address on TCP.
fn peer<T>(request: &Request<T>) -> String {
    if let Some(info) = request.extensions().get::<UdsConnectInfo>() {
        return match info.peer_cred {
            Some(peer) => {
                let pid = peer.pid().map_or_else(|| "?".to_owned(), |pid| pid.to_string());
                format!("pid={pid} uid={} gid={}", peer.uid(), peer.gid())
            }
            None => "unix".to_owned(),
        };
    }
    let address = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    address.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
