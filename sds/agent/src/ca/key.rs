//! A fresh private key and the certificate signing request for it; both are made in memory for each renewal.

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PublicKeyData,
    SanType,
};
use signet_core::identity::SpiffeId;
use signet_core::key_type::KeyType;
use signet_core::secret::Secret;

/// Why no key or request could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum KeyError {
    /// The agent does not make this kind of key.
    #[error("the agent makes ECDSA keys only, not {0}; use ec-p256 or ec-p384")]
    Unsupported(KeyType),
    /// The crypto library failed, which it has no ordinary reason to.
    #[error("cannot make a key and a certificate signing request: {0}")]
    Crypto(String),
}

/// A key that exists nowhere else, and the request that proves its possession.
#[derive(Debug)]
pub(crate) struct FreshKey {
    /// The private key, PKCS#8 PEM.
    pub key_pem: Secret,
    /// The request, PKCS#10 PEM.
    pub csr_pem: String,
    /// SubjectPublicKeyInfo in DER, to recognise the key in a certificate.
    pub spki_der: Vec<u8>,
}

impl FreshKey {
    /// Makes a key, and a request with an empty subject and `identity` as its only, critical, name: the shape that the
    /// strictest known CA accepts.
    ///
    /// # Errors
    /// [`KeyError`].
    pub(crate) fn generate(key_type: KeyType, identity: &SpiffeId) -> Result<Self, KeyError> {
        let algorithm = match key_type {
            KeyType::EcP256 => &PKCS_ECDSA_P256_SHA256,
            KeyType::EcP384 => &PKCS_ECDSA_P384_SHA384,
            KeyType::Rsa2048 | KeyType::Rsa4096 => return Err(KeyError::Unsupported(key_type)),
        };
        let failed = |error: rcgen::Error| KeyError::Crypto(error.to_string());
        let key = KeyPair::generate_for(algorithm).map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(identity.as_str().try_into().map_err(failed)?)];
        let csr_pem = params.serialize_request(&key).and_then(|request| request.pem()).map_err(failed)?;
        Ok(Self {
            key_pem: Secret::new(key.serialize_pem().into_bytes()),
            csr_pem,
            spki_der: key.subject_public_key_info(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use signet_core::csr::CertificateRequest;

    #[test]
    fn the_request_proves_the_key_and_names_nothing_but_the_identity() {
        let identity = SpiffeId::parse("spiffe://td/ns/a/sa/b").unwrap();
        for key_type in [KeyType::EcP256, KeyType::EcP384] {
            let fresh = FreshKey::generate(key_type, &identity).unwrap();
            let request = CertificateRequest::parse(&fresh.csr_pem).unwrap();
            assert_eq!(request.names().uris, [identity.as_str()]);
            assert_eq!(request.names().others, Vec::<String>::new());
            assert_eq!(request.key().spki_der(), fresh.spki_der);
            assert!(fresh.key_pem.expose_str().unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
            assert!(!format!("{fresh:?}").contains("PRIVATE"));
        }
    }

    #[test]
    fn the_name_extension_is_critical_because_the_subject_is_empty() {
        use x509_parser::prelude::{FromDer, ParsedCriAttribute, X509CertificationRequest};
        let identity = SpiffeId::parse("spiffe://td/ns/a/sa/b").unwrap();
        let fresh = FreshKey::generate(KeyType::EcP256, &identity).unwrap();
        let (_, block) = x509_parser::pem::parse_x509_pem(fresh.csr_pem.as_bytes()).unwrap();
        let (_, request) = X509CertificationRequest::from_der(&block.contents).unwrap();
        let info = &request.certification_request_info;
        assert_eq!(info.subject.iter_attributes().count(), 0);
        let attributes: Vec<_> = info.iter_attributes().collect();
        let extensions: Vec<_> = attributes
            .iter()
            .filter_map(|attribute| match attribute.parsed_attribute() {
                ParsedCriAttribute::ExtensionRequest(extensions) => Some(&extensions.extensions),
                _ => None,
            })
            .flatten()
            .map(|extension| extension.critical)
            .collect();
        assert_eq!(extensions, [true]);
    }

    #[test]
    fn rsa_keys_are_refused() {
        let identity = SpiffeId::parse("spiffe://td/ns/a/sa/b").unwrap();
        let refused = FreshKey::generate(KeyType::Rsa2048, &identity).unwrap_err();
        assert_eq!(refused.to_string(), "the agent makes ECDSA keys only, not rsa-2048; use ec-p256 or ec-p384");
    }
}
