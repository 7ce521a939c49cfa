//! The bundle stream of the CA in the test's own process, and what the CA hears on it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use rustls_pki_types::CertificateRevocationListDer;
use signet_core::bundle::{TrustBundle, Validation};
use signet_core::clock::SystemClock;
use signet_core::identity::TrustDomain;
use signet_sds::ledger::{AcknowledgementListener, Ledger, Observer};
use signet_sds::resources::SECRET_TYPE_URL;
use signet_sds::service::{Responses, SdsService};
use signet_sds::session::{Acknowledgement, Answer};
use signet_sds::snapshot::{SecretContent, Snapshot, Version};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::tests::test_ca::Authority;
use crate::tests::test_world::within;

/// Something that happened on a stream of this number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// With these headers: authorization, clusterid, signet-instance.
    Opened(u64, [String; 3]),
    /// The bundle of this sequence.
    Applied(u64, u64),
    Refused(u64, u64, String),
    Closed(u64),
}

#[derive(Clone, Default)]
pub(crate) struct TestBundles {
    /// Empty: there is no such service.
    snapshots: Arc<watch::Sender<Arc<Snapshot>>>,
    sequences: Arc<Mutex<HashMap<Version, u64>>>,
    heard: Arc<watch::Sender<Vec<Heard>>>,
    /// Responses that were acknowledged and that were refused, whatever was in them.
    answers: Arc<watch::Sender<(u64, u64)>>,
    opened: Arc<AtomicU64>,
    pub(crate) refusing: Arc<AtomicBool>,
    /// How many streams were refused.
    pub(crate) refusals: Arc<watch::Sender<u64>>,
    /// When each was, by the time of the runtime.
    pub(crate) refused_at: Arc<Mutex<Vec<Instant>>>,
    /// Rings when all open streams are to end as the CA ends those whose token has.
    pub(crate) tokens_end: Arc<Notify>,
    /// This replica knows no streams, though others do.
    pub(crate) unknown: Arc<AtomicBool>,
    /// What is sent beside all that on open streams, whatever it is.
    more: Arc<Mutex<Vec<mpsc::UnboundedSender<DiscoveryResponse>>>>,
    /// What each stream was opened with of what an earlier one has brought.
    pub(crate) shown: Arc<Mutex<Vec<Option<String>>>>,
}

pub(crate) fn validation(sequence: u64, roots: &[&Authority], lists: &[&[u8]]) -> Validation {
    let roots = roots.iter().map(|root| root.der.clone()).collect();
    let bundle = TrustBundle::new(TrustDomain::parse("td").unwrap(), sequence, roots).unwrap();
    let list = |der: &&[u8]| CertificateRevocationListDer::from(der.to_vec());
    Validation { bundle, revocation_lists: lists.iter().map(list).collect() }
}

impl TestBundles {
    /// Offers a bundle, with `renew` as the JSON of the renewal hints.
    pub(crate) fn publish(&self, validation: Validation, renew: &str) {
        let sequence = validation.bundle.sequence();
        let proof = format!("proof-{sequence}");
        let instructions = format!(r#"{{"sequence":{sequence},"renew":{renew},"later":true,"proof":"{proof}"}}"#);
        self.publish_raw(sequence, SecretContent::Validation(validation), &instructions);
    }

    pub(crate) fn publish_raw(&self, sequence: u64, content: SecretContent, instructions: &str) {
        self.sequences.lock().unwrap().insert(content.version(), sequence);
        let instructions = SecretContent::Generic(instructions.as_bytes().into());
        self.snapshots.send_replace(Arc::new(Snapshot::new([("ROOTCA", content), ("signet/agent", instructions)])));
    }

    /// Sends a response without resources on every open stream.
    pub(crate) fn send_nothing(&self) {
        let nothing = DiscoveryResponse {
            nonce: "nothing".to_owned(),
            version_info: "nothing".to_owned(),
            type_url: SECRET_TYPE_URL.to_owned(),
            ..DiscoveryResponse::default()
        };
        self.more.lock().unwrap().retain(|stream| stream.send(nothing.clone()).is_ok());
    }

    /// Everything heard, once it satisfies `condition`.
    pub(crate) async fn until(&self, condition: impl Fn(&[Heard]) -> bool) -> Vec<Heard> {
        let mut heard = self.heard.subscribe();
        within(heard.wait_for(|heard| condition(heard))).await.unwrap().clone()
    }

    /// Waits until this bundle was applied on any stream.
    pub(crate) async fn applied(&self, sequence: u64) -> Vec<Heard> {
        self.until(|heard| heard.iter().any(|it| matches!(it, Heard::Applied(_, which) if *which == sequence))).await
    }

    /// Waits until so many streams were refused.
    pub(crate) async fn refused(&self, count: u64) {
        let mut refusals = self.refusals.subscribe();
        let _count = within(refusals.wait_for(|refused| *refused >= count)).await.unwrap();
    }

    /// How many responses were acknowledged and how many refused, once there are so many answers.
    pub(crate) async fn answers(&self, count: u64) -> (u64, u64) {
        let mut answers = self.answers.subscribe();
        *within(answers.wait_for(|(applied, refused)| applied + refused >= count)).await.unwrap()
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.borrow().clone()
    }

    pub(crate) fn serve(&self, stop: CancellationToken) -> SecretDiscoveryServiceServer<Service> {
        let ledger = Ledger::new(100, Arc::new(SystemClock), Arc::new(self.clone()));
        let sds = SdsService::new(self.snapshots.subscribe(), ledger, stop);
        SecretDiscoveryServiceServer::new(Service { sds, bundles: self.clone() })
    }

    fn refuse(&self) {
        self.refused_at.lock().unwrap().push(Instant::now());
        self.refusals.send_modify(|count| *count += 1);
    }

    fn hear(&self, what: Heard) {
        self.heard.send_modify(|heard| heard.push(what));
    }
}

impl Observer for TestBundles {
    fn acknowledged(&self) {
        self.answers.send_modify(|(applied, _)| *applied += 1);
    }

