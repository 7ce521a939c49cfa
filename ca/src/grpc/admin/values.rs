//! Times and enums on the wire.

use prost_types::Timestamp;
use signet_core::revocation::RevocationReason;
use signet_core::rotation::{AuthorityState, Phase};
use signet_proto::admin::v1alpha1 as wire;
use signet_runtime::readiness::{Check, State};
use time::OffsetDateTime;

use crate::over_limit::Limit;

/// A time on the wire.
pub(super) fn time(at: OffsetDateTime) -> Timestamp {
    Timestamp { seconds: at.unix_timestamp(), nanos: i32::try_from(at.nanosecond()).unwrap_or_default() }
}

/// A readiness condition.
pub(super) fn check(check: Check) -> wire::Check {
    let state = match check.state {
        State::Ready => wire::CheckState::Ready,
        State::Degraded => wire::CheckState::Degraded,
        State::Failing => wire::CheckState::Failing,
    };
    wire::Check { name: check.name, state: state.into(), detail: check.detail }
}

/// The reason to revoke a workload's certificate that a client has given.
pub(super) fn reason(number: i32) -> Option<RevocationReason> {
    Some(match wire::RevocationReason::try_from(number).ok()? {
        wire::RevocationReason::Unspecified => RevocationReason::Unspecified,
        wire::RevocationReason::KeyCompromise => RevocationReason::KeyCompromise,
        wire::RevocationReason::AffiliationChanged => RevocationReason::AffiliationChanged,
        wire::RevocationReason::Superseded => RevocationReason::Superseded,
        wire::RevocationReason::CessationOfOperation => RevocationReason::CessationOfOperation,
    })
}

/// Where rotation stands.
pub(super) fn phase(phase: Phase) -> wire::Phase {
    match phase {
        Phase::None => wire::Phase::None,
        Phase::Settled => wire::Phase::Settled,
        Phase::Degraded => wire::Phase::Degraded,
        Phase::Propagate => wire::Phase::Propagate,
        Phase::Drain => wire::Phase::Drain,
        Phase::Emergency => wire::Phase::Emergency,
    }
}

/// The state of a root.
pub(super) fn state(state: AuthorityState) -> wire::AuthorityState {
    match state {
        AuthorityState::Prepared(_) => wire::AuthorityState::Prepared,
        AuthorityState::Active => wire::AuthorityState::Active,
        AuthorityState::Old { .. } => wire::AuthorityState::Old,
        AuthorityState::Tainted => wire::AuthorityState::Tainted,
        AuthorityState::Unknown => wire::AuthorityState::Unspecified,
    }
}

/// The name of a limit on the wire; the command line knows limits by it, too.
pub(crate) fn limit(limit: Limit) -> wire::Limit {
    match limit {
        Limit::Connections => wire::Limit::Connections,
        Limit::SourceConnections => wire::Limit::SourceConnections,
        Limit::IdentityConnections => wire::Limit::IdentityConnections,
        Limit::Handshakes => wire::Limit::Handshakes,
        Limit::HandshakeTime => wire::Limit::HandshakeTime,
        Limit::Idle => wire::Limit::Idle,
        Limit::HeaderTime => wire::Limit::HeaderTime,
        Limit::ControlFrames => wire::Limit::ControlFrames,
        Limit::OpenCalls => wire::Limit::OpenCalls,
        Limit::Memory => wire::Limit::Memory,
        Limit::MessageTime => wire::Limit::MessageTime,
        Limit::ConcurrentRequests => wire::Limit::ConcurrentRequests,
        Limit::OtherCalls => wire::Limit::OtherCalls,
        Limit::SourceRate => wire::Limit::SourceRate,
        Limit::IdentityRate => wire::Limit::IdentityRate,
    }
}
