//! The decision what to sign. [`decide`] and [`decide_serving`] are the only makers of a [`SigningRequest`].

use std::net::IpAddr;
use std::time::Duration;

use time::OffsetDateTime;

use crate::authority::AuthorityId;
use crate::certificate::Serial;
use crate::csr::{CertificateRequest, ProvenKey};
use crate::identity::{SpiffeId, TrustDomain, WorkloadId};
use crate::profile::backdate;
use crate::time_math;

/// What to do with names that a CSR asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CsrNames {
    /// Refuse a CSR that asks for anything but the decided identity.
    Strict,
    /// Take the key and ignore the rest, as istiod does.
    Ignore,
}

/// The operator's rules for leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafPolicy {
    /// The trust domain that this CA certifies.
    pub trust_domain: TrustDomain,
    /// Lifetime when the request names none.
    pub default_ttl: Duration,
    /// The longest lifetime that may be asked for.
    pub max_ttl: Duration,
    /// Treatment of names in the CSR.
    pub csr_names: CsrNames,
}

/// What an authority takes from a CSR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CsrUse {
    /// Its key. Names, usages and lifetime are what was decided.
    Key,
    /// Its names, too: it signs a CSR as it stands, so that only one that asks for exactly what was decided can be signed.
    Names,
}

/// The part of a signing authority that bounds what it can sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerLimits {
    /// The issuing CA.
    pub authority: AuthorityId,
    /// Start of the issuing CA's validity.
    pub not_before: OffsetDateTime,
    /// End of the issuing CA's validity, and of everything it signs.
    pub not_after: OffsetDateTime,
    /// What it takes from a CSR.
    pub takes: CsrUse,
}

/// The lifetime that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedLife {
    /// So many seconds from now on; the default when none are named.
    FromNow(Option<i64>),
    /// As long as may be, between these two, from the start of the certificate, which lies before now, to its end.
    Whole {
        /// A shorter one is of no use.
        least: Duration,
        /// A longer one neither.
        most: Duration,
    },
}

impl From<Option<i64>> for AskedLife {
    fn from(seconds: Option<i64>) -> Self {
        Self::FromNow(seconds)
    }
}

/// Why a request was refused although its sender and its CSR are genuine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The CSR asks for names or powers that its sender does not have.
    #[error("the CSR asks for {asked}, but the caller is {identity}; ask for exactly that URI or for no name at all")]
    NamesNotAllowed {
        /// What was asked, in words.
        asked: String,
        /// The decided identity.
        identity: String,
    },
    /// The CSR does not name its sender, and the backend that signs it takes names from there alone.
    #[error(
        "the CSR names nobody, and the backend that signs it takes the name from the CSR alone: ask for the URI {identity}"
    )]
    NameMissing {
        /// The decided identity.
        identity: String,
    },
    /// A lifetime of zero was asked for explicitly.
    #[error("a lifetime of zero seconds was asked for; leave validity_duration out to get the default")]
    TtlZero,
    /// A negative lifetime was asked for.
    #[error("a negative lifetime was asked for ({0} s)")]
    TtlNegative(i64),
    /// More than the configured maximum was asked for.
    #[error("a lifetime of {asked} s was asked for, the maximum is {maximum} s")]
    TtlTooLong {
        /// Seconds asked for.
        asked: i64,
        /// Seconds allowed.
        maximum: u64,
    },
    /// The issuing CA ends before the certificate would be old enough, or has begun too short a time ago.
    #[error("the certificate would last {left} s only, since the issuing CA has no more, and has to last {least} s")]
    TooShort {
        /// Seconds that it would last.
        left: u64,
        /// Seconds that it has to last.
        least: u64,
    },
    /// The identity to certify is outside our trust domain (invariant 1).
    #[error("the identity {0} is not in the trust domain of this CA")]
    ForeignTrustDomain(String),
    /// The issuing CA has ended; nothing can be signed with it.
    #[error("the issuing CA ended at {0}")]
    IssuerExpired(OffsetDateTime),
    /// The clock is before the start of the issuing CA, so it was set back.
    #[error("the clock of this host is before the start of the issuing CA ({0}); was it set back?")]
    ClockBeforeIssuer(OffsetDateTime),
}

