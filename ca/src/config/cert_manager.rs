//! What the configuration says of cert-manager as the backend.

use std::path::PathBuf;
use std::time::Duration;

use super::ApiAccess;

/// How cert-manager certifies issuing CAs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertManager {
    /// The API server.
    pub api_server: ApiAccess,
    /// Where requests are made.
    pub namespace: String,
    /// The name of the issuer.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// The group of that kind.
    pub group: String,
    /// Where its roots are.
    pub roots: CertManagerRoots,
    /// How long one issuing CA may take.
    pub deadline: Duration,
    /// Whether this CA approves its own requests.
    pub approve: bool,
    /// How many leaves it may sign at the same time, when each is a request of its own.
    pub leaves: Option<u16>,
}

/// Where the roots of the issuer are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertManagerRoots {
    /// In a file.
    File(PathBuf),
    /// In a ConfigMap.
    ConfigMap(ObjectKey),
    /// In a Secret.
    Secret(ObjectKey),
    /// In `status.ca` of requests.
    StatusCa,
}

/// A value of an object in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectKey {
    /// The object's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The key of the value.
    pub key: String,
}
