//! Signatures by OpenSSL, of the kinds that are verified here and of those that are not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::io::Write;
use std::process::{Command, Stdio};

use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

use super::*;

fn openssl(args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdin.take().unwrap().write_all(input));
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?} {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A request and a certificate, both signed with the same new key.
fn signed(key: &[&str], signing: &[&str]) -> [Vec<u8>; 2] {
    let key = openssl(&[&["genpkey"], key].concat(), b"");
    let common: &[&str] = &["-subj", "/CN=x", "-key", "/dev/stdin"];
    let make = |kind: &[&str]| openssl(&[&["req", "-new"], kind, common, signing].concat(), &key);
    [make(&[]), make(&["-x509"])].map(|pem| parse_x509_pem(&pem).unwrap().1.contents)
}

#[test]
fn what_cannot_be_verified_is_named_and_never_called_false() {
    let ec = |curve| -> Vec<String> {
        ["-algorithm", "EC", "-pkeyopt", &format!("ec_paramgen_curve:{curve}")].map(str::to_owned).into()
    };
    let rsa = |bits: u32| -> Vec<String> {
        ["-algorithm", "RSA", "-pkeyopt", &format!("rsa_keygen_bits:{bits}")].map(str::to_owned).into()
    };
    let pss = |salt| ["-sigopt", "rsa_padding_mode:pss", "-sigopt", salt, "-sha256"].map(str::to_owned).to_vec();
    let digest = |name: &str| vec![format!("-{name}")];
    let of = |text: &str| vec!["-algorithm".to_owned(), text.to_owned()];
    let table = [
        (ec("P-256"), digest("sha256"), None),
        (ec("P-256"), digest("sha384"), None),
        (ec("P-384"), digest("sha256"), None),
        (ec("P-384"), digest("sha384"), None),
        (ec("P-256"), digest("sha512"), Some("ECDSA with SHA-512 and a key on P-256")),
        (ec("P-384"), digest("sha512"), Some("ECDSA with SHA-512 and a key on P-384")),
        (ec("P-256"), digest("sha1"), Some("ECDSA with SHA-1 and a key on P-256")),
        (ec("P-521"), digest("sha512"), Some("ECDSA with SHA-512 and a key on P-521")),
        (ec("P-521"), digest("sha256"), Some("ECDSA with SHA-256 and a key on P-521")),
        (ec("secp256k1"), digest("sha256"), Some("ECDSA with SHA-256 and a key on the curve 1.3.132.0.10")),
        (rsa(2048), digest("sha256"), None),
        (rsa(2048), digest("sha512"), None),
        (rsa(2048), digest("sha1"), None),
        (rsa(2048), pss("rsa_pss_saltlen:32"), None),
        (rsa(2048), pss("rsa_pss_saltlen:20"), Some("RSA-PSS with these parameters and an RSA key of 2048 bits")),
        (rsa(1024), digest("sha256"), Some("RSA with SHA-256 and an RSA key of 1024 bits")),
        (rsa(2048), digest("sha224"), Some("the algorithm 1.2.840.113549.1.1.14 and an RSA key of 2048 bits")),
        (of("ED25519"), vec![], None),
        (of("ED448"), vec![], Some("the algorithm 1.3.101.113 and a key of kind 1.3.101.113")),
    ];
    for (key, signing, expected) in table {
        let slices = |texts: &[String]| -> Vec<&'static str> {
            texts.iter().map(|text| &*Box::leak(text.clone().into_boxed_str())).collect()
        };
        let [request, certificate] = signed(&slices(&key), &slices(&signing));
        let expected = expected.map_or(Ok(()), |kind| Err(SignatureError::Unsupported(kind.to_owned())));
        let (_, request) = X509CertificationRequest::from_der(&request).unwrap();
        assert_eq!(verify_request(&request), expected, "{key:?} {signing:?}");
        let (_, parsed) = X509Certificate::from_der(&certificate).unwrap();
        assert_eq!(verify_certificate(&parsed, parsed.public_key()), expected, "{key:?} {signing:?}");
        // The last byte of what is signed is in the key or an extension.
        let mut changed = certificate.clone();
        let at = parsed.tbs_certificate.as_ref().len();
        changed[at] ^= 1;
        let Ok((_, changed)) = X509Certificate::from_der(&changed) else { continue };
        let expected = expected.and(Err(SignatureError::False));
        assert_eq!(verify_certificate(&changed, parsed.public_key()), expected, "{key:?} {signing:?}");
    }
}