    fn refused(&self) {
        self.answers.send_modify(|(_, refused)| *refused += 1);
    }
}

struct Ear {
    stream: u64,
    bundles: TestBundles,
}

impl AcknowledgementListener for Ear {
    fn heard(&self, Acknowledgement { name, version, answer }: &Acknowledgement) {
        if **name == *"ROOTCA" {
            let sequence = self.bundles.sequences.lock().unwrap()[version];
            self.bundles.hear(match answer {
                Answer::Ack => Heard::Applied(self.stream, sequence),
                Answer::Nack(text) => Heard::Refused(self.stream, sequence, text.clone()),
            });
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.bundles.hear(Heard::Closed(self.stream));
    }
}

pub(crate) struct Service {
    sds: SdsService,
    bundles: TestBundles,
}

#[tonic::async_trait]
impl SecretDiscoveryService for Service {
    type StreamSecretsStream = Responses;
    type DeltaSecretsStream = BoxStream<'static, Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Responses>, Status> {
        if self.bundles.snapshots.borrow().is_empty() || self.bundles.unknown.load(Ordering::SeqCst) {
            self.bundles.refuse();
            return Err(Status::unimplemented("no such service"));
        }
        if self.bundles.refusing.load(Ordering::SeqCst) {
            self.bundles.refuse();
            return Err(Status::unauthenticated("not now"));
        }
        let header = |name| request.metadata().get(name).unwrap().to_str().unwrap().to_owned();
        let headers = ["authorization", "clusterid", "signet-instance"].map(header);
        let proof = request.metadata().get("signet-bundle-proof").map(|proof| proof.to_str().unwrap().to_owned());
        self.bundles.shown.lock().unwrap().push(proof);
        let stream = self.bundles.opened.fetch_add(1, Ordering::SeqCst) + 1;
        self.bundles.hear(Heard::Opened(stream, headers));
        let ear = Ear { stream, bundles: self.bundles.clone() };
        let ends = Arc::clone(&self.bundles.tokens_end);
        // Heard from now on.
        let mut end = Box::pin(ends.notified_owned());
        end.as_mut().enable();
        let responses = self.sds.stream(request.into_inner(), "agent", Some(Arc::new(ear)))?;
        let ended = futures::stream::once(end.map(|()| Err(Status::unauthenticated("the token has ended"))));
        Ok(responses.map(|responses| {
            let (sender, more) = mpsc::unbounded_channel();
            self.bundles.more.lock().unwrap().push(sender);
            let more = UnboundedReceiverStream::new(more).map(|response| Some(Ok(response)));
            let all = futures::stream::select(responses.map(Some), ended.map(Some));
            let all = futures::stream::select(more, all);
            // The first error is the last response.
            let until = all.scan(false, |over, response| {
                let goes_on = !std::mem::replace(over, matches!(response, Some(Err(_))));
                std::future::ready(response.filter(|_| goes_on))
            });
            Box::pin(until) as Responses
        }))
    }

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_secrets(&self, _: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}
