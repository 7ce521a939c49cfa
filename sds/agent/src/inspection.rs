//! What the agent serves at the moment, asked on its own socket: the answering side and the asking side.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use signet_proto::agent::v1alpha1::agent_inspection_client::AgentInspectionClient;
use signet_proto::agent::v1alpha1::agent_inspection_server::AgentInspection;
use signet_proto::agent::v1alpha1::{
    BundleStream, Check, Identity, InspectRequest, InspectResponse, Secret, Stream as StreamMessage,
};
use signet_runtime::output::error_chain;
use signet_runtime::readiness::{Readiness, State};
use signet_runtime::unix_socket;
use signet_sds::ledger::{Ledger, StreamView};
use signet_sds::session::WILDCARD;
use signet_sds::snapshot::{Snapshot, Version};
use time::OffsetDateTime;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status as GrpcStatus};

use crate::identity::status::{BundleStreamStatus, Status};

/// How long an agent on the same machine may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// The largest answer that is read: that of an agent with very many streams.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// The answering side. Nothing secret is part of an answer.
pub(crate) struct Inspection {
    /// When the agent started.
    pub started_at: OffsetDateTime,
    /// What is held and how obtaining it goes.
    pub statuses: watch::Receiver<Status>,
    /// What is served.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// To whom.
    pub ledger: Ledger,
    /// Whether all is well.
    pub readiness: Readiness,
}

#[tonic::async_trait]
impl AgentInspection for Inspection {
    async fn inspect(&self, _: Request<InspectRequest>) -> Result<Response<InspectResponse>, GrpcStatus> {
        let readiness = self.readiness.snapshot();
        let status = self.statuses.borrow().clone();
        let snapshot = Arc::clone(&self.snapshots.borrow());
        let check = |check: signet_runtime::readiness::Check| Check {
            name: check.name,
            state: check.state.to_string(),
            detail: check.detail,
        };
        let secrets = snapshot.iter().map(|(name, secret)| {
            // What goes out to a stream that asks for nothing else, and what its proxy then shows.
            let version = Version::of_set([(&**name, secret.version())]);
            Secret { name: name.to_string(), version: version.to_string() }
        });
        Ok(Response::new(InspectResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at.unix_timestamp(),
            ready: readiness.ready,
            identities: vec![identity(&status)],
            streams: self.ledger.views().into_iter().map(stream).collect(),
            secrets: secrets.collect(),
            checks: readiness.checks.into_iter().map(check).collect(),
        }))
    }
}

fn seconds(at: Option<OffsetDateTime>) -> i64 {
    at.map_or(0, OffsetDateTime::unix_timestamp)
}

fn identity(status: &Status) -> Identity {
    let (held, validation) = (status.held.as_deref(), status.validation.as_deref());
    let text = |field: fn(&crate::identity::issued::Issued) -> String| held.map(field).unwrap_or_default();
    let (last_error, last_error_at) =
        status.last_failure.clone().map(|failure| (failure.text, Some(failure.at))).unwrap_or_default();
    Identity {
        spiffe_id: text(|held| held.spiffe_id.to_string()),
        serial: text(|held| held.serial.clone()),
        authority: text(|held| held.authority.clone()),
        issuer: text(|held| held.issuer.clone()),
        not_before: seconds(held.map(|held| held.not_before)),
        not_after: seconds(held.map(|held| held.not_after)),
        next_renewal: seconds(status.next_attempt),
        // The first one renews nothing.
        renewals: status.obtained.saturating_sub(1),
        failures_in_a_row: u64::from(status.failures),
        last_error,
        last_error_at: seconds(last_error_at),
        roots: count(validation.map_or(0, |held| held.validation.bundle.roots().len())),
        bundle_sequence: validation.and_then(|held| held.sequence).unwrap_or_default(),
        revocation_lists: count(validation.map_or(0, |held| held.validation.revocation_lists.len())),
        bundle_stream: Some(bundle_stream(&status.bundle_stream)),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn bundle_stream(stream: &BundleStreamStatus) -> BundleStream {
    let (last_error, last_error_at) =
        stream.last_failure.clone().map(|failure| (failure.text, Some(failure.at))).unwrap_or_default();
    BundleStream {
        state: stream.link.as_str().to_owned(),
        since: seconds(stream.since),
        last_error,
        last_error_at: seconds(last_error_at),
    }
}

fn stream(view: StreamView) -> StreamMessage {
    let (last_nack, last_nack_at) = view.last_nack.map(|(text, at)| (text, Some(at))).unwrap_or_default();
    StreamMessage {
        peer: view.peer,
        node_id: view.node_id,
        names: if view.everything {
            vec![WILDCARD.to_owned()]
        } else {
            view.names.iter().map(ToString::to_string).collect()
        },
        unserved_names: view.unserved.iter().map(ToString::to_string).collect(),
        connected_at: view.connected_at.unix_timestamp(),
        acked_version: view.acked_version,
        pushes: view.pushes,
        acks: view.acks,
        nacks: view.nacks,
        last_nack,
        last_nack_at: seconds(last_nack_at),
    }
}

/// Why an agent could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("no agent answers on {path}: {cause}")]
pub(crate) struct AskError {
    path: String,
    cause: String,
}

/// Asks the agent that serves `socket`.
///
/// # Errors
/// [`AskError`] when nobody answers in time.
pub(crate) async fn ask(socket: &Path) -> Result<InspectResponse, AskError> {
    let failed = |cause: String| AskError { path: socket.display().to_string(), cause };
    let asking = async {
        // By itself: below, what the system says is hidden in what libraries say.
        if let Err(error) = UnixStream::connect(socket).await {
            return Err(failed(unix_socket::explain(socket, &error, "`signet-agent run`")));
        }
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()));
        let channel = endpoint.map_err(|error| failed(error_chain(&error)))?.connect().await;
        let mut client = AgentInspectionClient::new(channel.map_err(|error| failed(error_chain(&error)))?)
            .max_decoding_message_size(MAX_ANSWER_BYTES);
        let answer = client.inspect(InspectRequest {}).await;
        answer.map(Response::into_inner).map_err(|status| failed(status.message().to_owned()))
    };
    tokio::time::timeout(DEADLINE, Box::pin(asking))
        .await
        .unwrap_or_else(|_elapsed| Err(failed(format!("no answer within {}s", DEADLINE.as_secs()))))
}

/// Why an agent is not ready.
pub(crate) fn unready(answer: &InspectResponse) -> String {
    let failing = answer.checks.iter().filter(|check| check.state == State::Failing.to_string());
    let failing: Vec<String> = failing.map(|check| format!("{}: {}", check.name, check.detail)).collect();
    format!("the agent is not ready: {}", failing.join("; "))
}
