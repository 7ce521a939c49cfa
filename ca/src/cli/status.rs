//! `signet-ca status`: asks a running CA over its admin socket.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use signet_proto::admin::v1alpha1::{CheckState, Rotation, StatusRequest, StatusResponse};
use signet_runtime::command::wait_for;
use signet_runtime::config::units::parse_duration;
use signet_runtime::output::{Output, Table};

use super::admin_client::{ANSWER, AdminArgs, Client, explanation, failure, within};
use super::cluster_view::{cluster_json, clusters_table, configuration_json, configuration_text};
use super::describe;
use super::rotation_view::{authorities_table, authority_json, publishers_table, rotation_json, rotation_rows};
use super::view::View;
use super::{Failure, OutputArg, printable};

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Wait until the CA is ready
    #[arg(long)]
    wait: bool,
    /// With --wait: for how long, like 10m
    #[arg(long, value_name = "DURATION", requires = "wait", default_value = "1m", value_parser = parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArg,
}

pub(super) async fn run(args: &StatusArgs) -> Result<(), Failure> {
    let (mut client, status) = if args.wait {
        wait_for(args.timeout, async || match ask(&args.admin).await? {
            (_, status) if !status.ready => Err(Failure::Failed(unready(&status))),
            ready => Ok(ready),
        })
        .await?
    } else {
        ask(&args.admin).await?
    };
    // Storage may be what is broken; the rest is worth to be seen then.
    let rotation = client.rotation().await.map_err(|status| explanation(&status));
    let (value, view) = (|| as_json(&status, rotation.as_ref()), View::of(args.output.output));
    let shown = Output::stdout(args.output.output).show(value, || as_text(&status, rotation.as_ref(), &view));
    shown.map_err(Failure::failed)
}

async fn ask(admin: &AdminArgs) -> Result<(Client, StatusResponse), Failure> {
    let mut client = admin.connect().await?;
    let status = within(ANSWER, client.service.status(StatusRequest {})).await.map_err(|status| failure(&status))?;
    Ok((client, status))
}

/// Why a CA is not ready.
fn unready(status: &StatusResponse) -> String {
    let failing = status.checks.iter().filter(|check| check.state() == CheckState::Failing);
    let failing: Vec<String> = failing.map(|check| printable(&format!("{}: {}", check.name, check.detail))).collect();
    format!("the CA is not ready: {}", failing.join("; "))
}

/// The names of the checks in this state.
fn checks_in(status: &StatusResponse, state: CheckState) -> Vec<String> {
    status.checks.iter().filter(|check| check.state() == state).map(|check| printable(&check.name)).collect()
}

/// Whether the CA does its work, and what somebody should look at.
fn readiness(status: &StatusResponse) -> String {
    let (failing, degraded) = (checks_in(status, CheckState::Failing), checks_in(status, CheckState::Degraded));
    match (status.ready, degraded.is_empty()) {
        (false, _) => format!("NO: {}", failing.join(", ")),
        (true, true) => "yes".to_owned(),
        (true, false) => format!("yes, DEGRADED: {}", degraded.join(", ")),
    }
}

fn as_json(status: &StatusResponse, rotation: Result<&Rotation, &String>) -> Value {
    // Storage knows who needs which authority; memory does not.
    let authorities = rotation.map_or(&status.authorities, |rotation| &rotation.authorities);
    json!({
        "version": status.version,
        "trust_domain": status.trust_domain,
        "storage": status.storage,
        "started_at": status.started_at.as_ref().map(describe::time),
        "ready": status.ready,
        "degraded": checks_in(status, CheckState::Degraded),
        "checks": status.checks.iter().map(|check| json!({
            "name": check.name, "state": describe::check_state(check.state), "detail": check.detail,
        })).collect::<Vec<_>>(),
        "authorities": authorities.iter().map(authority_json).collect::<Vec<_>>(),
        "bundle_sequence": status.bundle.as_ref().map(|bundle| bundle.sequence),
        "root_count": status.bundle.as_ref().map(|bundle| bundle.roots),
        "serving": status.serving.as_ref().map(|serving| json!({
            "serial": serving.serial, "names": serving.names, "root": serving.root,
            "not_after": serving.not_after.as_ref().map(describe::time),
            "renews_at": serving.renews_at.as_ref().map(describe::time),
        })),
        "counters": status.counters.map(|counters| json!({
            "issued": counters.issued, "refused": counters.refused, "failed": counters.failed,
        })),
        "turned_away": status.turned_away.iter().map(|met| json!({
            "limit": describe::limit(met.limit), "total": met.total, "lately": met.lately,
        })).collect::<Vec<_>>(),
        "clusters": status.clusters.iter().map(cluster_json).collect::<Vec<_>>(),
        "configuration": status.configuration.as_ref().map(configuration_json),
        "rotation": rotation.ok().map(rotation_json),
        "rotation_unknown": rotation.err(),
    })
}

fn as_text(status: &StatusResponse, rotation: Result<&Rotation, &String>, view: &View) -> String {
    let mut head = Table::new(["what", "value"]);
    head.row(["trust domain", status.trust_domain.as_str()]);
    head.row(["version", status.version.as_str()]);
    head.row(["storage", if status.storage.is_empty() { "-" } else { status.storage.as_str() }]);
    head.row(["started", &view.time(status.started_at.as_ref())]);
    head.row(["ready", &readiness(status)]);
    if let Some(bundle) = &status.bundle {
        head.row(["trust bundle", &format!("sequence {}, {} root(s)", bundle.sequence, bundle.roots)]);
    }
    if let Some(serving) = &status.serving {
        let names = serving.names.join(", ");
        let (root, end) = (view.id()(&serving.root), view.time(serving.not_after.as_ref()));
        head.row(["serving certificate", &format!("{names}; under root {root}; ends {end}")]);
    }
    if let Some(counters) = &status.counters {
        let text = format!("{} issued, {} refused, {} failed", counters.issued, counters.refused, counters.failed);
        head.row(["since start", &text]);
    }
    if let Some(configuration) = &status.configuration {
        head.row(["configuration", &configuration_text(configuration, view)]);
    }
    let lately = status.turned_away.iter().filter(|met| met.lately > 0);
    let lately: Vec<String> = lately.map(|met| format!("{} {}", describe::limit(met.limit), met.lately)).collect();
    if !lately.is_empty() {
        // The CA is ready all the same: those who are turned away are told to come again.
        head.row(["TURNED AWAY lately", &format!("{} (docs/hardening.md tells what each means)", lately.join(", "))]);
    }
    match rotation {
        Ok(rotation) => {
            for (what, value) in rotation_rows(rotation, view) {
                head.row([what, &value]);
            }
        }
        Err(why) => {
            head.row(["rotation", &format!("unknown: {why}")]);
        }
    }
    let mut checks = Table::new(["check", "state", "detail"]);
    for check in &status.checks {
        checks.row([&check.name, &describe::check_state(check.state), &view.text(&check.detail)]);
    }
    // Storage knows who needs which authority; memory does not.
    let authorities = rotation.map_or(&status.authorities, |rotation| &rotation.authorities);
    let authorities = authorities_table(authorities, view);
    let publishers = rotation.map(|rotation| rotation.publishers.as_slice()).unwrap_or_default();
    let clusters = clusters_table(&status.clusters, view);
    let publishers = (!publishers.is_empty()).then(|| publishers_table(publishers, view));
    let tables = [Some(head), Some(checks), Some(clusters), publishers, Some(authorities)];
    tables.iter().flatten().map(|table| table.render(view.width)).collect::<Vec<_>>().join("\n")
}
