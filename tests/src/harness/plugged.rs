//! An operator's own CA: made by OpenSSL, laid out as Kubernetes mounts a Secret.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::failure::{Failure, Outcome};
use crate::tools;

/// A certificate authority with its key.
pub struct OwnCa {
    directory: TempDir,
    days: u32,
    /// The certificate, PEM.
    pub certificate: String,
    /// The private key, PKCS#8 PEM.
    pub key: String,
}

impl OwnCa {
    /// A self-signed one.
    ///
    /// # Errors
    /// [`Failure`], also without OpenSSL.
    pub fn root(name: &str) -> Outcome<Self> {
        Self::make(name, None, 90, &[])
    }

    /// One that this one has certified, for a day less than its own life.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn certify(&self, name: &str) -> Outcome<Self> {
        self.certify_with(name, &[])
    }

    /// The same with more arguments of `openssl req -x509`, such as an extension.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn certify_with(&self, name: &str, more: &[&str]) -> Outcome<Self> {
        Self::make(name, Some(self), self.days - 1, more)
    }

    /// One that is valid from one time to another, each as X.509 writes it: `99991231235959Z`. Self-signed, or certified
    /// by `issuer`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn spanning(name: &str, issuer: Option<&Self>, (start, end): (&str, &str)) -> Outcome<Self> {
        let directory = Self::prepared(name)?;
        let at = |file: &str| directory.path().join(file);
        let mut command = Command::new(tools::openssl()?);
        command.args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]);
        command.arg("-config").arg(at("config")).arg("-keyout").arg(at("key")).arg("-out").arg(at("request"));
        tools::run(&mut command)?;
        let mut command = Command::new(tools::openssl()?);
        command.args(["ca", "-batch", "-name", "authority", "-notext", "-extensions", "ca"]);
        command.args(["-startdate", start, "-enddate", end]).arg("-config").arg(at("config"));
        command.arg("-outdir").arg(directory.path()).arg("-in").arg(at("request")).arg("-out").arg(at("certificate"));
        match issuer {
            None => command.arg("-selfsign").arg("-keyfile").arg(at("key")),
            Some(issuer) => command.arg("-keyfile").arg(issuer.at("key")).arg("-cert").arg(issuer.at("certificate")),
        };
        tools::run(&mut command)?;
        let (certificate, key) = (read(&at("certificate"))?, read(&at("key"))?);
        Ok(Self { directory, days: 90, certificate, key })
    }

    fn make(name: &str, issuer: Option<&Self>, days: u32, more: &[&str]) -> Outcome<Self> {
        let directory = Self::prepared(name)?;
        let at = |file: &str| directory.path().join(file);
        let mut command = Command::new(tools::openssl()?);
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]);
        command.args(["-days", &days.to_string()]).args(more);
        command.arg("-config").arg(at("config")).arg("-keyout").arg(at("key")).arg("-out").arg(at("certificate"));
        if let Some(issuer) = issuer {
            command.arg("-CA").arg(issuer.at("certificate")).arg("-CAkey").arg(issuer.at("key"));
        }
        tools::run(&mut command)?;
        let (certificate, key) = (read(&at("certificate"))?, read(&at("key"))?);
        Ok(Self { directory, days, certificate, key })
    }

    /// A directory with what OpenSSL needs to make and to be an authority.
    fn prepared(name: &str) -> Outcome<TempDir> {
        let directory = tempfile::tempdir().map_err(Failure::io("make a temporary directory"))?;
        let at = |file: &str| directory.path().join(file);
        let config = format!(
            "[req]\ndistinguished_name = dn\nx509_extensions = ca\nprompt = no\n[dn]\nCN = {name}\n[ca]\n\
             basicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign,cRLSign\n\
             subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n\
             [authority]\ndatabase = {index}\ndefault_md = sha256\ndefault_crl_days = 7\nunique_subject = no\n\
             policy = policy\nrand_serial = yes\ncrl_extensions = list\n[policy]\ncommonName = supplied\n[list]\nauthorityKeyIdentifier = keyid\n",
            index = at("index").display()
        );
        write(&at("config"), &config)?;
        write(&at("index"), "")?;
        Ok(directory)
    }

    fn at(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// Notes a certificate of this authority as revoked, for the lists from now on.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn revoke(&self, certificate: &str) -> Outcome {
        write(&self.at("revoked"), certificate)?;
        self.authority(&["-revoke"], Some("revoked")).map(drop)
    }

    /// A revocation list, PEM.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn list(&self) -> Outcome<String> {
        self.authority(&["-gencrl"], None)
    }

    fn authority(&self, args: &[&str], file: Option<&str>) -> Outcome<String> {
        let mut command = Command::new(tools::openssl()?);
        command.args(["ca", "-name", "authority", "-config"]).arg(self.at("config"));
        command.arg("-keyfile").arg(self.at("key")).arg("-cert").arg(self.at("certificate")).args(args);
        if let Some(file) = file {
            command.arg(self.at(file));
        }
        tools::run(&mut command)
    }
}

