//! The one map from errors to gRPC status codes.
//!
//! Istio's agents retry RESOURCE_EXHAUSTED, UNAVAILABLE and INTERNAL at once and nothing else, so what may go away by
//! itself gets one of these. Failed authentication is opaque: a caller that proves nothing learns nothing.

use signet_core::policy::Refusal;
use signet_core::seams::authenticator::AuthenticationError;
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::impersonation::ImpersonationError;
use signet_core::seams::store::AppendError;
use tonic::{Code, Status};

use crate::issue_error::{IssueError, RecordError};
use crate::over_limit::retry_later;

/// The whole message for any failed authentication, as istiod words it.
pub(super) const AUTHENTICATION: &str = "request authenticate failure";

/// The message when it cannot be told at the moment who the caller is.
pub(super) const UNCHECKED: &str = "the credentials cannot be checked at the moment; retry";

/// The whole message for any refused impersonation, as istiod words it.
const IMPERSONATION: &str = "request impersonation authentication failure";

/// The message when it cannot be told at the moment which workloads run beside the caller.
const UNKNOWN_PODS: &str = "the pods of the cluster are not known at the moment; retry";

/// Characters of a message at most: some repeat what a caller sent, and headers have a limit.
const MESSAGE: usize = 1000;

/// What the caller is told.
#[must_use]
pub fn of(error: &IssueError) -> Status {
    let (code, message) = match error {
        IssueError::OverLimit(limit) => return retry_later(*limit),
        IssueError::Authentication(AuthenticationError::Denied { .. }) => {
            (Code::Unauthenticated, AUTHENTICATION.to_owned())
        }
        IssueError::Authentication(_) => (Code::Unavailable, UNCHECKED.to_owned()),
        IssueError::Impersonation(ImpersonationError::Denied { .. }) => {
            (Code::Unauthenticated, IMPERSONATION.to_owned())
        }
        IssueError::Impersonation(_) => (Code::Unavailable, UNKNOWN_PODS.to_owned()),
        IssueError::Malformed(text) => (Code::InvalidArgument, text.clone()),
        IssueError::Csr(error) => (Code::InvalidArgument, format!("CSR signing error ({error})")),
        IssueError::Refused(Refusal::IssuerExpired(_) | Refusal::ClockBeforeIssuer(_) | Refusal::TooShort { .. }) => {
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
    use signet_core::seams::authenticator::{Denial, Outage};
    use signet_core::seams::store::StoreError;
    use signet_core::verify::Mismatch;

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
            IssueError::OverLimit(crate::over_limit::Limit::SourceRate),
            IssueError::Record(RecordError::Queue),
            IssueError::Authentication(AuthenticationError::unavailable(Outage::ApiUnreachable, "away")),
        ];
        for error in errors {
            assert!(retried.contains(&of(&error).code()), "{error}");
        }
    }
    #[test]
    fn what_goes_away_by_itself_is_told_apart_from_what_somebody_must_look_at() {
        let of_record = |error| IssueError::Record(RecordError::Append(error));
        for (error, code) in [
            (IssueError::Sign(SignError::Unavailable("away".to_owned())), Code::Unavailable),
            (IssueError::Sign(SignError::WrongIssuer), Code::Unavailable),
            (IssueError::Sign(SignError::Failed("broken".to_owned())), Code::Internal),
            (IssueError::Mismatch(Mismatch::Field("lifetime")), Code::Internal),
            (IssueError::Random, Code::Internal),
            (of_record(AppendError::SerialTaken), Code::Internal),
            (of_record(AppendError::Fenced), Code::Unavailable),
            (IssueError::Record(RecordError::Store(StoreError::Unavailable("full".to_owned()))), Code::Unavailable),
        ] {
            assert_eq!(of(&error).code(), code, "{error}");
        }
    }

    #[test]
    fn a_message_is_no_longer_than_a_header_may_be() {
        let status = of(&IssueError::Malformed("\u{e9}".repeat(MESSAGE + 1)));
        assert_eq!(status.message().chars().count(), MESSAGE);
    }
}
