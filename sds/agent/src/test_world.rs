//! An agent with a CA in the same process, over real sockets, with a clock that the test moves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, secret};
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use prost::Message;
use signet_core::clock::ManualClock;
use signet_runtime::config::parse;
use signet_runtime::readiness::State;
use signet_runtime::supervisor::{Outcome, Supervisor};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::codegen::tokio_stream::StreamExt;
use tonic::transport::Endpoint;

use crate::app::Agent;
use crate::config::{Config, read};
use crate::status::Status;
use crate::test_ca::{Authority, Serving, TestCa};

pub(crate) const ID: &str = "spiffe://td/ns/prod/sa/web";

pub(crate) struct World {
    pub(crate) ca: TestCa,
    pub(crate) serving: Option<Serving>,
    pub(crate) address: SocketAddr,
    pub(crate) clock: ManualClock,
    directory: tempfile::TempDir,
    pub(crate) config: Config,
}

pub(crate) struct Running {
    pub(crate) statuses: watch::Receiver<Status>,
    pub(crate) ops: signet_runtime::ops::Ops,
    pub(crate) stop: CancellationToken,
    task: JoinSet<Outcome>,
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("in time")
}

pub(crate) fn token(generation: u32) -> String {
    let claims = format!(r#"{{"sub":"system:serviceaccount:prod:web","jti":"{generation}"}}"#);
    format!("head.{}.signature{generation}", URL_SAFE_NO_PAD.encode(claims))
}

impl World {
    pub(crate) async fn new(retry_initial: &str) -> Self {
        Self::at(OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap(), retry_initial).await
    }

    pub(crate) async fn at(now: OffsetDateTime, retry_initial: &str) -> Self {
        let clock = ManualClock::at(now);
        let ca = TestCa::new(clock.clone());
        let tls = Authority::root("tls");
        let serving = ca.serve(&tls, None).await;
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(path("token"), token(1) + "\n").unwrap();
        std::fs::write(path("roots.pem"), tls.pem()).unwrap();
        let (address, roots, token, socket) = (serving.address, path("roots.pem"), path("token"), path("a/s.sock"));
        let text = format!(
            "trust_domain: td
ca: {{address: 'https://{address}', root_file: {roots}, server_name: localhost, timeout: 2s}}
token_file: {token}
sds: {{socket: 'unix://{socket}'}}
renewal: {{retry_initial: {retry_initial}, retry_max: 60s}}
"
        );
        let config = parse("test", &text, read).unwrap().config;
        Self { ca, serving: Some(serving), address, clock, directory, config }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) async fn start(&self) -> Running {
        let agent = Agent::new(&self.config, Arc::new(self.clock.clone())).unwrap();
        let (statuses, ops) = (agent.statuses.clone(), agent.ops.clone());
        let socket = agent.open().await.unwrap();
        let supervisor = Supervisor::new();
        agent.start(socket, &supervisor.spawner());
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        let stopped = stop.clone().cancelled_owned();
        task.spawn(supervisor.run_until(stopped, std::future::pending(), Duration::from_secs(10)));
        Running { statuses, ops, stop, task }
    }

    /// A new proxy that asks for `names`.
    pub(crate) async fn connect(&self, names: &[&str]) -> Streaming<DiscoveryResponse> {
        let socket = self.config.sds.socket.display();
        let channel = Endpoint::from_shared(format!("unix://{socket}")).unwrap().connect().await.unwrap();
        let mut client = SecretDiscoveryServiceClient::new(channel);
        let resource_names = names.iter().map(|name| (*name).to_owned()).collect();
        let request = DiscoveryRequest { resource_names, ..DiscoveryRequest::default() };
        let requests = tokio_stream::once(request).chain(tokio_stream::pending());
        client.stream_secrets(requests).await.unwrap().into_inner()
    }

    /// The chain and the number of roots that a new proxy gets.
    pub(crate) async fn fetch(&self) -> (String, usize) {
        let mut responses = self.connect(&["default", "ROOTCA"]).await;
        let response = within(responses.message()).await.unwrap().unwrap();
        let text = |source: Option<DataSource>| match source.unwrap().specifier {
            Some(Specifier::InlineBytes(bytes)) => String::from_utf8(bytes).unwrap(),
            other => panic!("not inline: {other:?}"),
        };
        let (mut chain, mut roots) = (String::new(), 0);
        for any in response.resources {
            match Secret::decode(any.value.as_slice()).unwrap().r#type {
                Some(secret::Type::TlsCertificate(tls)) => {
                    assert!(text(tls.private_key).starts_with("-----BEGIN PRIVATE KEY-----"));
                    chain = text(tls.certificate_chain);
                }
                Some(secret::Type::ValidationContext(context)) => {
                    roots = text(context.trusted_ca).matches("BEGIN CERTIFICATE").count();
                }
                other => panic!("{other:?}"),
            }
        }
        (chain, roots)
    }
}

impl Running {
    pub(crate) async fn until(&mut self, condition: impl FnMut(&Status) -> bool) -> Status {
        within(self.statuses.wait_for(condition)).await.unwrap().clone()
    }

    /// The certificate's check, once `state` is reached.
    pub(crate) async fn check(&self, state: State) -> String {
        within(async {
            loop {
                let checks = self.ops.readiness.snapshot().checks;
                let check = checks.into_iter().find(|check| check.name == "certificate").unwrap();
                if check.state == state {
                    return check.detail;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }

    pub(crate) fn metric(&self, line: &str) -> bool {
        self.ops.metrics.render().unwrap().lines().any(|found| found == line)
    }

    pub(crate) async fn stop(mut self) -> Outcome {
        self.stop.cancel();
        within(self.task.join_next()).await.unwrap().unwrap()
    }
}
