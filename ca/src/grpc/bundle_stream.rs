//! The trust bundle over SDS, on the certificate port: to agents and to any Envoy that proves who it is. What they
//! acknowledge is what coverage is made of.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryService;
use futures::{Stream, StreamExt};
use signet_core::clock::SharedClock;
use signet_core::holder::{Acknowledgement, Acknowledger, HolderKey};
use signet_core::seams::authenticator::{AuthenticationError, Denial};
use signet_sds::service::{Responses, SdsService};
use signet_sds::snapshot::{DEFAULT_BUNDLE_NAME, Snapshot, Version, Versioned};
use signet_sds::streams::StreamListener;
use std::pin::Pin;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::client_identity::ClientVerifier;
use super::headers;
use super::status::{AUTHENTICATION, UNCHECKED};
use super::tls::{client_identity, remote_addr, shown};
use crate::acknowledgements::Acknowledgements;
use crate::admission::Admission;
use crate::bundle_feed::Sequences;
use crate::clusters::Clusters;
use crate::metrics::CaMetrics;

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

impl BundleStream {
    /// Who is asking: by its certificate, else by its token.
    async fn authenticate<T>(&self, request: &Request<T>) -> Result<Acknowledger, Status> {
        let peer = remote_addr(request);
        // Only to be counted: the stream itself is bounded by its own number.
        let entered = self.admission.enter(peer.map(|address| address.ip()));
        drop(entered.map_err(|over| Status::resource_exhausted(over.to_string()))?);
        if let Some(identity) = client_identity(request) {
            // The connection may be older than the end of its certificate.
            let holds = self.clients.still_holds(identity, self.clock.now());
            holds.map_err(|_| Status::unauthenticated(AUTHENTICATION))?;
            let (spiffe_id, serial) = (identity.spiffe_id.to_string(), identity.serial.clone());
            return Ok(Acknowledger::Certificate { spiffe_id, serial });
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
        Ok(Acknowledger::Holder(HolderKey { spiffe_id: caller.identity.to_string(), instance }))
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
        let from = self.authenticate(&request).await?;
        let peer = remote_addr(&request).map_or_else(|| "-".to_owned(), |address| address.to_string());
        let identity = shown(&request);
        let stream = self.sds.stream(request.into_inner(), &peer, self.listeners.enter(from)?)?;
        let Some(identity) = identity else { return Ok(stream) };
        // The connection outlives the certificate that opened it: the stream must not.
        let (clients, clock) = (Arc::clone(&self.clients), Arc::clone(&self.clock));
        let (ends, until) = (Arc::clone(&self.clock), identity.not_after);
        let holds = move |_: &Result<DiscoveryResponse, Status>| {
            let holds = clients.still_holds(&identity, clock.now()).is_ok();
            std::future::ready(holds)
        };
        let end = async move { ends.sleep_until(until).await };
        Ok(stream.map(|stream| Box::pin(stream.take_while(holds).take_until(Box::pin(end))) as Responses))
    }

    async fn delta_secrets(&self, _: Request<Streaming<DeltaDiscoveryRequest>>) -> Result<Response<Refused>, Status> {
        Err(Status::unimplemented("incremental SDS is not served yet; use the api_type GRPC"))
    }

    async fn fetch_secrets(&self, request: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        self.authenticate(&request).await?;
        self.sds.fetch(request.get_ref()).map(Response::new)
    }
}

/// The open streams, and what is done with what they say.
#[derive(Clone)]
pub struct Listeners {
    acknowledgements: Acknowledgements,
    sequences: Sequences,
    clock: SharedClock,
    metrics: Arc<CaMetrics>,
    open: Arc<Mutex<Vec<Weak<Listener>>>>,
    counts: Arc<Mutex<HashMap<Acknowledger, usize>>>,
}

impl Listeners {
    /// No streams yet.
    #[must_use]
    pub fn new(
        acknowledgements: Acknowledgements,
        sequences: Sequences,
        clock: SharedClock,
        metrics: Arc<CaMetrics>,
    ) -> Self {
        Self { acknowledgements, sequences, clock, metrics, open: Arc::default(), counts: Arc::default() }
    }

    /// The listener of a new stream; a holder that has many already gets no more.
    fn enter(&self, from: Acknowledger) -> Result<Arc<Listener>, Status> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(from.clone()).or_insert(0);
        if *count >= PER_HOLDER {
            return Err(Status::resource_exhausted(format!(
                "this holder has {PER_HOLDER} bundle streams open already"
            )));
        }
        *count += 1;
        drop(counts);
        let listener = Arc::new(Listener { from, all: self.clone(), applied: Mutex::default() });
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Swept when it would grow, so that entering costs the same on average however many there are.
        if open.len() == open.capacity() {
            open.retain(|one| one.strong_count() > 0);
        }
        open.push(Arc::downgrade(&listener));
        self.metrics.rotation.streams.inc();
        Ok(listener)
    }

    /// A bundle may get a new sequence without another content, after a rollback: nothing is sent then, and whoever
    /// has that content has the new sequence too. Runs until `stop`.
    ///
    /// # Errors
    /// None.
    pub async fn follow(
        self,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        stop: CancellationToken,
    ) -> Result<(), std::convert::Infallible> {
        while let Some(Ok(())) = stop.run_until_cancelled(snapshots.changed()).await {
            let version = snapshots.borrow_and_update().secret(DEFAULT_BUNDLE_NAME).map(Versioned::version);
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for listener in open.iter().filter_map(Weak::upgrade) {
                if let Some(version) = version.filter(|version| listener.has(*version)) {
                    listener.note(version, None);
                }
            }
        }
        stop.cancelled().await;
        Ok(())
    }
}

/// Streams of one holder at a time: an agent has two while it changes over.
const PER_HOLDER: usize = 8;

/// One open stream.
struct Listener {
    from: Acknowledger,
    all: Listeners,
    applied: Mutex<Option<Version>>,
}

impl Listener {
    fn has(&self, version: Version) -> bool {
        *self.applied.lock().unwrap_or_else(PoisonError::into_inner) == Some(version)
    }

    fn note(&self, version: Version, refused: Option<String>) {
        let Some(sequence) = self.all.sequences.of(version) else { return };
        let at = self.all.clock.now();
        self.all.acknowledgements.note(Acknowledgement { from: self.from.clone(), sequence, refused, at });
    }
}

impl StreamListener for Listener {
    fn applied(&self, name: &str, version: Version) {
        if name == DEFAULT_BUNDLE_NAME {
            *self.applied.lock().unwrap_or_else(PoisonError::into_inner) = Some(version);
            self.note(version, None);
        }
    }

    fn refused(&self, name: &str, version: Version, text: &str) {
        if name == DEFAULT_BUNDLE_NAME {
            self.all.metrics.rotation.refused.inc();
            tracing::warn!(holder = ?self.from, text, "a holder refused the trust bundle");
            let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
            *applied = applied.filter(|applied| *applied != version);
            drop(applied);
            self.note(version, Some(text.to_owned()));
        }
    }
}

/// With the stream, or with the attempt to open it.
impl Drop for Listener {
    fn drop(&mut self) {
        self.all.metrics.rotation.streams.dec();
        let mut counts = self.all.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
#[path = "bundle_stream_tests.rs"]
mod tests;
