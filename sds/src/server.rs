//! The tonic service around an implementation of SDS, with buffers of the size of its messages: those that the generated
//! service takes hold 16 KiB for as long as a stream is open, which is most of what a stream on a shared connection costs.
//! And with the right answer to a message that cannot be read, which is the client's fault.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use prost::Message;
use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic::server::{Grpc, NamedService, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstEncoder;
use tower::Service;

/// The largest request that is read, in bytes: the most and longest names fit.
pub const MAX_REQUEST_BYTES: usize = 512 * 1024;

/// How many bytes a stream's buffers begin with, one for each direction; they grow with its messages. Most requests fit.
const BUFFER: usize = 512;

/// How many bytes of responses may be sent together. One response waits at a time, so this is never reached by two.
const SENT_TOGETHER: usize = 32 * 1024;

const STREAM_SECRETS: &str = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
const FETCH_SECRETS: &str = "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets";

/// Serves an implementation of SDS, with requests of at most [`MAX_REQUEST_BYTES`].
#[derive(Debug)]
pub struct SdsServer<T> {
    service: Arc<T>,
    /// The calls that are not served here.
    others: SecretDiscoveryServiceServer<T>,
}

impl<T: SecretDiscoveryService> SdsServer<T> {
    /// Takes the implementation.
    #[must_use]
    pub fn new(service: T) -> Self {
        let service = Arc::new(service);
        let others = SecretDiscoveryServiceServer::from_arc(Arc::clone(&service));
        Self { service, others: others.max_decoding_message_size(MAX_REQUEST_BYTES) }
    }
}

impl<T> Clone for SdsServer<T> {
    fn clone(&self) -> Self {
        Self { service: Arc::clone(&self.service), others: self.others.clone() }
    }
}

impl<T: SecretDiscoveryService> NamedService for SdsServer<T> {
    const NAME: &'static str = SecretDiscoveryServiceServer::<T>::NAME;
}

impl<T: SecretDiscoveryService> Service<http::Request<Body>> for SdsServer<T> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = Arc::clone(&self.service);
        let grpc = || Grpc::new(SizedCodec).apply_max_message_size_config(Some(MAX_REQUEST_BYTES), None);
        match request.uri().path() {
            STREAM_SECRETS => Box::pin(async move { Ok(grpc().streaming(StreamSecrets(service), request).await) }),
            FETCH_SECRETS => Box::pin(async move { Ok(grpc().unary(FetchSecrets(service), request).await) }),
            _ => self.others.call(request),
        }
    }
}

/// The one call that is no stream.
struct FetchSecrets<T>(Arc<T>);

impl<T: SecretDiscoveryService> UnaryService<DiscoveryRequest> for FetchSecrets<T> {
    type Response = DiscoveryResponse;
    type Future = Pin<Box<dyn Future<Output = Result<Response<DiscoveryResponse>, Status>> + Send>>;

    fn call(&mut self, request: Request<DiscoveryRequest>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move { service.fetch_secrets(request).await })
    }
}

/// The one streaming call that is served.
struct StreamSecrets<T>(Arc<T>);

impl<T: SecretDiscoveryService> StreamingService<DiscoveryRequest> for StreamSecrets<T> {
    type Response = DiscoveryResponse;
    type ResponseStream = T::StreamSecretsStream;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<DiscoveryRequest>>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move { service.stream_secrets(request).await })
    }
}

/// Protobuf with small buffers.
struct SizedCodec;

impl Codec for SizedCodec {
    type Encode = DiscoveryResponse;
    type Decode = DiscoveryRequest;
    type Encoder = ProstEncoder<DiscoveryResponse>;
    type Decoder = Requests;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(BUFFER, SENT_TOGETHER))
    }

    fn decoder(&mut self) -> Self::Decoder {
        Requests
    }
}

/// Reads requests.
struct Requests;

impl Decoder for Requests {
    type Item = DiscoveryRequest;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<DiscoveryRequest>, Status> {
        // Without the reason, which names every message around a field and so may be long.
        let unreadable = |_| Status::invalid_argument("the message cannot be read as a DiscoveryRequest");
        DiscoveryRequest::decode(bytes).map(Some).map_err(unreadable)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, SENT_TOGETHER)
    }
}
