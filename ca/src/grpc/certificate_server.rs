//! The tonic service around [`CertificateService`], which hears of messages that cannot be read as well: the generated one
//! answers those itself, past every limit and counter.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use signet_proto::codec::{Received, ServerCodec};
use signet_proto::istio::istio_certificate_service_server::SERVICE_NAME;
use signet_proto::istio::{IstioCertificateRequest, IstioCertificateResponse};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tower::Service;

use super::create_certificate::CertificateService;
use super::reply_body::{replies, see_off};

const CREATE_CERTIFICATE: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// Serves `istio.v1.auth.IstioCertificateService`.
#[derive(Clone)]
pub struct CertificateServer {
    service: Arc<CertificateService>,
    largest: usize,
}

impl CertificateServer {
    /// Serves `service`; of a message longer than `largest` bytes no more than its length is read.
    #[must_use]
    pub fn new(service: CertificateService, largest: usize) -> Self {
        Self { service: Arc::new(service), largest }
    }
}

impl NamedService for CertificateServer {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<http::Request<Body>> for CertificateServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != CREATE_CERTIFICATE {
            let unknown = Status::unimplemented("this service has the call CreateCertificate only").into_http();
            return Box::pin(std::future::ready(Ok(unknown)));
        }
        let (call, largest) = (CreateCertificate(Arc::clone(&self.service)), self.largest);
        let replies = replies(request.extensions());
        Box::pin(async move {
            let grpc = Grpc::new(ServerCodec::default());
            let response = grpc.apply_max_message_size_config(Some(largest), None).unary(call, request).await;
            Ok(see_off(response, replies))
        })
    }
}

struct CreateCertificate(Arc<CertificateService>);

impl UnaryService<Received<IstioCertificateRequest>> for CreateCertificate {
    type Response = IstioCertificateResponse;
    type Future = Pin<Box<dyn Future<Output = Result<Response<IstioCertificateResponse>, Status>> + Send>>;

    fn call(&mut self, request: Request<Received<IstioCertificateRequest>>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move { service.create_certificate(request).await })
    }
}
