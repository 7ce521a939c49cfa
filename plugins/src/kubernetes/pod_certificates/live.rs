//! Whether a request says what is so: its pod, account and node are asked for, since nothing tells who has made it.

use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::api::PartialObjectMeta;
use kube::core::DynamicObject;
use kube::{Api, Client};
use serde_json::Value;
use signet_core::caller::{AuthMethod, BoundNode, BoundObject, Caller, Claimed, Credential};
use signet_core::identity::{TrustDomain, WorkloadId};
use signet_core::seams::authenticator::{AuthenticationError, Denial};

use super::request::{Open, within};
use crate::kubernetes::api_server::outage;

/// Of which cluster and signer requests are.
#[derive(Debug, Clone)]
pub(super) struct Expected<'a> {
    pub(super) cluster: &'a str,
    pub(super) trust_domain: &'a TrustDomain,
    pub(super) signer: &'a str,
}

/// What a cluster has of the objects that a request names.
#[derive(Debug)]
pub(super) struct Found {
    /// The pod as the API server shows it.
    pub(super) pod: Option<Value>,
    /// The UID of the account.
    pub(super) account: Option<String>,
    /// The UID of the node.
    pub(super) node: Option<String>,
}

/// Asks for the objects of a request, at once.
///
/// # Errors
/// [`AuthenticationError::Unavailable`].
pub(super) async fn find(client: &Client, open: &Open) -> Result<Found, AuthenticationError> {
    let pods: Api<DynamicObject> = Api::namespaced_with(
        client.clone(),
        &open.namespace,
        &kube::api::ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&()),
    );
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &open.namespace);
    let nodes: Api<Node> = Api::all(client.clone());
    let asked = async {
        tokio::join!(
            pods.get_opt(&open.pod.0),
            accounts.get_metadata_opt(&open.account.0),
            nodes.get_metadata_opt(&open.node.0),
        )
    };
    let (pod, account, node) = within(asked).await?;
    let failed = |error: kube::Error| outage(&error);
    let pod = pod.map_err(failed)?.map(|pod| {
        let mut whole = pod.data;
        if let (Some(whole), Ok(metadata)) = (whole.as_object_mut(), serde_json::to_value(pod.metadata)) {
            whole.insert("metadata".to_owned(), metadata);
        }
        whole
    });
    let account: Option<PartialObjectMeta<ServiceAccount>> = account.map_err(failed)?;
    let node: Option<PartialObjectMeta<Node>> = node.map_err(failed)?;
    Ok(Found {
        pod,
        account: account.and_then(|account| account.metadata.uid),
        node: node.and_then(|node| node.metadata.uid),
    })
}

/// Who gets the certificate, if everything is as the request says.
///
/// # Errors
/// [`AuthenticationError::Denied`] with what is otherwise.
pub(super) fn judge(expected: &Expected<'_>, open: &Open, found: &Found) -> Result<Caller, AuthenticationError> {
    let (namespace, (pod, pod_uid)) = (&open.namespace, &open.pod);
    let ((account, account_uid), (node, node_uid)) = (&open.account, &open.node);
    let identity = WorkloadId::new(expected.trust_domain.clone(), namespace, account);
    let claimed = Claimed {
        cluster: expected.cluster.to_owned(),
        identity: identity.as_ref().ok().cloned(),
        service_account_uid: Some(account_uid.clone()),
        pod: Some(pod.clone()),
        pod_uid: Some(pod_uid.clone()),
        node: Some(node.clone()),
        node_uid: Some(node_uid.clone()),
        certificate: None,
    };
    let denied = |reason, detail: String| Err(AuthenticationError::denied(reason, detail).claiming(claimed.clone()));
    let Some(live) = &found.pod else {
        return denied(Denial::PodGone, format!("there is no pod {namespace}/{pod}"));
    };
    let text = |pointer: &str| live.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if text("/metadata/uid") != pod_uid {
        return denied(Denial::PodGone, format!("the pod {namespace}/{pod} is another one, with another UID"));
    }
    if !text("/metadata/deletionTimestamp").is_empty() {
        return denied(Denial::PodGone, format!("the pod {namespace}/{pod} is being deleted"));
    }
    let phase = text("/status/phase");
    if matches!(phase, "Succeeded" | "Failed") {
        return denied(Denial::PodGone, format!("the pod {namespace}/{pod} has ended: {phase}"));
    }
    if text("/spec/serviceAccountName") != account {
        let has = text("/spec/serviceAccountName");
        return denied(
            Denial::AccountGone,
            format!("the pod {namespace}/{pod} has the service account {has:?}, not {account:?}"),
        );
    }
    match &found.account {
        Some(uid) if uid == account_uid => {}
        Some(_) => {
            return denied(
                Denial::AccountGone,
                format!("the service account {namespace}/{account} is another one, with another UID"),
            );
        }
        None => return denied(Denial::AccountGone, format!("there is no service account {namespace}/{account}")),
    }
    if text("/spec/nodeName") != node {
        return denied(Denial::NodeGone, format!("the pod {namespace}/{pod} does not run on the node {node}"));
    }
    match &found.node {
        Some(uid) if uid == node_uid => {}
        Some(_) => return denied(Denial::NodeGone, format!("the node {node} is another one, with another UID")),
        None => return denied(Denial::NodeGone, format!("there is no node {node}")),
    }
    if !has_volume(live, expected.signer) {
        let detail = format!(
            "the pod {namespace}/{pod} has no projected volume with a podCertificate of the signer {}; add one to it",
            expected.signer
        );
        return denied(Denial::VolumeMissing, detail);
    }
    let identity = match identity {
        Ok(identity) => identity,
        Err(error) => return denied(Denial::ClaimsInvalid, format!("no SPIFFE ID can be made of its names: {error}")),
    };
    Ok(Caller {
        identity,
        service_account_uid: account_uid.clone(),
        pod: Some(BoundObject { name: pod.clone(), uid: pod_uid.clone() }),
        node: Some(BoundNode { name: node.clone(), uid: Some(node_uid.clone()) }),
        cluster: expected.cluster.to_owned(),
        method: AuthMethod::PodCertificate,
        credential: Credential::default(),
        made_at: None,
        until: None,
    })
}

/// Whether a volume of the pod is to hold a certificate of this signer.
fn has_volume(pod: &Value, signer: &str) -> bool {
    let list =
        |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    list(pod, "/spec/volumes").iter().any(|volume| {
        let sources = list(volume, "/projected/sources");
        sources
            .iter()
            .any(|source| source.pointer("/podCertificate/signerName").and_then(Value::as_str) == Some(signer))
    })
}

#[cfg(test)]
#[path = "live_tests.rs"]
pub(super) mod tests;
