//! What cert-manager has answered, read as the client does: for whoever tries answers that no issuer should give.

use std::time::Duration;

use serde_json::Value;
use signet_core::authority::Root;
use signet_core::seams::upstream_authority::Certified;
use time::OffsetDateTime;

use super::answer::{Asked, judge};
use super::request::{State, state};

/// What the status of a CertificateRequest means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestStatus {
    /// There is a certificate: the chain, PEM.
    Issued(Vec<u8>),
    /// Nobody will sign it: why.
    Over(String),
    /// Another one may fare better: why.
    Failed(String),
    /// Nothing is decided yet.
    Pending,
}

impl RequestStatus {
    /// Reads the object.
    #[must_use]
    pub fn of(object: &Value) -> Self {
        match state(object) {
            State::Issued(issued) => Self::Issued(issued.chain),
            State::Denied(said) | State::Invalid(said) => Self::Over(said),
            State::Failed(said) => Self::Failed(said),
            State::Pending(_) => Self::Pending,
        }
    }
}

/// An issuing CA for this key with this URI, below the root and for so long, from the chain that came back.
///
/// # Errors
/// What is wrong with it.
pub fn judge_request(
    chain: &[u8],
    (spki_der, uri): (&[u8], &str),
    (root, ttl): (&Root, Duration),
    now: OffsetDateTime,
) -> Result<Certified, String> {
    let roots = std::slice::from_ref(root);
    judge(chain, &Asked { spki_der, uri, ttl, root, roots: (roots, "the roots") }, now)
}
