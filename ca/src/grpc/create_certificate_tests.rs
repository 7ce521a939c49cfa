//! Tests of the wire contract, down to the bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use super::*;
use prost_types::{Struct, Value};
use tonic_prost::prost::Message;

fn text(value: &str) -> Value {
    Value { kind: Some(Kind::StringValue(value.to_owned())) }
}

fn understood(headers: &[(&'static str, &str)], message: IstioCertificateRequest) -> Result<Application, String> {
    let mut metadata = MetadataMap::new();
    for (name, value) in headers {
        metadata.append(*name, value.parse().unwrap());
    }
    let application = application("r".into(), (None, None), &metadata, Received(Ok(message)));
    let wrong = application.unreadable.clone().or(application.problem.clone());
    wrong.map_or(Ok(application), Err)
}

#[test]
fn a_request_has_the_field_numbers_1_3_and_4_of_istios_contract() {
    let golden = [&[0x0a, 1, b'c'][..], &[0x18, 0x3c], &[0x22, 14], &[0x0a, 12, 0x0a, 10], b"CertSigner"].concat();
    // A map entry without value: the key alone.
    let decoded = IstioCertificateRequest::decode(golden.as_slice()).unwrap();
    assert_eq!((decoded.csr.as_str(), decoded.validity_duration), ("c", Some(60)));
    assert!(decoded.metadata.as_ref().unwrap().fields.contains_key("CertSigner"));
    assert!(understood(&[], decoded).is_ok());
    // Absent and explicit zero differ, on the same wire format.
    assert_eq!(IstioCertificateRequest::decode(&[][..]).unwrap().validity_duration, None);
    assert_eq!(IstioCertificateRequest::decode(&[0x18, 0][..]).unwrap().validity_duration, Some(0));
}

#[test]
fn a_reply_is_repeated_strings_in_field_1() {
    let reply = IstioCertificateResponse { cert_chain: vec!["leaf\n".into(), "root\n".into()] };
    assert_eq!(reply.encode_to_vec(), b"\x0a\x05leaf\n\x0a\x05root\n");
}

#[test]
fn the_first_bearer_value_counts_and_its_prefix_is_exact() {
    let token = |headers: &[(&'static str, &str)]| {
        let application = understood(headers, IstioCertificateRequest::default()).unwrap();
        application.token.map(|token| token.expose_str().unwrap().to_owned())
    };
    assert_eq!(token(&[("authorization", "Bearer abc")]).as_deref(), Some("abc"));
    assert_eq!(token(&[("authorization", "Basic x"), ("authorization", "Bearer abc")]).as_deref(), Some("abc"));
    assert_eq!(token(&[("authorization", "Bearer abc"), ("authorization", "Bearer x")]).as_deref(), Some("abc"));
    for wrong in ["bearer abc", "BEARER abc", "Bearer", "Istio abc", ""] {
        assert_eq!(token(&[("authorization", wrong)]), None, "{wrong:?}");
    }
    assert_eq!(token(&[]), None);
}

#[test]
fn a_cluster_named_twice_is_refused_before_anything_else_is_looked_at() {
    let cluster = |headers: &[(&'static str, &str)]| {
        understood(headers, IstioCertificateRequest::default()).map(|application| application.cluster)
    };
    assert_eq!(cluster(&[("clusterid", "Kubernetes")]), Ok(Some("Kubernetes".to_owned())));
    assert_eq!(cluster(&[]), Ok(None));
    let told = cluster(&[("clusterid", "a"), ("clusterid", "a")]).unwrap_err();
    assert!(told.contains("clusterid was sent more than once"), "{told}");
}

#[test]
fn metadata_may_hold_anything_but_a_wrong_type_in_a_known_key() {
    let with = |key: &str, value: Value| {
        let fields = [(key.to_owned(), value)].into();
        understood(&[], IstioCertificateRequest { metadata: Some(Struct { fields }), ..Default::default() })
    };
    let number = Value { kind: Some(Kind::NumberValue(5.0)) };
    assert!(with("WorkloadName", number.clone()).is_ok());
    assert!(with("CertSigner", text("")).is_ok());
    assert!(with("CertSigner", Value { kind: None }).is_ok());
    assert_eq!(with("ImpersonatedIdentity", text("spiffe://x")).unwrap().impersonated.as_deref(), Some("spiffe://x"));
    assert!(with("ImpersonatedIdentity", number.clone()).is_err());
    assert!(with("CertSigner", number).is_err());
}

#[test]
fn a_signer_that_is_named_is_noticed_and_changes_nothing_else() {
    for (signer, noticed) in [("", false), ("other", true), ("clusterissuers.cert-manager.io/istio-system", true)] {
        let fields = [("CertSigner".to_owned(), text(signer)), ("ImpersonatedIdentity".to_owned(), text("spiffe://x"))];
        let metadata = Some(Struct { fields: fields.into() });
        let application = understood(&[], IstioCertificateRequest { metadata, ..Default::default() }).unwrap();
        assert_eq!((application.names_signer, application.impersonated.as_deref()), (noticed, Some("spiffe://x")));
    }
}
