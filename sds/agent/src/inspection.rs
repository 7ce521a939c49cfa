//! What the agent serves at the moment, asked on its own socket: the answering side and the asking side.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use signet_core::clock::rfc3339;
use signet_proto::agent::v1alpha1::agent_inspection_client::AgentInspectionClient;
use signet_proto::agent::v1alpha1::agent_inspection_server::AgentInspection;
use signet_proto::agent::v1alpha1::{
    BundleStream, Check, Identity, InspectRequest, InspectResponse, Secret, Stream as StreamMessage,
};
use signet_runtime::output::{Table, error_chain};
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
        renewals: status.renewals,
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

/// The answer for programs: times as RFC 3339, absent where they are unknown.
#[must_use]
pub(crate) fn as_json(answer: &InspectResponse) -> Value {
    let identities = answer.identities.iter().map(|it| {
        json!({
            "spiffe_id": it.spiffe_id, "serial": it.serial, "issuer": it.issuer, "authority": it.authority,
            "not_before": moment(it.not_before), "not_after": moment(it.not_after),
            "next_renewal": moment(it.next_renewal), "renewals": it.renewals,
            "failures_in_a_row": it.failures_in_a_row, "last_error": it.last_error,
            "last_error_at": moment(it.last_error_at), "roots": it.roots,
            "bundle_sequence": it.bundle_sequence, "revocation_lists": it.revocation_lists,
            "bundle_stream": it.bundle_stream.as_ref().map(|stream| json!({
                "state": stream.state, "since": moment(stream.since),
                "last_error": stream.last_error, "last_error_at": moment(stream.last_error_at),
            })),
        })
    });
    let streams = answer.streams.iter().map(|it| {
        json!({
            "peer": it.peer, "node_id": it.node_id, "names": it.names,
            "unserved_names": it.unserved_names, "connected_at": moment(it.connected_at),
            "acked_version": it.acked_version, "pushes": it.pushes, "acks": it.acks, "nacks": it.nacks,
            "last_nack": it.last_nack, "last_nack_at": moment(it.last_nack_at),
        })
    });
    let secrets = answer.secrets.iter().map(|it| json!({"name": it.name, "version": it.version}));
    let checks = answer.checks.iter().map(|it| json!({"name": it.name, "state": it.state, "detail": it.detail}));
    json!({
        "version": answer.version, "started_at": moment(answer.started_at), "ready": answer.ready,
        "checks": checks.collect::<Vec<_>>(), "identities": identities.collect::<Vec<_>>(),
        "secrets": secrets.collect::<Vec<_>>(), "streams": streams.collect::<Vec<_>>(),
    })
}

/// The answer for people: one block per subject.
#[must_use]
pub(crate) fn as_tables(answer: &InspectResponse) -> String {
    let mut about = Table::new(["agent", ""]);
    let ready = if answer.ready { "ready" } else { "not ready" };
    about.row(["version", &answer.version]).row(["started", &shown(answer.started_at)]).row(["state", ready]);
    for check in &answer.checks {
        about.row([&check.name, &format!("{}: {}", check.state, check.detail)]);
    }
    let mut text = about.render();
    for it in &answer.identities {
        let mut table = Table::new(["identity", ""]);
        let failures = format!("{} in a row", it.failures_in_a_row);
        let last_error = error_shown(&it.last_error, it.last_error_at);
        table.row(["SPIFFE ID", or_none(&it.spiffe_id)]).row(["serial", or_none(&it.serial)]);
        table.row(["issuer", or_none(&it.issuer)]).row(["authority", or_none(&it.authority)]);
        table.row(["valid from", &shown(it.not_before)]).row(["valid until", &shown(it.not_after)]);
        table.row(["next renewal", &shown(it.next_renewal)]).row(["renewals", &it.renewals.to_string()]);
        table.row(["failures", &failures]).row(["last error", &last_error]);
        let sequence = if it.bundle_sequence == 0 { "-".to_owned() } else { it.bundle_sequence.to_string() };
        table.row(["roots", &it.roots.to_string()]).row(["bundle sequence", &sequence]);
        table.row(["revocation lists", &it.revocation_lists.to_string()]);
        if let Some(stream) = &it.bundle_stream {
            let state = format!("{} since {}", stream.state, shown(stream.since));
            table.row(["bundle stream", &state]);
            table.row(["its last error", &error_shown(&stream.last_error, stream.last_error_at)]);
        }
        text += &format!("\n{}", table.render());
    }
    let mut secrets = Table::new(["secret", "version"]);
    for it in &answer.secrets {
        secrets.row([&it.name, &it.version]);
    }
    let heads = ["stream of", "node", "names", "version", "since", "pushes", "acks", "nacks", "last nack"];
    let mut streams = Table::new(heads);
    for it in &answer.streams {
        let [pushes, acks, nacks] = [it.pushes, it.acks, it.nacks].map(|count| count.to_string());
        let marked = |name: &String| {
            let mark = if it.unserved_names.contains(name) { " (not served)" } else { "" };
            format!("{name}{mark}")
        };
        let names = it.names.iter().map(marked).collect::<Vec<_>>().join(", ");
        let since = shown(it.connected_at);
        let version = or_none(&it.acked_version);
        streams.row([&it.peer, &it.node_id, &names, version, &since, &pushes, &acks, &nacks, &it.last_nack]);
    }
    for (table, none) in [(secrets, "no secrets yet\n"), (streams, "no streams\n")] {
        text += &format!("\n{}", if table.is_empty() { none.to_owned() } else { table.render() });
    }
    text
}

fn moment(seconds: i64) -> Option<String> {
    (seconds != 0).then(|| OffsetDateTime::from_unix_timestamp(seconds).ok().map(rfc3339))?
}

fn shown(seconds: i64) -> String {
    moment(seconds).unwrap_or_else(|| "-".to_owned())
}

fn error_shown(text: &str, at: i64) -> String {
    if at == 0 { "none".to_owned() } else { format!("{text} at {}", shown(at)) }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}
