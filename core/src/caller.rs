//! Who asked: what an authenticator proved about the sender of a request.

use std::net::SocketAddr;

use time::OffsetDateTime;

use crate::identity::WorkloadId;

/// How a caller proved itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthMethod {
    /// A service-account token verified with the cluster's published keys.
    Jwks,
    /// A service-account token that the cluster's API server has judged.
    TokenReview,
    /// A certificate that this CA has issued, and has on record.
    ClientCertificate,
    /// A request of a pod's kubelet in the API server of the cluster, held against the objects there.
    PodCertificate,
}

impl AuthMethod {
    /// The name used in records and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jwks => "jwks",
            Self::TokenReview => "token-review",
            Self::ClientCertificate => "client-certificate",
            Self::PodCertificate => "pod-certificate",
        }
    }

    /// The method of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Jwks, Self::TokenReview, Self::ClientCertificate, Self::PodCertificate];
        all.into_iter().find(|method| method.as_str() == name)
    }
}

/// What was shown, by the names that records have for it. It holds nothing that proves anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credential {
    /// What the cluster calls the caller's last token (`jti`), when it has given it a name.
    pub token_id: Option<String>,
    /// The client certificate that stands in the place of a token.
    pub certificate: Option<ShownCertificate>,
}

/// A client certificate that has proved a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownCertificate {
    /// Its serial number, as records have it.
    pub serial: String,
    /// When its holder has shown a token for the last time: what is issued to it has the same time.
    pub last_token: OffsetDateTime,
}

/// A Kubernetes object as a bound token names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundObject {
    /// The object's name.
    pub name: String,
    /// The object's UID.
    pub uid: String,
}

/// A node as a token names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundNode {
    /// The node's name.
    pub name: String,
    /// The node's UID; absent when the node was gone as the token was made.
    pub uid: Option<String>,
}

/// An authenticated workload. Only authenticators make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The identity that was proved.
    pub identity: WorkloadId,
    /// UID of the service account.
    pub service_account_uid: String,
    /// The pod the token is bound to.
    pub pod: Option<BoundObject>,
    /// The node the pod runs on, when the token says so (Kubernetes 1.29 and later).
    pub node: Option<BoundNode>,
    /// The configured id of the cluster, never an alias.
    pub cluster: String,
    /// How it was proved.
    pub method: AuthMethod,
    /// What was shown for that.
    pub credential: Credential,
    /// When the token says that it was made.
    pub made_at: Option<OffsetDateTime>,
    /// Until when the proof holds, with what its verification allows for clocks that differ; `None` for one without an
    /// end. What goes on for longer than a call, such as a stream, ends then.
    pub until: Option<OffsetDateTime>,
}

/// Where a request came from; for limits and records, never for decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub Option<SocketAddr>);

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// What a token says that was signed by its cluster and proves nobody all the same: it has ended, say, or is for
/// somebody else; or what a client certificate says of which that is true. For records only, never for decisions. Each
/// value is bounded and of the shape that Kubernetes gives it; what is not, or contradicts itself, is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The configured id of the cluster whose key signed.
    pub cluster: String,
    /// The identity that the token would prove.
    pub identity: Option<WorkloadId>,
    /// UID of the service account.
    pub service_account_uid: Option<String>,
    /// Name of the pod.
    pub pod: Option<String>,
    /// UID of the pod.
    pub pod_uid: Option<String>,
    /// Name of the node.
    pub node: Option<String>,
    /// UID of the node.
    pub node_uid: Option<String>,
    /// Serial number of the client certificate, where that is what was shown.
    pub certificate: Option<String>,
}
