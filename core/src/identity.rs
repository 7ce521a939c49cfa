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
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spiffe_ids_of_the_accept_table_parse_unchanged() {
        let table = [
            ("spiffe://trustdomain", "trustdomain", ""),
            ("spiffe://trustdomain/path", "trustdomain", "/path"),
            ("spiffe://example.org/path/element", "example.org", "/path/element"),
            ("spiffe://trustdomain/.path", "trustdomain", "/.path"),
            ("spiffe://trustdomain/..path", "trustdomain", "/..path"),
            ("spiffe://trustdomain/...", "trustdomain", "/..."),
            ("spiffe://1.2.3.4/service", "1.2.3.4", "/service"),
            ("spiffe://a_b.example/foo", "a_b.example", "/foo"),
            ("spiffe://example.org/MyService", "example.org", "/MyService"),
            ("spiffe://td/ns/prod/sa/my.account", "td", "/ns/prod/sa/my.account"),
        ];
        for (id, trust_domain, path) in table {
            let parsed = SpiffeId::parse(id).expect(id);
            assert_eq!((parsed.as_str(), parsed.trust_domain_name(), parsed.path()), (id, trust_domain, path));
        }
    }

    #[test]
    fn spiffe_ids_of_the_refuse_table_are_refused() {
        let mut table: Vec<String> = [
            "",
            "s",
            "spiffe:/",
            "spiffe:path",
            "spiffe:/path/element",
            "://domain.test",
            "192.168.2.2:6688",
            "http://domain.test/path",
            "other://domain.test",
            "spiffe://",
            "spiffe:///",
            "spiffe:///path",
            "Spiffe://trustdomain/path",
            "SPIFFE://trustdomain/path",
            "spiffe://Example.Org/path",
            "spiffe://TRUSTDOMAIN",
            "spiffe://trust$domain/path",
            "spiffe:// domain.test",
            "spiffe://domain.test:8080/path",
            "spiffe://domain.test:80",
            "spiffe://user:password@test.org/path",
            "spiffe://%F0%9F%A4%AF/path",
            "spiffe://%62%61%64/path",
            "spiffe://trustdomain/%F0%9F%A4%AF",
            "spiffe://trustdomain/%62%61%64",
            "spiffe://test.org/path/other/",
            "spiffe://test.org/path//other",
            "spiffe://domain.test/path?query=1",
            "spiffe://domain.test/path#fragment-1",
        ]
        .map(str::to_owned)
        .to_vec();
        for path in [
            "/",
            "/path/",
            "//",
            "//path",
            "/.",
            "/./path",
            "/path/./other",
            "/..",
            "/../path",
            "/path/..",
            "/path/../other",
        ] {
            table.push(format!("spiffe://trustdomain{path}"));
        }
        table.push(format!("spiffe://{}/path", "a".repeat(256)));
        table.push(format!("spiffe://td/{}", "a".repeat(2048 - 11)));
        for id in table {
            assert!(SpiffeId::parse(&id).is_err(), "{id:?} was accepted");
        }
    }

    #[test]
    fn every_byte_is_accepted_exactly_by_the_charsets_of_id_4_and_id_6a() {
        for byte in (0..=255u8).filter(|byte| *byte != b'/') {
            let character = char::from(byte);
            let in_name = matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
            let in_path = in_name || byte.is_ascii_uppercase();
            assert_eq!(SpiffeId::parse(&format!("spiffe://trustdomain{character}")).is_ok(), in_name, "{byte}");
            assert_eq!(SpiffeId::parse(&format!("spiffe://trustdomain/path{character}")).is_ok(), in_path, "{byte}");
            assert_eq!(TrustDomain::parse(&format!("td{character}")).is_ok(), in_name, "{byte}");
        }
    }

    #[test]
    fn trust_domain_names_need_not_be_dns_names() {
        let long = "a".repeat(255);
        for name in [
            "trustdomain",
            "1.2.3.4",
            "a_b.example",
            "example..org",
            ".example.org",
            "example.org.",
            "-example.org",
            &long,
        ] {
            assert_eq!(TrustDomain::parse(name).expect(name).as_str(), name);
        }
        for name in ["", "Example.org", "a b", "spiffe://td", "td/x", "a,b", &"a".repeat(256)] {
            assert!(TrustDomain::parse(name).is_err(), "{name:?} was accepted");
        }
    }

    #[test]
    fn workload_identities_have_exactly_five_segments_of_kubernetes_names() {
        let id = WorkloadId::parse("spiffe://td/ns/prod/sa/my.account").unwrap();
        assert_eq!((id.namespace(), id.service_account(), id.trust_domain().as_str()), ("prod", "my.account", "td"));
        assert_eq!(id.spiffe_id().as_str(), "spiffe://td/ns/prod/sa/my.account");
        for bad in [
            "spiffe://td/ns//sa/",
            "spiffe://td/ns/a/sa/b/c",
            "spiffe://td/ns/a",
            "spiffe://td",
            "spiffe://td/ns/A/sa/b",
            "spiffe://td/ns/a.b/sa/c",
            "spiffe://td/ns/a/sa/-b",
            "spiffe://td/ns/a/sb/c",
            "spiffe://a,b/ns/x/sa/y",
            "spiffe://td/ns/a/sa/b_c",
            "spiffe://td/ns/a/sa/B",
        ] {
            assert!(WorkloadId::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_total_and_round_trips(text in ".{0,200}") {
            if let Ok(id) = SpiffeId::parse(&text) {
                prop_assert_eq!(id.as_str(), text.as_str());
                prop_assert_eq!(format!("spiffe://{}{}", id.trust_domain_name(), id.path()), text);
            }
        }

        #[test]
        fn workload_identities_round_trip(ns in "[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", sa in "[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?") {
            if let Ok(id) = WorkloadId::new(TrustDomain::parse("cluster.local").unwrap(), &ns, &sa) {
                prop_assert_eq!(WorkloadId::parse(&id.to_string()).unwrap(), id);
            }
        }
    }
}
