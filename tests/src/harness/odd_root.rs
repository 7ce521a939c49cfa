//! Roots that Signet publishes and that a client refuses, because it is stricter than others.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::failure::{Failure, Outcome};
use crate::tools;

/// What is wrong with a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oddity {
    /// A code point in its name that Unicode has set apart for ever (U+FDD0). BoringSSL refuses it, and with it every trust
    /// bundle that holds it; OpenSSL and rustls do not, and Signet does not look for it.
    Name,
    /// Another algorithm beside the signature than the one that is signed (RFC 5280 section 4.1.1.2). OpenSSL and BoringSSL
    /// take it as a root, since nobody verifies the signature of one; rustls does not.
    Algorithm,
}

/// A part of a name, and as many bytes that make it odd.
const NAME: (&[u8], &[u8]) = (b"Zurich", b"Z\xef\xb7\x90ch");

/// RSA with SHA-256, and with SHA-384 (RFC 4055 section 5).
const ALGORITHM: (&[u8], &[u8]) = (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c");

/// A self-signed CA certificate with this oddity, PEM.
///
/// # Errors
/// [`Failure`], also without OpenSSL.
pub fn odd_root(oddity: Oddity) -> Outcome<String> {
    let directory = tempfile::tempdir().map_err(Failure::io("make a temporary directory"))?;
    let at = |file: &str| directory.path().join(file);
    let mut command = Command::new(tools::openssl()?);
    // The signature of an RSA key has the same length whatever it signs, so it can be replaced in place.
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "90", "-subj", "/CN=Zurich root"]);
    command.args(["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
    command.arg("-keyout").arg(at("key"));
    let text = tools::run(&mut command)?;
    let der = CertificateDer::from_pem_slice(text.as_bytes()).map_err(Failure::while_doing("read a certificate"))?;
    let (_, read) = X509Certificate::from_der(&der).map_err(Failure::while_doing("read a certificate"))?;
    let signed = read.tbs_certificate.as_ref();
    if oddity == Oddity::Algorithm {
        let (inside, outside) = der.split_at(4 + signed.len());
        return Ok(armour(&[inside, &replaced(outside, ALGORITHM.0, ALGORITHM.1)?].concat()));
    }
    let odd = replaced(signed, NAME.0, NAME.1)?;
    std::fs::write(at("content"), &odd).map_err(Failure::io("write what is to be signed"))?;
    let mut command = Command::new(tools::openssl()?);
    command.args(["dgst", "-sha256", "-sign"]).arg(at("key")).arg("-out").arg(at("signature")).arg(at("content"));
    tools::run(&mut command)?;
    let signature = std::fs::read(at("signature")).map_err(Failure::io("read a signature"))?;
    let whole = replaced(&replaced(&der, signed, &odd)?, &read.signature_value.data, &signature)?;
    Ok(armour(&whole))
}

fn armour(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).flat_map(std::str::from_utf8).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// The bytes with each `part` in them replaced by as many others.
fn replaced(bytes: &[u8], part: &[u8], other: &[u8]) -> Outcome<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    let mut found = false;
    while let Some(at) = bytes.windows(part.len()).position(|window| window == part && part.len() == other.len()) {
        bytes.splice(at..at + part.len(), other.iter().copied());
        found = true;
    }
    if found { Ok(bytes) } else { Err(Failure::unexpected("a certificate without the part to replace")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::client::keys;

    #[test]
    fn each_is_a_ca_signed_with_its_own_key_that_only_some_can_read() {
        for (oddity, rustls_takes_it) in [(Oddity::Name, true), (Oddity::Algorithm, false)] {
            let pem = odd_root(oddity).unwrap();
            assert!(keys::facts(&pem).unwrap().is_ca);
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            let (_, read) = X509Certificate::from_der(&der).unwrap();
            assert_eq!(read.verify_signature(None).is_ok(), oddity == Oddity::Name);
            assert_eq!(rustls::RootCertStore::empty().add(der.clone()).is_ok(), rustls_takes_it);
        }
    }
}
