//! What can be wrong with an operator's CA files, in words that say which file and what to do. Never shows a key.

use signet_core::certificate::CertificateError;
use signet_core::pem::PemError;
use signet_core::seams::certificate_authority::SignError;
use signet_core::signature::SignatureError;

use super::super::certificates::AuthorityError;
use crate::custody::private_key::PrivateKeyError;

/// Why the files in the directory are not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FilesError {
    /// There are none.
    #[error(
        "there are no CA files in {0}; put ca-cert.pem, ca-key.pem, root-cert.pem and cert-chain.pem there, or tls.crt, tls.key and ca.crt"
    )]
    None(String),
    /// Some of a set are there.
    #[error("the CA files in {directory} are incomplete: {present} there, but {missing} missing; put the whole set")]
    Partial {
        /// Where.
        directory: String,
        /// Names of files.
        present: String,
        /// Names of files.
        missing: String,
    },
    /// The files of both forms are there.
    #[error(
        "{directory} holds two sets of CA files that are not the same: {istio}, and {tls}; remove the set that is not meant"
    )]
    TwoSets {
        /// Where.
        directory: String,
        /// Names of files.
        istio: String,
        /// Names of files.
        tls: String,
    },
    /// A file could not be read.
    #[error("reading {file}: {cause}")]
    Read {
        /// Its path.
        file: String,
        /// What the system says.
        cause: String,
    },
    /// A file is larger than such a file can be.
    #[error("{file} has more than {limit} bytes; is it the right file?")]
    TooLarge {
        /// Its path.
        file: String,
        /// Bytes allowed.
        limit: u64,
    },
    /// The files changed each time they were read.
    #[error("the CA files in {0} keep changing while they are read")]
    Changing(String),
    /// The file system does not answer.
    #[error("reading the CA files in {directory} has come to no end since {since}; does its file system answer?")]
    Slow {
        /// Where.
        directory: String,
        /// When the reading that hangs began.
        since: String,
    },
    /// A file holds no certificate.
    #[error("{0} holds no PEM block `CERTIFICATE`, and needs at least one; put it there")]
    NoCertificate(String),
    /// A file holds more certificates than it can need.
    #[error("{0} holds more than {1} certificates")]
    TooMany(String, usize),
    /// Not all of the file can be read as PEM.
    #[error("{file}: {cause}")]
    Pem {
        /// Name of the file.
        file: String,
        /// What stands in the way, and in which line.
        cause: PemError,
    },
    /// A certificate is broken.
    #[error("{file}: the certificate that begins in line {line} cannot be used: {cause}")]
    Unreadable {
        /// Name of the file.
        file: String,
        /// Where its block begins, from 1.
        line: usize,
        /// What is wrong with it.
        cause: CertificateError,
    },
    /// The key file is of no use.
    #[error("{file} {cause}")]
    Key {
        /// Name of the file.
        file: String,
        /// What is wrong with it.
        cause: PrivateKeyError,
    },
    /// The key decodes, but cannot be used.
    #[error(
        "{file} is damaged, of an unsupported kind, or not the key of {certificate}; use ECDSA P-256 or P-384, or RSA of 2048 to 4096 bits"
    )]
    UnusableKey {
        /// Name of the key file.
        file: String,
        /// Name of the certificate's file.
        certificate: String,
    },
    /// Key and certificate are of two sets.
    #[error("{file} is not the key of {certificate}; replace both together")]
    OtherKey {
        /// Name of the key file.
        file: String,
        /// Name of the certificate's file.
        certificate: String,
    },
    /// The signer's certificate makes no authority.
    #[error("{file}: {cause}")]
    Signer {
        /// Name of the file.
        file: String,
        /// What is wrong with it.
        cause: AuthorityError,
    },
    /// A certificate that must be one of a CA is not.
    #[error(
        "{file}: `{subject}` is not the certificate of a CA; it needs basicConstraints cA, and keyCertSign if it has a keyUsage"
    )]
    NotCa {
        /// Name of the file.
        file: String,
        /// Whose certificate.
        subject: String,
    },
    /// A certificate in the root file is not one of a CA.
    #[error("{file}: `{subject}` is not the certificate of a CA, so that it cannot be a root; remove it")]
    NotRoot {
        /// Name of the file.
        file: String,
        /// Whose certificate.
        subject: String,
    },
    /// Verifiers apply the extended key usage of a CA to everything below it.
    #[error(
        "{file}: `{subject}` is restricted by its extendedKeyUsage; it must allow both serverAuth and clientAuth, or have none"
    )]
    NotForTls {
        /// Name of the file.
        file: String,
        /// Whose certificate.
        subject: String,
    },
    /// A certificate has ended.
    #[error("{file}: `{subject}` ended at {at}; put one that is valid")]
    Ended {
        /// Name of the file.
        file: String,
        /// Whose certificate.
        subject: String,
        /// When.
        at: String,
    },
    /// A certificate has not started.
    #[error("{file}: `{subject}` starts only at {at}; is the clock of this host right?")]
    NotStarted {
        /// Name of the file.
        file: String,
        /// Whose certificate.
        subject: String,
        /// When.
        at: String,
    },
    /// A CA has more CAs below it than it allows.
    #[error("{file}: `{subject}` allows fewer CAs below it than the chain has (pathLenConstraint)")]
    PathTooLong {
        /// Name of the file.
        file: String,
        /// Whose certificate.
        subject: String,
    },
    /// The search for a chain was given up.
    #[error("{file}: no chain of a few CAs leads from `{subject}` to a root; remove what does not belong to it")]
    TooDeep {
        /// Name of the file.
        file: String,
        /// Whose certificate.
        subject: String,
    },
    /// Nobody in the files has the name of the issuer.
    #[error(
        "{file}: the issuer of `{subject}`, which is `{issuer}`, is in neither {chain} nor {roots}; add its certificate"
    )]
    NoIssuer {
        /// Name of the file.
        file: String,
        /// Whose certificate.
        subject: String,
        /// Who is missing.
        issuer: String,
        /// Name of the chain's file.
        chain: String,
        /// Name of the root file.
        roots: String,
    },
    /// The issuer has the right name and another key.
    #[error("{file}: `{subject}` is not signed by the key of `{issuer}` in {issuer_file}; are the files of one set?")]
    BadSignature {
        /// Name of the file.
        file: String,
        /// Whose certificate.
        subject: String,
        /// Who should have signed.
        issuer: String,
        /// Where the issuer was found.
        issuer_file: String,
    },
    /// Nobody here can tell whether the issuer signed, and clients with rustls cannot either.
    #[error(
        "{file}: that `{issuer}` in {issuer_file} has signed `{subject}` cannot be verified: {cause}; use ECDSA on P-256 or \
         P-384 with SHA-256 or SHA-384, RSA of 2048 to 8192 bits, or Ed25519"
    )]
    Unverifiable {
        /// Name of the file.
        file: String,
        /// Whose certificate.
        subject: String,
        /// Who should have signed.
        issuer: String,
        /// Where the issuer was found.
        issuer_file: String,
        /// What is not supported.
        cause: SignatureError,
    },
    /// The signer is a root that peers are not told to trust.
    #[error("{file} is self-signed, but not in {roots}; put it there too")]
    RootNotListed {
        /// Name of the file.
        file: String,
        /// Name of the root file.
        roots: String,
    },
}

impl From<FilesError> for SignError {
    fn from(error: FilesError) -> Self {
        match error {
            FilesError::Read { .. } | FilesError::Changing(_) | FilesError::Slow { .. } => {
                Self::Unavailable(error.to_string())
            }
            _ => Self::Unusable(error.to_string()),
        }
    }
}
