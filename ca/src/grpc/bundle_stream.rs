//! The trust bundle over SDS, on the certificate port: to agents and to any Envoy that proves who it is. What they
//! acknowledge is what coverage is made of.

use std::pin::Pin;
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryService;
use futures::{Stream, StreamExt};
use signet_core::audit::{Attributed, EventKind, Outcome};
use signet_core::caller::Peer;
use signet_core::clock::SharedClock;
use signet_core::holder::{Acknowledger, HolderKey};
use signet_core::seams::authenticator::{AuthenticationError, Denial};
use signet_sds::service::{Responses, SdsService};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::bundle_listeners::Listeners;
use super::headers;
use super::status::{AUTHENTICATION, UNCHECKED};
use crate::client_identity::{ClientIdentity, ClientVerifier};
use crate::clusters::Clusters;
use crate::limits::request_rates::RequestRates;
use crate::over_limit::retry_later;
use crate::refusals::{Class, Refusals, RefusedCall};
use crate::storage_age::StorageAge;
use crate::transport::connection::{client_identity, place, remote_addr, shown};

/// What a stream ends with when its token has.
const TOKEN_ENDED: &str = "the token that opened this stream has ended; open a new one with a newer token";

/// What a stream ends with when the tokens of its cluster are believed no longer, or by other rules.
const CLUSTER_CHANGED: &str =
    "the cluster of the token that opened this stream is served no longer, or by other rules; open a new one";

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
    pub rates: Arc<RequestRates>,
    /// Who was refused.
    pub refusals: Refusals,
    /// The time.
    pub clock: SharedClock,
    /// Who hears what is acknowledged on a stream.
    pub listeners: Listeners,
    /// Who is told what clients show of earlier streams.
    pub storage_age: Arc<StorageAge>,
}

/// Who opened a stream, and how long that holds: for a token until a time, and while its cluster is served and believes it;
/// for a certificate as long as that does.
struct Opener {
    from: Acknowledger,
    until: Option<OffsetDateTime>,
    believed: CancellationToken,
}

impl BundleStream {
    /// Who is asking: by its certificate, else by its token.
    async fn authenticate<T>(&self, request: &Request<T>) -> Result<Opener, Status> {
        let (peer, place) = (remote_addr(request), place(request));
        if let Some(place) = place.as_ref().filter(|place| !place.is_proved()) {
            self.rates.count_source(place.source()).map_err(|limit| {
                place.note(limit);
                retry_later(limit)
            })?;
        }
        if let Some(identity) = client_identity(request) {
            // The connection may be older than the end of its certificate.
            let holds = self.clients.still_holds(identity, self.clock.now());
            let (spiffe_id, serial) = (identity.spiffe_id.to_string(), identity.serial.clone());
            holds.map_err(|error| {
                if let Some(place) = &place {
                    place.lapse();
                }
                let who = Attributed { spiffe_id: Some(spiffe_id.clone()), ..Attributed::default() };
                self.refuse(Peer(peer), (Outcome::Refused, "certificate_not_valid"), None, who, error.to_string());
                Status::unauthenticated(AUTHENTICATION)
            })?;
            let until = Some(identity.not_after);
            let believed = CancellationToken::new();
            return Ok(Opener { from: Acknowledger::Certificate { spiffe_id, serial }, until, believed });
        }
        let metadata = request.metadata();
        let cluster = headers::cluster(metadata).map_err(|wrong| Status::invalid_argument(wrong.to_string()))?;
        let checked = async {
            let cluster = self.clusters.select(cluster.as_deref())?;
            let missing = || AuthenticationError::denied(Denial::TokenMissing, "neither a token nor a certificate");
            let token = headers::bearer(metadata).ok_or_else(missing)?;
            let caller = cluster.authenticator.authenticate(&token, self.clock.now()).await?;
            Ok((caller, cluster.ended.clone()))
        };
        let (caller, believed) = checked.await.map_err(|error| {
            let (outcome, status) = match error {
                AuthenticationError::Denied { .. } => (Outcome::Refused, Status::unauthenticated(AUTHENTICATION)),
                _ => (Outcome::Failed, Status::unavailable(UNCHECKED)),
            };
            if let (Outcome::Refused, Some(place)) = (outcome, &place) {
                place.lapse();
            }
            let why = (outcome, error.label());
            self.refuse(Peer(peer), why, Some(&error), Attributed::default(), error.to_string());
            status
        })?;
        if let Some(place) = &place {
            place.prove(&caller.identity.to_string());
        }
        let (pod, instance) = (caller.pod.map(|pod| pod.uid), headers::instance(metadata));
        let key = HolderKey::of(caller.identity.to_string(), pod.as_deref(), instance.as_deref(), "");
        let from = Acknowledger::Holder(key);
        Ok(Opener { from, until: caller.until, believed })
    }

    /// Waits until what opened a stream holds no longer; gives what the stream ends with. Clients open a new one then:
    /// Envoy does after any end, and our agent knows this one as no failure.
    fn end(
        &self,
        identity: Option<Arc<ClientIdentity>>,
        until: Option<OffsetDateTime>,
        believed: CancellationToken,
    ) -> End {
        let (clients, clock) = (Arc::clone(&self.clients), Arc::clone(&self.clock));
        let last = async move {
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
        };
        Box::pin(async move {
            believed.run_until_cancelled(last).await.unwrap_or_else(|| Status::unauthenticated(CLUSTER_CHANGED))
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

impl BundleStream {
    /// Counts a refusal and notes it for record and log.
    fn refuse(
        &self,
        peer: Peer,
        (outcome, reason): (Outcome, &'static str),
        denied: Option<&AuthenticationError>,
        who: Attributed,
        detail: String,
    ) {
        self.listeners.metrics.stream_refused(reason);
        tracing::debug!(reason, error = detail, peer.addr = %peer, "no bundle stream");
        // Whose certificate does not hold any more has shown in the handshake that it is theirs.
        let shown = who.spiffe_id.is_some();
        let who = Attributed { peer: Some(peer.to_string()), ..who };
        let call = (EventKind::BundleStream, "StreamSecrets");
        let mut refusal = RefusedCall::of_request(call, (outcome, reason), denied, peer, who);
        if shown {
            refusal.class = Class::Signed;
        }
        self.refusals.note(RefusedCall { detail, ..refusal });
    }
}

#[tonic::async_trait]
impl SecretDiscoveryService for BundleStream {
    type StreamSecretsStream = Responses;
    type DeltaSecretsStream = Refused;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let Opener { from, until: last, believed } = self.authenticate(&request).await?;
        if let Some(proof) = headers::bundle_proof(request.metadata()) {
            self.storage_age.note(proof);
        }
        let peer = remote_addr(&request).map_or_else(|| "-".to_owned(), |address| address.to_string());
        // The connection outlives the certificate that opened it, and a stream can outlive any token.
        let end = self.end(shown(&request), last, believed);
        let stream = self.sds.stream(request.into_inner(), &peer, Some(self.listeners.enter(from)?))?;
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
