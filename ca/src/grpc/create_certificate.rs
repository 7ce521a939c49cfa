//! `istio.v1.auth.IstioCertificateService/CreateCertificate`: from wire to domain and back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use prost_types::value::Kind;
use ring::rand::SecureRandom;
use signet_core::caller::Peer;
use signet_core::pem::pem;
use signet_proto::codec::Received;
use signet_proto::istio::{IstioCertificateRequest, IstioCertificateResponse};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status};
use tracing::Instrument;

use super::{headers, status};
use crate::issuance::{Application, Issuance, Issued};
use crate::transport::connection;
use crate::transport::connections::Place;

/// The service.
pub struct CertificateService {
    issuance: Arc<Issuance>,
}

impl CertificateService {
    /// Serves `issuance`.
    #[must_use]
    pub fn new(issuance: Arc<Issuance>) -> Self {
        Self { issuance }
    }
}

impl CertificateService {
    /// One call. A message that cannot be read is a request too: it is limited, counted and refused like others.
    ///
    /// # Errors
    /// What the caller is told.
    pub(super) async fn create_certificate(
        &self,
        request: Request<Received<IstioCertificateRequest>>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let started = Instant::now();
        self.issuance.metrics.arrived();
        let request_id = request_id(&self.issuance)?;
        // Nothing is said inside of it above this level, and a span that somebody may listen to is kept and formatted.
        let span = tracing::debug_span!("request", request_id);
        let (peer, place) = (connection::remote_addr(&request), connection::place(&request));
        // Whoever shows anything else decides by that, also where it is no token (`bearer`, `Basic`).
        let shows_nothing = request.metadata().get("authorization").is_none();
        let client = connection::shown(&request).filter(|_| shows_nothing);
        let (metadata, _, message) = request.into_parts();
        let application = Application { client, ..application(request_id.clone(), (peer, place), &metadata, message) };
        if application.names_signer {
            self.issuance.metrics.cert_signer_ignored.inc();
        }
        let result = self.issuance.issue(&application).instrument(span).await;
        self.issuance.metrics.request.observe(started.elapsed().as_secs_f64());
        let mut id = MetadataValue::try_from(&request_id).map_err(|_| Status::internal("bug: request id"))?;
        // Never the same twice, so it is kept out of the header compression table (RFC 7541 section 7.1.3): a place
        // there could not be used again, and each later id would be compared with all that lie in it.
        id.set_sensitive(true);
        match result {
            Ok(mut issued) => {
                let mut response = Response::new(encode(&issued));
                if let Some(ticket) = issued.ticket.take() {
                    response.extensions_mut().insert(Arc::new(ticket));
                }
                response.metadata_mut().insert("x-request-id", id);
                response.metadata_mut().insert(headers::SEQUENCE_HEADER, issued.state.bundle().sequence().into());
                Ok(response)
            }
            Err((error, on_record)) => {
                let mut status = status::of(&error);
                // What it says is found on record by this, so there is none where nothing is.
                if let Some(mut id) = on_record.and_then(|id| MetadataValue::try_from(id).ok()) {
                    id.set_sensitive(true);
                    status.metadata_mut().insert("x-request-id", id);
                }
                Err(status)
            }
        }
    }
}

fn request_id(issuance: &Issuance) -> Result<String, Status> {
    let mut bytes = [0; 16];
    issuance.random.fill(&mut bytes).map_err(|_| Status::internal("the random number generator failed"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// What the message says. Fuzzed from outside, hence public.
pub fn application(
    request_id: String,
    (peer, place): (Option<SocketAddr>, Option<Arc<Place>>),
    metadata: &MetadataMap,
    Received(message): Received<IstioCertificateRequest>,
) -> Application {
    let (message, unreadable) = match message {
        Ok(message) => (message, None),
        Err(why) => (IstioCertificateRequest::default(), Some(why)),
    };
    let (cluster, unknown) = match headers::cluster(metadata) {
        Ok(cluster) => (cluster, None),
        Err(wrong) => (None, Some(wrong.to_string())),
    };
    let mut application = Application {
        request_id,
        peer: Peer(peer),
        place,
        cluster,
        token: headers::bearer(metadata),
        client: None,
        instance: headers::instance(metadata),
        acknowledges: headers::acknowledges(metadata),
        csr: message.csr,
        ttl: message.validity_duration,
        impersonated: None,
        names_signer: false,
        problem: None,
        unreadable: unreadable.or(unknown),
    };
    let fields = message.metadata.map(|metadata| metadata.fields).unwrap_or_default();
    // Unknown keys are accepted; the known two must be text.
    for (key, value) in fields {
        let text = match (key.as_str(), value.kind) {
            ("ImpersonatedIdentity" | "CertSigner", Some(Kind::StringValue(text))) => text,
            ("ImpersonatedIdentity" | "CertSigner", None | Some(Kind::NullValue(_))) => continue,
            ("ImpersonatedIdentity" | "CertSigner", Some(_)) => {
                application.problem = Some(format!("the metadata key {key} must hold a string"));
                return application;
            }
            _ => continue,
        };
        if key == "ImpersonatedIdentity" {
            application.impersonated = Some(text);
        } else {
            // There is one signer here, and istiod's own takes no notice of it either.
            application.names_signer = !text.is_empty();
        }
    }
    application
}

/// Leaf, each intermediate, and the whole root bundle as the last element: istio-agent and ztunnel both take the
/// last element as the roots and the first certificate of every other one as the chain.
fn encode(issued: &Issued) -> IstioCertificateResponse {
    let mut cert_chain: Vec<String> = issued.chain.iter().map(|der| pem(der)).collect();
    cert_chain.push(issued.state.bundle().pem().to_owned());
    IstioCertificateResponse { cert_chain }
}

#[cfg(test)]
#[path = "create_certificate_tests.rs"]
mod tests;
