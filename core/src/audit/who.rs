//! Whom an event is about.

use serde::{Deserialize, Serialize};

use super::event::AuditEvent;
use crate::caller::{Caller, Claimed, Credential};

/// Whom an event is about, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributed {
    /// The SPIFFE ID that was certified or asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spiffe_id: Option<String>,
    /// Kubernetes namespace of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Service account of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// UID of the service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_uid: Option<String>,
    /// Pod of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// UID of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// Node of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Cluster of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// How the caller proved itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_method: Option<String>,
    /// Network address that the request came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// What the client calls itself, to be told apart from others of the same identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// UID of the node, where the token names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_uid: Option<String>,
    /// What the cluster calls the last token that the caller has shown (`jti`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// Serial number of the client certificate that was shown in the place of a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// With such a certificate: when its holder has shown a token for the last time, in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_token_micros: Option<i64>,
}

impl Attributed {
    /// Whom an authenticated request from `peer` is about.
    #[must_use]
    pub fn to_caller(caller: &Caller, peer: String) -> Self {
        let Credential { token_id, certificate } = &caller.credential;
        Self {
            spiffe_id: Some(caller.identity.to_string()),
            namespace: Some(caller.identity.namespace().to_owned()),
            service_account: Some(caller.identity.service_account().to_owned()),
            service_account_uid: Some(caller.service_account_uid.clone()),
            pod: caller.pod.as_ref().map(|pod| pod.name.clone()),
            pod_uid: caller.pod.as_ref().map(|pod| pod.uid.clone()),
            node: caller.node.as_ref().map(|node| node.name.clone()),
            cluster: Some(caller.cluster.clone()),
            auth_method: Some(caller.method.as_str().to_owned()),
            peer: Some(peer),
            instance: None,
            node_uid: caller.node.as_ref().and_then(|node| node.uid.clone()),
            token_id: token_id.clone(),
            certificate: certificate.as_ref().map(|shown| shown.serial.clone()),
            last_token_micros: certificate.as_ref().map(|shown| AuditEvent::micros(shown.last_token)),
        }
    }

    /// Whom a request from `peer` is about whose token was signed by the cluster, or whose certificate by this CA, and
    /// refused all the same. How the
    /// caller proved itself stays open: it did not.
    #[must_use]
    pub fn to_claimed(claimed: &Claimed, peer: String) -> Self {
        let identity = claimed.identity.as_ref();
        Self {
            spiffe_id: identity.map(ToString::to_string),
            namespace: identity.map(|identity| identity.namespace().to_owned()),
            service_account: identity.map(|identity| identity.service_account().to_owned()),
            service_account_uid: claimed.service_account_uid.clone(),
            pod: claimed.pod.clone(),
            pod_uid: claimed.pod_uid.clone(),
            node: claimed.node.clone(),
            cluster: Some(claimed.cluster.clone()),
            auth_method: None,
            peer: Some(peer),
            instance: None,
            node_uid: claimed.node_uid.clone(),
            token_id: None,
            certificate: claimed.certificate.clone(),
            last_token_micros: None,
        }
    }

    /// Keeps only what is the same in `other`: what can be said of both.
    pub fn keep_common(&mut self, other: &Self) {
        let Self {
            spiffe_id,
            namespace,
            service_account,
            service_account_uid,
            pod,
            pod_uid,
            node,
            cluster,
            auth_method,
            peer,
            instance,
            node_uid,
            token_id,
            certificate,
            last_token_micros,
        } = self;
        if *last_token_micros != other.last_token_micros {
            *last_token_micros = None;
        }
        for (mine, theirs) in [
            (spiffe_id, &other.spiffe_id),
            (namespace, &other.namespace),
            (service_account, &other.service_account),
            (service_account_uid, &other.service_account_uid),
            (pod, &other.pod),
            (pod_uid, &other.pod_uid),
            (node, &other.node),
            (cluster, &other.cluster),
            (auth_method, &other.auth_method),
            (peer, &other.peer),
            (instance, &other.instance),
            (node_uid, &other.node_uid),
            (token_id, &other.token_id),
            (certificate, &other.certificate),
        ] {
            if mine != theirs {
                *mine = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_have_in_common_is_kept_and_nothing_else() {
        let text = |text: &str| Some(text.to_owned());
        let mut one = Attributed { spiffe_id: text("a"), pod: text("p"), node: text("n"), ..Attributed::default() };
        let other = Attributed { spiffe_id: text("a"), pod: text("q"), cluster: text("c"), ..Attributed::default() };
        one.keep_common(&other);
        assert_eq!(one, Attributed { spiffe_id: text("a"), ..Attributed::default() });
        let at = |micros| Attributed { last_token_micros: micros, ..Attributed::default() };
        for (mine, theirs, common) in [(Some(1), Some(1), Some(1)), (Some(1), Some(2), None), (Some(1), None, None)] {
            let mut one = at(mine);
            one.keep_common(&at(theirs));
            assert_eq!(one, at(common));
        }
    }
}
