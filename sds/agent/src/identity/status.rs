//! What the agent holds and how obtaining it goes: changed by [`crate::identity::store`] only, read by everybody else.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use signet_core::bundle::Validation;
use signet_sds::snapshot::Version;
use time::OffsetDateTime;

use crate::identity::issued::Issued;
use crate::identity::renewal_hints::RenewalHint;

/// The state of one identity. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    /// The last good certificate. It stays until it is replaced.
    pub held: Option<Arc<Issued>>,
    /// What peers are verified with: from the CA's replies and from the bundle stream, whichever is newer.
    pub validation: Option<Arc<HeldValidation>>,
    /// Certificates obtained since the start.
    pub obtained: u64,
    /// Failed attempts since the last good one.
    pub failures: u32,
    /// The newest failure; kept after a success, as history.
    pub last_failure: Option<FailedAttempt>,
    /// When the next attempt is planned.
    pub next_attempt: Option<OffsetDateTime>,
    /// When another certificate is asked for because no root of the bundle is above the one that is held any more.
    pub cut_off: Option<OffsetDateTime>,
    /// The CA's renewal hints that stand.
    pub hints: Arc<[KnownHint]>,
    /// Certificates in a row that a hint was about as soon as they came.
    pub hinted_in_a_row: u32,
    /// The roots that newer bundles have taken away.
    pub removed: RemovedRoots,
    /// The stream of the CA's bundles.
    pub bundle_stream: BundleStreamStatus,
}

impl Status {
    /// When the certificate that is held is to be renewed because of a hint, or because peers refuse it.
    #[must_use]
    pub(crate) fn early_renewal(&self) -> Option<OffsetDateTime> {
        self.hints.iter().filter_map(|known| known.renew_at).chain(self.cut_off).min()
    }

    /// When the certificate that is held is to be renewed, early or not.
    #[must_use]
    pub(crate) fn renewal(&self) -> Option<OffsetDateTime> {
        let normal = self.held.as_ref()?.renew_at;
        Some(self.early_renewal().map_or(normal, |early| early.min(normal)))
    }
}

/// What peers are verified with, and how new it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeldValidation {
    /// Roots and revocation lists.
    pub validation: Validation,
    /// The CA's number for it, if it told one.
    pub sequence: Option<u64>,
    /// The version under which it is served.
    pub version: Version,
}

/// Roots that were in a bundle once and are no more, the newest last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RemovedRoots {
    /// At most so many that one can look through them all.
    pub roots: Arc<[CertificateDer<'static>]>,
    /// How often roots were taken away.
    pub times: u64,
}

/// A renewal hint that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownHint {
    /// The hint.
    pub hint: RenewalHint,
    /// When the certificate that is held is renewed because of it. `None` if the hint is not about it.
    pub renew_at: Option<OffsetDateTime>,
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailedAttempt {
    /// Why, with everything that caused it; never a secret.
    pub text: String,
    /// When.
    pub at: OffsetDateTime,
}

/// How the bundle stream is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BundleStreamStatus {
    /// What it is doing.
    pub link: Link,
    /// Since when; unknown until something happened.
    pub since: Option<OffsetDateTime>,
    /// Whether a bundle has ever come on it.
    pub worked: bool,
    /// The newest failure; kept when the stream is back, as history.
    pub last_failure: Option<FailedAttempt>,
    /// The number that it tells now, when that is lower than the one held.
    pub older: Option<u64>,
    /// What the CA wants to be shown when a stream is opened: with the highest number that it came with.
    pub proof: Option<(u64, Arc<str>)>,
}

/// What the bundle stream is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Link {
    /// There has been no certificate yet, which comes first.
    #[default]
    NotStarted,
    /// It is open and the bundle came on it.
    Up,
    /// It failed and is tried again.
    Down,
    /// The CA has no such stream; it is asked again now and then.
    Unsupported,
}

impl Link {
    /// The name shown to people and programs.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NotStarted => "not started",
            Self::Up => "up",
            Self::Down => "down",
            Self::Unsupported => "unsupported",
        }
    }
}
