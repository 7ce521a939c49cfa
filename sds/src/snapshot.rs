//! What is served: named secrets, each with a version that follows from its content and from nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use ring::digest::{Context, SHA256};
use signet_core::bundle::Validation;
use signet_core::certificate::CertificateChain;
use signet_core::secret::Secret;

/// The name under which Istio's proxies ask for their certificate.
pub const DEFAULT_CERTIFICATE_NAME: &str = "default";

/// The name under which Istio's proxies ask for the trust bundle.
pub const DEFAULT_BUNDLE_NAME: &str = "ROOTCA";

/// The name of a secret; cheap to clone.
pub type Name = Arc<str>;

/// Identifies content: equal material has equal versions, on every stream and after every restart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version([u8; 12]);

impl Version {
    /// A version over parts; the length of each part is hashed too, so that no two lists of parts look alike.
    fn over<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let digest = context.finish();
        let mut version = [0; 12];
        for (to, from) in version.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        Self(version)
    }

    /// The version of a set of named secrets, for the `version_info` of a response: it belongs to the resources, not
    /// to the stream (rule 10).
    #[must_use]
    pub fn of_set<'n>(set: impl IntoIterator<Item = (&'n str, Self)>) -> Self {
        let parts: Vec<(&str, Self)> = set.into_iter().collect();
        Self::over(parts.iter().flat_map(|(name, version)| [name.as_bytes(), version.0.as_slice()]))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The content of one secret. Its Debug output never shows a key.
#[derive(Debug, Clone)]
pub enum SecretContent {
    /// A certificate with its private key. They are one secret, so a client never sees one without the other.
    Certificate {
        /// Leaf and intermediates; the root is no part of it.
        chain: CertificateChain,
        /// The private key as PKCS#8 PEM.
        key_pem: Arc<Secret>,
    },
    /// The roots to verify peers with, and the revocation lists when there are any. Never without roots: Envoy verifies
    /// nothing when handed an empty context.
    Validation(Validation),
    /// Bytes that mean something to whoever asked for them.
    Generic(Arc<[u8]>),
}

impl SecretContent {
    /// Identifies the content, as [`Versioned::version`] does.
    ///
    /// The private key is left out: the leaf holds its public half, and nothing derived from a key should travel in
    /// a version. A bundle's sequence number is left out too, since equal roots and lists are equal content.
    #[must_use]
    pub fn version(&self) -> Version {
        match self {
            Self::Certificate { chain, .. } => {
                let ders = chain.iter().map(|certificate| certificate.as_ref());
                Version::over(std::iter::once(b"certificate".as_slice()).chain(ders))
            }
            Self::Validation(Validation { bundle, revocation_lists }) => {
                let roots = bundle.roots().iter().map(|root| root.as_ref());
                let lists = revocation_lists.iter().map(|list| list.as_ref());
                // The empty part cannot be a root: without it a root could pass for a list.
                let parts = std::iter::once(b"validation".as_slice()).chain(roots);
                Version::over(parts.chain(std::iter::once(b"".as_slice())).chain(lists))
            }
            Self::Generic(bytes) => Version::over([b"generic".as_slice(), bytes]),
        }
    }
}

/// One secret with its version. Equal versions are equal content, and compared as such.
#[derive(Debug, Clone)]
pub struct Versioned {
    content: SecretContent,
    version: Version,
}

impl PartialEq for Versioned {
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version
    }
}

impl Eq for Versioned {}

impl Versioned {
    /// The content.
    #[must_use]
    pub fn content(&self) -> &SecretContent {
        &self.content
    }

    /// The version of the content.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }
}

/// All secrets that exist at one moment, by name, and the names of those that are to come. Immutable; shared as
/// `Arc<Snapshot>`.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    secrets: BTreeMap<Name, Arc<Versioned>>,
    expected: Arc<[Name]>,
}

impl Snapshot {
    /// A snapshot without secrets: what is served before the first certificate has arrived.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// A snapshot of these secrets; the last one of a name counts.
    #[must_use]
    pub fn new<N: Into<Name>>(secrets: impl IntoIterator<Item = (N, SecretContent)>) -> Self {
        let versioned = |content: SecretContent| Arc::new(Versioned { version: content.version(), content });
        let secrets = secrets.into_iter().map(|(name, content)| (name.into(), versioned(content))).collect();
        Self { secrets, expected: Arc::default() }
    }

    /// The same, of a service that serves these names: what is not there yet of them is to come.
    #[must_use]
    pub fn expecting(self, names: &Arc<[Name]>) -> Self {
        Self { expected: Arc::clone(names), ..self }
    }

    /// The secret called `name`.
    #[must_use]
    pub fn secret(&self, name: &str) -> Option<&Versioned> {
        self.secrets.get(name).map(Arc::as_ref)
    }

    /// Whether a secret is called so, now or later. Whoever waits for another name waits in vain.
    #[must_use]
    pub fn serves(&self, name: &str) -> bool {
        self.secrets.contains_key(name) || self.expected.iter().any(|expected| **expected == *name)
    }

    /// The names of all secrets that there are or will be, for people.
    #[must_use]
    pub fn served(&self) -> String {
        let names: BTreeSet<&str> = self.secrets.keys().chain(self.expected.iter()).map(|name| &**name).collect();
        if names.is_empty() { "none".to_owned() } else { Vec::from_iter(names).join(", ") }
    }

