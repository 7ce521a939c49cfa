//! What would become of a node agent's request for a workload's certificate, check by check: for operators. Nothing is
//! decided by it.

/// Who would ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asker {
    /// Any pod of a service account.
    Account {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// One pod.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl std::fmt::Display for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Account { namespace, name } => write!(f, "{namespace}/{name}"),
            Self::Pod { namespace, name } => write!(f, "pod/{namespace}/{name}"),
        }
    }
}

/// What is checked, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Check {
    /// The cluster trusts node agents at all.
    Configured,
    /// What is asked for is the SPIFFE ID of a workload in its one spelling.
    AskedIdentity,
    /// It is in the trust domain of the cluster.
    TrustDomain,
    /// The caller's service account is one of a node agent.
    TrustedAccount,
    /// The caller's pod is there, and has not ended.
    CallerPod,
    /// The caller's pod runs on a node.
    CallerNode,
    /// A pod with the service account that is asked for runs on that node.
    OnNode,
}

impl Check {
    /// Every check, in the order of their declaration.
    pub const ALL: [Self; 7] = [
        Self::Configured,
        Self::AskedIdentity,
        Self::TrustDomain,
        Self::TrustedAccount,
        Self::CallerPod,
        Self::CallerNode,
        Self::OnNode,
    ];

    /// A short constant.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::AskedIdentity => "asked_identity",
            Self::TrustDomain => "trust_domain",
            Self::TrustedAccount => "trusted_account",
            Self::CallerPod => "caller_pod",
            Self::CallerNode => "caller_node",
            Self::OnNode => "on_node",
        }
    }
}

/// How one check would end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// Which.
    pub check: Check,
    /// Whether it would be passed; `None` when that cannot be said, or when one before it is not passed.
    pub passed: Option<bool>,
    /// What was found.
    pub detail: String,
    /// What to do.
    pub advice: Option<String>,
}

impl Explained {
    /// It would be passed.
    #[must_use]
    pub fn yes(check: Check, detail: impl Into<String>) -> Self {
        Self { check, passed: Some(true), detail: detail.into(), advice: None }
    }

    /// It would not, and what to do about that.
    #[must_use]
    pub fn no(check: Check, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, passed: Some(false), detail: detail.into(), advice: Some(advice.into()) }
    }

    /// It cannot be said.
    #[must_use]
    pub fn unknown(check: Check, detail: impl Into<String>) -> Self {
        Self { check, passed: None, detail: detail.into(), advice: None }
    }
}
