//! From domain content to Envoy's `Secret` message. Material travels inline, so that no proxy needs our files.

use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, GenericSecret, Secret, TlsCertificate, secret,
};
use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use rustls_pki_types::CertificateRevocationListDer;
use signet_core::bundle::Validation;
use signet_core::pem::pem_block;

use crate::snapshot::SecretContent;

/// The only resource type that SDS serves.
pub const SECRET_TYPE_URL: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// One secret as Envoy's message: the chain without its root and the PKCS#8 key, or the roots as `trusted_ca` with all
/// revocation lists as `crl`, or a generic secret.
///
/// A validation context is never empty, because a trust bundle cannot be. Without lists there is no `crl` at all:
/// Envoy refuses an empty one.
#[must_use]
pub fn secret(name: &str, content: &SecretContent) -> Secret {
    let body = match content {
        SecretContent::Certificate { chain, key_pem } => secret::Type::TlsCertificate(TlsCertificate {
            certificate_chain: Some(inline(chain.pem().into_bytes())),
            private_key: Some(inline(key_pem.expose().to_vec())),
            ..TlsCertificate::default()
        }),
        SecretContent::Validation(Validation { bundle, revocation_lists }) => {
            let lists: String = revocation_lists.iter().map(list_pem).collect();
            secret::Type::ValidationContext(CertificateValidationContext {
                trusted_ca: Some(inline(bundle.pem().as_bytes().to_vec())),
                crl: (!lists.is_empty()).then(|| inline(lists.into_bytes())),
                ..CertificateValidationContext::default()
            })
        }
        SecretContent::Generic(bytes) => {
            secret::Type::GenericSecret(GenericSecret { secret: Some(inline(bytes.to_vec())), ..Default::default() })
        }
    };
    Secret { name: name.to_owned(), r#type: Some(body) }
}

/// One secret packed for a discovery response.
#[must_use]
pub fn packed(name: &str, content: &SecretContent) -> Any {
    Any { type_url: SECRET_TYPE_URL.to_owned(), value: secret(name, content).encode_to_vec() }
}

/// The same with a comment: roots in other bytes than without it or with another one, for clients that tell by bytes
/// whether there is anything to look at. PEM may have text around it (RFC 7468 section 2), which nobody reads.
pub(crate) fn packed_with_comment(name: &str, content: &SecretContent, comment: &str) -> Any {
    let mut secret = secret(name, content);
    if let Some(secret::Type::ValidationContext(context)) = &mut secret.r#type
        && let Some(Specifier::InlineBytes(pem)) = context.trusted_ca.as_mut().and_then(|it| it.specifier.as_mut())
    {
        pem.splice(0..0, format!("# {comment}\n").into_bytes());
    }
    Any { type_url: SECRET_TYPE_URL.to_owned(), value: secret.encode_to_vec() }
}

/// One revocation list as PEM (RFC 7468 section 6), lines of 64 characters.
#[must_use]
pub fn list_pem(list: &CertificateRevocationListDer<'_>) -> String {
    pem_block("X509 CRL", list)
}

fn inline(bytes: Vec<u8>) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(bytes)), ..DataSource::default() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use crate::snapshot::tests::{bundle, certificate, revoking, root};
    use rustls_pki_types::pem::PemObject;
    use signet_core::pem::pem;

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
    #[test]
    fn revocation_lists_travel_as_one_text_and_only_when_there_are_any() {
        let long = "l".repeat(100);
        let context = |content| match secret("ROOTCA", &content).r#type {
            Some(secret::Type::ValidationContext(context)) => context,
            other => panic!("{other:?}"),
        };
        let roots = [root("a")];
        assert_eq!(context(bundle(1, &roots)).crl, None);
        let text = bytes(context(revoking(1, &roots, &["one", &long])).crl);
        assert!(text.split(|byte| *byte == b'\n').all(|line| line.len() <= 64));
        let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&text).map(Result::unwrap).collect();
        assert_eq!(lists, [b"one".as_slice(), long.as_bytes()].map(CertificateRevocationListDer::from));
    }

    #[test]
    fn a_comment_changes_the_bytes_of_roots_and_nothing_that_is_read() {
        let (a, b) = (root("a"), root("b"));
        let content = bundle(1, &[a.clone(), b.clone()]);
        let plain = packed("ROOTCA", &content);
        let commented = ["1", "2"].map(|comment| packed_with_comment("ROOTCA", &content, comment));
        let [one, two] = &commented;
        assert!(*one != plain && one != two && *one == packed_with_comment("ROOTCA", &content, "1"));
        let secret = Secret::decode(one.value.as_slice()).unwrap();
        let Some(secret::Type::ValidationContext(context)) = secret.r#type else { panic!("not a validation context") };
        let text = bytes(context.trusted_ca);
        assert!(text.starts_with(b"# 1\n-----BEGIN"));
        let roots: Vec<_> = rustls_pki_types::CertificateDer::pem_slice_iter(&text).map(Result::unwrap).collect();
        assert!(roots.len() == 2 && roots.contains(&a) && roots.contains(&b));
        let certificate = certificate("leaf", "KEY");
        assert_eq!(packed_with_comment("default", &certificate, "1"), packed("default", &certificate));
    }

    #[test]
    fn a_generic_secret_holds_its_bytes() {
        let secret = secret("x", &SecretContent::Generic(b"{}".as_slice().into()));
        let Some(secret::Type::GenericSecret(generic)) = secret.r#type else { panic!("not generic") };
        assert_eq!(bytes(generic.secret), b"{}");
    }
}
