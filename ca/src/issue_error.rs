//! Why there is no certificate: the errors of the issuance pipeline, with the words for metrics and records.

use signet_core::audit::Outcome;
use signet_core::csr::CsrError;
use signet_core::policy::Refusal;
use signet_core::record_before_release::WrongRecord;
use signet_core::seams::authenticator::AuthenticationError;
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::impersonation::ImpersonationError;
use signet_core::seams::store::{AppendError, StoreError};
use signet_core::verify::Mismatch;

use crate::over_limit::Limit;

/// What the fence has refused, in metrics and records.
const AUTHORITY_CHANGED: &str = "authority_changed";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// Over a limit.
    #[error("{}", .0.in_words())]
    OverLimit(Limit),
    /// The sender did not prove who it is.
    #[error(transparent)]
    Authentication(#[from] AuthenticationError),
    /// The edge could not make sense of the request's fields.
    #[error("{0}")]
    Malformed(String),
    /// The CSR is not acceptable.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// Another identity than the sender's own is not certified for it.
    #[error(transparent)]
    Impersonation(#[from] ImpersonationError),
    /// The request is understood and refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No authority is ready to sign.
    #[error("no authority is ready to sign yet")]
    NotReady,
    /// The authority did not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// What was signed is not what was decided.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// The authorities changed while the certificate was made, twice, or this replica has not heard of the change in time.
    #[error("the authorities have changed while the certificate was made")]
    AuthorityChanged,
    /// The record could not be made durable.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The request took longer than `limits.request_timeout`.
    #[error("the request took longer than limits.request_timeout")]
    TimedOut,
    /// The system's random number generator failed.
    #[error("the system's random number generator failed")]
    Random,
}

impl IssueError {
    /// A short constant for metrics and records.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::OverLimit(limit) => limit.label(),
            Self::Authentication(error) => error.label(),
            Self::Malformed(_) => "request_malformed",
            Self::Csr(error) => error.label(),
            Self::Impersonation(error) => error.label(),
            Self::Refused(refusal) => refusal.label(),
            Self::NotReady => "not_ready",
            Self::Sign(SignError::Unavailable(_)) => "signer_unavailable",
            Self::Sign(_) => "sign_failed",
            Self::Mismatch(_) => "issued_differs_from_decided",
            Self::AuthorityChanged => AUTHORITY_CHANGED,
            Self::Record(error) => error.label(),
            Self::TimedOut => "timed_out",
            Self::Random => "random_failed",
        }
    }

    /// Whether the request itself was at fault, or the CA.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Authentication(AuthenticationError::Denied { .. })
            | Self::Impersonation(ImpersonationError::Denied { .. })
            | Self::OverLimit(_)
            | Self::Malformed(_)
            | Self::Csr(_) => Outcome::Refused,
            Self::Refused(Refusal::IssuerExpired(_) | Refusal::ClockBeforeIssuer(_) | Refusal::TooShort { .. }) => {
                Outcome::Failed
            }
            Self::Refused(_) => Outcome::Refused,
            _ => Outcome::Failed,
        }
    }
}

/// An event is not on record, so what it describes must not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The writer cannot keep up or has ended.
    #[error("the audit writer is overloaded or stopping")]
    Queue,
    /// Storage did not take the batch.
    #[error("the audit record could not be committed: {0}")]
    Store(StoreError),
    /// The serial number is taken, or the journal does not let the certificate out any more.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The proof does not fit the certificate.
    #[error(transparent)]
    Release(#[from] WrongRecord),
}

impl RecordError {
    /// Whether the event is certainly not on record: storage that fails, or takes too long, may have kept it all the same.
    #[must_use]
    pub fn is_not_on_record(&self) -> bool {
        matches!(self, Self::Queue | Self::Append(_))
    }

    /// A short constant for metrics and records.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Queue => "audit_queue_full",
            Self::Store(_) => "audit_store_unavailable",
            Self::Append(AppendError::SerialTaken) => "serial_taken",
            Self::Append(AppendError::Fenced) => AUTHORITY_CHANGED,
            Self::Append(AppendError::ClaimLost) => "claim_lost",
            Self::Release(_) => "wrong_record",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever is on record as issued must not be on record as refused too.
    #[test]
    fn a_record_that_storage_may_have_kept_is_not_taken_for_one_that_is_not_there() {
        for (error, is_not_there) in [
            (RecordError::Queue, true),
            (RecordError::Append(AppendError::SerialTaken), true),
            (RecordError::Append(AppendError::Fenced), true),
            (RecordError::Store(StoreError::Unavailable("too slow".to_owned())), false),
            (RecordError::Store(StoreError::Lost("another file".to_owned())), false),
        ] {
            assert_eq!(error.is_not_on_record(), is_not_there, "{error}");
        }
    }
}
