//! SPIFFE IDs, trust domains and the Kubernetes workload identity that Signet certifies.
//!
//! Parsing is total and never rewrites: what is accepted is byte for byte what was given (decision D-1: an
//! upper-case scheme or trust domain is refused rather than lower-cased).

use std::fmt;
use std::str::FromStr;

/// The longest SPIFFE ID that is produced or accepted in a leaf, in bytes (SPIFFE-ID 2.3, ID-7b).
pub const MAX_SPIFFE_ID_BYTES: usize = 2048;

/// Why a string is not the identity it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The string is longer than [`MAX_SPIFFE_ID_BYTES`].
    #[error("identity is {0} bytes long, longer than 2048")]
    TooLong(usize),
    /// The string breaks a syntax rule of SPIFFE-ID section 2.
    #[error("not a SPIFFE ID: {0}")]
    NotSpiffe(String),
    /// Scheme or trust domain hold upper-case letters (ID-4, D-1).
    #[error("scheme and trust domain must be lower case")]
    NotCanonical,
    /// The name is not a trust domain name.
    #[error("not a trust domain name: {0}")]
    NotTrustDomain(String),
    /// The path is not `/ns/<namespace>/sa/<service account>`.
    #[error("not a workload identity: the path must be /ns/<namespace>/sa/<service account>")]
    NotWorkload,
    /// A Kubernetes name breaks the rules of RFC 1123 that the API server enforces.
    #[error("not a Kubernetes {kind} name: {value:?}")]
    NotKubernetesName {
        /// `namespace` or `service account`.
        kind: &'static str,
        /// What was given, shortened.
        value: String,
    },
}

/// A trust domain name such as `cluster.local`; lower case by construction.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(spiffe::TrustDomain);

impl TrustDomain {
    /// Parses a bare trust domain name (no scheme).
    ///
    /// # Errors
    /// [`IdentityError::NotTrustDomain`] when ID-1, ID-4 or ID-8 is broken.
    pub fn parse(name: &str) -> Result<Self, IdentityError> {
        let refuse = || IdentityError::NotTrustDomain(shorten(name));
        if name.is_empty() || name.len() > 255 || !name.bytes().all(is_trust_domain_byte) {
            return Err(refuse());
        }
        spiffe::TrustDomain::new(name).map(Self).map_err(|_| refuse())
    }

    /// The name, for example `cluster.local`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The SPIFFE ID of the trust domain itself, `spiffe://<name>`: the identity of its signing certificates (X-5b).
    #[must_use]
    pub fn id(&self) -> SpiffeId {
        SpiffeId(format!("spiffe://{}", self.as_str()))
    }
}

fn is_trust_domain_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_')
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TrustDomain {
    type Err = IdentityError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::parse(s)
    }
}

/// A SPIFFE ID in canonical form.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId(String);

impl SpiffeId {
    /// Parses a SPIFFE ID without changing it.
    ///
    /// # Errors
    /// Any broken rule of SPIFFE-ID section 2 (ID-1 to ID-8), or a non-canonical spelling (D-1).
    pub fn parse(id: &str) -> Result<Self, IdentityError> {
        if id.len() > MAX_SPIFFE_ID_BYTES {
            return Err(IdentityError::TooLong(id.len()));
        }
        let parsed = spiffe::SpiffeId::new(id).map_err(|error| IdentityError::NotSpiffe(error.to_string()))?;
        if parsed.to_string() == id { Ok(Self(id.to_owned())) } else { Err(IdentityError::NotCanonical) }
    }

    /// The whole URI.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain name within the URI.
    #[must_use]
    pub fn trust_domain_name(&self) -> &str {
        let rest = self.0.strip_prefix("spiffe://").unwrap_or_default();
        rest.split('/').next().unwrap_or_default()
    }

    /// The path with its leading slash; empty for a trust domain's own ID.
    #[must_use]
    pub fn path(&self) -> &str {
        let rest = self.0.strip_prefix("spiffe://").unwrap_or_default();
        rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default()
    }

    /// Whether the ID belongs to `trust_domain`.
    #[must_use]
    pub fn is_member_of(&self, trust_domain: &TrustDomain) -> bool {
        self.trust_domain_name() == trust_domain.as_str()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SpiffeId {
    type Err = IdentityError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::parse(s)
    }
}

/// The identity of a Kubernetes workload: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadId {
    trust_domain: TrustDomain,
    namespace: String,
    service_account: String,
}

impl WorkloadId {
    /// Puts an identity together from names as Kubernetes knows them.
    ///
    /// # Errors
    /// [`IdentityError::NotKubernetesName`] when the API server would not have accepted the name either
    /// (RFC 1123 label for the namespace, RFC 1123 subdomain for the service account).
    pub fn new(trust_domain: TrustDomain, namespace: &str, service_account: &str) -> Result<Self, IdentityError> {
        if !is_label(namespace) {
            return Err(IdentityError::NotKubernetesName { kind: "namespace", value: shorten(namespace) });
        }
        if !is_subdomain(service_account) {
            return Err(IdentityError::NotKubernetesName { kind: "service account", value: shorten(service_account) });
        }
        Ok(Self { trust_domain, namespace: namespace.to_owned(), service_account: service_account.to_owned() })
    }

    /// Parses exactly the five-segment form; anything else that is a SPIFFE ID is refused.
    ///
    /// # Errors
    /// See [`SpiffeId::parse`] and [`WorkloadId::new`].
    pub fn parse(id: &str) -> Result<Self, IdentityError> {
        let id = SpiffeId::parse(id)?;
        let mut segments = id.path().split('/');
        let parts =
            (segments.next(), segments.next(), segments.next(), segments.next(), segments.next(), segments.next());
        match parts {
            (Some(""), Some("ns"), Some(namespace), Some("sa"), Some(service_account), None) => {
                Self::new(TrustDomain::parse(id.trust_domain_name())?, namespace, service_account)
            }
            _ => Err(IdentityError::NotWorkload),
        }
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The Kubernetes namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The service account name.
    #[must_use]
    pub fn service_account(&self) -> &str {
        &self.service_account
    }

    /// The SPIFFE ID. Always within the length limit: the parts are at most 255, 63 and 253 bytes long.
    #[must_use]
    pub fn spiffe_id(&self) -> SpiffeId {
        SpiffeId(self.to_string())
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

fn is_label(name: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = name.bytes().next().is_some_and(alphanumeric) && name.bytes().next_back().is_some_and(alphanumeric);
    name.len() <= 63 && ends && name.bytes().all(|byte| alphanumeric(byte) || byte == b'-')
}

fn is_subdomain(name: &str) -> bool {
    // Kubernetes bounds the whole name at 253 but, unlike DNS, not each label.
    let label = |part: &str| {
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        part.bytes().next().is_some_and(alphanumeric)
            && part.bytes().next_back().is_some_and(alphanumeric)
            && part.bytes().all(|byte| alphanumeric(byte) || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
