//! Tests that a request proves its key, and that whatever it asks for beside that is noticed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
use super::*;
use proptest::prelude::*;
use rcgen::{CertificateParams, DnType, IsCa, KeyPair, SanType};

fn request(change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    change(&mut params);
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

#[test]
fn a_request_yields_its_key_and_the_names_it_asks_for() {
    let pem = request(|params| {
        params.subject_alt_names = vec![SanType::URI("spiffe://td/ns/a/sa/b".try_into().unwrap())];
    });
    let parsed = CertificateRequest::parse(&pem).unwrap();
    assert_eq!(parsed.names().uris, ["spiffe://td/ns/a/sa/b"]);
    assert_eq!(parsed.names().others, Vec::<String>::new());
    assert_eq!(parsed.key().family(), KeyFamily::Ec);
    let own = ProvenKey::own(parsed.key().spki_der().to_vec()).unwrap();
    assert_eq!((own.spki_der(), own.family(), own.request()), (parsed.key().spki_der(), parsed.key().family(), None));
    // The whole request stays with its key, for backends that sign it.
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    assert_eq!(parsed.into_key().request(), Some(block.contents.as_slice()));
}

#[test]
fn everything_that_names_or_empowers_the_subject_is_noticed() {
    let noticed =
        |change: fn(&mut CertificateParams)| CertificateRequest::parse(&request(change)).unwrap().names().others.len();
    assert_eq!(noticed(|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)), 1);
    assert_eq!(noticed(|params| params.subject_alt_names = vec![SanType::DnsName("a.b".try_into().unwrap())]), 1);
    assert_eq!(noticed(|params| params.subject_alt_names = vec![SanType::IpAddress([1, 2, 3, 4].into())]), 1);
    assert_eq!(noticed(|params| params.subject_alt_names = vec![SanType::Rfc822Name("a@b".try_into().unwrap())]), 1);
    assert_eq!(noticed(|params| params.distinguished_name.push(DnType::CommonName, "root")), 1);
    assert_eq!(noticed(|params| params.distinguished_name.push(DnType::OrganizationName, "x")), 1);
    assert_eq!(noticed(|params| params.distinguished_name.push(DnType::OrganizationName, "")), 0);
    assert_eq!(noticed(|params| params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign]), 1);
    assert_eq!(noticed(|params| params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::CodeSigning]), 1);
    assert_eq!(noticed(|params| params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth]), 0);
}

#[test]
fn a_changed_request_fails_its_proof_of_possession() {
    let pem = request(|params| params.distinguished_name.push(DnType::OrganizationName, "honest"));
    let der = single_block(&pem).unwrap();
    let at = der.windows(6).position(|window| window == b"honest").unwrap();
    let mut forged = der.clone();
    if let Some(byte) = forged.get_mut(at) {
        *byte ^= 1;
    }
    let pem = pem_of("CERTIFICATE REQUEST", &forged);
    assert_eq!(CertificateRequest::parse(&pem), Err(CsrError::BadSignature));
}

#[test]
fn only_one_whole_pem_block_of_the_right_label_is_accepted() {
    let good = request(|_| {});
    let der = single_block(&good).unwrap();
    let truncated = der.get(..der.len() - 5).unwrap().to_vec();
    let trailing = [der.clone(), vec![0]].concat();
    let table = [
        (String::new(), CsrError::NotPem),
        ("hello".to_owned(), CsrError::NotPem),
        (format!("{good}{good}"), CsrError::NotPem),
        (pem_of("CERTIFICATE", &der), CsrError::NotPem),
        (pem_of("CERTIFICATE REQUEST", &truncated), CsrError::NotPkcs10),
        (pem_of("CERTIFICATE REQUEST", &trailing), CsrError::NotPkcs10),
        (pem_of("CERTIFICATE REQUEST", b""), CsrError::NotPkcs10),
        ("A".repeat(1 << 20), CsrError::TooLong(1 << 20)),
    ];
    for (pem, expected) in table {
        assert_eq!(CertificateRequest::parse(&pem), Err(expected));
    }
}

