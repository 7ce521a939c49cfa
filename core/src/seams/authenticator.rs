//! Who does this token prove?

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::caller::{Caller, Claimed};
use crate::secret::Secret;

/// Why a token proves nobody. Opaque on the wire; exact in logs, metrics and records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Denial {
    /// The request carries no bearer token.
    TokenMissing,
    /// The token is longer than any real one.
    TokenTooLong,
    /// Not three base64url parts with JSON inside.
    TokenMalformed,
    /// The algorithm is not one of RS/PS 256 to 512 and ES256, ES384; `none` is such a one.
    AlgorithmRefused,
    /// The key id is not among the issuer's published keys.
    KeyUnknown,
    /// The signature does not verify.
    SignatureInvalid,
    /// A token of a Secret, as Kubernetes before 1.24 made them: for everybody and for ever.
    TokenLegacy,
    /// The cluster's API server does not know the token: it is not signed by the cluster, or has ended, or its pod or account
    /// is gone.
    TokenRejected,
    /// The pod that the token is bound to is gone or has ended, or another one has its name.
    PodGone,
    /// The service account of the token is gone, or another one has its name.
    AccountGone,
    /// The node that a kubelet names is gone, or another one has its name, or the pod does not run on it.
    NodeGone,
    /// The pod has no volume for certificates of the signer that its kubelet asks.
    VolumeMissing,
    /// `iss` is none of the configured issuers.
    IssuerMismatch,
    /// None of `aud` is a configured audience.
    AudienceMismatch,
    /// `exp` has passed.
    TokenExpired,
    /// `exp` has not passed, but the token is older than a renewed one can be.
    TokenTooOld,
    /// `nbf` or `iat` lies in the future.
    TokenNotYetValid,
    /// The `kubernetes.io` claims are missing, malformed, or contradict `sub`.
    ClaimsInvalid,
    /// The cluster named by the request is not configured.
    ClusterUnknown,
    /// There is no token, and the cluster takes no client certificate in its place.
    CertificateNotAccepted,
    /// What is on record as issued is not this certificate.
    CertificateNotOnRecord,
    /// The certificate was issued to a workload of another cluster than the request names.
    CertificateOfOtherCluster,
    /// A node agent has got the certificate for a workload of its node.
    CertificateOfNodeAgent,
    /// The certificate has ended.
    CertificateExpired,
    /// The certificate is revoked.
    CertificateRevoked,
    /// The root or the issuing CA of the certificate is compromised.
    CertificateAuthorityTainted,
    /// The root or the issuing CA of the certificate is not in use any more.
    CertificateAuthorityGone,
    /// The certificate does not hold any more for another reason.
    CertificateNotValid,
    /// The holder of the certificate has shown no token for too long.
    TokenTooLongAgo,
}

impl Denial {
    /// Those of client certificates that are shown in the place of tokens.
    pub const OF_CERTIFICATES: [Self; 10] = [
        Self::CertificateNotAccepted,
        Self::CertificateNotOnRecord,
        Self::CertificateOfOtherCluster,
        Self::CertificateOfNodeAgent,
        Self::CertificateExpired,
        Self::CertificateRevoked,
        Self::CertificateAuthorityTainted,
        Self::CertificateAuthorityGone,
        Self::CertificateNotValid,
        Self::TokenTooLongAgo,
    ];

    /// A short constant for metrics and records.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::TokenMissing => "token_missing",
            Self::TokenTooLong => "token_too_long",
            Self::TokenMalformed => "token_malformed",
            Self::AlgorithmRefused => "algorithm_refused",
            Self::KeyUnknown => "key_unknown",
            Self::SignatureInvalid => "signature_invalid",
            Self::TokenLegacy => "token_legacy",
            Self::TokenRejected => "token_rejected",
            Self::PodGone => "pod_gone",
            Self::AccountGone => "account_gone",
            Self::NodeGone => "node_gone",
            Self::VolumeMissing => "volume_missing",
            Self::IssuerMismatch => "issuer_mismatch",
            Self::AudienceMismatch => "audience_mismatch",
            Self::TokenExpired => "token_expired",
            Self::TokenTooOld => "token_too_old",
            Self::TokenNotYetValid => "token_not_yet_valid",
            Self::ClaimsInvalid => "claims_invalid",
            Self::ClusterUnknown => "cluster_unknown",
            Self::CertificateNotAccepted => "certificate_not_accepted",
            Self::CertificateNotOnRecord => "certificate_not_on_record",
            Self::CertificateOfOtherCluster => "certificate_of_other_cluster",
            Self::CertificateOfNodeAgent => "certificate_of_node_agent",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateRevoked => "certificate_revoked",
            Self::CertificateAuthorityTainted => "certificate_authority_tainted",
            Self::CertificateAuthorityGone => "certificate_authority_gone",
            Self::CertificateNotValid => "certificate_not_valid",
            Self::TokenTooLongAgo => "token_too_long_ago",
        }
    }
}

