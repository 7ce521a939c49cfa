//! `signet-ca status`: asks a running CA over its admin socket.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use signet_proto::admin::v1alpha1::admin_client::AdminClient;
use signet_proto::admin::v1alpha1::{StatusRequest, StatusResponse};
use signet_runtime::output::{Output, OutputFormat, Table};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use super::{ConfigFile, Failure, OutputArg, time_text};
use crate::state::short;

/// How long the CA may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    output: OutputArg,
}

pub(super) async fn run(args: &StatusArgs) -> Result<(), Failure> {
    let socket = args.file.load()?.config.admin;
    let mut client = AdminClient::new(connect(socket).await?);
    let request = tonic::Request::new(StatusRequest {});
    let answer = tokio::time::timeout(DEADLINE, client.status(request)).await;
    let answer = answer.map_err(|_| Failure::Failed("the CA did not answer within 5 s".to_owned()))?;
    let status =
        answer.map_err(|status| Failure::Failed(format!("the CA refused: {}", status.message())))?.into_inner();
    let mut out = Output::stdout(args.output.output);
    let shown = match args.output.output {
        OutputFormat::Json => out.json(&as_json(&status)),
        OutputFormat::Table => out.raw(&as_text(&status)),
    };
    shown.map_err(Failure::failed)
}

async fn connect(socket: PathBuf) -> Result<Channel, Failure> {
    let shown = socket.display().to_string();
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // The address is not used: the connector knows the socket.
    let endpoint = Endpoint::from_static("http://admin").connect_timeout(DEADLINE);
    endpoint.connect_with_connector(connector).await.map_err(|_| {
        Failure::Failed(format!(
            "no CA answers at {shown}; is `signet-ca serve` running with this configuration, as this user?"
        ))
    })
}

fn as_json(status: &StatusResponse) -> Value {
    json!({
        "version": status.version,
        "trust_domain": status.trust_domain,
        "started_at": time_text(status.started_at),
        "ready": status.ready,
        "checks": status.checks.iter().map(|check| json!({
            "name": check.name, "state": check.state, "detail": check.detail,
        })).collect::<Vec<_>>(),
        "authorities": status.authorities.iter().map(|authority| json!({
            "id": authority.id, "kind": authority.kind, "state": authority.state,
            "not_before": time_text(authority.not_before), "not_after": time_text(authority.not_after),
            "renews_at": (authority.renews_at > 0).then(|| time_text(authority.renews_at)),
        })).collect::<Vec<_>>(),
        "bundle": status.bundle.as_ref().map(|bundle| json!({ "sequence": bundle.sequence, "roots": bundle.roots })),
        "serving": status.serving.as_ref().map(|serving| json!({
            "serial": serving.serial, "names": serving.names,
            "not_after": time_text(serving.not_after), "renews_at": time_text(serving.renews_at),
        })),
        "counters": status.counters.map(|counters| json!({
            "issued": counters.issued, "refused": counters.refused, "failed": counters.failed,
        })),
    })
}

fn as_text(status: &StatusResponse) -> String {
    let mut head = Table::new(["what", "value"]);
    head.row(["trust domain", status.trust_domain.as_str()]);
    head.row(["version", status.version.as_str()]);
    head.row(["running since", &time_text(status.started_at)]);
    head.row(["ready", if status.ready { "yes" } else { "NO" }]);
    if let Some(bundle) = &status.bundle {
        head.row(["trust bundle", &format!("sequence {}, {} root(s)", bundle.sequence, bundle.roots)]);
    }
    if let Some(serving) = &status.serving {
        let names = serving.names.join(", ");
        head.row(["serving certificate", &format!("{names}; until {}", time_text(serving.not_after))]);
    }
    if let Some(counters) = &status.counters {
        let text = format!("{} issued, {} refused, {} failed", counters.issued, counters.refused, counters.failed);
        head.row(["since start", &text]);
    }
    let mut checks = Table::new(["check", "state", "detail"]);
    for check in &status.checks {
        checks.row([&check.name, &check.state, &check.detail]);
    }
    let mut authorities = Table::new(["authority", "kind", "state", "not after", "renews at"]);
    for authority in &status.authorities {
        let renews = if authority.renews_at > 0 { time_text(authority.renews_at) } else { "-".to_owned() };
        let id = short(&authority.id);
        authorities.row([id, &authority.kind, &authority.state, &time_text(authority.not_after), &renews]);
    }
    format!("{}\n{}\n{}", head.render(), checks.render(), authorities.render())
}
