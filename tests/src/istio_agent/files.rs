//! Envoy's secrets as files: one per secret, swapped by rename, in a directory that Envoy watches.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::client::sds::SECRET;
use crate::failure::{Failure, Outcome};
use crate::harness::yaml;

/// The secret of the certificate and its key.
const CERTIFICATE: &str = "default";
/// The secret of the roots.
const BUNDLE: &str = "ROOTCA";

/// The directory of the files.
#[derive(Debug, Clone)]
pub struct SecretFiles(PathBuf);

impl SecretFiles {
    /// Makes the directory if it is missing.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub fn in_directory(directory: &Path) -> Outcome<Self> {
        std::fs::create_dir_all(directory).map_err(Failure::io(format!("make {}", directory.display())))?;
        Ok(Self(directory.to_owned()))
    }

    /// The directory that a proxy watches.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The file of a secret.
    #[must_use]
    pub fn file(&self, secret: &str) -> PathBuf {
        self.0.join(format!("{secret}.json"))
    }

    /// Envoy's description of where this secret comes from.
    #[must_use]
    pub fn config_source(&self, secret: &str) -> serde_json::Value {
        json!({
            "resource_api_version": "V3",
            "initial_fetch_timeout": "0s",
            "path_config_source": { "path": self.file(secret), "watched_directory": { "path": self.0 } },
        })
    }

    /// Puts new secrets in place: the roots first, so that nobody shows a certificate that the proxy itself could not
    /// verify.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub fn replace(&self, version: u64, chain: &str, key: &str, roots: &str) -> Outcome {
        let context = json!({ "name": BUNDLE, "validation_context": { "trusted_ca": { "inline_string": roots } } });
        self.put(BUNDLE, version, context)?;
        let pair = json!({ "certificate_chain": { "inline_string": chain }, "private_key": { "inline_string": key } });
        self.put(CERTIFICATE, version, json!({ "name": CERTIFICATE, "tls_certificate": pair }))
    }

    fn put(&self, secret: &str, version: u64, mut resource: serde_json::Value) -> Outcome {
        yaml::set(&mut resource, "@type", SECRET)?;
        let response = json!({ "version_info": version.to_string(), "resources": [resource] });
        // A name that starts with a dot is no secret of anybody until it is renamed.
        let new = self.0.join(format!(".{secret}.new"));
        yaml::write(&new, &response)?;
        let file = self.file(secret);
        std::fs::rename(&new, &file).map_err(Failure::io(format!("rename to {}", file.display())))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_secret_is_replaced_whole_and_leaves_no_other_file() {
        let directory = tempfile::tempdir().unwrap();
        let files = SecretFiles::in_directory(&directory.path().join("secrets")).unwrap();
        for version in [1, 2] {
            files.replace(version, "chain", "key", &format!("roots {version}")).unwrap();
        }
        let read = yaml::read(&files.file(BUNDLE)).unwrap();
        let roots = read.pointer("/resources/0/validation_context/trusted_ca/inline_string").unwrap();
        assert_eq!(roots, "roots 2");
        assert_eq!(std::fs::read_dir(files.path()).unwrap().count(), 2);
    }
}
