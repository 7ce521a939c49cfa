//! The one map from errors to gRPC status codes.
//!
//! Istio's agents retry RESOURCE_EXHAUSTED, UNAVAILABLE and INTERNAL at once and nothing else, so what may go away by
//! itself gets one of these. Failed authentication is opaque: a caller that proves nothing learns nothing.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use signet_core::policy::Refusal;
use signet_core::seams::authenticator::AuthenticationError;
use signet_core::seams::authority::SignError;
use signet_core::seams::store::AppendError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::error::IssueError;
use crate::error::RecordError;
use crate::turned_away::Limit;

/// The whole message for any failed authentication, as istiod words it.
pub(super) const AUTHENTICATION: &str = "request authenticate failure";

/// The message when it cannot be told at the moment who the caller is.
pub(super) const UNCHECKED: &str = "the token cannot be checked at the moment; retry";

/// The whole message for any refused impersonation, as istiod words it.
const IMPERSONATION: &str = "request impersonation authentication failure";

/// Characters of a message at most: some repeat what a caller sent, and headers have a limit.
const MESSAGE: usize = 1000;

/// When those who were turned away may come again at the earliest, and over how long they are spread: who is told the same
/// time comes back at the same time.
const AGAIN: Duration = Duration::from_secs(1);
const SPREAD_MILLIS: u32 = 2000;

/// What a caller is told who was turned away for want of room, with the time after which to try again (`RetryInfo` of
/// google.rpc). It must cost little: under load it is the commonest answer.
#[must_use]
pub fn retry_later(limit: Limit) -> Status {
    static TURN: AtomicU32 = AtomicU32::new(0);
    // Steps by the golden ratio spread evenly, however many there are, and need no randomness.
    let turn = TURN.fetch_add(0x9e37_79b9, Ordering::Relaxed);
    let spread = (u64::from(turn) * u64::from(SPREAD_MILLIS)) >> 32;
    let details = ErrorDetails::with_retry_info(Some(AGAIN + Duration::from_millis(spread)));
    let code = if limit == Limit::MessageTime { Code::Unavailable } else { Code::ResourceExhausted };
    Status::with_error_details(code, limit.in_words(), details)
}

/// What the caller is told.
#[must_use]
pub fn of(error: &IssueError) -> Status {
    let (code, message) = match error {
        IssueError::OverLimit(over) => return retry_later(over.limit()),
        IssueError::Authentication(AuthenticationError::Denied { .. }) => {
            (Code::Unauthenticated, AUTHENTICATION.to_owned())
        }
        IssueError::Authentication(_) => (Code::Unavailable, UNCHECKED.to_owned()),
        IssueError::Refused(Refusal::ImpersonationDenied { .. }) => (Code::Unauthenticated, IMPERSONATION.to_owned()),
        IssueError::Malformed(text) => (Code::InvalidArgument, text.clone()),
        IssueError::Csr(error) => (Code::InvalidArgument, format!("CSR signing error ({error})")),
        IssueError::Refused(Refusal::IssuerExpired(_) | Refusal::ClockBeforeIssuer(_)) => {
            (Code::Unavailable, format!("CSR signing error ({error})"))
        }
        IssueError::Refused(refusal) => (Code::InvalidArgument, format!("CSR signing error ({refusal})")),
        IssueError::NotReady => (Code::Unavailable, error.to_string()),
        IssueError::Sign(SignError::Unavailable(_) | SignError::WrongIssuer) => {
            (Code::Unavailable, "CSR signing error (the authority is unavailable; retry)".to_owned())
        }
        IssueError::Sign(_) | IssueError::Mismatch(_) | IssueError::Random => {
            (Code::Internal, "CSR signing error (the authority failed; see the CA's log)".to_owned())
        }
        IssueError::Record(RecordError::Append(AppendError::SerialTaken) | RecordError::Release(_)) => {
            (Code::Internal, "the certificate could not be recorded; see the CA's log".to_owned())
        }
        IssueError::Record(_) => {
            (Code::Unavailable, "the certificate could not be recorded, so it is withheld; retry".to_owned())
        }
        IssueError::AuthorityChanged | IssueError::TimedOut => (Code::Unavailable, format!("{error}; retry")),
    };
    Status::new(code, message.chars().take(MESSAGE).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use signet_core::seams::authenticator::Denial;

    #[test]
    fn a_failed_authentication_tells_the_caller_nothing() {
        for reason in [Denial::TokenExpired, Denial::SignatureInvalid, Denial::ClusterUnknown] {
            let error = AuthenticationError::denied(reason, "audience is x, expected istio-ca");
            let status = of(&IssueError::from(error));
            assert_eq!((status.code(), status.message()), (Code::Unauthenticated, AUTHENTICATION));
        }
    }

    #[test]
    fn what_may_go_away_by_itself_gets_a_code_that_istio_agents_retry() {
        let retried = [Code::ResourceExhausted, Code::Unavailable, Code::Internal];
        let errors = [
            IssueError::NotReady,
            IssueError::TimedOut,
            IssueError::AuthorityChanged,
            IssueError::OverLimit(crate::admission::OverLimit::Peer),
            IssueError::Record(RecordError::Queue),
            IssueError::Authentication(AuthenticationError::Unavailable("away".to_owned())),
        ];
        for error in errors {
            assert!(retried.contains(&of(&error).code()), "{error}");
        }
    }
}