/// The names and contents of a set of files.
pub type Set = Vec<(&'static str, String)>;

/// The set with Istio's names: `signer` below `root`.
#[must_use]
pub fn istio_names(signer: &OwnCa, root: &OwnCa) -> Set {
    vec![
        ("ca-cert.pem", signer.certificate.clone()),
        ("ca-key.pem", signer.key.clone()),
        ("root-cert.pem", root.certificate.clone()),
        ("cert-chain.pem", format!("{}{}", signer.certificate, root.certificate)),
    ]
}

/// The set with the names of a Secret of type `kubernetes.io/tls`.
#[must_use]
pub fn tls_secret(signer: &OwnCa, root: &OwnCa) -> Set {
    vec![("tls.crt", signer.certificate.clone()), ("tls.key", signer.key.clone()), ("ca.crt", root.certificate.clone())]
}

/// A directory as Kubernetes mounts a Secret: each file is a link into `..data`, which is a link to the newest content.
pub struct Mount {
    directory: PathBuf,
    generation: u32,
}

impl Mount {
    /// Mounts a set at a path that does not exist.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub fn new(directory: &Path, set: &Set) -> Outcome<Self> {
        std::fs::create_dir_all(directory).map_err(Failure::io("make the mount"))?;
        let mut mount = Self { directory: directory.to_owned(), generation: 0 };
        mount.swap(set)?;
        Ok(mount)
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Replaces the whole content in one step, as the kubelet does.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub fn swap(&mut self, set: &Set) -> Outcome {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let before = format!("..{}", self.generation);
        self.generation += 1;
        let content = format!("..{}", self.generation);
        let inside = self.directory.join(&content);
        std::fs::create_dir(&inside).map_err(Failure::io("make a content directory"))?;
        for (name, text) in set {
            write(&inside.join(name), text)?;
            std::fs::set_permissions(inside.join(name), std::fs::Permissions::from_mode(0o600))
                .map_err(Failure::io("protect a file"))?;
        }
        let new = self.directory.join("..data_tmp");
        symlink(&content, &new).map_err(Failure::io("link the new content"))?;
        std::fs::rename(&new, self.directory.join("..data")).map_err(Failure::io("switch to the new content"))?;
        for entry in std::fs::read_dir(&self.directory).map_err(Failure::io("list the mount"))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with("..") && !set.iter().any(|(kept, _)| *kept == name) {
                std::fs::remove_file(entry.path()).map_err(Failure::io("remove a link"))?;
            }
        }
        for (name, _) in set {
            let link = self.directory.join(name);
            if link.symlink_metadata().is_err() {
                symlink(Path::new("..data").join(name), &link).map_err(Failure::io("link a file"))?;
            }
        }
        if self.generation > 1 {
            std::fs::remove_dir_all(self.directory.join(before)).map_err(Failure::io("remove the old content"))?;
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Outcome {
    std::fs::write(path, text).map_err(Failure::io(format!("write {}", path.display())))
}

fn read(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path).map_err(Failure::io(format!("read {}", path.display())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::client::keys;

    #[test]
    fn authorities_chain_and_their_lists_name_what_is_revoked() {
        let root = OwnCa::root("root").unwrap();
        let signer = root.certify("signer").unwrap();
        let (above, below) = (keys::facts(&root.certificate).unwrap(), keys::facts(&signer.certificate).unwrap());
        assert_eq!(above.subject_key_id, below.authority_key_id);
        assert!(below.is_ca && above.subject_der == below.issuer_der);
        let verify = |lists: &str| {
            let directory = tempfile::tempdir().unwrap();
            let at = |name: &str, text: &str| {
                std::fs::write(directory.path().join(name), text).unwrap();
                directory.path().join(name)
            };
            let mut command = Command::new("openssl");
            command.args(["verify", "-crl_check", "-CAfile"]).arg(at("root", &root.certificate));
            command.arg("-CRLfile").arg(at("lists", lists)).arg(at("leaf", &signer.certificate));
            command.output().unwrap().status.success()
        };
        assert!(verify(&root.list().unwrap()));
        root.revoke(&signer.certificate).unwrap();
        assert!(!verify(&root.list().unwrap()));
    }

    #[test]
    fn a_mount_changes_all_its_files_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mount");
        let mut mount = Mount::new(&path, &vec![("a", "1".to_owned()), ("b", "1".to_owned())]).unwrap();
        mount.swap(&vec![("a", "2".to_owned())]).unwrap();
        assert_eq!(std::fs::read_to_string(path.join("a")).unwrap(), "2");
        assert!(!path.join("b").exists() && path.join("a").is_symlink());
    }
}
