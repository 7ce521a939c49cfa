//! The request headers that callers speak to the CA with.

use signet_core::holder::FILES;
use signet_core::secret::Secret;
use tonic::metadata::MetadataMap;

/// What a client that acknowledges bundles says with its certificate request.
pub const BUNDLE_HEADER: &str = "signet-bundle";

/// What a client calls itself.
pub const INSTANCE_HEADER: &str = "signet-instance";

/// The sequence of the bundle in a certificate reply.
pub const SEQUENCE_HEADER: &str = "signet-bundle-sequence";

/// What a client shows of an earlier bundle stream.
pub const PROOF_HEADER: &str = "signet-bundle-proof";

/// Why a request does not say which cluster its token is of. Neither of Istio's clients sends such a one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClusterHeader {
    /// There are several values.
    #[error("the header clusterid was sent more than once; does a gateway or a CA_HEADER_ variable add one?")]
    Repeated,
    /// The value is not text.
    #[error("the header clusterid is not text of visible ASCII characters")]
    NotText,
}

/// The cluster that the request names, if it names one.
///
/// istiod takes several values for none, and none for the primary cluster: a token would be judged by the rules of a
/// cluster that nobody named. Here that is refused, before any credential is looked at, and the caller is told: the
/// text says nothing that it does not know.
///
/// # Errors
/// [`ClusterHeader`].
pub fn cluster(metadata: &MetadataMap) -> Result<Option<String>, ClusterHeader> {
    let mut values = metadata.get_all("clusterid").iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(|name| Some(name.to_owned())).map_err(|_| ClusterHeader::NotText),
        (Some(_), Some(_)) => Err(ClusterHeader::Repeated),
    }
}

/// The only value of a header that a client says something about itself with; several say nothing.
fn only<'m>(metadata: &'m MetadataMap, name: &str) -> Option<&'m str> {
    let mut values = metadata.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// The first `authorization` value that begins with exactly `Bearer `.
#[must_use]
pub fn bearer(metadata: &MetadataMap) -> Option<Secret> {
    let mut values = metadata.get_all("authorization").iter();
    let token = values.find_map(|value| value.as_bytes().strip_prefix(b"Bearer ").map(<[u8]>::to_vec))?;
    Some(Secret::new(token))
}

/// The name of a client instance: exactly 32 hexadecimal digits, and behind [`FILES`] 16 more of one that keeps files.
/// Anything else is none.
#[must_use]
pub fn instance(metadata: &MetadataMap) -> Option<String> {
    let name = only(metadata, INSTANCE_HEADER)?;
    let digits = |text: &str, count: usize| {
        text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let (own, files) = name.split_once(FILES).map_or((name, None), |(own, files)| (own, Some(files)));
    let plain = digits(own, 32) && files.is_none_or(|files| digits(files, 16));
    plain.then(|| name.to_owned())
}

/// What the client shows of an earlier stream.
#[must_use]
pub fn bundle_proof(metadata: &MetadataMap) -> Option<&str> {
    only(metadata, PROOF_HEADER)
}

/// Whether the client keeps a bundle stream and acknowledges what comes over it.
#[must_use]
pub fn acknowledges(metadata: &MetadataMap) -> bool {
    only(metadata, BUNDLE_HEADER) == Some("stream")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tonic::metadata::{Ascii, MetadataValue};

    #[test]
    fn a_cluster_is_named_once_and_as_text_or_not_at_all() {
        for (values, expected) in [
            (&[][..], Ok(None)),
            (&[&b"Kubernetes"[..]], Ok(Some("Kubernetes"))),
            (&[b""], Ok(Some(""))),
            (&[b"a", b"b"], Err(ClusterHeader::Repeated)),
            (&[b"a", b"a"], Err(ClusterHeader::Repeated)),
            (&[b"", b""], Err(ClusterHeader::Repeated)),
            (&[b"\xff", b"a"], Err(ClusterHeader::Repeated)),
            (&[b"\xff"], Err(ClusterHeader::NotText)),
            (&["Zürich".as_bytes()], Err(ClusterHeader::NotText)),
        ] {
            let mut metadata = MetadataMap::new();
            for value in values {
                metadata.append("clusterid", MetadataValue::<Ascii>::try_from(*value).unwrap());
            }
            assert_eq!(cluster(&metadata), expected.map(|name| name.map(str::to_owned)), "{values:?}");
        }
    }

    #[test]
    fn an_instance_is_32_digits_and_nothing_else() {
        let digits = "0123456789abcdef0123456789abcdef";
        let files = "0123456789abcdef0123456789abcdef.files-0123456789abcdef";
        for (value, expected) in [
            (digits, Some(digits)),
            ("0123456789ABCDEF0123456789ABCDEF", None),
            ("0123456789abcdef", None),
            ("spiffe://x/0123456789abcdef01234", None),
            (files, Some(files)),
            ("0123456789abcdef0123456789abcdef.files-0123456789abcde", None),
            (".files-0123456789abcdef", None),
        ] {
            let mut metadata = MetadataMap::new();
            metadata.insert(INSTANCE_HEADER, value.parse().unwrap());
            assert_eq!(instance(&metadata).as_deref(), expected, "{value}");
        }
        assert_eq!(instance(&MetadataMap::new()), None);
        let mut twice = MetadataMap::new();
        for (name, value) in [(INSTANCE_HEADER, digits), (BUNDLE_HEADER, "stream")] {
            twice.append(name, value.parse().unwrap());
            twice.append(name, value.parse().unwrap());
        }
        assert_eq!((instance(&twice), acknowledges(&twice)), (None, false), "two are none");
    }
}