impl Refusal {
    /// A short constant for metrics and records.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NamesNotAllowed { .. } => "csr_names_not_allowed",
            Self::NameMissing { .. } => "csr_name_missing",
            Self::TtlZero => "ttl_zero",
            Self::TtlNegative(_) => "ttl_negative",
            Self::TtlTooLong { .. } => "ttl_too_long",
            Self::TooShort { .. } => "lifetime_too_short",
            Self::ForeignTrustDomain(_) => "foreign_trust_domain",
            Self::IssuerExpired(_) => "issuer_expired",
            Self::ClockBeforeIssuer(_) => "clock_before_issuer",
        }
    }
}

/// What a certificate is for; decides its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A workload's X.509-SVID: one URI SAN and nothing else.
    Workload(WorkloadId),
    /// The CA's own serving certificate: its SPIFFE ID and the names that clients dial (X-1 allows other SAN types).
    Serving {
        /// The CA's own SPIFFE ID.
        id: SpiffeId,
        /// DNS names.
        dns: Vec<String>,
        /// IP addresses.
        ips: Vec<IpAddr>,
    },
}

/// A decision, ready to be signed once. It cannot be cloned, changed, or made outside this module.
#[derive(Debug)]
pub struct SigningRequest {
    subject: Subject,
    id: SpiffeId,
    key: ProvenKey,
    serial: Serial,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    issuer: AuthorityId,
    clamped: bool,
    decided_at: OffsetDateTime,
    whole_life: Option<Duration>,
}

impl SigningRequest {
    /// For whom or what the certificate is.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The one URI SAN.
    #[must_use]
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.id
    }

    /// The key to certify.
    #[must_use]
    pub fn key(&self) -> &ProvenKey {
        &self.key
    }

    /// The serial number to use.
    #[must_use]
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// Start of validity, whole seconds.
    #[must_use]
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// End of validity, whole seconds, never after the issuer's.
    #[must_use]
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// The authority that this decision is bound to; no other may sign it.
    #[must_use]
    pub fn issuer(&self) -> &AuthorityId {
        &self.issuer
    }

    /// When it was decided.
    #[must_use]
    pub fn decided_at(&self) -> OffsetDateTime {
        self.decided_at
    }

    /// The longest that it may last from its start to its end, where that was asked for.
    #[must_use]
    pub fn whole_life(&self) -> Option<Duration> {
        self.whole_life
    }

    /// Whether the lifetime was cut at the issuer's end.
    #[must_use]
    pub fn clamped(&self) -> bool {
        self.clamped
    }
}

/// Decides a workload certificate.
///
/// `asked` is the `validity_duration` of the request in seconds, `None` when it was left out, or another [`AskedLife`].
/// `serial` must be fresh and random. The identity comes from `subject` alone; of `csr` only the key is used.
///
/// # Errors
/// See [`Refusal`].
pub fn decide(
    policy: &LeafPolicy,
    subject: WorkloadId,
    csr: CertificateRequest,
    asked: impl Into<AskedLife>,
    issuer: &IssuerLimits,
    serial: Serial,
    now: OffsetDateTime,
) -> Result<SigningRequest, Refusal> {
    if *subject.trust_domain() != policy.trust_domain {
        return Err(Refusal::ForeignTrustDomain(subject.to_string()));
    }
    let id = subject.spiffe_id();
    if policy.csr_names == CsrNames::Strict || issuer.takes == CsrUse::Names {
        check_names(&csr, &id)?;
    }
    if issuer.takes == CsrUse::Names && csr.names().uris.is_empty() {
        return Err(Refusal::NameMissing { identity: id.to_string() });
    }
    let life = match asked.into() {
        AskedLife::FromNow(seconds) => Life::FromNow(lifetime(policy, seconds)?),
        AskedLife::Whole { least, most } => Life::Whole { least, most: most.min(policy.max_ttl) },
    };
    bind(Subject::Workload(subject), id, csr.into_key(), life, issuer, serial, now)
}