/// The certificate would carry it: as much of the structure as the parser takes for the key, with a length that
/// reaches beyond it.
#[test]
fn nothing_may_follow_the_key_within_its_structure() {
    let mut spki = CertificateRequest::parse(&request(|_| {})).unwrap().key().spki_der().to_vec();
    spki.extend([0x05, 0x00]);
    spki[1] += 2;
    assert_eq!(ProvenKey::own(spki.clone()), Err(CsrError::NotPkcs10));
    let info = [&[0x02, 0x01, 0x00, 0x30, 0x00][..], &spki, &[0xa0, 0x00]].concat();
    let info = [&[0x30, u8::try_from(info.len()).unwrap()][..], &info].concat();
    // The key is judged before the signature.
    let rest = [&[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02, 0x03, 0x02, 0x00, 0x00][..]];
    let content = [info.as_slice(), rest[0]].concat();
    let der = [&[0x30, 0x81, u8::try_from(content.len()).unwrap()][..], &content].concat();
    assert_eq!(CertificateRequest::parse(&pem_of("CERTIFICATE REQUEST", &der)), Err(CsrError::NotPkcs10));
}

fn pem_of(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

proptest! {
    #[test]
    fn parsing_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(CertificateRequest::parse(&pem_of("CERTIFICATE REQUEST", &bytes)));
        drop(ProvenKey::own(bytes));
    }

    #[test]
    fn no_flipped_bit_of_the_signed_part_gets_past_the_signature(position in 0usize..200, bit in 0u8..8) {
        let mut der = single_block(&request(|_| {})).unwrap();
        let signed = X509CertificationRequest::from_der(&der).unwrap().1.certification_request_info.raw.to_vec();
        let start = der.windows(signed.len()).position(|window| window == signed).unwrap();
        let index = start + position % signed.len();
        if let Some(byte) = der.get_mut(index) { *byte ^= 1 << bit; }
        prop_assert!(CertificateRequest::parse(&pem_of("CERTIFICATE REQUEST", &der)).is_err());
    }
}

/// The identity that every sample asks for.
const SAMPLE_ID: &str = "spiffe://cluster.local/ns/default/sa/client";

macro_rules! samples {
    ($($name:literal => $expected:expr),* $(,)?) => {
        [$(($name, include_str!(concat!("testdata/csr/", $name, ".csr")), $expected)),*]
    };
}

/// Made by keytool of JDK 17, OpenSSL 3.0 and Go 1.26; the requests of Windows have the attributes, the label and the line
/// ends of certreq and were put together by hand.
#[test]
fn requests_of_other_programs_are_taken_or_refused_for_what_they_are() {
    let unsupported = |kind: &str| Err(CsrError::UnsupportedSignature(kind.to_owned()));
    let weak = |kind: &str| Err(CsrError::WeakKey(kind.to_owned()));
    let table = samples! {
        "keytool-ec" => Ok(KeyFamily::Ec),
        "keytool-rsa" => Ok(KeyFamily::Rsa),
        "keytool-pss" => Ok(KeyFamily::Rsa),
        "keytool-p384-sha512" => unsupported("ECDSA with SHA-512 and a key on P-384"),
        "openssl-text-newhdr" => Ok(KeyFamily::Ec),
        "openssl-sha1" => Ok(KeyFamily::Rsa),
        "openssl-sha224" => unsupported("the algorithm 1.2.840.113549.1.1.14 and an RSA key of 2048 bits"),
        "openssl-pss-sha384" => Ok(KeyFamily::Rsa),
        "openssl-pss-salt-max" => unsupported("RSA-PSS with these parameters and an RSA key of 2048 bits"),
        "openssl-rsapss-key" => weak("of type RSASSA-PSS"),
        "go-ec" => Ok(KeyFamily::Ec),
        "go-p384" => Ok(KeyFamily::Ec),
        "go-p256-sha384" => Ok(KeyFamily::Ec),
        "go-p256-sha512" => unsupported("ECDSA with SHA-512 and a key on P-256"),
        "go-p521" => weak("on the curve P-521"),
        "go-rsa" => Ok(KeyFamily::Rsa),
        "go-pss512" => Ok(KeyFamily::Rsa),
        "windows-certreq-ec" => Ok(KeyFamily::Ec),
        "windows-certreq-rsa" => Ok(KeyFamily::Rsa),
        "windows-certreq-rsa-sha1" => Ok(KeyFamily::Rsa),
    };
    for (name, text, expected) in table {
        let parsed = CertificateRequest::parse(text);
        assert_eq!(parsed.as_ref().map(|request| request.key().family()).map_err(Clone::clone), expected, "{name}");
        if let Ok(request) = parsed {
            // Windows once had an attribute of its own for extensions, which is not looked at.
            let uris = if name == "windows-certreq-rsa-sha1" { vec![] } else { vec![SAMPLE_ID.to_owned()] };
            let asked = RequestedNames { uris, others: Vec::new() };
            assert_eq!(request.names(), &asked, "{name}");
        }
    }
}

