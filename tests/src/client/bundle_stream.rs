//! A hand-driven client of the CA's bundle stream: it acknowledges what a test wants, or never.

use std::time::Duration;

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use serde_json::Value;
use tonic::Status;
use tonic::transport::{Channel, Identity};

use super::certify::Client;
use super::sds::{self, Stream, acknowledge, refuse, subscribe};
use crate::failure::{Failure, Outcome};
use crate::harness::Dev;

/// The secret of roots and revocation lists.
pub const BUNDLE: &str = "ROOTCA";
/// The secret of what only agents need: the sequence and orders to renew.
pub const AGENT: &str = "signet/agent";
const NAMES: [&str; 2] = [BUNDLE, AGENT];
/// How long a response may take.
const WITHIN: Duration = Duration::from_secs(60);

/// An open stream, with what it has brought: a response holds only what has changed.
pub struct BundleStream {
    stream: Stream,
    bundle: Option<(String, String)>,
    agent: Option<Value>,
}

/// One response.
#[derive(Debug, Clone)]
pub struct Update {
    /// The roots, PEM.
    pub roots: String,
    /// The revocation lists, PEM; empty when there are none.
    pub lists: String,
    /// The bundle's sequence.
    pub sequence: u64,
    /// Orders to renew, as they came.
    pub renew: Vec<Value>,
    response: DiscoveryResponse,
}

impl BundleStream {
    /// Opens a stream with the token of a workload.
    ///
    /// # Errors
    /// The status with which the CA refused it.
    pub async fn with_token(dev: &Dev, token: &str) -> Result<Self, Status> {
        let client = Client::connect(dev).await.map_err(|failure| Status::unavailable(failure.to_string()))?;
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str()), ("clusterid", super::ask::CLUSTER)];
        Self::over(client.channel, &headers).await
    }

    /// Opens a stream with a certificate and its key as the TLS client.
    ///
    /// # Errors
    /// The status with which the CA refused it; `UNAVAILABLE` when the handshake fails.
    pub async fn with_certificate(dev: &Dev, chain: &str, key: &str) -> Result<Self, Status> {
        let channel =
            with_identity(dev, chain, key).await.map_err(|failure| Status::unavailable(failure.to_string()))?;
        Self::over(channel, &[]).await
    }

    /// Opens a stream over any channel, with these headers.
    ///
    /// # Errors
    /// The status with which the CA refused it.
    pub async fn over(channel: Channel, headers: &[(&'static str, &str)]) -> Result<Self, Status> {
        let stream = Stream::over(channel, subscribe("test", &NAMES), headers).await?;
        Ok(Self { stream, bundle: None, agent: None })
    }

    /// What is so after the next response.
    ///
    /// # Errors
    /// [`Failure`] when there is none in time, or it has another shape.
    pub async fn next(&mut self) -> Outcome<Update> {
        let response = tokio::time::timeout(WITHIN, self.stream.next()).await;
        let response = response.map_err(|_late| Failure::Deadline {
            what: "a response on the bundle stream".to_owned(),
            within: WITHIN,
            context: String::new(),
        })?;
        self.read(response.map_err(Failure::while_doing("read the bundle stream"))?)
    }

    fn read(&mut self, response: DiscoveryResponse) -> Outcome<Update> {
        for secret in sds::secrets(&response)? {
            match secret.name.as_str() {
                BUNDLE => {
                    // What stands before the first certificate is for readers, not for verifiers.
                    let roots = sds::public_text(&secret).1;
                    let roots =
                        roots.find("-----BEGIN").and_then(|start| roots.get(start..)).unwrap_or_default().to_owned();
                    self.bundle = Some((roots, sds::revocation_text(&secret)));
                }
                AGENT => {
                    let word = serde_json::from_str(&generic(&secret)?);
                    self.agent = Some(word.map_err(Failure::while_doing("read what is for agents"))?);
                }
                other => return Err(Failure::unexpected(format!("{other} was not asked for"))),
            }
        }
        let (Some((roots, lists)), Some(agent)) = (self.bundle.clone(), &self.agent) else {
            return Err(Failure::unexpected("the first response does not hold both secrets"));
        };
        let sequence = agent.get("sequence").and_then(Value::as_u64);
        let renew = agent.get("renew").and_then(Value::as_array).cloned().unwrap_or_default();
        let sequence = sequence.ok_or_else(|| Failure::unexpected(format!("no sequence in {agent}")))?;
        Ok(Update { roots, lists, sequence, renew, response })
    }

    /// The next response whose sequence is at least this one; those before are acknowledged.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn until(&mut self, sequence: u64) -> Outcome<Update> {
        loop {
            let update = self.next().await?;
            if update.sequence >= sequence {
                return Ok(update);
            }
            self.acknowledge(&update).await?;
        }
    }

    /// Says that a response was applied.
    ///
    /// # Errors
    /// [`Failure`] when the stream has ended.
    pub async fn acknowledge(&self, update: &Update) -> Outcome {
        self.stream.send(acknowledge(&update.response, &NAMES)).await
    }

    /// Says that a response was refused, and why.
    ///
    /// # Errors
    /// [`Failure`] when the stream has ended.
    pub async fn refuse(&self, update: &Update, why: &str) -> Outcome {
        self.stream.send(refuse(&update.response, &NAMES, why)).await
    }

    /// The same when one update may still come: what ends the stream also makes for it, and which of the two the stream
    /// hears of first is open.
    ///
    /// # Errors
    /// As [`ended`](Self::ended).
    pub async fn ended_after_an_update(&mut self) -> Outcome<Status> {
        match tokio::time::timeout(WITHIN, self.stream.next()).await {
            Ok(Ok(_)) => self.ended().await,
            Ok(Err(status)) => Ok(status),
            Err(_late) => Err(Failure::unexpected("the stream stays open and silent")),
        }
    }

    /// The status with which the CA ends the stream.
    ///
    /// # Errors
    /// [`Failure`] when it sends a response, or nothing in time.
    pub async fn ended(&mut self) -> Outcome<Status> {
        match tokio::time::timeout(WITHIN, self.stream.next()).await {
            Ok(Err(status)) => Ok(status),
            Ok(Ok(_)) => Err(Failure::unexpected("the stream goes on")),
            Err(_late) => Err(Failure::unexpected("the stream stays open and silent")),
        }
    }
}

/// A channel to the CA with a certificate as the TLS client.
///
/// # Errors
/// [`Failure`] when the handshake fails.
pub async fn with_identity(dev: &Dev, chain: &str, key: &str) -> Outcome<Channel> {
    let tls = Client::trust(&dev.text("root-cert.pem")?).identity(Identity::from_pem(chain, key));
    let endpoint = Client::endpoint_with(dev.listen, tls)?;
    endpoint.connect().await.map_err(Failure::while_doing("connect to the CA with a client certificate"))
}

fn generic(secret: &Secret) -> Outcome<String> {
    match &secret.r#type {
        Some(Type::GenericSecret(generic)) => Ok(sds::inline(generic.secret.as_ref())),
        _ => Err(Failure::unexpected(format!("{} is no generic secret", secret.name))),
    }
}
