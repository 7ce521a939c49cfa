//! Why a client certificate is not accepted, and which TLS alert that makes.

use std::sync::Arc;

use rustls::{CertificateError, OtherError};

/// Why a client certificate is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientRefused {
    /// There is nothing to verify with yet.
    #[error("the CA has no trust bundle yet")]
    NotReady,
    /// Every root of the bundle is compromised, so that no certificate proves anything.
    #[error("no root is left that clients are verified with: all are marked as compromised")]
    NoRoot,
    /// The chain leads over the key of a compromised root.
    #[error("the client's certificate chains to a compromised root")]
    Compromised,
    /// The chain does not lead to a root of the bundle, is not valid now, or may not be used by clients.
    #[error("the client's certificate does not verify: {0}")]
    Chain(rustls::Error),
    /// A certificate does not parse.
    #[error("a certificate of the client is unreadable")]
    Unreadable,
    /// The leaf is no X.509-SVID of a workload.
    #[error("the client's certificate is no X.509-SVID: {0}")]
    Profile(&'static str),
    /// The leaf is one of another trust domain.
    #[error("the client's certificate is one of another trust domain")]
    Foreign,
    /// The certificate, or one above it, has been revoked.
    #[error("the client's certificate has been revoked")]
    Revoked,
}

impl From<ClientRefused> for rustls::Error {
    fn from(refused: ClientRefused) -> Self {
        match refused {
            ClientRefused::Chain(error) => error,
            ClientRefused::Unreadable => Self::InvalidCertificate(CertificateError::BadEncoding),
            ClientRefused::Compromised => Self::InvalidCertificate(CertificateError::UnknownIssuer),
            ClientRefused::Revoked => Self::InvalidCertificate(CertificateError::Revoked),
            // The text reaches the log; the client gets an alert only.
            other => Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(other)))),
        }
    }
}