/// Why credentials cannot be judged now. Nobody's fault who shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outage {
    /// The cluster's API server does not know us: our own credentials are no good (401).
    ApiUnauthorized,
    /// It does not let us ask (403).
    ApiForbidden,
    /// It has more to do than it can (429).
    ApiThrottled,
    /// It failed (5xx), or its answer makes no sense.
    ApiFailed,
    /// It cannot be reached.
    ApiUnreachable,
    /// It has not answered in time.
    ApiTimedOut,
    /// As many questions are on the way to it as may be at a time.
    Busy,
    /// The cluster's keys have not been obtained yet.
    KeysMissing,
    /// It is not known at the moment which pods and accounts the cluster has.
    ObjectsUnknown,
    /// The record cannot be asked.
    RecordUnavailable,
    /// This process does not have the authorities yet as the journal has them.
    AuthoritiesBehind,
}

impl Outage {
    /// Every reason that lies with a cluster, in the order of their declaration.
    pub const OF_CLUSTERS: [Self; 9] = [
        Self::ApiUnauthorized,
        Self::ApiForbidden,
        Self::ApiThrottled,
        Self::ApiFailed,
        Self::ApiUnreachable,
        Self::ApiTimedOut,
        Self::Busy,
        Self::KeysMissing,
        Self::ObjectsUnknown,
    ];

    /// A short constant for metrics and records.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ApiUnauthorized => "api_unauthorized",
            Self::ApiForbidden => "api_forbidden",
            Self::ApiThrottled => "api_throttled",
            Self::ApiFailed => "api_failed",
            Self::ApiUnreachable => "api_unreachable",
            Self::ApiTimedOut => "api_timed_out",
            Self::Busy => "api_busy",
            Self::KeysMissing => "keys_missing",
            Self::ObjectsUnknown => "objects_unknown",
            Self::RecordUnavailable => "record_unavailable",
            Self::AuthoritiesBehind => "authorities_behind",
        }
    }
}

/// An authentication that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthenticationError {
    /// The credentials were judged and refused. `detail` is for the log and never holds any part of the token but
    /// bounded claim values.
    #[error("{}: {detail}", reason.label())]
    Denied {
        /// The reason as a closed set.
        reason: Denial,
        /// What exactly was wrong and what was expected.
        detail: String,
        /// What the token or the certificate says, only when its signature was verified.
        claimed: Option<Box<Claimed>>,
    },
    /// The credentials could not be judged now; retrying may help.
    #[error("the credentials could not be checked: {}: {detail}", reason.label())]
    Unavailable {
        /// The reason as a closed set.
        reason: Outage,
        /// What exactly happened, for the log; never holds any part of a token.
        detail: String,
    },
}

impl AuthenticationError {
    /// A denial with its detail.
    #[must_use]
    pub fn denied(reason: Denial, detail: impl Into<String>) -> Self {
        Self::Denied { reason, detail: detail.into(), claimed: None }
    }

    /// That the credentials cannot be judged now.
    #[must_use]
    pub fn unavailable(reason: Outage, detail: impl Into<String>) -> Self {
        Self::Unavailable { reason, detail: detail.into() }
    }

    /// The same with what the token or the certificate says; only for one whose signature was verified.
    #[must_use]
    pub fn claiming(mut self, says: Claimed) -> Self {
        if let Self::Denied { claimed, .. } = &mut self {
            *claimed = Some(Box::new(says));
        }
        self
    }

    /// A short constant for metrics and records.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Denied { reason, .. } => reason.label(),
            Self::Unavailable { reason, .. } => reason.label(),
        }
    }
}

/// Knows which workloads a cluster has.
pub trait LiveWorkloads: Send + Sync {
    /// Agrees that what `caller` is bound to is there at the time `now`: its service account, and its pod if it has one.
    ///
    /// # Errors
    /// [`Denial::PodGone`], [`Denial::AccountGone`], or [`Outage::ObjectsUnknown`].
    fn check(&self, caller: &Caller, now: OffsetDateTime) -> Result<(), AuthenticationError>;
}

/// Verifies tokens of one cluster.
///
/// Implementations are total on hostile input, hold a deadline on every outside call, and never remember a token
/// longer than its own life or after the key that signed it was withdrawn.
#[async_trait]
pub trait TokenAuthenticator: Send + Sync {
    /// Tells who `token` proves at the time `now`.
    ///
    /// # Errors
    /// [`AuthenticationError`].
    async fn authenticate(&self, token: &Secret, now: OffsetDateTime) -> Result<Caller, AuthenticationError>;
}
