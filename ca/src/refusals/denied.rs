//! Callers who are denied the operators' service: who, why, and as which refusal that is counted and put on record.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use signet_core::audit::{Attributed, EventKind, Outcome};

use super::refused_call::{Class, RefusedCall};
use crate::client_address::Source;

/// Why somebody is no operator. The names are labels of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenialCause {
    /// On the socket: neither root nor the CA's own user.
    OtherUser,
    /// Over TLS: without a certificate.
    NoCertificate,
    /// Over TLS: a SPIFFE ID that is none of `admins` and `auditors`.
    NotListed,
    /// Over TLS: an auditor, who may read, asked for a change.
    ReadsOnly,
    /// Over TLS: an administrator or auditor whose certificate has ended, is revoked, or chains to no sound root.
    CertificateNotValid,
    /// On no known edge, which cannot be.
    NoEdge,
}

impl DenialCause {
    /// Every cause.
    pub const ALL: [Self; 6] = [
        Self::OtherUser,
        Self::NoCertificate,
        Self::NotListed,
        Self::ReadsOnly,
        Self::CertificateNotValid,
        Self::NoEdge,
    ];

    /// The name in metrics and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtherUser => "other_user",
            Self::NoCertificate => "no_certificate",
            Self::NotListed => "not_listed",
            Self::ReadsOnly => "reads_only",
            Self::CertificateNotValid => "certificate_not_valid",
            Self::NoEdge => "no_edge",
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::OtherUser => "neither root nor the CA's own user",
            Self::NoCertificate => "no client certificate",
            Self::NotListed => "none of the configured administrators (admins) and auditors (auditors)",
            Self::ReadsOnly => "an auditor, who may read; changes need an administrator (admins)",
            Self::CertificateNotValid => "an administrator or auditor, but the certificate does not hold any more",
            Self::NoEdge => "on no known edge",
        }
    }
}

/// Who was denied, as far as the kernel or the handshake knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeniedCaller {
    /// A user on this host; without a number when the kernel told none.
    User(Option<u32>),
    /// A SPIFFE ID.
    Workload(String),
    /// An address; ports change with every connection.
    Address(Option<IpAddr>),
}

impl fmt::Display for DeniedCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(Some(uid)) => write!(f, "uid {uid}"),
            Self::User(None) => f.write_str("an unknown user"),
            Self::Workload(id) => f.write_str(id),
            Self::Address(Some(address)) => write!(f, "{address}"),
            Self::Address(None) => f.write_str("an unknown address"),
        }
    }
}

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Who.
    pub who: DeniedCaller,
    /// The network address, for one who comes over TLS.
    pub peer: Option<SocketAddr>,
    /// Why.
    pub cause: DenialCause,
}

impl Denied {
    /// What is recorded and logged of a denied `call`, one of a fixed set of names.
    #[must_use]
    pub fn refusal(self, call: &'static str) -> RefusedCall {
        let Self { who, peer, cause } = self;
        let class = match cause {
            DenialCause::OtherUser => Class::LocalUsers,
            DenialCause::NotListed | DenialCause::ReadsOnly | DenialCause::CertificateNotValid => Class::Holders,
            DenialCause::NoCertificate | DenialCause::NoEdge => Class::AdminStrangers,
        };
        let source = match who {
            DeniedCaller::User(_) => None,
            DeniedCaller::Workload(_) => Some(Source::of(peer.map(|peer| peer.ip()))),
            DeniedCaller::Address(address) => Some(Source::of(address)),
        };
        let subject = match (&who, source) {
            (DeniedCaller::Address(_), Some(source)) => source.to_string(),
            (who, _) => who.to_string(),
        };
        let detail = format!("{who}: denied {call}: {}", cause.in_words());
        let peer = Some(peer.map_or_else(|| who.to_string(), |peer| peer.to_string()));
        let spiffe_id = match who {
            DeniedCaller::Workload(id) => Some(id),
            _ => None,
        };
        RefusedCall {
            class,
            subject,
            source,
            call,
            kind: EventKind::Admin,
            outcome: Outcome::Refused,
            reason: cause.as_str(),
            detail,
            request_id: String::new(),
            who: Attributed { spiffe_id, peer, ..Attributed::default() },
        }
    }
}
