//! A hand-driven SDS client: says exactly what a test wants to say, in the order it wants.

use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::{DataSource, Node};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::google::rpc::Status as RpcStatus;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::failure::{Failure, Outcome};
use crate::harness::Agent;

/// The type of every resource of this protocol.
pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// One stream.
pub struct Stream {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

/// A request for these names, as the first of a stream.
#[must_use]
pub fn subscribe(node: &str, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        node: Some(Node { id: node.to_owned(), ..Node::default() }),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        type_url: SECRET.to_owned(),
        ..DiscoveryRequest::default()
    }
}

/// The acknowledgement of a response, for these names.
#[must_use]
pub fn acknowledge(response: &DiscoveryResponse, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        version_info: response.version_info.clone(),
        response_nonce: response.nonce.clone(),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        type_url: SECRET.to_owned(),
        ..DiscoveryRequest::default()
    }
}

/// The refusal of a response, for these names: the version stays the one before.
#[must_use]
pub fn refuse(response: &DiscoveryResponse, names: &[&str], why: &str) -> DiscoveryRequest {
    let error_detail = Some(RpcStatus { code: 13, message: why.to_owned(), details: Vec::new() });
    DiscoveryRequest { version_info: String::new(), error_detail, ..acknowledge(response, names) }
}

impl Stream {
    /// Opens a stream and sends its first request.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn open(agent: &Agent, first: DiscoveryRequest) -> Outcome<Self> {
        let opened = Self::over(agent.channel().await?, first, &[]).await;
        opened.map_err(Failure::while_doing("open an SDS stream"))
    }

    /// Opens a stream over any channel, with these headers, and sends its first request.
    ///
    /// # Errors
    /// The status with which the stream was refused.
    pub async fn over(
        channel: Channel,
        first: DiscoveryRequest,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Status> {
        let (requests, queue) = mpsc::channel(64);
        requests.send(first).await.map_err(|_closed| Status::unknown("the queue of requests is closed"))?;
        let mut request = tonic::Request::new(ReceiverStream::new(queue));
        for (name, value) in headers {
            let value: MetadataValue<Ascii> =
                value.parse().map_err(|_| Status::unknown("a header value cannot be sent"))?;
            request.metadata_mut().append(*name, value);
        }
        let responses = SecretDiscoveryServiceClient::new(channel).stream_secrets(request).await?.into_inner();
        Ok(Self { requests, responses })
    }

    /// Sends a further request.
    ///
    /// # Errors
    /// [`Failure`] when the stream has ended.
    pub async fn send(&self, request: DiscoveryRequest) -> Outcome {
        self.requests.send(request).await.map_err(Failure::while_doing("send an SDS request"))
    }

    /// The next response.
    ///
    /// # Errors
    /// The status with which the stream ended.
    pub async fn next(&mut self) -> Result<DiscoveryResponse, Status> {
        self.responses.message().await?.ok_or_else(|| Status::unknown("the stream ended"))
    }
}

/// `FetchSecrets` for these names.
///
/// # Errors
/// The status of the agent.
pub async fn fetch(channel: Channel, request: DiscoveryRequest) -> Result<DiscoveryResponse, Status> {
    Ok(SecretDiscoveryServiceClient::new(channel).fetch_secrets(request).await?.into_inner())
}

/// The secrets of a response.
///
/// # Errors
/// [`Failure`] when a resource is none.
pub fn secrets(response: &DiscoveryResponse) -> Outcome<Vec<Secret>> {
    let decode = |value: &[u8]| Secret::decode(value).map_err(Failure::while_doing("decode a secret"));
    response.resources.iter().map(|any| decode(&any.value)).collect()
}

/// Name, and the PEM text that a secret shows to the world: the chain or the roots.
#[must_use]
pub fn public_text(secret: &Secret) -> (String, String) {
    let source = match &secret.r#type {
        Some(Type::TlsCertificate(certificate)) => certificate.certificate_chain.as_ref(),
        Some(Type::ValidationContext(context)) => context.trusted_ca.as_ref(),
        _ => None,
    };
    (secret.name.clone(), inline(source))
}

/// The PEM text of the revocation lists in a validation context; empty when there are none.
#[must_use]
pub fn revocation_text(secret: &Secret) -> String {
    match &secret.r#type {
        Some(Type::ValidationContext(context)) => inline(context.crl.as_ref()),
        _ => String::new(),
    }
}

/// The text that a data source carries inline; empty when it carries none.
#[must_use]
pub fn inline(source: Option<&DataSource>) -> String {
    match source.and_then(|source| source.specifier.as_ref()) {
        Some(Specifier::InlineBytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(Specifier::InlineString(text)) => text.clone(),
        _ => String::new(),
    }
}
