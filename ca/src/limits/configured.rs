//! What callers may take: the configured limits, and those that nobody has a reason to change.

use std::sync::Arc;
use std::time::Duration;

use signet_core::audit::Outcome;
use signet_runtime::open_files;
use signet_sds::server::MAX_REQUEST_BYTES;
use tokio::sync::Semaphore;

use super::intake::CallLimits;
use super::open_calls::OpenCalls;
use crate::config::Limits;
use crate::issue_error::IssueError;
use crate::metrics::CaMetrics;
use crate::over_limit::Limit;
use crate::transport::connections::{Connections, Room};

/// Largest request message: a CSR several times larger than the largest accepted one, so that it gets a refusal of its
/// own; beyond this the message is not even read.
pub const MESSAGE: usize = 128 * 1024;

/// Largest message to the health and reflection services: both take a name.
const SMALL_MESSAGE: usize = 4 * 1024;

/// Operators' and auditors' calls over TLS, and calls to each of the small services, that are worked on at the same time.
const OPERATORS: usize = 16;
const AUDITORS: usize = 16;
const OTHERS: usize = 64;

/// Calls to the small services that may stay open, whoever makes them.
const OPEN: usize = 64;

/// The operators' calls have a deadline of their own per step, and a change must not be reported as undone on the way:
/// more than their steps take together.
const OPERATORS_LIMIT: Duration = Duration::from_secs(60);

/// An auditor's call asks storage a few times, each with a deadline of its own.
const AUDITORS_LIMIT: Duration = Duration::from_secs(40);

/// What one connection may hold of calls whose messages have not arrived: ztunnel, the busiest client, has 8 calls.
const CALLS_PER_CONNECTION: usize = 16;
const MEMORY_PER_CONNECTION: usize = 256 * 1024;

/// Open files that are not connections to the certificate port: storage, logs, the ports of operators.
const OWN_FILES: usize = 256;

/// The places for connections: as many as are configured and the process may open files for.
#[must_use]
pub fn connections(limits: &Limits, metrics: &CaMetrics) -> Connections {
    let files = open_files::raise();
    let most = files.saturating_sub(OWN_FILES).max(1);
    if most < limits.connections {
        // The default is more than most systems allow at first, so this is no mistake of anybody.
        tracing::info!(
            connections = most,
            files,
            "connections are fitted to the limit of open files (LimitNOFILE, ulimit -n), which is below limits.connections"
        );
    }
    let unauthenticated = limits.unauthenticated;
    let room = Room {
        connections: limits.connections.min(most),
        per_identity: limits.connections_per_identity,
        per_source: unauthenticated.connections,
        handshakes: unauthenticated.handshakes,
        calls: unauthenticated.calls,
        calls_per_connection: CALLS_PER_CONNECTION,
        memory: unauthenticated.memory,
        memory_per_connection: MEMORY_PER_CONNECTION,
        total_memory: unauthenticated.total_memory,
    };
    Connections::new(room, Arc::clone(&metrics.turned_away), metrics.connections.clone())
}

/// What requests to each service may take.
pub struct ServiceLimits {
    /// Certificate requests.
    pub certificates: CallLimits,
    /// Bundle streams.
    pub bundles: CallLimits,
    /// Operators' calls.
    pub operators: CallLimits,
    /// Auditors' calls. Streams are bounded by the service, which knows whose they are.
    pub record: CallLimits,
    /// The health service.
    pub health: CallLimits,
    /// Reflection.
    pub reflection: CallLimits,
}

/// What `limits` are for each service.
#[must_use]
pub fn service_limits(limits: &Limits, metrics: &Arc<CaMetrics>) -> ServiceLimits {
    let turned_away = Arc::clone(&metrics.turned_away);
    let others = CallLimits {
        places: Arc::new(Semaphore::new(OTHERS)),
        full: Limit::OtherCalls,
        // The pipeline has its own deadline, which says more.
        answer: limits.request_timeout + Duration::from_secs(1),
        message: SMALL_MESSAGE,
        turned_away: Arc::new(move |limit| turned_away.note(limit)),
        streams: &[],
        open: None,
    };
    let counted = Arc::clone(metrics);
    let full = move |limit| match limit {
        Limit::ConcurrentRequests => counted.not_issued(Outcome::Refused, &IssueError::OverLimit(limit)),
        other => counted.turned_away.note(other),
    };
    let places = |most| Arc::new(Semaphore::new(most));
    ServiceLimits {
        certificates: CallLimits {
            places: places(limits.concurrent_requests),
            full: Limit::ConcurrentRequests,
            message: MESSAGE,
            turned_away: Arc::new(full),
            ..others.clone()
        },
        // Who asks is found out before anything of a stream is read; their number is bounded by the service.
        bundles: CallLimits {
            places: places(OTHERS),
            streams: &["StreamSecrets", "DeltaSecrets"],
            message: MAX_REQUEST_BYTES,
            ..others.clone()
        },
        operators: CallLimits {
            places: places(OPERATORS),
            answer: OPERATORS_LIMIT,
            message: MESSAGE,
            ..others.clone()
        },
        record: CallLimits {
            places: places(AUDITORS),
            streams: &["StreamEvents"],
            message: MESSAGE,
            answer: AUDITORS_LIMIT,
            ..others.clone()
        },
        health: CallLimits {
            places: places(OTHERS),
            streams: &["Watch"],
            open: Some(OpenCalls::new(OPEN)),
            ..others.clone()
        },
        reflection: CallLimits { streams: &["ServerReflectionInfo"], open: Some(OpenCalls::new(OPEN)), ..others },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use signet_core::clock::ManualClock;
    use signet_runtime::metrics::Metrics;
    use time::OffsetDateTime;

    #[test]
    fn a_request_that_takes_too_long_is_ended_by_the_pipeline_which_says_more() {
        let clock = Arc::new(ManualClock::at(OffsetDateTime::UNIX_EPOCH));
        let metrics = Arc::new(CaMetrics::new(&Metrics::new(), clock).unwrap());
        let limits = Limits::default();
        assert!(service_limits(&limits, &metrics).certificates.answer > limits.request_timeout);
    }
}
