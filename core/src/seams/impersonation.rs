//! May this node agent ask for that workload's certificate?
//!
//! A node agent, such as ztunnel, keeps the keys of all workloads of its node and asks for their certificates with the token
//! of its own pod. It gets those of service accounts that have a pod on its node, and no others.

use crate::caller::{AuthMethod, Caller};
use crate::identity::WorkloadId;
use crate::seams::explanation::{Asker, Explained};

/// Why a caller does not get a certificate for another identity than its own. Opaque on the wire; exact in logs, metrics and
/// records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImpersonationDenial {
    /// The cluster's configuration trusts no node agent.
    NotConfigured,
    /// What is asked for is not the SPIFFE ID of a workload in its one spelling.
    Malformed,
    /// It is in another trust domain than the caller's.
    ForeignTrustDomain,
    /// The caller's service account is not one of a node agent.
    CallerNotTrusted,
    /// The caller has shown a client certificate and no token.
    CallerByCertificate,
    /// The caller's token is not bound to a pod.
    CallerWithoutPod,
    /// There is no pod of the name that the token is bound to.
    CallerPodUnknown,
    /// The pod of that name is another one.
    CallerPodReplaced,
    /// The pod has another service account than the token.
    CallerAccountDiffers,
    /// The pod has ended.
    CallerPodEnded,
    /// The pod runs on no node, or on another one than the token says.
    CallerNodeDiffers,
    /// No pod with the service account that is asked for runs on the caller's node.
    NotOnNode,
}

impl ImpersonationDenial {
    /// A short constant for metrics and records.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NotConfigured => "impersonation_not_configured",
            Self::Malformed => "impersonation_malformed",
            Self::ForeignTrustDomain => "impersonation_foreign_trust_domain",
            Self::CallerNotTrusted => "impersonator_not_trusted",
            Self::CallerByCertificate => "impersonator_by_certificate",
            Self::CallerWithoutPod => "impersonator_without_pod",
            Self::CallerPodUnknown => "impersonator_pod_unknown",
            Self::CallerPodReplaced => "impersonator_pod_replaced",
            Self::CallerAccountDiffers => "impersonator_account_differs",
            Self::CallerPodEnded => "impersonator_pod_ended",
            Self::CallerNodeDiffers => "impersonator_node_differs",
            Self::NotOnNode => "impersonated_not_on_node",
        }
    }
}

/// Why it cannot be said at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PodsUnknown {
    /// The pods of the cluster have not been listed yet.
    NotSynced,
    /// Nothing was heard of them for longer than is believed.
    Stale,
}

impl PodsUnknown {
    /// A short constant for metrics and records.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NotSynced => "pods_not_synced",
            Self::Stale => "pods_stale",
        }
    }
}

/// A certificate for another identity is not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImpersonationError {
    /// The caller may not have it.
    #[error("{}: {detail}", reason.label())]
    Denied {
        /// The reason as a closed set.
        reason: ImpersonationDenial,
        /// Who asked for whom, and what would have to be otherwise.
        detail: String,
    },
    /// That cannot be said now; retrying may help.
    #[error("{}: {detail}", reason.label())]
    Unavailable {
        /// The reason as a closed set.
        reason: PodsUnknown,
        /// What is missing, and why.
        detail: String,
    },
}

impl ImpersonationError {
    /// A denial with its detail.
    #[must_use]
    pub fn denied(reason: ImpersonationDenial, detail: impl Into<String>) -> Self {
        Self::Denied { reason, detail: detail.into() }
    }

    /// A short constant for metrics and records.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Denied { reason, .. } => reason.label(),
            Self::Unavailable { reason, .. } => reason.label(),
        }
    }
}

/// Knows which workloads run beside a caller.
pub trait ImpersonationAuthorizer: Send + Sync {
    /// Agrees that `caller` gets a certificate for `asked`, which is another identity of the same trust domain.
    ///
    /// # Errors
    /// [`ImpersonationError`].
    fn authorize(&self, caller: &Caller, asked: &WorkloadId) -> Result<(), ImpersonationError>;

    /// What it would say to somebody who is not here, from [`TrustedAccount`](super::explanation::Check::TrustedAccount) on.
    fn explain(&self, asker: &Asker, asked: &WorkloadId) -> Vec<Explained>;
}

/// The identity that a request is about: the caller's own unless it names another one and `authorizer` agrees.
///
/// `impersonated` is the `ImpersonatedIdentity` of the request, which ztunnel sends for its own identity too. Only one
/// spelling of an identity is taken: what is certified is what was asked for, byte for byte.
///
/// # Errors
/// [`ImpersonationError`].
pub fn subject<'a>(
    caller: &Caller,
    impersonated: Option<&str>,
    authorizer: impl FnOnce() -> Option<&'a dyn ImpersonationAuthorizer>,
) -> Result<WorkloadId, ImpersonationError> {
    let own = &caller.identity;
    let asked = match impersonated {
        None | Some("") => return Ok(own.clone()),
        Some(asked) if asked == own.to_string() => return Ok(own.clone()),
        Some(asked) => asked,
    };
    let shown: String = asked.chars().take(200).collect();
    if caller.method == AuthMethod::ClientCertificate {
        let detail =
            format!("{own} asks for {shown:?} by a client certificate; a node agent shows the token of its pod");
        return Err(ImpersonationError::denied(ImpersonationDenial::CallerByCertificate, detail));
    }
    let authorizer = authorizer().ok_or_else(|| {
        let detail = format!(
            "{own} asks for {shown:?}, but its cluster has no clusters[].trusted_node_accounts; name the service account of \
             the node agents there"
        );
        ImpersonationError::denied(ImpersonationDenial::NotConfigured, detail)
    })?;
    let parsed = WorkloadId::parse(asked).ok().filter(|id| id.to_string() == asked).ok_or_else(|| {
        let detail =
            format!("{own} asks for {shown:?}, which is not spiffe://<trust domain>/ns/<namespace>/sa/<account>");
        ImpersonationError::denied(ImpersonationDenial::Malformed, detail)
    })?;
    if parsed.trust_domain() != own.trust_domain() {
        let detail = format!("{own} asks for {shown:?}, which is in another trust domain");
        return Err(ImpersonationError::denied(ImpersonationDenial::ForeignTrustDomain, detail));
    }
    authorizer.authorize(caller, &parsed)?;
    Ok(parsed)
}

#[cfg(test)]
#[path = "impersonation_tests.rs"]
mod tests;
