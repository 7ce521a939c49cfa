//! Client certificates that are refused in handshakes: counted by what is wrong with them, and named in the log. Whoever shows
//! them costs one line a minute for each reason, however often he comes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::IntCounterVec;
use rustls::CertificateError;
use rustls_pki_types::UnixTime;
use signet_core::clock::rfc3339;
use signet_runtime::metrics::{MetricError, Metrics};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::refused::ClientRefused;

/// How often one reason is told at most.
const QUIET: Duration = Duration::from_secs(60);

/// What is wrong with a client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientFault {
    /// It, or one above it, has ended.
    Expired,
    /// It, or one above it, has not begun.
    NotYetValid,
    /// It, or one above it, is revoked.
    Revoked,
    /// It chains to no sound root of the trust bundle.
    UnknownIssuer,
    /// It is one of another trust domain.
    Foreign,
    /// Anything else: it is no X.509-SVID, does not parse, is not for clients.
    Invalid,
}

impl ClientFault {
    /// Every fault.
    pub const ALL: [Self; 6] =
        [Self::Expired, Self::NotYetValid, Self::Revoked, Self::UnknownIssuer, Self::Foreign, Self::Invalid];

    /// The name in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Revoked => "revoked",
            Self::UnknownIssuer => "unknown_issuer",
            Self::Foreign => "foreign",
            Self::Invalid => "invalid",
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Expired => "it has expired",
            Self::NotYetValid => "it is not valid yet; is a clock wrong?",
            Self::Revoked => "it has been revoked",
            Self::UnknownIssuer => "it chains to no root of the trust bundle that is sound",
            Self::Foreign => "it is one of another trust domain",
            Self::Invalid => "it is not one that a workload of this mesh has",
        }
    }

    /// What an error of a handshake says about the client's certificate, if it is about that.
    #[must_use]
    pub fn of(error: &rustls::Error) -> Option<Self> {
        let rustls::Error::InvalidCertificate(error) = error else { return None };
        Some(match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::Other(other) => match other.0.downcast_ref() {
                Some(ClientRefused::Foreign) => Self::Foreign,
                // That is not about the certificate.
                Some(ClientRefused::NotReady | ClientRefused::NoRoot) => return None,
                _ => Self::Invalid,
            },
            _ => Self::Invalid,
        })
    }
}

impl ClientFault {
    /// Why a handshake failed, in words: the library's own text of most errors is for its developers.
    #[must_use]
    pub fn explain(error: &rustls::Error) -> String {
        let at = |time: UnixTime| {
            let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
            OffsetDateTime::from_unix_timestamp(seconds).map_or_else(|_| "some time".to_owned(), rfc3339)
        };
        let rustls::Error::InvalidCertificate(error) = error else { return plain(&error.to_string()) };
        match error {
            CertificateError::ExpiredContext { not_after, .. } => format!("it ended at {}", at(*not_after)),
            CertificateError::NotValidYetContext { not_before, .. } => format!("it begins at {}", at(*not_before)),
            CertificateError::Other(other) => plain(&other.0.to_string()),
            other => plain(&other.to_string()),
        }
    }
}

/// A name of a program as the words that it is made of, any other text as it is.
fn plain(text: &str) -> String {
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return text.to_owned();
    }
    let mut words = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}

/// Counts and tells them.
pub struct RefusedClients {
    counter: IntCounterVec,
    told: Mutex<BTreeMap<ClientFault, Instant>>,
}

impl RefusedClients {
    /// Registers the metric.
    ///
    /// # Errors
    /// [`MetricError`] when its name is taken, which is a bug.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricError> {
        let counter = metrics.counters(
            "signet_ca_client_certificates_refused_total",
            "Client certificates that were refused in TLS handshakes, by what is wrong with them.",
            &["reason"],
        )?;
        for fault in ClientFault::ALL {
            counter.with_label_values(&[fault.label()]).reset();
        }
        Ok(Self { counter, told: Mutex::default() })
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self, fault: ClientFault) -> u64 {
        self.counter.with_label_values(&[fault.label()]).get()
    }

    /// Counts one from `peer`; whether it was told, too.
    pub fn note(&self, fault: ClientFault, peer: SocketAddr, error: &str) -> bool {
        self.counter.with_label_values(&[fault.label()]).inc();
        let (now, mut told) = (Instant::now(), self.told.lock().unwrap_or_else(PoisonError::into_inner));
        if told.get(&fault).is_some_and(|last| now.saturating_duration_since(*last) < QUIET) {
            return false;
        }
        told.insert(fault, now);
        let why = fault.in_words();
        tracing::warn!(%peer, error, "a client's certificate is refused: {why}; more of the kind are counted for a minute");
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_refusal_is_named_for_what_it_is() {
        for (refused, expected) in [
            (ClientRefused::Foreign, Some(ClientFault::Foreign)),
            (ClientRefused::Profile("two URIs"), Some(ClientFault::Invalid)),
            (ClientRefused::Unreadable, Some(ClientFault::Invalid)),
            (ClientRefused::Revoked, Some(ClientFault::Revoked)),
            (ClientRefused::Compromised, Some(ClientFault::UnknownIssuer)),
            (ClientRefused::NotReady, None),
            (
                ClientRefused::Chain(rustls::Error::InvalidCertificate(CertificateError::Expired)),
                Some(ClientFault::Expired),
            ),
            (ClientRefused::Chain(rustls::Error::HandshakeNotComplete), None),
        ] {
            let text = refused.to_string();
            assert_eq!(ClientFault::of(&refused.into()), expected, "{text}");
        }
    }

    #[test]
    fn why_a_certificate_is_refused_is_told_in_words() {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(60));
        let other = |error| CertificateError::Other(rustls::OtherError(std::sync::Arc::new(error)));
        for (error, expected) in [
            (CertificateError::UnknownIssuer, "unknown issuer"),
            (CertificateError::ExpiredContext { time, not_after: time }, "it ended at 1970-01-01T00:01:00Z"),
            (other(ClientRefused::Foreign), "the client's certificate is one of another trust domain"),
        ] {
            assert_eq!(ClientFault::explain(&rustls::Error::InvalidCertificate(error)), expected);
        }
        assert_eq!(plain("CaUsedAsEndEntity"), "ca used as end entity");
    }

    #[tokio::test(start_paused = true)]
    async fn each_reason_is_told_once_a_minute_and_counted_always() {
        let metrics = Metrics::new();
        let refused = RefusedClients::new(&metrics).unwrap();
        let note = |fault| refused.note(fault, "192.0.2.1:5".parse().unwrap(), "x");
        assert!(note(ClientFault::Expired) && !note(ClientFault::Expired) && note(ClientFault::Foreign));
        tokio::time::advance(QUIET).await;
        assert!(note(ClientFault::Expired));
        let counts = [ClientFault::Expired, ClientFault::Foreign, ClientFault::Revoked].map(|one| refused.count(one));
        assert_eq!(counts, [3, 1, 0]);
        // An alert waits for no first event.
        assert!(
            metrics.render().unwrap().contains("signet_ca_client_certificates_refused_total{reason=\"revoked\"} 0")
        );
    }
}