#[test]
fn the_one_block_is_found_however_it_is_laid_out() {
    let good = request(|_| {});
    let key = CertificateRequest::parse(&good).unwrap().into_key();
    let new = good.replace(" CERTIFICATE", " NEW CERTIFICATE");
    assert_eq!(new.matches(" NEW CERTIFICATE REQUEST-----").count(), 2);
    let utf16 = |text: &str| text.chars().flat_map(|one| [one, '\0']).collect::<String>();
    let indented = |text: &str| text.lines().map(|line| format!("  {line}\n")).collect::<String>();
    for (what, text) in [
        ("the other label", new.clone()),
        ("a mark in front", format!("\u{feff}{good}")),
        ("a mark, the other label and its line ends", format!("\u{feff}{}", new.replace('\n', "\r\n"))),
        ("text around it", format!("Certificate Request:\n    Version: 1 (0x0)\n{new}\nthe end\n")),
        ("no line end", new.trim_end().to_owned()),
        ("the other label, and text that speaks of it", format!("a NEW CERTIFICATE REQUEST\n{good}")),
    ] {
        assert_eq!(CertificateRequest::parse(&text).map(CertificateRequest::into_key), Ok(key.clone()), "{what}");
    }
    for (what, text) in [
        ("both labels", format!("{good}{new}")),
        ("joined", format!("{}{good}", good.trim_end())),
        ("joined, the other label", format!("{}{new}", new.trim_end())),
        ("a label that is none", good.replace(" CERTIFICATE", " NEWER CERTIFICATE")),
        ("a certificate of that label", good.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE")),
        ("beside a key", format!("{good}{}", pem_of("PRIVATE KEY", &[0x30, 0]))),
        ("in sixteen bits", utf16(&good)),
        ("not closed", new.replace("-----END NEW CERTIFICATE REQUEST-----", "")),
        ("indented", indented(&good)),
    ] {
        assert_eq!(CertificateRequest::parse(&text), Err(CsrError::NotPem), "{what}");
    }
}

#[test]
fn a_bare_key_counts_with_a_signature_by_it_over_what_it_is_for() {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

    let random = SystemRandom::new();
    for (algorithm, signing) in [(&rcgen::PKCS_ECDSA_P256_SHA256, &ECDSA_P256_SHA256_ASN1_SIGNING)] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
        let signer = EcdsaKeyPair::from_pkcs8(signing, &key.serialize_der(), &random).unwrap();
        let proof = signer.sign(&random, b"the UID of the pod").unwrap();
        let proven = CertificateRequest::proven(&spki, b"the UID of the pod", proof.as_ref()).unwrap();
        assert_eq!(proven.key().spki_der(), spki);
        assert_eq!(proven.names(), &RequestedNames::default());
        for (message, proof) in [(&b"another UID"[..], proof.as_ref()), (b"the UID of the pod", b"no signature")] {
            assert_eq!(CertificateRequest::proven(&spki, message, proof), Err(CsrError::BadSignature));
        }
    }
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let spki = rcgen::PublicKeyData::subject_public_key_info(&ed25519);
    assert!(matches!(CertificateRequest::proven(&spki, b"x", b"y"), Err(CsrError::WeakKey(_))));
    assert_eq!(CertificateRequest::proven(b"no key", b"x", b"y"), Err(CsrError::NotPkcs10));
}
