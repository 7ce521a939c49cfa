//! The trust bundle over SDS, on the certificate port: to agents and to any Envoy that proves who it is. What they
//! acknowledge is what coverage is made of.

use std::pin::Pin;
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryService;
use futures::{Stream, StreamExt};
use signet_core::clock::SharedClock;
use signet_core::holder::{Acknowledger, HolderKey};
use signet_core::seams::authenticator::{AuthenticationError, Denial};
use signet_sds::service::{Responses, SdsService};
use time::OffsetDateTime;
use tonic::{Request, Response, Status, Streaming};

use super::bundle_listeners::Listeners;
use super::client_identity::{ClientIdentity, ClientVerifier};
use super::headers;
use super::status::{AUTHENTICATION, UNCHECKED};
use super::tls::{client_identity, remote_addr, shown};
use crate::admission::Admission;
use crate::clusters::Clusters;

/// What a stream ends with when its token has.
const TOKEN_ENDED: &str = "the token that opened this stream has ended; open a new one with a newer token";

/// What a stream ends with when its certificate holds no longer.
const CERTIFICATE_ENDED: &str =
    "the certificate that opened this stream has ended or is revoked, or its root is gone; open a new one with another";

type Refused = Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

/// The parts of the service.
pub struct BundleStream {
    /// The protocol.
    pub sds: SdsService,
    /// Who may ask.
    pub clusters: Arc<Clusters>,
    /// Judges certificates again as time passes.
    pub clients: Arc<ClientVerifier>,
    /// Limits.
    pub admission: Arc<Admission>,
    /// The time.
    pub clock: SharedClock,
    /// What streams say, and where it goes.
    pub listeners: Listeners,
}

/// Who opened a stream, and how long that holds: for a token until a time, for a certificate as long as that does.
struct Opener {
    from: Acknowledger,
    until: Option<OffsetDateTime>,
}

impl BundleStream {
    /// Who is asking: by its certificate, else by its token.
    async fn authenticate<T>(&self, request: &Request<T>) -> Result<Opener, Status> {
        let peer = remote_addr(request);
        // Only to be counted: the stream itself is bounded by its own number.
        let entered = self.admission.enter(peer.map(|address| address.ip()));
        drop(entered.map_err(|over| Status::resource_exhausted(over.to_string()))?);
        if let Some(identity) = client_identity(request) {
            // The connection may be older than the end of its certificate.
            let holds = self.clients.still_holds(identity, self.clock.now());
            holds.map_err(|_| Status::unauthenticated(AUTHENTICATION))?;
            let (spiffe_id, serial) = (identity.spiffe_id.to_string(), identity.serial.clone());
            let until = Some(identity.not_after);
            return Ok(Opener { from: Acknowledger::Certificate { spiffe_id, serial }, until });
        }
        let metadata = request.metadata();
        let cluster = headers::cluster(metadata).map_err(|wrong| Status::invalid_argument(wrong.to_string()))?;
        let checked = async {
            let authenticator = self.clusters.select(cluster.as_deref())?;
            let missing = || AuthenticationError::denied(Denial::TokenMissing, "neither a token nor a certificate");
            let token = headers::bearer(metadata).ok_or_else(missing)?;
            authenticator.authenticate(&token, self.clock.now()).await
        };
        let caller = checked.await.map_err(|error| {
            tracing::info!(%error, peer.addr = ?peer, "a bundle stream was refused");
            match error {
                AuthenticationError::Denied { .. } => Status::unauthenticated(AUTHENTICATION),
                _ => Status::unavailable(UNCHECKED),
            }
        })?;
        let instance = caller.pod.map(|pod| pod.uid).or_else(|| headers::instance(metadata)).unwrap_or_default();
        let from = Acknowledger::Holder(HolderKey { spiffe_id: caller.identity.to_string(), instance });
        Ok(Opener { from, until: caller.until })
    }

    /// Waits until what opened a stream holds no longer; gives what the stream ends with. Clients open a new one then:
    /// Envoy does after any end, and our agent knows this one as no failure.
    fn end(&self, identity: Option<Arc<ClientIdentity>>, until: Option<OffsetDateTime>) -> End {
        let (clients, clock) = (Arc::clone(&self.clients), Arc::clone(&self.clock));
        Box::pin(async move {
            match (identity, until) {
                (Some(identity), _) => {
                    clients.until_refused(&identity, &*clock).await;
                    Status::unauthenticated(CERTIFICATE_ENDED)
                }
                (None, Some(until)) => {
                    clock.sleep_until(until).await;
                    Status::unauthenticated(TOKEN_ENDED)
                }
                (None, None) => std::future::pending().await,
            }
        })
    }
}

type End = Pin<Box<dyn Future<Output = Status> + Send>>;

/// The responses until `end`, whose status is the last. It comes first: whoever holds no longer gets nothing more.
fn until(end: End, responses: Responses) -> Responses {
    Box::pin(futures::stream::unfold(Some((end, responses)), |open| async move {
        let (mut end, mut responses) = open?;
        tokio::select! {
            biased;
            status = &mut end => Some((Err(status), None)),
            response = responses.next() => Some((response?, Some((end, responses)))),
        }
    }))
}

#[tonic::async_trait]
impl SecretDiscoveryService for BundleStream {
    type StreamSecretsStream = Responses;
    type DeltaSecretsStream = Refused;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let Opener { from, until: last } = self.authenticate(&request).await?;
        let peer = remote_addr(&request).map_or_else(|| "-".to_owned(), |address| address.to_string());
        // The connection outlives the certificate that opened it, and a stream can outlive any token.
        let end = self.end(shown(&request), last);
        let stream = self.sds.stream(request.into_inner(), &peer, self.listeners.enter(from)?)?;
        Ok(stream.map(|responses| until(end, responses)))
    }

    async fn delta_secrets(&self, _: Request<Streaming<DeltaDiscoveryRequest>>) -> Result<Response<Refused>, Status> {
        Err(Status::unimplemented("incremental SDS is not served yet; use the api_type GRPC"))
    }

    async fn fetch_secrets(&self, request: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        self.authenticate(&request).await?;
        self.sds.fetch(request.get_ref()).map(Response::new)
    }
}

#[cfg(test)]
#[path = "bundle_stream_tests.rs"]
mod tests;
