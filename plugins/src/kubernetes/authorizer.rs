//! Which identities a node agent may ask for: those of service accounts with a pod on its own node.

use std::collections::BTreeSet;
use std::sync::Arc;

use signet_core::caller::Caller;
use signet_core::identity::WorkloadId;
use signet_core::seams::explanation::{Asker, Explained};
use signet_core::seams::impersonation::{
    ImpersonationAuthorizer, ImpersonationDenial, ImpersonationError, PodsUnknown,
};

use super::explained::explain;
use super::known::Known;
use super::pods::PodIndex;

/// Judges node agents of one cluster by its pods.
#[derive(Debug)]
pub struct NodeAuthorizer {
    /// Namespace and name of the service accounts of node agents.
    trusted: BTreeSet<(String, String)>,
    pods: Arc<PodIndex>,
}

impl NodeAuthorizer {
    /// Trusts the service accounts `trusted`, namespace and name, to be node agents.
    #[must_use]
    pub fn new(trusted: impl IntoIterator<Item = (String, String)>, pods: Arc<PodIndex>) -> Self {
        Self { trusted: trusted.into_iter().collect(), pods }
    }

    fn unavailable(&self, reason: PodsUnknown) -> ImpersonationError {
        let health = self.pods.health();
        let problem = health.problem.map_or_else(String::new, |problem| format!(" ({problem})"));
        let detail = match reason {
            PodsUnknown::NotSynced => format!("the cluster's pods have not been listed yet{problem}"),
            _ => format!("nothing was heard of the cluster's pods for more than {:?}{problem}", super::pods::BELIEVED),
        };
        ImpersonationError::Unavailable { reason, detail }
    }
}

impl ImpersonationAuthorizer for NodeAuthorizer {
    fn authorize(&self, caller: &Caller, asked: &WorkloadId) -> Result<(), ImpersonationError> {
        let own = &caller.identity;
        let denied =
            |reason, why: String| Err(ImpersonationError::denied(reason, format!("{own} asks for {asked}, but {why}")));
        let account = (own.namespace().to_owned(), own.service_account().to_owned());
        if !self.trusted.contains(&account) {
            let (namespace, name) = account;
            let why = format!("{namespace}/{name} is not among the trusted_node_accounts of its cluster");
            return denied(ImpersonationDenial::CallerNotTrusted, why);
        }
        let Some(pod) = &caller.pod else {
            let why = "its token is not bound to a pod; use the projected token of the node agent's own pod";
            return denied(ImpersonationDenial::CallerWithoutPod, why.to_owned());
        };
        let judged = self.pods.look(|known| beside(known, caller, &pod.name, &pod.uid, asked));
        match judged.map_err(|reason| self.unavailable(reason))? {
            Ok(()) => Ok(()),
            Err((reason, why)) => denied(reason, why),
        }
    }

    fn explain(&self, asker: &Asker, asked: &WorkloadId) -> Vec<Explained> {
        let trusted = |namespace: &str, name: &str| self.trusted.contains(&(namespace.to_owned(), name.to_owned()));
        let looked = self.pods.look(|known| explain(asker, asked, trusted, Ok(known)));
        looked.unwrap_or_else(|reason| {
            let detail = match self.unavailable(reason) {
                ImpersonationError::Unavailable { detail, .. } => detail,
                error => error.to_string(),
            };
            explain(asker, asked, trusted, Err((reason, detail)))
        })
    }
}

/// Whether `asked` has a pod on the node of the caller's.
fn beside(
    known: &Known,
    caller: &Caller,
    name: &str,
    uid: &str,
    asked: &WorkloadId,
) -> Result<(), (ImpersonationDenial, String)> {
    let namespace = caller.identity.namespace();
    let Some(pod) = known.pod(namespace, name) else {
        return Err((ImpersonationDenial::CallerPodUnknown, format!("there is no pod {namespace}/{name}")));
    };
    if *pod.uid != *uid {
        let why = format!("the pod {namespace}/{name} is another one now, with the UID {}", pod.uid);
        return Err((ImpersonationDenial::CallerPodReplaced, why));
    }
    if *pod.account != *caller.identity.service_account() {
        let why = format!("the pod {namespace}/{name} has the service account {:?}", pod.account);
        return Err((ImpersonationDenial::CallerAccountDiffers, why));
    }
    if pod.ended {
        return Err((ImpersonationDenial::CallerPodEnded, format!("the pod {namespace}/{name} has ended")));
    }
    let Some(node) = &pod.node else {
        return Err((
            ImpersonationDenial::CallerNodeDiffers,
            format!("the pod {namespace}/{name} runs on no node yet"),
        ));
    };
    if let Some(says) = &caller.node {
        let uid = known.node_uid(node);
        let fits = *says.name == **node && (says.uid.is_none() || says.uid.as_deref() == uid);
        if !fits {
            let why = format!(
                "its pod runs on the node {node} (UID {}), and its token says {} (UID {})",
                uid.unwrap_or("unknown"),
                says.name,
                says.uid.as_deref().unwrap_or("none")
            );
            return Err((ImpersonationDenial::CallerNodeDiffers, why));
        }
    }
    if !known.runs_on(asked.namespace(), asked.service_account(), node) {
        let why = format!("no pod with that service account runs on its node {node}");
        return Err((ImpersonationDenial::NotOnNode, why));
    }
    Ok(())
}
