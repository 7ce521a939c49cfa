//! The keys and certificates of a throw-away cluster.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};

use crate::error::ServerError;

/// A key that signs service-account tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountKey {
    /// RSA of 2048 bits, as clusters have by default.
    Rsa,
    /// Another one.
    OtherRsa,
    /// ECDSA with P-256.
    Ec,
}

impl AccountKey {
    /// What verifies: kube-apiserver takes the public key out of RSA keys, but not out of EC keys in PKCS#8.
    pub(super) fn public_file(self) -> &'static str {
        match self {
            Self::Ec => "accounts-ec.pub",
            _ => self.file(),
        }
    }

    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Rsa => "accounts-rsa.key",
            Self::OtherRsa => "accounts-other-rsa.key",
            Self::Ec => "accounts-ec.key",
        }
    }
}

/// Writes all there is to be into a directory: a CA, the server's certificate, the administrator's kubeconfig, keys of
/// service accounts.
pub(super) fn make(directory: &Path, port: u16) -> Result<(), ServerError> {
    let failed = |error: rcgen::Error| ServerError::refused("make keys", error.to_string());
    let write = |name: &str, content: String| {
        std::fs::write(directory.join(name), content).map_err(ServerError::io(format!("write {name}")))
    };
    let ca_key = KeyPair::generate().map_err(failed)?;
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "kubernetes-ca");
    write("ca.crt", ca.self_signed(&ca_key).map_err(failed)?.pem())?;
    let ca = Issuer::new(ca, ca_key);

    let leaf = |name: &str, names: &[&str], subject: &[(DnType, &str)], usage| {
        let key = KeyPair::generate().map_err(failed)?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut leaf = CertificateParams::new(names).map_err(failed)?;
        leaf.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, text) in subject {
            leaf.distinguished_name.push(kind.clone(), *text);
        }
        leaf.extended_key_usages = vec![usage];
        write(&format!("{name}.crt"), leaf.signed_by(&key, &ca).map_err(failed)?.pem())?;
        write(&format!("{name}.key"), key.serialize_pem())
    };
    let names = ["localhost", "kubernetes.default.svc", "127.0.0.1"];
    let (server, client) = (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
    leaf("apiserver", &names, &[(DnType::CommonName, "kube-apiserver")], server)?;
    let admin = [(DnType::OrganizationName, "system:masters"), (DnType::CommonName, "admin")];
    leaf("admin", &[], &admin, client)?;
    let user = ["client-certificate: admin.crt", "client-key: admin.key"].join(", ");
    let url = format!("https://127.0.0.1:{port}");
    write("admin.kubeconfig", kubeconfig(&url, Path::new("ca.crt"), &user))?;

    for key in [AccountKey::Rsa, AccountKey::OtherRsa] {
        let made = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).ok();
        let pem = made.and_then(|made| made.to_pkcs8_pem(LineEnding::LF).ok());
        let pem = pem.ok_or_else(|| ServerError::refused("make keys", "no RSA key"))?;
        write(key.file(), pem.to_string())?;
    }
    let ec = KeyPair::generate().map_err(failed)?;
    write(AccountKey::Ec.public_file(), ec.public_key_pem())?;
    write(AccountKey::Ec.file(), ec.serialize_pem())
}

/// A kubeconfig with one cluster and one user, whose fields are given in YAML. Paths in it count from where it lies.
pub(super) fn kubeconfig(url: &str, ca_file: &Path, user: &str) -> String {
    let ca_file = ca_file.display();
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters: [{{name: test, cluster: {{server: \"{url}\", certificate-authority: {ca_file}}}}}]\n\
         users: [{{name: test, user: {{{user}}}}}]\n\
         contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n\
         current-context: test\n"
    )
}
