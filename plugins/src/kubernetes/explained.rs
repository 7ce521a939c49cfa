//! What a node agent would be told, for operators: with the checks that decide, on pods as they are known now.

use std::collections::BTreeSet;

use signet_core::identity::WorkloadId;
use signet_core::seams::explanation::{Asker, Check, Explained};
use signet_core::seams::impersonation::PodsUnknown;

use super::known::{Known, KnownPod};

/// Names of nodes that are told of at most.
const TOLD: usize = 5;

/// The checks from [`Check::TrustedAccount`] on. `trusted` says whether an account of this namespace and name is one of a node
/// agent, `known` what pods there are.
pub(super) fn explain(
    asker: &Asker,
    asked: &WorkloadId,
    trusted: impl Fn(&str, &str) -> bool,
    known: Result<&Known, (PodsUnknown, String)>,
) -> Vec<Explained> {
    let (namespace, account) = match (asker, &known) {
        (Asker::Account { namespace, name }, _) => (namespace.as_str(), Some(name.as_str())),
        (Asker::Pod { namespace, name }, Ok(known)) => {
            (namespace.as_str(), known.pod(namespace, name).map(|pod| &*pod.account))
        }
        (Asker::Pod { namespace, .. }, Err(_)) => (namespace.as_str(), None),
    };
    let trust = match account {
        None => Explained::unknown(Check::TrustedAccount, "the service account of the pod is not known"),
        Some(account) if trusted(namespace, account) => {
            Explained::yes(Check::TrustedAccount, format!("{namespace}/{account} is in trusted_node_accounts"))
        }
        Some(account) => Explained::no(
            Check::TrustedAccount,
            format!("{namespace}/{account} is not in trusted_node_accounts of its cluster"),
            "if it is the account of a node agent, add it there; compare namespace and name, also with a `revision` in it",
        ),
    };
    let mut all = vec![trust];
    match known {
        Err((reason, detail)) => {
            let unknown = |check| Explained::unknown(check, format!("{}: {detail}", reason.label()));
            all.extend([Check::CallerPod, Check::CallerNode, Check::OnNode].map(unknown));
        }
        Ok(known) => all.extend(places(known, asker, asked)),
    }
    all
}

/// The pod of the caller, its node, and what else runs there.
fn places(known: &Known, asker: &Asker, asked: &WorkloadId) -> [Explained; 3] {
    let later = |check| Explained::unknown(check, "not looked at, since a check before it is not passed");
    let (there, nodes) = match callers(known, asker) {
        Ok(found) => found,
        Err(no) => return [no, later(Check::CallerNode), later(Check::OnNode)],
    };
    if nodes.is_empty() {
        let advice = "wait until it is scheduled, or look at its events";
        return [there, Explained::no(Check::CallerNode, "it runs on no node yet", advice), later(Check::OnNode)];
    }
    let here = Explained::yes(Check::CallerNode, format!("runs on {}", named(&nodes)));
    let (namespace, account) = (asked.namespace(), asked.service_account());
    let beside: BTreeSet<&str> = nodes.iter().copied().filter(|node| known.runs_on(namespace, account, node)).collect();
    if !beside.is_empty() {
        let detail = format!("pods of {namespace}/{account} run beside it on {}", named(&beside));
        return [there, here, Explained::yes(Check::OnNode, detail)];
    }
    let elsewhere: BTreeSet<&str> = known
        .pods_of(namespace, account)
        .filter(|(_, pod)| !pod.ended)
        .filter_map(|(_, pod)| pod.node.as_deref())
        .collect();
    let no = if elsewhere.is_empty() {
        let detail = format!("no pod of {namespace}/{account} runs anywhere in the cluster");
        Explained::no(Check::OnNode, detail, "compare namespace and service account with those of the workload's pod")
    } else {
        let detail = format!("pods of {namespace}/{account} run on {}, and none beside it", named(&elsewhere));
        Explained::no(Check::OnNode, detail, "ask for a workload of its own node")
    };
    [there, here, no]
}

/// What of the caller is there, and the nodes that it runs on.
fn callers<'a>(known: &'a Known, asker: &'a Asker) -> Result<(Explained, BTreeSet<&'a str>), Explained> {
    match asker {
        Asker::Pod { namespace, name } => {
            let shown = format!("{namespace}/{name}");
            let no = |detail: String, advice: &str| Explained::no(Check::CallerPod, detail, advice);
            let advice = "nothing, if it was just deleted or made; compare the name with kubectl get pods otherwise";
            let pod = known.pod(namespace, name).ok_or_else(|| no(format!("there is no pod {shown}"), advice))?;
            if pod.ended {
                return Err(no(format!("the pod {shown} has ended"), "it should not ask any more"));
            }
            let there = Explained::yes(Check::CallerPod, format!("the pod {shown} is there, with the UID {}", pod.uid));
            Ok((there, pod.node.as_deref().into_iter().collect()))
        }
        Asker::Account { namespace, name } => {
            let alive: Vec<&KnownPod> =
                known.pods_of(namespace, name).map(|(_, pod)| pod).filter(|pod| !pod.ended).collect();
            if alive.is_empty() {
                let detail = format!("no pod of {namespace}/{name} runs in the cluster");
                let advice = "compare namespace and service account with those of the node agent's pods";
                return Err(Explained::no(Check::CallerPod, detail, advice));
            }
            let there = Explained::yes(Check::CallerPod, format!("pods of {namespace}/{name}: {}", alive.len()));
            Ok((there, alive.into_iter().filter_map(|pod| pod.node.as_deref()).collect()))
        }
    }
}

/// The first of these, and how many more there are.
fn named(nodes: &BTreeSet<&str>) -> String {
    let told = nodes.iter().take(TOLD).copied().collect::<Vec<_>>().join(", ");
    match nodes.len().saturating_sub(TOLD) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

#[cfg(test)]
#[path = "explained_tests.rs"]
mod tests;
