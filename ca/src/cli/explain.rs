//! `signet-ca explain`: asks a running CA whether a node agent would get the certificate of a workload, and why not.

use clap::Args;
use serde_json::{Value, json};
use signet_proto::admin::v1alpha1::explain_request::Caller;
use signet_proto::admin::v1alpha1::{ExplainRequest, ExplainResponse, Verdict};
use signet_runtime::output::{Output, Table};

use super::admin_client::{ANSWER, AdminArgs, failure, within};
use super::rotation_view::some;
use super::view::View;
use super::{Failure, OutputArg, describe, printable};

#[derive(Debug, Args)]
#[command(override_usage = "signet-ca explain --caller <CALLER>\n          --for <SPIFFE-ID> [OPTIONS]")]
pub(super) struct ExplainArgs {
    /// Who would ask: a node agent's service account (NAMESPACE/NAME or its SPIFFE ID), or one pod of it
    /// (pod/NAMESPACE/NAME)
    #[arg(long, value_name = "CALLER")]
    caller: String,
    /// The SPIFFE ID of the workload that it would ask for
    #[arg(long = "for", value_name = "SPIFFE-ID")]
    asked: String,
    /// The cluster of both, by its id or an alias; the first one of the configuration when absent
    #[arg(long, value_name = "ID")]
    cluster: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArg,
}

pub(super) async fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let mut client = args.admin.connect().await?;
    let caller = match args.caller.strip_prefix("pod/") {
        Some(pod) => Caller::Pod(pod.to_owned()),
        None => Caller::Account(args.caller.clone()),
    };
    let cluster = args.cluster.clone().unwrap_or_default();
    let request = ExplainRequest { cluster, caller: Some(caller), asked: args.asked.clone() };
    let answer = within(ANSWER, client.service.explain(request)).await.map_err(|status| failure(&status))?;
    let view = View::of(args.output.output);
    let shown = Output::stdout(args.output.output).show(|| as_json(&answer), || as_text(&answer, &view));
    shown.map_err(Failure::failed)?;
    match answer.verdict() {
        Verdict::Yes => Ok(()),
        Verdict::Unknown => {
            Err(Failure::Failed("that cannot be said now; the caller would be told to retry".to_owned()))
        }
        _ => Err(Failure::Failed("the caller would be refused".to_owned())),
    }
}

fn as_json(answer: &ExplainResponse) -> Value {
    json!({
        "cluster": answer.cluster,
        "verdict": describe::verdict(answer.verdict),
        "checks": answer.checks.iter().map(|check| json!({
            "name": check.name, "state": describe::verdict(check.passed), "detail": check.detail,
            "advice": some(&check.advice),
        })).collect::<Vec<_>>(),
    })
}

fn as_text(answer: &ExplainResponse, view: &View) -> String {
    let mut table = Table::new(["check", "passed", "detail", "what to do"]);
    for check in &answer.checks {
        let advice = if check.advice.is_empty() { "-" } else { check.advice.as_str() };
        table.row([
            printable(&check.name).as_str(),
            &describe::verdict(check.passed),
            &printable(&check.detail),
            &printable(advice),
        ]);
    }
    table.render(view.width)
}
