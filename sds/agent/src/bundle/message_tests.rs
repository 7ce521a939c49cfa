//! Good responses of the CA, and every way in which one can be wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use envoy_types::pb::google::protobuf::Any;
use rcgen::{
    CertificateParams, CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, SerialNumber, date_time_ymd,
};
use signet_sds::resources::{SECRET_TYPE_URL, list_pem};

use super::*;
use crate::tests::test_ca::Authority;

fn any(name: &str, body: secret::Type) -> Any {
    let secret = Secret { name: name.to_owned(), r#type: Some(body) };
    Any { type_url: SECRET_TYPE_URL.to_owned(), value: secret.encode_to_vec() }
}

fn bytes(bytes: impl Into<Vec<u8>>) -> Option<DataSource> {
    Some(DataSource { specifier: Some(Specifier::InlineBytes(bytes.into())), ..DataSource::default() })
}

fn context(trusted_ca: Option<DataSource>, crl: Option<DataSource>) -> Any {
    let context = CertificateValidationContext { trusted_ca, crl, ..Default::default() };
    any(DEFAULT_BUNDLE_NAME, secret::Type::ValidationContext(context))
}

fn instructions(text: &str) -> Any {
    any(INSTRUCTIONS_NAME, secret::Type::GenericSecret(GenericSecret { secret: bytes(text), ..Default::default() }))
}

fn read_all(resources: Vec<Any>) -> Result<BundleUpdate, MessageError> {
    let response = DiscoveryResponse { resources, ..Default::default() };
    read(&response, &TrustDomain::parse("td").unwrap())
}

fn list() -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(2034, 1, 1),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: vec![],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let der = list.signed_by(&Issuer::new(params, key)).unwrap().der().to_vec();
    list_pem(&CertificateRevocationListDer::from(der))
}

#[test]
fn roots_lists_and_instructions_come_together_or_alone() {
    let (root, other) = (Authority::root("a"), Authority::root("b"));
    let roots = || bytes(root.pem() + &other.pem());
    let text = r#"{"sequence":7,"renew":[]}"#;
    let update = read_all(vec![context(roots(), bytes(list() + &list())), instructions(text)]).unwrap();
    let validation = update.validation.unwrap();
    assert_eq!((validation.bundle.sequence(), validation.bundle.roots().len()), (7, 2));
    assert_eq!((validation.revocation_lists.len(), update.instructions.unwrap().sequence), (2, 7));
    let update = read_all(vec![context(roots(), None)]).unwrap();
    assert!(update.validation.unwrap().revocation_lists.is_empty() && update.instructions.is_none());
    let update = read_all(vec![instructions(text)]).unwrap();
    assert!(update.validation.is_none() && update.instructions.is_some());
    let text = Some(DataSource { specifier: Some(Specifier::InlineString(root.pem())), ..DataSource::default() });
    assert!(read_all(vec![context(text, None)]).unwrap().validation.is_some());
    let unasked = any("default", secret::Type::GenericSecret(GenericSecret::default()));
    let update = read_all(vec![unasked]).unwrap();
    assert!(update.validation.is_none() && update.instructions.is_none());
}

#[test]
fn broken_roots_make_a_response_unusable_with_a_clear_text() {
    let root = Authority::root("a").pem();
    let file = DataSource { specifier: Some(Specifier::Filename("/etc/passwd".into())), ..DataSource::default() };
    let truncated = root.replace("-----END CERTIFICATE-----", "");
    let leaf = {
        let key = KeyPair::generate().unwrap();
        CertificateParams::default().self_signed(&key).unwrap().pem()
    };
    let generic = any(DEFAULT_BUNDLE_NAME, secret::Type::GenericSecret(GenericSecret::default()));
    for (resource, text) in [
        (context(None, None), "the roots are missing, or not inline"),
        (context(Some(file), None), "the roots are missing, or not inline"),
        (context(bytes(""), None), "the roots are not a trust bundle: a trust bundle needs at least one root"),
        (
            context(bytes(truncated), None),
            "the roots are not PEM certificates: the PEM block that begins in line 1 has no end",
        ),
        (context(bytes(leaf), None), "the roots are not a trust bundle: root 0 of the bundle is not a CA certificate"),
        (context(bytes(root.repeat(MAX_MEMBERS + 1)), None), "more than 256 roots"),
        (generic, "ROOTCA is not a validation context"),
        (Any { type_url: SECRET_TYPE_URL.to_owned(), value: vec![0xff] }, "a resource is not a secret"),
    ] {
        let good = instructions(r#"{"sequence":7}"#);
        assert_eq!(error_chain(&read_all(vec![good, resource]).unwrap_err()), text);
    }
}

#[test]
fn broken_lists_and_instructions_never_keep_roots_back() {
    let root = Authority::root("a").pem();
    let broken = list_pem(&CertificateRevocationListDer::from(b"junk".as_slice()));
    let cut = list().replace("-----END X509 CRL-----", "");
    for crl in ["".to_owned(), "junk".to_owned(), root.clone(), broken.clone(), list() + &broken, cut] {
        let update = read_all(vec![context(bytes(root.clone()), bytes(crl.clone()))]).unwrap();
        assert!(update.validation.unwrap().revocation_lists.is_empty(), "{crl}");
    }
    let certificate = any(INSTRUCTIONS_NAME, secret::Type::TlsCertificate(Default::default()));
    for (resource, text) in [
        (instructions("{"), "signet/agent is unreadable"),
        (certificate, "signet/agent is not a generic secret with inline bytes"),
    ] {
        let update = read_all(vec![resource.clone(), context(bytes(root.clone()), None)]).unwrap();
        assert!(update.validation.is_some() && update.instructions.is_none());
        let alone = error_chain(&read_all(vec![resource]).unwrap_err());
        assert!(alone.starts_with(text), "{alone}");
    }
}
