//! Certificate signing requests in the shapes that clients send, and in shapes that must be refused.

use std::path::Path;
use std::process::Command;

use rcgen::string::PrintableString;
use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType};

use crate::failure::{Failure, Outcome};
use crate::tools;

/// A private key and a request for it.
pub struct Made {
    /// The request, PEM.
    pub csr: String,
    /// The private key, PKCS#8 PEM.
    pub key: String,
}

fn build(key: &KeyPair, identity: Option<&str>, subject: DistinguishedName) -> Outcome<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    if let Some(identity) = identity {
        let uri = identity.try_into().map_err(Failure::while_doing("write a URI SAN"))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
    }
    let csr = params.serialize_request(key).map_err(Failure::while_doing("make a CSR"))?;
    csr.pem().map_err(Failure::while_doing("write a CSR as PEM"))
}

/// As ztunnel does it: P-256, empty subject, one URI SAN. Without an identity: no extension at all.
///
/// # Errors
/// [`Failure`].
pub fn like_ztunnel(identity: Option<&str>) -> Outcome<Made> {
    let key = KeyPair::generate().map_err(Failure::while_doing("make a key"))?;
    Ok(Made { csr: build(&key, identity, DistinguishedName::new())?, key: key.serialize_pem() })
}

/// As kubelet does it for a pod: P-256, and no names at all; DER. The key is not kept.
///
/// # Errors
/// [`Failure`].
pub fn like_kubelet() -> Outcome<Vec<u8>> {
    let key = KeyPair::generate().map_err(Failure::while_doing("make a key"))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&key).map_err(Failure::while_doing("make a CSR"))?;
    Ok(csr.der().to_vec())
}

/// As istio-agent does it: RSA-2048, a subject of one empty Organization, one URI SAN.
///
/// # Errors
/// [`Failure`], also without OpenSSL, which makes the key.
pub fn like_istio_agent(identity: &str) -> Outcome<Made> {
    let pem = tools::run(Command::new(tools::openssl()?).args([
        "genpkey",
        "-quiet",
        "-algorithm",
        "RSA",
        "-pkeyopt",
        "rsa_keygen_bits:2048",
    ]))?;
    let key = KeyPair::from_pem(&pem).map_err(Failure::while_doing("read an RSA key"))?;
    let mut subject = DistinguishedName::new();
    let empty = PrintableString::try_from("").map_err(Failure::while_doing("write an empty name"))?;
    subject.push(DnType::OrganizationName, DnValue::PrintableString(empty));
    Ok(Made { csr: build(&key, Some(identity), subject)?, key: pem })
}

/// A request made by the OpenSSL command line: `key` are arguments of `openssl genpkey`, `extensions` are `-addext`
/// values such as `subjectAltName=URI:spiffe://…`.
///
/// # Errors
/// [`Failure`].
pub fn by_openssl(key: &[&str], subject: &str, extensions: &[&str]) -> Outcome<Made> {
    let openssl = tools::openssl()?;
    let directory = tempfile::tempdir().map_err(Failure::io("make a temporary directory"))?;
    let key_file = directory.path().join("key.pem");
    tools::run(Command::new(&openssl).args(["genpkey", "-quiet", "-out"]).arg(&key_file).args(key))?;
    let mut request = Command::new(&openssl);
    request.args(["req", "-new", "-subj", subject, "-key"]).arg(&key_file);
    for extension in extensions {
        request.args(["-addext", extension]);
    }
    let csr = tools::run(&mut request)?;
    Ok(Made { csr, key: read(&key_file)? })
}

fn read(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path).map_err(Failure::io(format!("read {}", path.display())))
}

/// The same request with one bit of its last bytes, the signature, turned over.
///
/// # Errors
/// [`Failure`] when `csr` is not PEM.
pub fn with_broken_signature(csr: &str) -> Outcome<String> {
    edit_der(csr, |der| {
        if let Some(last) = der.last_mut() {
            *last ^= 1;
        }
    })
}

/// The same request without its last `bytes` bytes, as well-formed PEM.
///
/// # Errors
/// [`Failure`] when `csr` is not PEM.
pub fn truncated(csr: &str, bytes: usize) -> Outcome<String> {
    edit_der(csr, |der| der.truncate(der.len().saturating_sub(bytes)))
}

fn edit_der(csr: &str, change: impl FnOnce(&mut Vec<u8>)) -> Outcome<String> {
    use base64::Engine as _;
    use rustls_pki_types::pem::PemObject as _;
    let der = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(csr.as_bytes())
        .map_err(Failure::while_doing("read a CSR"))?;
    let mut der = der.as_ref().to_vec();
    change(&mut der);
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    Ok(format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", lines.join("\n")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn openssl_accepts(csr: &str) -> bool {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("csr.pem");
        std::fs::write(&file, csr).unwrap();
        // The verdict is printed; some releases end with success either way.
        let output = Command::new("openssl").args(["req", "-verify", "-noout", "-in"]).arg(&file).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).contains("verify OK")
    }

    #[test]
    fn requests_are_as_good_or_as_bad_as_they_say() {
        let good = like_ztunnel(Some("spiffe://td/ns/a/sa/b")).unwrap().csr;
        assert!(openssl_accepts(&good));
        assert!(openssl_accepts(&like_istio_agent("spiffe://td/ns/a/sa/b").unwrap().csr));
        assert!(!openssl_accepts(&with_broken_signature(&good).unwrap()));
        assert!(!openssl_accepts(&truncated(&good, 20).unwrap()));
    }
}
