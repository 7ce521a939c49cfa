//! Variants of the shipped bootstraps: secrets from files or roots from the CA instead of an agent, and more than one admitted
//! caller.

use serde_json::json;

use super::envoy::{Bootstrap, Side};
use super::yaml;
use crate::failure::{Failure, Outcome};
use crate::istio_agent::SecretFiles;
use std::net::SocketAddr;
use std::path::Path;

const CERTIFICATE_SOURCE: &str = "/common_tls_context/tls_certificate_sds_secret_configs/0";
const BUNDLE_SOURCE: &str = "/common_tls_context/combined_validation_context/validation_context_sds_secret_config";
const CERTIFICATE_FILES: &str = "/common_tls_context/tls_certificates/0";
const CA_ROOTS: &str = "/channel_credentials/ssl_credentials/root_certs/filename";
const TOKEN: &str = "/call_credentials/0/from_plugin/typed_config/secret_data/filename";
const MATCHERS: &str =
    "/common_tls_context/combined_validation_context/default_validation_context/match_typed_subject_alt_names";

impl Bootstrap {
    /// The shipped bootstrap of this side, with its secrets read from files.
    ///
    /// # Errors
    /// [`Failure`], also when the bootstrap has another shape.
    pub fn fed_by_files(side: Side, files: &SecretFiles, forward_to: SocketAddr, peer: &str) -> Outcome<Self> {
        let mut made = Self::new(side, Path::new("/none"), forward_to, peer)?;
        for source in [CERTIFICATE_SOURCE, BUNDLE_SOURCE] {
            let pointer = format!("{}{source}", side.tls());
            let name = yaml::text(&made.document, &format!("{pointer}/name"))?.to_owned();
            yaml::replace(&mut made.document, &format!("{pointer}/sds_config"), files.config_source(&name))?;
        }
        let clusters = made.document.pointer_mut("/static_resources/clusters").and_then(|list| list.as_array_mut());
        // The cluster of the agent.
        clusters.and_then(Vec::pop).ok_or_else(|| Failure::unexpected("the bootstrap has no clusters"))?;
        Ok(made)
    }

    /// The shipped bootstrap of a proxy that follows the roots at the CA: `files` is where its certificate and key are,
    /// `roots` what the CA is verified with, `token` the file of its token.
    ///
    /// # Errors
    /// [`Failure`], also when the bootstrap has another shape.
    pub fn following_ca(
        ca: SocketAddr,
        (files, roots, token): (&Path, &Path, &Path),
        forward_to: SocketAddr,
        peer: &str,
    ) -> Outcome<Self> {
        let mut made = Self::of("roots-from-ca.yaml", Side::Server, forward_to, peer)?;
        let tls = made.side().tls();
        let service = format!("{tls}{BUNDLE_SOURCE}/sds_config/api_config_source/grpc_services/0/google_grpc");
        for (pointer, value) in [
            (format!("{tls}{CERTIFICATE_FILES}/certificate_chain/filename"), files.join("cert-chain.pem")),
            (format!("{tls}{CERTIFICATE_FILES}/private_key/filename"), files.join("key.pem")),
            (format!("{service}{CA_ROOTS}"), roots.to_owned()),
            (format!("{service}{TOKEN}"), token.to_owned()),
            (format!("{service}/target_uri"), format!("dns:///localhost:{}", ca.port()).into()),
        ] {
            yaml::replace(&mut made.document, &pointer, value.to_string_lossy())?;
        }
        Ok(made)
    }

    /// Admits one more peer.
    ///
    /// # Errors
    /// [`Failure`] when the bootstrap has another shape.
    pub fn admit(mut self, peer: &str) -> Outcome<Self> {
        let pointer = format!("{}{MATCHERS}", self.side().tls());
        let matchers = self.document.pointer_mut(&pointer).and_then(|list| list.as_array_mut());
        let matchers = matchers.ok_or_else(|| Failure::unexpected("the bootstrap has no matchers"))?;
        matchers.push(json!({ "san_type": "URI", "matcher": { "exact": peer } }));
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_marked_place_of_the_bootstrap_that_follows_the_ca_is_found() {
        let (local, path) = (|port| SocketAddr::from(([127, 0, 0, 1], port)), Path::new);
        let files = (path("/files"), path("/roots"), path("/token"));
        let made = Bootstrap::following_ca(local(9), files, local(7), "spiffe://td/ns/a/sa/b").unwrap();
        let text = made.document.to_string();
        for wanted in ["dns:///localhost:9", "/files/key.pem", "\"/roots\"", "\"/token\"", "spiffe://td/ns/a/sa/b"] {
            assert!(text.contains(wanted), "{wanted} is not in {text}");
        }
        for left in ["/etc/", "/var/", "cluster.local", "signet-system"] {
            assert!(!text.contains(left), "{left} is in {text}");
        }
    }

    #[test]
    fn a_bootstrap_fed_by_files_knows_no_agent_and_one_more_peer_is_admitted() {
        let directory = tempfile::tempdir().unwrap();
        let files = SecretFiles::in_directory(directory.path()).unwrap();
        let behind = SocketAddr::from(([127, 0, 0, 1], 7));
        for side in [Side::Client, Side::Server] {
            let made = Bootstrap::fed_by_files(side, &files, behind, "spiffe://td/ns/a/sa/b").unwrap();
            let text = made.admit("spiffe://td/ns/a/sa/c").unwrap().document.to_string();
            assert!(text.contains("default.json") && text.contains("ROOTCA.json"), "{text}");
            assert!(text.contains("sa/b") && text.contains("sa/c"), "{text}");
            assert!(!text.contains("signet-agent") && !text.contains("/none"), "{text}");
        }
    }
}
