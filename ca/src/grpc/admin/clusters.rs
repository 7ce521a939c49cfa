//! Clusters and the configuration, as the wire says them, and what a node agent would be told.

use signet_core::caller::AuthMethod;
use signet_core::identity::WorkloadId;
use signet_core::seams::explanation::{Asker, Explained};
use signet_proto::admin::v1alpha1 as wire;
use signet_proto::admin::v1alpha1::explain_request::Caller;
use tonic::Status;

use super::messages::count;
use super::values::time;
use crate::cluster_status::{ClusterStatus, ClusterView, ConfigurationStatus};

/// One cluster.
pub(super) fn cluster(cluster: ClusterStatus) -> wire::Cluster {
    wire::Cluster {
        id: cluster.id,
        aliases: cluster.aliases,
        trust_domain: cluster.trust_domain,
        tokens: match cluster.method {
            AuthMethod::Jwks => wire::TokenKind::Jwks,
            AuthMethod::TokenReview => wire::TokenKind::TokenReview,
            _ => wire::TokenKind::Unspecified,
        }
        .into(),
        api_server: cluster.api_server.unwrap_or_default(),
        credentials_problem: cluster.credentials_problem.unwrap_or_default(),
        keys: Some(wire::ClusterKeys {
            usable: cluster.keys.usable.map(count),
            left_out: count(cluster.keys.left_out),
            read_at: cluster.keys.read_at.map(time),
            problem: cluster.keys.problem.unwrap_or_default(),
        }),
        reviews: cluster.review.map(|review| wire::ClusterReviews {
            at: review.at.map(time),
            result: review.result.unwrap_or_default().to_owned(),
            problem: review.problem.unwrap_or_default(),
        }),
        pods: cluster.pods.map(|pods| wire::ClusterPods {
            pods: count(pods.pods),
            nodes: count(pods.nodes),
            accounts: count(pods.accounts),
            synced: pods.unknown.is_none(),
            heard_at: pods.heard_at.map(time),
            problem: pods.problem.or_else(|| pods.unknown.map(|reason| reason.label().to_owned())).unwrap_or_default(),
        }),
        signer: cluster.signer.map(|signer| wire::ClusterSigner {
            name: signer.name,
            version: signer.version.unwrap_or_default(),
            open: count(signer.open),
            issued: signer.issued,
            denied: signer.denied,
            heard_at: signer.heard_at.map(time),
            problem: signer.problem.unwrap_or_default(),
        }),
    }
}

/// What became of the configuration file.
pub(super) fn configuration(status: ConfigurationStatus) -> wire::Configuration {
    wire::Configuration {
        applied_at: status.applied_at.map(time),
        problem: status.problem.unwrap_or_default(),
        awaits_restart: status.awaits_restart,
    }
}

/// Whether a node agent would get what it asks for.
pub(super) fn explain(view: &dyn ClusterView, request: &wire::ExplainRequest) -> Result<wire::ExplainResponse, Status> {
    let asker = asker(request.caller.as_ref())?;
    let cluster = Some(request.cluster.as_str()).filter(|name| !name.is_empty());
    let Some((cluster, checks)) = view.explain(cluster, &asker, &request.asked) else {
        let known: Vec<String> = view.clusters().into_iter().map(|cluster| cluster.id).collect();
        let name: String = request.cluster.chars().take(100).collect();
        return Err(Status::not_found(format!("there is no cluster {name:?}; served are: {}", known.join(", "))));
    };
    check_domain(view, &cluster, request.caller.as_ref())?;
    let all = |passed: Option<bool>| checks.iter().any(|check| check.passed == passed);
    let verdict = match (all(Some(false)), all(None)) {
        (true, _) => wire::Verdict::No,
        (false, true) => wire::Verdict::Unknown,
        (false, false) => wire::Verdict::Yes,
    };
    Ok(wire::ExplainResponse { cluster, verdict: verdict.into(), checks: checks.into_iter().map(check).collect() })
}

/// Refuses a caller that no token of the cluster can prove.
fn check_domain(view: &dyn ClusterView, id: &str, caller: Option<&Caller>) -> Result<(), Status> {
    let Some(Caller::Account(account)) = caller else { return Ok(()) };
    let Ok(caller) = WorkloadId::parse(account) else { return Ok(()) };
    let clusters = view.clusters();
    let Some(cluster) = clusters.iter().find(|cluster| cluster.id == id) else { return Ok(()) };
    if caller.trust_domain().as_str() == cluster.trust_domain {
        return Ok(());
    }
    let ours = &cluster.trust_domain;
    Err(Status::invalid_argument(format!("caller: {caller} is not of the trust domain {ours} of the cluster {id:?}")))
}

fn check(explained: Explained) -> wire::ExplainedCheck {
    wire::ExplainedCheck {
        name: explained.check.label().to_owned(),
        passed: match explained.passed {
            Some(true) => wire::Verdict::Yes,
            Some(false) => wire::Verdict::No,
            None => wire::Verdict::Unknown,
        }
        .into(),
        detail: explained.detail,
        advice: explained.advice.unwrap_or_default(),
    }
}

fn asker(caller: Option<&Caller>) -> Result<Asker, Status> {
    let wrong = |text: &str, form: &str| {
        let shown: String = text.chars().take(200).collect();
        Status::invalid_argument(format!("caller: {shown:?} is not {form}"))
    };
    let names = |text: &str| {
        let (namespace, name) = text.split_once('/')?;
        let fit = |part: &str| !part.is_empty() && !part.contains('/') && part.len() <= 253;
        (fit(namespace) && fit(name)).then(|| (namespace.to_owned(), name.to_owned()))
    };
    match caller {
        Some(Caller::Pod(pod)) => {
            let (namespace, name) = names(pod).ok_or_else(|| wrong(pod, "a pod as namespace/name"))?;
            Ok(Asker::Pod { namespace, name })
        }
        Some(Caller::Account(account)) if account.starts_with("spiffe://") => {
            let form = "the SPIFFE ID of a workload, spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT";
            let id = WorkloadId::parse(account).map_err(|_| wrong(account, form))?;
            Ok(Asker::Account { namespace: id.namespace().to_owned(), name: id.service_account().to_owned() })
        }
        Some(Caller::Account(account)) => {
            let (namespace, name) =
                names(account).ok_or_else(|| wrong(account, "a service account as namespace/name"))?;
            Ok(Asker::Account { namespace, name })
        }
        None => Err(Status::invalid_argument("caller: say who would ask: a service account or a pod")),
    }
}

#[cfg(test)]
#[path = "clusters_tests.rs"]
mod tests;
