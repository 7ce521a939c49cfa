//! The client of the mesh CA: one connection per call, over TLS verified with the root file as it is then.
//!
//! A certificate lasts hours and a call a few milliseconds, so nothing is gained by keeping the connection: a changed
//! root file, a moved CA and a broken connection all need no further care.

use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use signet_core::secret::Secret;
use signet_proto::istio::IstioCertificateRequest;
use signet_proto::istio::istio_certificate_service_client::IstioCertificateServiceClient;
use signet_runtime::files::{self, FileError};
use signet_runtime::output::error_chain;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use crate::config::Ca;

/// The largest root file that is read, in bytes.
const MAX_ROOT_BYTES: u64 = 1 << 20;

/// The largest reply that is read, in bytes.
const MAX_REPLY_BYTES: usize = 1 << 20;

/// How often a call that takes long checks that the connection lives, and how long it waits for the answer.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// Why the CA gave no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// The root file cannot be read.
    #[error("cannot read the roots of the CA (ca.root_file)")]
    Roots(#[source] FileError),
    /// The root file holds no certificates, or something else.
    #[error("{} holds no PEM certificates (ca.root_file)", .0.display())]
    NoRoots(PathBuf),
    /// The settings do not make a client, which checking them should have told.
    #[error("cannot set up the connection to the CA at {address}: {cause}")]
    Settings {
        /// Where to.
        address: String,
        /// Why.
        cause: String,
    },
    /// No connection, or no TLS with whom the root file trusts.
    #[error("cannot connect to the CA at {address}: {cause}")]
    Connect {
        /// Where to.
        address: String,
        /// Why, with everything that caused it.
        cause: String,
    },
    /// The deadline has passed.
    #[error("the CA at {address} did not answer within {}s (ca.timeout)", .timeout.as_secs_f32())]
    Deadline {
        /// Where to.
        address: String,
        /// How long was waited.
        timeout: Duration,
    },
    /// The CA said no, or could not.
    #[error("the CA at {address} answered {code:?}: {message}")]
    Refused {
        /// Who.
        address: String,
        /// The gRPC status code.
        code: Code,
        /// The text, bounded.
        message: String,
    },
}

/// Asks the CA for certificates.
#[derive(Debug, Clone)]
pub struct CaClient {
    settings: Ca,
}

impl CaClient {
    /// A client with these settings; nothing is opened or read yet.
    #[must_use]
    pub fn new(settings: Ca) -> Self {
        Self { settings }
    }

    /// Sends one `CreateCertificate` call and gives the chain as it came: nothing of it is checked yet.
    ///
    /// # Errors
    /// [`CaError`]; never later than the configured timeout.
    pub async fn create_certificate(
        &self,
        csr_pem: String,
        ttl: Duration,
        token: &Secret,
    ) -> Result<Vec<String>, CaError> {
        let timeout = self.settings.timeout;
        let address = self.settings.address.to_string();
        let roots = self.roots()?;
        let call = Box::pin(self.call(csr_pem, ttl, token, roots));
        tokio::time::timeout(timeout, call).await.unwrap_or(Err(CaError::Deadline { address, timeout }))
    }

    /// The root file, which must hold certificates and only those: an empty trust store would fail in TLS with a
    /// message that leads nowhere.
    fn roots(&self) -> Result<Vec<u8>, CaError> {
        let path = &self.settings.root_file;
        let pem = files::read(path, MAX_ROOT_BYTES).map_err(CaError::Roots)?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match certificates {
            Ok(certificates) if !certificates.is_empty() => Ok(pem),
            _ => Err(CaError::NoRoots(path.clone())),
        }
    }

    async fn call(
        &self,
        csr_pem: String,
        ttl: Duration,
        token: &Secret,
        roots: Vec<u8>,
    ) -> Result<Vec<String>, CaError> {
        let settings = &self.settings;
        let address = || settings.address.to_string();
        let unusable = |cause: String| CaError::Settings { address: address(), cause };
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(roots))
            .domain_name(settings.server_name.as_str());
        let endpoint = Endpoint::from(settings.address.clone())
            .tls_config(tls)
            .map_err(|error| unusable(error_chain(&error)))?
            .connect_timeout(settings.timeout)
            .http2_keep_alive_interval(KEEP_ALIVE.0)
            .keep_alive_timeout(KEEP_ALIVE.1);
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| CaError::Connect { address: address(), cause: error_chain(&error) })?;
        let mut request = Request::new(IstioCertificateRequest {
            csr: csr_pem,
            validity_duration: Some(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)),
            metadata: None,
        });
        request.metadata_mut().insert("authorization", bearer(token).ok_or_else(|| unusable("token".to_owned()))?);
        let cluster = settings.cluster_id.parse().map_err(|_invalid| unusable("ca.cluster_id".to_owned()))?;
        request.metadata_mut().insert("clusterid", cluster);
        let mut client = IstioCertificateServiceClient::new(channel).max_decoding_message_size(MAX_REPLY_BYTES);
        match client.create_certificate(request).await {
            Ok(reply) => Ok(reply.into_inner().cert_chain),
            Err(status) => Err(refused(address(), &status)),
        }
    }
}

fn bearer(token: &Secret) -> Option<AsciiMetadataValue> {
    let header = Secret::new([b"Bearer ", token.expose()].concat());
    let mut value = AsciiMetadataValue::try_from(header.expose()).ok()?;
    // Keeps it out of debug output and of header compression tables.
    value.set_sensitive(true);
    Some(value)
}

fn refused(address: String, status: &Status) -> CaError {
    let message = status.message().chars().take(512).map(|c| if c.is_control() { ' ' } else { c }).collect();
    CaError::Refused { address, code: status.code(), message }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_token_travels_as_a_sensitive_header() {
        let header = bearer(&Secret::new(b"hunter2".to_vec())).unwrap();
        assert_eq!(header.to_str().unwrap(), "Bearer hunter2");
        assert!(header.is_sensitive() && !format!("{header:?}").contains("hunter2"));
        assert!(bearer(&Secret::new(b"two\nlines".to_vec())).is_none());
    }
}
