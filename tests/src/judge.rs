//! Judges issued certificates by the OpenSSL command line, which knows nothing about our code.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::failure::{Failure, Outcome, ensure};
use crate::tools;

/// A reply laid out in files.
pub struct Case {
    directory: TempDir,
    openssl: PathBuf,
}

impl Case {
    /// Writes the elements of a reply where OpenSSL finds them.
    ///
    /// # Errors
    /// [`Failure`], also without OpenSSL.
    pub fn new(reply: &[String]) -> Outcome<Self> {
        let [leaf, intermediates @ .., roots] = reply else {
            return Err(Failure::unexpected(format!("the reply has {} elements", reply.len())));
        };
        let case = Self {
            directory: tempfile::tempdir().map_err(Failure::io("make a temporary directory"))?,
            openssl: tools::openssl()?,
        };
        for (name, text) in [("leaf", leaf.clone()), ("chain", intermediates.concat()), ("roots", roots.clone())] {
            let path = case.file(name);
            std::fs::write(&path, text).map_err(Failure::io(format!("write {}", path.display())))?;
        }
        Ok(case)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn openssl(&self, args: &[&str], file: &Path) -> Outcome<String> {
        tools::run(Command::new(&self.openssl).args(args).arg(file))
    }

    /// The chain verifies strictly for one purpose, `sslclient` or `sslserver`.
    ///
    /// # Errors
    /// [`Failure`] with OpenSSL's words.
    pub fn verifies_for(&self, purpose: &str) -> Outcome {
        let mut command = Command::new(&self.openssl);
        command.args(["verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-purpose", purpose, "-CAfile"]);
        command.arg(self.file("roots"));
        if std::fs::metadata(self.file("chain")).is_ok_and(|meta| meta.len() > 0) {
            command.arg("-untrusted").arg(self.file("chain"));
        }
        tools::run(command.arg(self.file("leaf"))).map(drop)
    }

    /// OpenSSL's description of the leaf.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn described(&self) -> Outcome<String> {
        self.openssl(&["x509", "-noout", "-text", "-certopt", "no_pubkey,no_sigdump", "-in"], &self.file("leaf"))
    }

    /// The public key of the leaf, PEM.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn public_key(&self) -> Outcome<String> {
        self.openssl(&["x509", "-noout", "-pubkey", "-in"], &self.file("leaf"))
    }

    /// The serial number of the leaf, lower-case hexadecimal.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn serial(&self) -> Outcome<String> {
        let line = self.openssl(&["x509", "-noout", "-serial", "-in"], &self.file("leaf"))?;
        Ok(line.trim().trim_start_matches("serial=").to_lowercase())
    }
}

/// The public key in a CSR, PEM, as OpenSSL reads it.
///
/// # Errors
/// [`Failure`].
pub fn key_of_csr(csr: &str) -> Outcome<String> {
    let directory = tempfile::tempdir().map_err(Failure::io("make a temporary directory"))?;
    let file = directory.path().join("csr");
    std::fs::write(&file, csr).map_err(Failure::io("write a CSR"))?;
    tools::run(Command::new(tools::openssl()?).args(["req", "-noout", "-pubkey", "-in"]).arg(file))
}

/// Judges a reply to a workload: chain for both purposes, profile, names and key.
///
/// # Errors
/// [`Failure`] that says which point fails.
pub fn workload(reply: &[String], csr: &str, identity: &str) -> Outcome {
    let case = Case::new(reply)?;
    case.verifies_for("sslclient")?;
    case.verifies_for("sslserver")?;
    let text = case.described()?;
    let same_key = case.public_key()? == key_of_csr(csr)?;
    ensure(same_key, || "the certificate is not for the key of the CSR".to_owned())?;
    let names = after(&text, "X509v3 Subject Alternative Name:").unwrap_or_default();
    let usages = after(&text, "X509v3 Key Usage:").unwrap_or_default();
    let purposes = after(&text, "X509v3 Extended Key Usage:").unwrap_or_default();
    let points = [
        (text.contains("Version: 3 (0x2)"), "version 3"),
        (text.lines().any(|line| line.trim() == "Subject:"), "an empty subject"),
        (names == format!("URI:{identity}"), "exactly the identity as its only name"),
        (text.contains("X509v3 Subject Alternative Name: critical"), "a critical name, since the subject is empty"),
        (text.contains("X509v3 Key Usage: critical"), "critical key usage"),
        (usages.contains("Digital Signature"), "digitalSignature"),
        (
            !usages.contains("Sign,") && !usages.contains("Certificate Sign") && !usages.contains("CRL Sign"),
            "no signing of certificates or lists",
        ),
        (purposes.contains("TLS Web Server Authentication"), "serverAuth"),
        (purposes.contains("TLS Web Client Authentication"), "clientAuth"),
        (!text.contains("CA:TRUE"), "no CA rights"),
        (after(&text, "X509v3 Authority Key Identifier:").is_some(), "the issuer's key id"),
        ((16..=40).contains(&case.serial()?.len()), "a serial of 8 to 20 bytes"),
    ];
    for (holds, point) in points {
        ensure(holds, || format!("the certificate lacks {point}:\n{text}"))?;
    }
    Ok(())
}

/// The line after the one that starts with `title`, trimmed.
fn after<'t>(text: &'t str, title: &str) -> Option<&'t str> {
    let mut lines = text.lines().skip_while(|line| !line.trim_start().starts_with(title));
    lines.next()?;
    lines.next().map(str::trim)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
        KeyUsagePurpose, SanType,
    };

    const ID: &str = "spiffe://td/ns/a/sa/b";

    /// A leaf and its root; `bend` spoils the leaf.
    fn reply(bend: impl FnOnce(&mut CertificateParams)) -> (Vec<String>, String) {
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        root.distinguished_name.push(rcgen::DnType::CommonName, "root");
        let root_key = KeyPair::generate().unwrap();
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let issuer = Issuer::new(root, root_key);
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name = DistinguishedName::new();
        leaf.subject_alt_names = vec![SanType::URI(ID.try_into().unwrap())];
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        leaf.use_authority_key_identifier_extension = true;
        bend(&mut leaf);
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        (vec![leaf.signed_by(&key, &issuer).unwrap().pem(), root_pem], csr)
    }

    #[test]
    fn a_good_certificate_passes_and_each_spoiled_one_is_caught() {
        let (good, csr) = reply(|_| {});
        workload(&good, &csr, ID).unwrap();
        assert!(workload(&good, &csr, "spiffe://td/ns/a/sa/c").is_err());
        type Bend = fn(&mut CertificateParams);
        let bends: [(&str, Bend); 5] = [
            ("ca", |leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            ("usage", |leaf| leaf.key_usages.push(KeyUsagePurpose::KeyCertSign)),
            ("purpose", |leaf| leaf.extended_key_usages.truncate(1)),
            ("names", |leaf| leaf.subject_alt_names.push(SanType::DnsName("a.b".try_into().unwrap()))),
            ("subject", |leaf| leaf.distinguished_name.push(rcgen::DnType::CommonName, "x")),
        ];
        for (name, bend) in bends {
            let (bad, csr) = reply(bend);
            assert!(workload(&bad, &csr, ID).is_err(), "{name} was not caught");
        }
        let (_, other_csr) = reply(|_| {});
        assert!(workload(&good, &other_csr, ID).is_err(), "a certificate for another key was not caught");
    }
}
