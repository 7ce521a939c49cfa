//! What the agent holds and how renewing goes: written by the renewer only, read by everybody else.

use std::sync::Arc;

use signet_sds::snapshot::{SecretContent, Snapshot};
use time::OffsetDateTime;

use crate::reply::Issued;

/// The state of one identity. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// The last good certificate. It stays until it is replaced.
    pub held: Option<Arc<Issued>>,
    /// Certificates obtained since the start.
    pub renewals: u64,
    /// Failed attempts since the last good one.
    pub failures: u32,
    /// The newest failure; kept after a success, as history.
    pub last_failure: Option<Failure>,
    /// When the next attempt is planned.
    pub next_attempt: Option<OffsetDateTime>,
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Why, with everything that caused it; never a secret.
    pub text: String,
    /// When.
    pub at: OffsetDateTime,
}

/// What proxies are served of a certificate: it and its bundle, under these names.
#[must_use]
pub fn snapshot_of(issued: &Issued, certificate_name: &str, bundle_name: &str) -> Snapshot {
    let certificate = SecretContent::Certificate { chain: issued.chain.clone(), key_pem: Arc::clone(&issued.key_pem) };
    Snapshot::new([(certificate_name, certificate), (bundle_name, SecretContent::Validation(issued.bundle.clone()))])
}