/// Decides the CA's own serving certificate for the configured names.
///
/// # Errors
/// [`Refusal::ForeignTrustDomain`], [`Refusal::IssuerExpired`] or [`Refusal::ClockBeforeIssuer`].
#[expect(clippy::too_many_arguments, reason = "every part of the decision is visible at the call")]
pub fn decide_serving(
    policy: &LeafPolicy,
    id: SpiffeId,
    dns: Vec<String>,
    ips: Vec<IpAddr>,
    key: ProvenKey,
    issuer: &IssuerLimits,
    serial: Serial,
    now: OffsetDateTime,
) -> Result<SigningRequest, Refusal> {
    // a leaf's SPIFFE ID has a path.
    if !id.is_member_of(&policy.trust_domain) || id.path().is_empty() {
        return Err(Refusal::ForeignTrustDomain(id.to_string()));
    }
    bind(Subject::Serving { id: id.clone(), dns, ips }, id, key, Life::FromNow(policy.default_ttl), issuer, serial, now)
}

fn check_names(csr: &CertificateRequest, id: &SpiffeId) -> Result<(), Refusal> {
    let names = csr.names();
    let foreign = names.uris.iter().find(|uri| uri.as_str() != id.as_str()).map(|uri| format!("the URI {uri:?}"));
    let repeated = (names.uris.len() > 1).then(|| "several URIs".to_owned());
    match foreign.or(repeated).or_else(|| names.others.first().cloned()) {
        None => Ok(()),
        Some(asked) => {
            Err(Refusal::NamesNotAllowed { asked: asked.chars().take(300).collect(), identity: id.to_string() })
        }
    }
}

fn lifetime(policy: &LeafPolicy, asked: Option<i64>) -> Result<Duration, Refusal> {
    let Some(asked) = asked else { return Ok(policy.default_ttl) };
    let seconds = u64::try_from(asked).map_err(|_| Refusal::TtlNegative(asked))?;
    if seconds == 0 {
        return Err(Refusal::TtlZero);
    }
    // Compared as seconds, before any conversion: istiod's overflow of seconds to nanoseconds turns absurd into default.
    if seconds > policy.max_ttl.as_secs() {
        return Err(Refusal::TtlTooLong { asked, maximum: policy.max_ttl.as_secs() });
    }
    Ok(Duration::from_secs(seconds))
}

/// A lifetime that the policy agrees to.
enum Life {
    FromNow(Duration),
    Whole { least: Duration, most: Duration },
}

impl Life {
    /// Start and end, whatever the issuer's.
    fn span(&self, issuer: &IssuerLimits, now: OffsetDateTime) -> (OffsetDateTime, OffsetDateTime) {
        let backdated =
            |life| time_math::before(now, Duration::from_secs(backdate(life).as_secs())).max(issuer.not_before);
        match self {
            Self::FromNow(ttl) => {
                let end = time_math::after(now, *ttl);
                // The backdate follows the life that is left, so that a leaf cut at the issuer's end does not become all
                // backdate.
                (backdated(time_math::until(now, end.min(issuer.not_after))), end)
            }
            // Of this the backdate is a part.
            Self::Whole { most, .. } => {
                let start = backdated(*most);
                (start, time_math::after(start, Duration::from_secs(most.as_secs())))
            }
        }
    }
}

fn bind(
    subject: Subject,
    id: SpiffeId,
    key: ProvenKey,
    life: Life,
    issuer: &IssuerLimits,
    serial: Serial,
    now: OffsetDateTime,
) -> Result<SigningRequest, Refusal> {
    if now < issuer.not_before {
        return Err(Refusal::ClockBeforeIssuer(issuer.not_before));
    }
    // X.509 times are whole seconds.
    let now = time_math::whole_second(now);
    if now >= issuer.not_after {
        return Err(Refusal::IssuerExpired(issuer.not_after));
    }
    let (not_before, end) = life.span(issuer, now);
    let not_after = end.min(issuer.not_after);
    let left = time_math::until(not_before, not_after);
    if let Life::Whole { least, .. } = life
        && left < least
    {
        return Err(Refusal::TooShort { left: left.as_secs(), least: least.as_secs() });
    }
    let whole_life = match life {
        Life::Whole { most, .. } => Some(most),
        Life::FromNow(_) => None,
    };
    Ok(SigningRequest {
        subject,
        id,
        key,
        serial,
        not_before,
        not_after,
        issuer: issuer.authority.clone(),
        clamped: end > not_after,
        decided_at: now,
        whole_life,
    })
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
