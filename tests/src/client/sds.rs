//! A hand-driven SDS client: says exactly what a test wants to say, in the order it wants.

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
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

impl Stream {
    /// Opens a stream and sends its first request.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn open(agent: &Agent, first: DiscoveryRequest) -> Outcome<Self> {
        let (requests, queue) = mpsc::channel(64);
        requests.send(first).await.map_err(Failure::while_doing("queue a request"))?;
        let mut client = SecretDiscoveryServiceClient::new(agent.channel().await?);
        let answer = client.stream_secrets(ReceiverStream::new(queue)).await;
        let responses = answer.map_err(Failure::while_doing("open an SDS stream"))?.into_inner();
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
    let text = match source.and_then(|source| source.specifier.as_ref()) {
        Some(Specifier::InlineBytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(Specifier::InlineString(text)) => text.clone(),
        _ => String::new(),
    };
    (secret.name.clone(), text)
}
