//! From domain content to Envoy's `Secret` message. Material travels inline, so that no proxy needs our files.

use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret,
};
use envoy_types::pb::google::protobuf::Any;
use prost::Message;

use crate::snapshot::SecretContent;

/// The only resource type that SDS serves.
pub const SECRET_TYPE_URL: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// One secret as Envoy's message: the chain without its root and the PKCS#8 key, or the roots as `trusted_ca`.
///
/// A validation context is never empty, because a trust bundle cannot be.
#[must_use]
pub fn secret(name: &str, content: &SecretContent) -> Secret {
    let body = match content {
        SecretContent::Certificate { chain, key_pem } => secret::Type::TlsCertificate(TlsCertificate {
            certificate_chain: Some(inline(chain.pem().into_bytes())),
            private_key: Some(inline(key_pem.expose().to_vec())),
            ..TlsCertificate::default()
        }),
        SecretContent::Validation(bundle) => secret::Type::ValidationContext(CertificateValidationContext {
            trusted_ca: Some(inline(bundle.pem().as_bytes().to_vec())),
            ..CertificateValidationContext::default()
        }),
    };
    Secret { name: name.to_owned(), r#type: Some(body) }
}

/// One secret packed for a discovery response.
#[must_use]
pub fn packed(name: &str, content: &SecretContent) -> Any {
    Any { type_url: SECRET_TYPE_URL.to_owned(), value: secret(name, content).encode_to_vec() }
}

fn inline(bytes: Vec<u8>) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(bytes)), ..DataSource::default() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use crate::snapshot::tests::{bundle, certificate, root};
    use signet_core::certificate::pem;

    fn bytes(source: Option<DataSource>) -> Vec<u8> {
        match source.unwrap().specifier.unwrap() {
            Specifier::InlineBytes(bytes) => bytes,
            other => panic!("not inline: {other:?}"),
        }
    }

    #[test]
    fn a_certificate_travels_with_its_key_in_one_secret() {
        let any = packed("default", &certificate("leaf", "KEY"));
        assert_eq!(any.type_url, SECRET_TYPE_URL);
        let secret = Secret::decode(any.value.as_slice()).unwrap();
        assert_eq!(secret.name, "default");
        let Some(secret::Type::TlsCertificate(tls)) = secret.r#type else { panic!("not a certificate") };
        assert_eq!(bytes(tls.certificate_chain), pem(b"leaf").into_bytes());
        assert_eq!(bytes(tls.private_key), b"KEY");
    }

    #[test]
    fn a_validation_context_holds_every_root_and_is_never_empty() {
        let (a, b) = (root("a"), root("b"));
        let secret = secret("ROOTCA", &bundle(1, &[a.clone(), b.clone()]));
        let Some(secret::Type::ValidationContext(context)) = secret.r#type else { panic!("not a validation context") };
        let text = String::from_utf8(bytes(context.trusted_ca)).unwrap();
        assert!(text.contains(&pem(&a)) && text.contains(&pem(&b)));
    }
}
