//! One open bundle stream: what the CA sends goes to the identity store, what all clients together say about it goes back.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::google::rpc;
use signet_core::bundle::{MAX_MESSAGE_BYTES, Validation};
use signet_core::identity::TrustDomain;
use signet_core::secret::Secret;
use signet_runtime::output::error_chain;
use signet_sds::ledger::{Aggregate, Ledger};
use signet_sds::resources::SECRET_TYPE_URL;
use signet_sds::session::Answer;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::message::{self, NAMES};
use super::pace::Pace;
use super::received::{ReceivedResponses, ResponseAnswer};
use crate::ca::channel::{CaChannel, CaError};
use crate::ca::token::TokenError;
use crate::identity::status::Link;
use crate::identity::store::{IdentityStore, Receipt};
use crate::metrics::BundleMetrics;

/// The requests that may wait for the CA to read them. It reads at once, or something is wrong.
const MAX_REQUESTS: usize = 16;

/// Where the CA is shown what it has asked to be shown.
const PROOF_HEADER: &str = "signet-bundle-proof";

/// Why there is no bundle stream, or no longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum StreamError {
    /// There is no usable token; no call was made.
    #[error("no bundle stream was asked for")]
    Token(#[from] TokenError),
    /// The CA could not be reached, or has said no.
    #[error("the CA gave no bundle stream")]
    Ca(#[from] CaError),
    /// The CA ended the stream because the token that opened it has ended.
    #[error("the token that opened the bundle stream has ended")]
    TokenEnded,
    /// The CA ended the stream without an error.
    #[error("the CA has ended the bundle stream")]
    Ended,
    /// The CA takes no answers.
    #[error("the CA does not read what it is told on the bundle stream")]
    Unread,
}

impl StreamError {
    /// Whether the CA has no such stream at all.
    pub(super) fn is_unsupported(&self) -> bool {
        matches!(self, Self::Ca(CaError::Refused { code: Code::Unimplemented, .. }))
    }
}

/// What every stream works with.
pub(super) struct StreamContext {
    pub(super) channel: Arc<CaChannel>,
    pub(super) store: Arc<IdentityStore>,
    /// What those say to whom the bundle is handed on: an acknowledgement to the CA speaks for all of them.
    pub(super) ledger: Ledger,
    /// The secret by which they ask for the bundle.
    pub(super) bundle_name: String,
    pub(super) trust_domain: TrustDomain,
    pub(super) metrics: BundleMetrics,
}

/// A bundle that is older than the one held. It is kept, since the CA may say later, of the same one, that it is the newest
/// after all: then it does not send it again, and is to be answered about the response that held it.
struct Older {
    validation: Validation,
    nonce: String,
    version: String,
    text: String,
}

/// An open stream whose first response is there.
pub(super) struct Session {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
    first: Option<DiscoveryResponse>,
    received: ReceivedResponses,
    /// Tells when the ledger may say something else.
    changes: watch::Receiver<u64>,
    pace: Pace,
    /// The bundle sent last is older than the one held, so that nothing can be acknowledged.
    older: Option<Older>,
    /// Roots may have been removed since the root file was looked at.
    root_file_is_unread: bool,
}

impl Session {
    /// Opens a stream and waits for its first response, which a CA has at once.
    ///
    /// # Errors
    /// [`StreamError::Ca`] and [`StreamError::Ended`]; never later than the timeout of any call.
    pub(super) async fn open(context: &StreamContext, token: &Secret, node: String) -> Result<Self, StreamError> {
        let channel = &context.channel;
        let opening = async {
            let connection = channel.connect().await?;
            let mut client = SecretDiscoveryServiceClient::new(connection).max_decoding_message_size(MAX_MESSAGE_BYTES);
            let (requests, outgoing) = mpsc::channel(MAX_REQUESTS);
            let first = DiscoveryRequest { node: Some(Node { id: node, ..Node::default() }), ..subscription() };
            // The channel is new and has room.
            let _queued = requests.try_send(first).is_ok();
            let mut request = channel.request(ReceiverStream::new(outgoing), token)?;
            let proof = context.store.statuses().borrow().bundle_stream.proof.clone();
            if let Some(proof) = proof.and_then(|(_, proof)| proof.parse().ok()) {
                request.metadata_mut().insert(PROOF_HEADER, proof);
            }
            let responses = client.stream_secrets(request).await;
            let mut responses = responses.map_err(|status| channel.refused(&status))?.into_inner();
            let first = responses.message().await.map_err(|status| channel.refused(&status))?;
            Ok((requests, responses, first))
        };
        let (requests, responses, first) = channel.within(opening).await?;
        let first = Some(first.ok_or(StreamError::Ended)?);
        let (received, pace) = (ReceivedResponses::default(), Pace::new(Instant::now()));
        let changes = context.ledger.changes();
        Ok(Self { requests, responses, first, received, changes, pace, older: None, root_file_is_unread: false })
    }

    /// Works until the stream ends. May be dropped and called again at any time.
    pub(super) async fn run(&mut self, context: &StreamContext) -> StreamError {
        if let Some(first) = self.first.take()
            && let Err(error) = self.take(&first, context)
        {
            return error;
        }
        loop {
            if self.root_file_is_unread {
                context.channel.look_at_root_file().await;
                self.root_file_is_unread = false;
            }
            // Read once per turn: what is to come later is waited for below, with no moment between the two.
            let now = Instant::now();
            if self.pace.next().is_some_and(|at| at <= now)
                && let Err(error) = self.answer(context, now)
            {
                return error;
            }
            let next = self.pace.next();
            tokio::select! {
                response = self.responses.message() => {
                    let taken = match response {
                        Ok(Some(response)) => self.take(&response, context),
                        Ok(None) => Err(StreamError::Ended),
                        // Of a stream that was open this is no refusal.
                        Err(status) if status.code() == Code::Unauthenticated => Err(StreamError::TokenEnded),
                        Err(status) => Err(context.channel.refused(&status).into()),
                    };
                    if let Err(error) = taken {
                        return error;
                    }
                }
                // Fails only without a ledger, of which the context holds one.
                Ok(()) = self.changes.changed() => self.pace.changed(now),
                () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
            }
        }
    }

    fn take(&mut self, response: &DiscoveryResponse, context: &StreamContext) -> Result<(), StreamError> {
        self.pace.received(Instant::now());
        let update = match message::read(response, &context.trust_domain) {
            Ok(update) => update,
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(error, "what the CA sent on the bundle stream is refused; the old bundle stays");
                context.store.bundle_stream(Link::Up, Some(format!("refused what the CA sent: {error}")));
                return self.send(self.received.unusable(response.nonce.clone(), &error));
            }
        };
        let sequence = update.instructions.as_ref().map(|instructions| instructions.sequence);
        let now = || (response.nonce.clone(), response.version_info.clone());
        let roots = match (update.validation, sequence) {
            // Another number for the one that was sent last.
            (None, Some(_)) => self.older.take().map(|older| (older.validation, (older.nonce, older.version))),
            (validation, _) => validation.map(|validation| (validation, now())),
        };
        let mut usable = None;
        if let Some((validation, (nonce, version))) = roots {
            self.older = None;
            let (roots, lists) = (validation.bundle.roots().len(), validation.revocation_lists.len());
            let receipt = context.store.received(validation.clone(), sequence);
            match receipt {
                Receipt::Applied => {
                    // What the root file holds now is no news about roots that have just been taken away.
                    self.root_file_is_unread = true;
                    tracing::info!(bundle.sequence = sequence, roots, lists, "a new trust bundle is served");
                }
                Receipt::Unchanged => {}
                Receipt::Older(held) => {
                    let text = format!("a newer bundle ({held}) is held");
                    tracing::warn!(
                        bundle.sequence = sequence,
                        bundle.held = held,
                        "the CA's bundle is older than the one held, which stays; if this lasts, its storage came from a backup"
                    );
                    self.older = Some(Older { validation, nonce: nonce.clone(), version: version.clone(), text });
                }
            }
            usable = Some((nonce, version));
        }
        if let Some(instructions) = &update.instructions {
            context.store.instructed(instructions);
        }
        context.store.bundle_stream(Link::Up, self.older.as_ref().map(|older| older.text.clone()));
        if let Some(Older { text, .. }) = &self.older {
            // Also of a response without roots: an acknowledgement would speak for the roots before it.
            return self.send(self.received.unusable(response.nonce.clone(), text));
        }
        let with_roots = usable.as_ref().is_some_and(|(nonce, _)| *nonce == response.nonce);
        if let Some((nonce, version)) = usable.filter(|_| !with_roots) {
            self.received.usable(nonce, version, true);
        }
        self.received.usable(response.nonce.clone(), response.version_info.clone(), with_roots);
        Ok(())
    }

    /// Tells the CA what it has not been told yet of what all clients together say.
    fn answer(&mut self, context: &StreamContext, now: Instant) -> Result<(), StreamError> {
        self.changes.mark_unchanged();
        let version = context.store.statuses().borrow().validation.as_ref().map(|held| held.version);
        let nothing = (Aggregate::Pending(0), None);
        let (aggregate, again) =
            version.map_or(nothing, |version| context.ledger.aggregate(&context.bundle_name, version));
        let answers = self.received.answers(&aggregate);
        self.pace.looked(now, !answers.is_empty(), again);
        for answer in answers {
            if let Answer::Nack(error) = &answer.answer {
                tracing::warn!(error, "a proxy refused the trust bundle; the CA is told");
                context.metrics.refused();
            }
            self.send(answer)?;
        }
        Ok(())
    }

    fn send(&self, ResponseAnswer { nonce, version, answer }: ResponseAnswer) -> Result<(), StreamError> {
        let error_detail = match answer {
            Answer::Ack => None,
            Answer::Nack(error) => {
                Some(rpc::Status { code: Code::InvalidArgument.into(), message: error, ..rpc::Status::default() })
            }
        };
        let request = DiscoveryRequest { response_nonce: nonce, version_info: version, error_detail, ..subscription() };
        self.requests.try_send(request).map_err(|_full_or_closed| StreamError::Unread)
    }
}

fn subscription() -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: SECRET_TYPE_URL.to_owned(),
        resource_names: NAMES.map(str::to_owned).to_vec(),
        ..DiscoveryRequest::default()
    }
}
