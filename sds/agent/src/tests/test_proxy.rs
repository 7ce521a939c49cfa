//! A proxy that answers: SDS over the agent's real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, secret};
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::google::rpc;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use crate::tests::test_world::within;

pub(crate) struct Proxy {
    names: Vec<String>,
    requests: mpsc::Sender<DiscoveryRequest>,
    pub(crate) responses: Streaming<DiscoveryResponse>,
    version: String,
}

fn text(source: Option<DataSource>) -> String {
    match source.and_then(|source| source.specifier) {
        Some(Specifier::InlineBytes(bytes)) => String::from_utf8(bytes).unwrap(),
        None => String::new(),
        other => panic!("not inline: {other:?}"),
    }
}

/// The secrets of a response by name: the chain of a certificate, or the roots of a bundle with its lists.
pub(crate) fn secrets(response: &DiscoveryResponse) -> BTreeMap<String, (String, String)> {
    let open = |any: &envoy_types::pb::google::protobuf::Any| {
        let secret = Secret::decode(any.value.as_slice()).unwrap();
        let content = match secret.r#type {
            Some(secret::Type::TlsCertificate(tls)) => {
                assert!(text(tls.private_key).starts_with("-----BEGIN PRIVATE KEY-----"));
                (text(tls.certificate_chain), String::new())
            }
            Some(secret::Type::ValidationContext(context)) => (text(context.trusted_ca), text(context.crl)),
            other => panic!("{other:?}"),
        };
        (secret.name, content)
    };
    response.resources.iter().map(open).collect()
}

impl Proxy {
    pub(crate) async fn connect(socket: &Path, names: &[&str]) -> Self {
        let channel = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap().connect().await.unwrap();
        let (requests, outgoing) = mpsc::channel(16);
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        requests.send(DiscoveryRequest { resource_names: names.clone(), ..Default::default() }).await.unwrap();
        let mut client = SecretDiscoveryServiceClient::new(channel);
        let responses = client.stream_secrets(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        Self { names, requests, responses, version: String::new() }
    }

    pub(crate) async fn next(&mut self) -> DiscoveryResponse {
        within(self.responses.message()).await.unwrap().expect("a response")
    }

    pub(crate) async fn ack(&mut self, response: &DiscoveryResponse) {
        self.version.clone_from(&response.version_info);
        self.answer(response, None).await;
    }

    pub(crate) async fn nack(&mut self, response: &DiscoveryResponse, error: &str) {
        self.answer(response, Some(rpc::Status { message: error.to_owned(), ..Default::default() })).await;
    }

    async fn answer(&self, response: &DiscoveryResponse, error_detail: Option<rpc::Status>) {
        let request = DiscoveryRequest {
            resource_names: self.names.clone(),
            response_nonce: response.nonce.clone(),
            version_info: self.version.clone(),
            error_detail,
            ..Default::default()
        };
        self.requests.send(request).await.unwrap();
    }
}
