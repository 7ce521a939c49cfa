//! Certificates as Signet reads them back: what a DER certificate says, and chains that cannot be empty.

mod chain;
mod encoding;
mod facts;
mod serial;

pub use chain::CertificateChain;
pub use encoding::{check_encoding, check_list_encoding};
pub use facts::{Facts, subject};
pub use serial::Serial;

pub use crate::der::Flaw;

/// A DER certificate could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The bytes are not exactly one X.509 certificate (RFC 5280 section 4.1).
    #[error("not exactly one X.509 certificate")]
    NotX509,
    /// An extension that Signet relies on does not parse.
    #[error("a certificate extension does not parse")]
    BadExtension,
    /// It is not written as DER has it. Envoy refuses every trust bundle that holds it.
    #[error("it is not a certificate in DER, and Envoy would refuse the whole trust bundle for it: {0}")]
    NotDer(Flaw),
}
