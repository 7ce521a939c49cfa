//! Whom cert-manager is asked through, which issuer of it, and where its roots are.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use signet_core::identity::TrustDomain;

/// The group of cert-manager's own objects.
pub(super) const GROUP: &str = "cert-manager.io";

/// An issuer of cert-manager's, or of somebody's who answers its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerRef {
    /// Its name.
    pub name: String,
    /// Its kind: `Issuer`, `ClusterIssuer`, or one of an external issuer.
    pub kind: String,
    /// The group of that kind.
    pub group: String,
}

impl fmt::Display for IssuerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, group } = self;
        if group == GROUP { write!(f, "{kind} {name}") } else { write!(f, "{kind} {name} of {group}") }
    }
}

/// A value of an object in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectKey {
    /// The object's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The key of the value in it.
    pub key: String,
}

/// Where the roots are that the issuer's certificates lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootsFrom {
    /// In a file.
    File(PathBuf),
    /// In a ConfigMap.
    ConfigMap(ObjectKey),
    /// In a Secret.
    Secret(ObjectKey),
    /// Wherever `status.ca` of a trial request says: whoever may write that names our root.
    Requests,
}

impl fmt::Display for RootsFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, ObjectKey { namespace, name, key }) = match self {
            Self::File(path) => return write!(f, "{}", path.display()),
            Self::Requests => return f.write_str("status.ca of a trial CertificateRequest"),
            Self::ConfigMap(at) => ("ConfigMap", at),
            Self::Secret(at) => ("Secret", at),
        };
        write!(f, "{key} of {kind} {namespace}/{name}")
    }
}

/// How cert-manager is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertManagerSettings {
    /// The trust domain of the issuing CAs.
    pub trust_domain: TrustDomain,
    /// Where requests are made; an issuer that is not cluster-wide is there.
    pub namespace: String,
    /// Who signs them.
    pub issuer: IssuerRef,
    /// Where its roots are.
    pub roots: RootsFrom,
    /// How long one issuing CA may take.
    pub deadline: Duration,
    /// Whether requests are approved by who makes them.
    pub approve: bool,
    /// Whether each leaf is a request, and no issuing CA is.
    pub leaves: bool,
}
