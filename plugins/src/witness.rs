//! Reaches a witness over HTTP: to roots that are given or, without them, those that are publicly trusted; within a time, and
//! with answers of a bounded size.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::redirect::Policy;
use rustls::{ClientConfig, RootCertStore};
use signet_core::pem::read_certificates;
use signet_core::seams::witness::{Witness, WitnessReply, WitnessUnreachable};
use tokio::sync::Mutex;

use crate::error_text::chain;
use crate::files::Files;

/// How long a call may take, from the connection to the last byte of the answer.
const WITHIN: Duration = Duration::from_secs(5);

/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 16 * 1024;

/// How long a connection that is not used is kept.
const IDLE: Duration = Duration::from_secs(30);

/// A witness over HTTP.
pub struct HttpWitness {
    /// The path is in it.
    url: String,
    /// The roots of its server's certificate.
    ca_file: Option<PathBuf>,
    files: Files,
    /// With what was in the file when it was made.
    client: Mutex<Option<(Vec<u8>, reqwest::Client)>>,
    within: Duration,
}

impl HttpWitness {
    /// The one whose submission prefix is `url`. Touches nothing yet.
    #[must_use]
    pub fn new(url: &str, ca_file: Option<PathBuf>, files: Files) -> Self {
        let url = format!("{}/add-checkpoint", url.trim_end_matches('/'));
        Self { url, ca_file, files, client: Mutex::default(), within: WITHIN }
    }

    /// The client for the file as it is now.
    async fn client(&self) -> Result<reqwest::Client, WitnessUnreachable> {
        let content = match &self.ca_file {
            Some(file) => self.files.read(file).await.map_err(WitnessUnreachable)?,
            None => Vec::new(),
        };
        let mut made = self.client.lock().await;
        if let Some((_, client)) = made.as_ref().filter(|(seen, _)| *seen == content) {
            return Ok(client.clone());
        }
        let mut store = RootCertStore::empty();
        match &self.ca_file {
            Some(file) => {
                let wrong = |why: String| WitnessUnreachable(format!("{}: {why}", file.display()));
                for (_, root) in read_certificates(&content).map_err(|error| wrong(error.to_string()))? {
                    store.add(root).map_err(|error| wrong(format!("a certificate cannot be a root: {error}")))?;
                }
                if store.is_empty() {
                    return Err(wrong("there is no certificate in it".to_owned()));
                }
            }
            None => {
                let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned();
                store.add_parsable_certificates(roots);
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| WitnessUnreachable(format!("TLS: {error}")))?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(builder.with_root_certificates(store).with_no_client_auth())
            // How it is reached is in the configuration, and in no environment.
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(self.within)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|error| WitnessUnreachable(format!("TLS: {}", chain(&error))))?;
        *made = Some((content, client.clone()));
        Ok(client)
    }

    async fn exchange(&self, submission: String) -> Result<WitnessReply, WitnessUnreachable> {
        let broken = |error: reqwest::Error| WitnessUnreachable(chain(&error.without_url()));
        let request = self.client().await?.post(&self.url).body(submission);
        let mut response = request.send().await.map_err(broken)?;
        let (status, mut body) = (response.status().as_u16(), Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len().saturating_add(chunk.len()) > MAX_ANSWER {
                return Err(WitnessUnreachable(format!("its answer has more than {MAX_ANSWER} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(WitnessReply { status, body })
    }
}

#[async_trait]
impl Witness for HttpWitness {
    async fn add_checkpoint(&self, submission: String) -> Result<WitnessReply, WitnessUnreachable> {
        let late = |_| WitnessUnreachable(format!("it has not answered within {} s", self.within.as_secs_f32()));
        tokio::time::timeout(self.within, self.exchange(submission)).await.map_err(late)?
    }
}

#[cfg(test)]
#[path = "witness_tests.rs"]
mod tests;
