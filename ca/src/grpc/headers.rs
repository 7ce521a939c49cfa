//! The request headers that callers speak to the CA with.

use signet_core::secret::Secret;
use tonic::metadata::MetadataMap;

/// What a client that acknowledges bundles says with its certificate request.
pub const BUNDLE_HEADER: &str = "signet-bundle";

/// What a client calls itself.
pub const INSTANCE_HEADER: &str = "signet-instance";

/// The sequence of the bundle in a certificate reply.
pub const SEQUENCE_HEADER: &str = "signet-bundle-sequence";

/// The `clusterid` header counts only when there is exactly one.
#[must_use]
pub fn cluster(metadata: &MetadataMap) -> Option<String> {
    let mut values = metadata.get_all("clusterid").iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().map(str::to_owned),
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

/// The name of a client instance: exactly 32 hexadecimal digits, anything else is none.
#[must_use]
pub fn instance(metadata: &MetadataMap) -> Option<String> {
    let name = metadata.get(INSTANCE_HEADER)?.to_str().ok()?;
    let plain = name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    plain.then(|| name.to_owned())
}

/// Whether the client keeps a bundle stream and acknowledges what comes over it.
#[must_use]
pub fn acknowledges(metadata: &MetadataMap) -> bool {
    metadata.get(BUNDLE_HEADER).is_some_and(|value| value == "stream")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_instance_is_32_digits_and_nothing_else() {
        let digits = "0123456789abcdef0123456789abcdef";
        for (value, expected) in [
            (digits, Some(digits)),
            ("0123456789ABCDEF0123456789ABCDEF", None),
            ("0123456789abcdef", None),
            ("spiffe://x/0123456789abcdef01234", None),
        ] {
            let mut metadata = MetadataMap::new();
            metadata.insert(INSTANCE_HEADER, value.parse().unwrap());
            assert_eq!(instance(&metadata).as_deref(), expected, "{value}");
        }
        assert_eq!(instance(&MetadataMap::new()), None);
    }
}
