//! The limits that turn somebody away, by the names that metrics, logs and operators know.

/// The limits that turn somebody away. Each is described in `docs/hardening.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// No place left for a connection: the oldest that has proved nothing was closed, or the new one waits.
    Connections,
    /// Too many connections of a source, none of which has proved who it is: the oldest was closed.
    SourceConnections,
    /// Too many connections of one identity: the oldest was closed.
    IdentityConnections,
    /// Too many new connections of a source that prove nothing.
    Handshakes,
    /// A TLS handshake, or the PROXY header before it, that was not done in time.
    HandshakeTime,
    /// A connection that proved nothing and asked for nothing.
    Idle,
    /// A frame, or the headers of a request, that did not end in time.
    HeaderTime,
    /// More control frames than a client needs.
    ControlFrames,
    /// Too many calls at once, on one connection or of one source, whose messages have not arrived.
    OpenCalls,
    /// Too much memory for messages that have not arrived.
    Memory,
    /// A message that did not arrive in time.
    MessageTime,
    /// As many certificate requests are worked on as `limits.concurrent_requests` allows.
    ConcurrentRequests,
    /// As many other calls are worked on as there are places for.
    OtherCalls,
    /// Too many requests of a source that has not proved who it is (`limits.per_peer`).
    SourceRate,
    /// Too many certificates for one identity (`limits.per_identity`).
    IdentityRate,
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 15] = [
        Self::Connections,
        Self::SourceConnections,
        Self::IdentityConnections,
        Self::Handshakes,
        Self::HandshakeTime,
        Self::Idle,
        Self::HeaderTime,
        Self::ControlFrames,
        Self::OpenCalls,
        Self::Memory,
        Self::MessageTime,
        Self::ConcurrentRequests,
        Self::OtherCalls,
        Self::SourceRate,
        Self::IdentityRate,
    ];

    /// The name in metrics, logs and `status`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::SourceConnections => "source_connections",
            Self::IdentityConnections => "identity_connections",
            Self::Handshakes => "handshakes",
            Self::HandshakeTime => "handshake_time",
            Self::Idle => "idle",
            Self::HeaderTime => "header_time",
            Self::ControlFrames => "control_frames",
            Self::OpenCalls => "open_calls",
            Self::Memory => "memory",
            Self::MessageTime => "message_time",
            Self::ConcurrentRequests => "limit_concurrency",
            Self::OtherCalls => "other_calls",
            Self::SourceRate => "limit_peer",
            Self::IdentityRate => "limit_identity",
        }
    }

    /// What the caller is told, where there is a caller to tell.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::ConcurrentRequests => {
                "the CA is working on as many requests as limits.concurrent_requests allows; retry with backoff"
            }
            Self::OtherCalls => "the CA is working on as many calls of this kind as it takes; retry with backoff",
            Self::SourceRate => "too many requests from this address (limits.per_peer); retry with backoff",
            Self::IdentityRate => "too many certificates for this identity (limits.per_identity); retry with backoff",
            Self::OpenCalls => "too many calls on this connection whose messages have not arrived; complete them first",
            Self::Memory => "too much on this connection that has not arrived whole; complete it first",
            Self::MessageTime => "the message did not arrive in time; retry",
            _ => "there is no room for this connection; connect again with backoff",
        }
    }

    /// Its place in [`ALL`](Self::ALL), which has the same order.
    pub(super) fn index(self) -> usize {
        self as usize
    }
}