    /// All secrets, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Arc<Versioned>)> {
        self.secrets.iter()
    }

    /// Whether nothing is known yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// Whether both hold the same names at the same versions.
    #[must_use]
    pub fn is_same_content(&self, other: &Self) -> bool {
        let versions = |snapshot: &Self| -> Vec<(Name, Version)> {
            snapshot.iter().map(|(name, secret)| (Arc::clone(name), secret.version())).collect()
        };
        versions(self) == versions(other)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
    use signet_core::bundle::TrustBundle;
    use signet_core::identity::TrustDomain;

    pub(crate) fn root(name: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    pub(crate) fn bundle(sequence: u64, roots: &[CertificateDer<'static>]) -> SecretContent {
        revoking(sequence, roots, &[])
    }

    /// A bundle with lists that are these bytes.
    pub(crate) fn revoking(sequence: u64, roots: &[CertificateDer<'static>], lists: &[&str]) -> SecretContent {
        let bundle = TrustBundle::new(TrustDomain::parse("td").unwrap(), sequence, roots.to_vec()).unwrap();
        let list = |text: &&str| CertificateRevocationListDer::from(text.as_bytes().to_vec());
        SecretContent::Validation(Validation { bundle, revocation_lists: lists.iter().map(list).collect() })
    }

    /// A certificate secret whose leaf is the bytes of `leaf`: for tests that do not look inside.
    pub(crate) fn certificate(leaf: &str, key: &str) -> SecretContent {
        let chain = CertificateChain::new(CertificateDer::from(leaf.as_bytes().to_vec()), vec![]);
        SecretContent::Certificate { chain, key_pem: Arc::new(Secret::new(key.as_bytes().to_vec())) }
    }

    #[test]
    fn identical_material_has_the_same_version_and_any_change_another() {
        let (a, b) = (root("a"), root("b"));
        assert_eq!(bundle(1, &[a.clone(), b.clone()]).version(), bundle(2, &[b.clone(), a.clone()]).version());
        assert_ne!(bundle(1, std::slice::from_ref(&a)).version(), bundle(1, &[a.clone(), b]).version());
        let lists = |lists: &[&str]| revoking(1, std::slice::from_ref(&a), lists).version();
        assert_eq!(lists(&["x", "y"]), revoking(9, std::slice::from_ref(&a), &["x", "y"]).version());
        assert_ne!(lists(&[]), lists(&["x"]));
        assert_ne!(lists(&["x", "y"]), lists(&["xy"]));
        let generic = |text: &str| SecretContent::Generic(text.as_bytes().into()).version();
        assert_eq!(generic("x"), generic("x"));
        assert_ne!(generic("x"), generic("y"));
        assert_eq!(certificate("x", "k").version(), certificate("x", "k").version());
        assert_ne!(certificate("x", "k").version(), certificate("y", "k").version());
        // The border between two certificates counts.
        let chain = |leaf: &[u8], intermediate: &[u8]| {
            let [leaf, intermediate] = [leaf, intermediate].map(|der| CertificateDer::from(der.to_vec()));
            let chain = CertificateChain::new(leaf, vec![intermediate]);
            SecretContent::Certificate { chain, key_pem: Arc::new(Secret::new(vec![])) }.version()
        };
        assert_ne!(chain(b"ab", b"c"), chain(b"a", b"bc"));
        let one = Snapshot::new([("n", certificate("x", "k"))]);
        assert!(one.is_same_content(&Snapshot::new([("n", certificate("x", "k"))])));
        assert!(!one.is_same_content(&Snapshot::new([("m", certificate("x", "k"))])));
        assert!(!one.is_same_content(&Snapshot::empty()));
    }

    #[test]
    fn a_name_is_served_that_is_there_or_to_come() {
        let names: Arc<[Name]> = ["default", "ROOTCA"].map(Name::from).into();
        for (snapshot, served) in [
            (Snapshot::empty(), "none"),
            (Snapshot::empty().expecting(&names), "ROOTCA, default"),
            (Snapshot::new([("default", certificate("x", "k"))]).expecting(&names), "ROOTCA, default"),
            (Snapshot::new([("other", certificate("x", "k"))]).expecting(&names), "ROOTCA, default, other"),
        ] {
            assert_eq!(snapshot.served(), served);
            for name in ["default", "ROOTCA", "other", "defualt", "", "rootca"] {
                assert_eq!(snapshot.serves(name), served.split(", ").any(|one| one == name), "{name} of {served}");
            }
        }
    }

    #[test]
    fn the_version_of_a_set_depends_on_names_and_versions() {
        let (x, y) = (certificate("x", "k").version(), certificate("y", "k").version());
        assert_eq!(Version::of_set([("a", x), ("b", y)]), Version::of_set([("a", x), ("b", y)]));
        assert_ne!(Version::of_set([("a", x), ("b", y)]), Version::of_set([("a", y), ("b", x)]));
        assert_eq!(Version::of_set([]).to_string().len(), 24);
    }

    #[test]
    fn debug_output_of_a_snapshot_holds_no_key() {
        let snapshot = Snapshot::new([("default", certificate("leaf", "hunter2"))]);
        assert!(!format!("{snapshot:?}").contains("hunter2"));
        // The bytes as numbers, which is how a byte vector would show.
        assert!(!format!("{snapshot:?}").contains("104, 117, 110"));
    }
}
